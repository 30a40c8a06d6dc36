"""A probe that raises ends no study: the reason is shown and stored, and the search goes on with what was measured."""

import math

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import TRAIN, VALID, linear
from tuneflow.probing import cache, measuring, race
from tuneflow.probing.probe import Probe

RATE = {"lr": tn.Float(1e-4, 1.0, log=True)}
BRANCHES = {"sgd": tn.call(torch.optim.SGD, **RATE), "adam": tn.call(torch.optim.Adam, **RATE)}
FAULTS = [
    MemoryError("no room"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("derivative is not implemented\nand more"),
    NotImplementedError("no second derivative"),
]


def study_of(space=None, builder=linear, **more):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16}
    trainer = tn.Trainer(TRAIN[:160], VALID, **settings)
    return tn.Study(
        space=tn.SearchSpace(optimizer=RATE if space is None else space),
        model=tn.Model(builder),
        trainer=trainer,
        searcher=tn.LeCun(),
        runtime=tn.Runtime("cpu", threads=1),
        **more,
    )


def raising(error):
    def raises(*args, **kwargs):
        raise error

    return raises


def lines_of(study, capsys):
    study.run(trials=3)
    return [line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("probe")]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_without_a_curvature_the_race_gives_the_rate(error, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "curvature", raising(error))
    study = study_of()
    (line,) = lines_of(study, capsys)
    probe = study.history.probe(study.trials[0].config)
    assert f"not measured: curvature: {type(error).__name__}: {str(error).splitlines()[0]}" in line
    assert probe.curvature is None
    assert probe.race is not None
    assert not probe.failed
    assert study.trials[0].config["optimizer"]["lr"] == pytest.approx(probe.rate)
    assert {trial.status for trial in study.trials} == {"DONE"}


MEASUREMENTS = {
    "noise scale": (measuring, "gradient_noise"),
    "health": (measuring, "health"),
    "loss of constants": (measuring, "best_constant"),
    "race": (measuring, "race"),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_any_measurement_may_raise(name, monkeypatch, capsys):
    monkeypatch.setattr(*MEASUREMENTS[name], raising(ValueError("of a user")))
    study = study_of()
    (line,) = lines_of(study, capsys)
    assert f"not measured: {name}: ValueError: of a user" in line
    assert study.trials[0].config["optimizer"]["lr"] == pytest.approx(study.history.probe(study.trials[0].config).rate)


@pytest.mark.parametrize(
    "parts",
    [[(measuring, "race"), (measuring, "range_test"), (measuring, "curvature")], [(cache, "probe")]],
    ids=["each measurement", "all"],
)
def test_without_a_rate_the_start_is_left_to_the_next_searcher(parts, monkeypatch, capsys, tmp_path):
    calls = []

    def raises(*args, **kwargs):
        calls.append(args)
        raise MemoryError("no room")

    for home, part in parts:
        monkeypatch.setattr(home, part, raises)
    study = study_of(folder=tmp_path / "study")
    (line,) = lines_of(study, capsys)
    assert "no rate" in line
    assert "MemoryError: no room" in line
    plain = tn.Study(space=study.space, model=study.model, trainer=study.trainer, progress=False)
    plain.run(trials=3)
    assert [trial.config for trial in study.trials] == [trial.config for trial in plain.trials]
    count = len(calls)
    study.close()
    resumed = study_of(folder=tmp_path / "study", progress=False)
    resumed.run(trials=4)
    assert len(calls) == count


def test_a_stored_probe_keeps_its_errors():
    probe = Probe.unmeasured("curvature: MemoryError", 1.0)
    again = Probe.from_json(probe.to_json())
    assert again.failed
    assert again.errors == probe.errors
    assert "not measured    curvature: MemoryError" in str(again)


def test_each_line_names_its_branch_and_one_that_fails_leaves_the_others(monkeypatch, capsys):
    plain = measuring.curvature

    def no_adam(loss_of, parameters, batches, scale, rounds):
        if scale is not None:
            raise MemoryError("no room")
        return plain(loss_of, parameters, batches, scale, rounds)

    monkeypatch.setattr(measuring, "curvature", no_adam)
    study = study_of(tn.Choice(BRANCHES))
    lines = lines_of(study, capsys)
    branches = [line.replace("  ", " ", 1).split("  ")[0] for line in lines]
    assert list(study.record().probes) == branches
    lines.sort()
    assert [line.split("  ")[1] for line in lines] == ["optimizer adam", "optimizer sgd"]
    assert ["not measured" in line for line in lines] == [True, False]


def test_an_interrupt_passes_through(monkeypatch):
    monkeypatch.setattr(measuring, "curvature", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        study_of(progress=False).run(trials=1)


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * 2


class Doubled(nn.Module):
    def forward(self, x):
        return OnceDifferentiable.apply(x)


def test_a_module_without_a_second_derivative_is_searched():
    study = study_of(builder=lambda: nn.Sequential(linear(), Doubled()), progress=False)
    study.run(trials=2)
    assert math.isfinite(study.history.probe(study.trials[0].config).rate)


def test_a_racer_that_raises_counts_as_diverged(monkeypatch):
    plain = race.backward

    def too_large(loss_of, module, batch, optimizer, scaler):
        if optimizer.param_groups[0]["lr"] > 0.5:
            raise RuntimeError("eigenvalues of NaN")
        return plain(loss_of, module, batch, optimizer, scaler)

    monkeypatch.setattr(race, "backward", too_large)
    trainer = tn.Trainer(TRAIN[:160], VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2)
    job = tn.types.Job(tn.Model(linear), {}, tn.Runtime("cpu", threads=1))
    result = race.race(trainer, job, 0.3, 10)
    assert result.rates[-1] > 0.5
    assert math.isinf(result.losses[-1])
    assert math.isfinite(min(result.losses))
    with pytest.raises(RuntimeError, match="eigenvalues"):
        race.race(trainer, job, 3.0, 10)
