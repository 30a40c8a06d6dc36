"""The lines of advice at the end of a run."""

import numpy as np
import pytest

import tuneflow as tn


@tn.loop(epochs=1, check=False)
def rated(config, run):
    for _ in run.epochs():
        yield {"loss": (np.log10(config["rate"]) + 1) ** 2}


def study(**settings):
    return tn.Study(space=tn.SearchSpace(rate=tn.Float(1e-4, 1e-2, log=True)), trainer=rated, **settings)


def advice_in(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("advice")]


def test_a_run_ends_with_advice_once(capsys):
    rates = study()
    rates.run(trials=20)
    (line,) = advice_in(capsys)
    assert line == f"advice  {rates.advice()[0]}"
    rates.run(trials=20)  # nothing to train, so nothing new
    assert advice_in(capsys) == []


@pytest.mark.parametrize(("trials", "progress"), [(5, True), (20, False)], ids=["too few trials", "silent"])
def test_a_run_is_quiet(trials, progress, capsys):
    study(progress=progress).run(trials=trials)
    assert advice_in(capsys) == []
