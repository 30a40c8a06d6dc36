"""Studies over forks of a trained winner: exact after kills, under every executor, scheduler and seed."""

import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.forked import start
from tests.helpers.narrowing import SPACE, Keep, fork, same, trainer, winners
from tests.helpers.scripts import forked_study
from tests.helpers.small_studies import TRAIN, VALID
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.history.trial import Trial
from tuneflow.schedule import Fork, Start

ALL = tn.Folder(None, keep="all")
WIDTH = 8
RATE = {"optimizer": {"lr": 0.01}}


@pytest.fixture(scope="module")
def winner():
    return winners().best


def table(study):
    return [
        (t.number, t.config, t.status, t.epochs, [(r.epoch, dict(r.metrics), dict(r.errors)) for r in t.reports])
        for t in study.trials
    ]


def assert_same(one, other):
    assert table(one) == table(other)
    for ours, theirs in zip(one.trials, other.trials, strict=True):
        if ours.status == "DONE":  # the folder keeps all
            assert same(one.result(ours.number).model(), other.result(theirs.number).model())


def test_a_study_of_forks_killed_twice_equals_the_uninterrupted_one(winner, tmp_path):
    winner.save(tmp_path / "winner.pt")
    whole = forked_study.make(None, tmp_path / "winner.pt")
    whole.run(trials=4)
    for reports in (1, 4):
        process = start(Path(forked_study.__file__), tmp_path / "killed", tmp_path / "winner.pt", "0.1")
        deadline = time.monotonic() + 60
        while _reports(tmp_path / "killed") < reports and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    again = forked_study.make(tmp_path / "killed", tmp_path / "winner.pt")
    assert any(trial.status != "DONE" for trial in again.trials)
    again.run(trials=4)
    assert_same(again, whole)


def _reports(folder):
    if not (folder / "study.sqlite").exists():
        return 0
    try:
        return sum(len(trial.reports) for trial in tn.open(folder).trials)
    except tn.errors.StoreError:
        return 0


@pytest.mark.parametrize("settings", [{"lag": 1}, {"replicas": 2}], ids=str)
def test_forks_in_pieces_are_forks_in_one_run(winner, settings):
    whole, pieces = (fork(winner, folder=ALL, **settings) for _ in range(2))
    whole.run(trials=4)
    for trials in (2, 4):
        pieces.run(trials=trials)
    assert_same(pieces, whole)


def test_under_halving_a_fork_is_the_same_as_far_as_it_goes(winner):
    halved, whole = (fork(winner, trainer=trainer(epochs=4), **way) for way in ({"scheduler": tn.Halving()}, {}))
    for study in (halved, whole):
        study.run(trials=4)
    assert "STOPPED" in {trial.status for trial in halved.trials}
    for short, full in zip(table(halved), table(whole), strict=True):
        assert short[1] == full[1]
        assert short[4] == full[4][: len(short[4])]


def hidden(study, number):
    return study.result(number).model().module[1].out_features


def test_a_fork_of_a_fork_keeps_its_recipe_and_its_steps_settings(winner):
    study = fork(winner, scheduler=tn.Population(4), trainer=trainer(epochs=4), folder=ALL)
    study.run(trials=7)
    forks = [trial for trial in study.trials if trial.parent is not None]
    assert forks
    for trial in forks:
        parent = study.trials[trial.parent[0]]
        assert trial.config["keep"] == parent.config["keep"]
        assert trial.config["optimizer"] != parent.config["optimizer"]
        if trial.status == "DONE":
            assert hidden(study, trial.number) == max(1, round(trial.config["keep"]["share"] * WIDTH))


def test_population_keeps_settings_of_steps_to_the_last_bit(winner):
    """Of every Float, whose way through the unit cube may change it."""
    space = tn.SearchSpace(keep={"share": tn.Float(1, 4, log=True)}, optimizer={"lr": tn.Float(1e-3, 0.1, log=True)})
    share = next(s for s in (1 + k / 7 for k in range(1, 21)) if lossy(space, s))
    config = {"keep": {"share": share}, "optimizer": {"lr": 0.01}}
    rng = np.random.default_rng(0)
    moved = tn.Population()._changed(space, ["keep"], Trial(0, config), rng)  # a study needs luck to meet such a value
    assert moved["keep"] == config["keep"]
    assert moved["optimizer"] != config["optimizer"]


def lossy(space, share):
    config = {"keep": {"share": share}, "optimizer": {"lr": 0.01}}
    return space.from_unit(space.to_unit(config))["keep"]["share"] != share


class ForksAnother(tn.Scheduler):
    def next(self, space, history, rng):
        other = {"keep": {"share": 0.9}, "optimizer": {"lr": 0.01}}
        return Fork(0, 1, other, 2) if history.ended else Start(history.epochs)


def test_a_fork_of_a_state_with_other_steps_is_refused(winner):
    study = fork(winner, scheduler=ForksAnother())
    with pytest.raises(StudyError, match=r'step "keep" of trial 0 did, so .* needs to be .*, got .*0\.9'):
        study.run(trials=2)


def test_two_winners_never_mix_in_one_folder(winner, tmp_path):
    fork(winner, folder=tmp_path).run(trials=1)
    fork(winner.model(), folder=tmp_path).run(trials=2)
    changed = winner.model()
    with torch.no_grad():
        changed.normalizer.mean += 1e-3
    for other, steps in ((changed, {"keep": Keep}), (winner, {"keep": partial(Keep, noise=0.1)}), (winner, {})):
        with pytest.raises(FingerprintError, match=r"made with other settings: .*(model|steps) was"):
            fork(other, folder=tmp_path, steps=steps, space=SPACE if steps else {"optimizer": SPACE["optimizer"]})


class Fails(Keep):
    """Cannot keep more than half."""

    def operations(self, module, rows):
        if self.share > 0.5:
            raise RuntimeError(f"share {self.share:.1f} is too much")
        return super().operations(module, rows)


def test_a_step_that_raises_fails_its_trial_and_no_other(winner):
    study = fork(winner, steps={"keep": Fails}, space=SPACE | {"keep": {"share": tn.Float(0.2, 0.7)}})
    study.run(trials=6)
    assert {trial.status for trial in study.trials} == {"DONE", "FAILED"}
    failed = next(trial for trial in study.trials if trial.status == "FAILED")
    assert failed.reason == f'RuntimeError: share {failed.config["keep"]["share"]:.1f} is too much (step "keep")'


def test_a_step_that_fails_for_the_example_is_found_before_trial_0(winner):
    with pytest.raises(ValueError, match=r'configuration \{.*\}: .*step "keep".*is too much'):
        fork(winner, steps={"keep": Fails}, space=SPACE | {"keep": {"share": tn.Float(0.6, 0.9)}})


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda: 3, r"needs a method operations\(module, rows\), got 3"),
        (type("Nothing", (), {"operations": lambda *_: None}), "needs to return a list of operations, .* got None"),
        (type("Numbers", (), {"operations": lambda *_: [1]}), r"needs to return a list of operations, .* got \[1\]"),
    ],
    ids=["no step", "nothing", "numbers"],
)
def test_what_is_no_step_is_refused_before_trial_0(winner, step, said):
    with pytest.raises(ValueError, match=f'step "keep": TypeError: a step {said}'):
        fork(winner, {"optimizer": SPACE["optimizer"]}, steps={"keep": step})


CHOSEN = {
    "keep": tn.Choice({"most": tn.call(Keep, share=tn.Float(0.7, 0.9)), "some": partial(Keep, share=0.3)}),
    "optimizer": {"lr": tn.Float(1e-3, 0.1, log=True)},
}


def test_a_step_may_be_a_choice_of_steps(winner):
    study = fork(winner, CHOSEN, folder=ALL)
    study.run(trials=5)
    chosen = [next(iter(keep)) if isinstance(keep := t.config["keep"], dict) else keep for t in study.trials]
    assert set(chosen) == {"most", "some"}
    widths = {hidden(study, t.number) for t in study.trials if t.config["keep"] == "some"}
    assert widths == {round(0.3 * WIDTH)}


def test_folds_of_rows_that_the_winner_has_seen_are_refused(winner):
    ours = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "metrics": {"accuracy": tn.metrics.accuracy}}
    with pytest.raises(ValueError, match="the winner was trained on these rows"):
        fork(winner, trainer=tn.Trainer(TRAIN[:320], folds=3, **ours))
    with pytest.raises(ValueError, match="the winner was trained on the validation rows"):
        fork(winner, trainer=tn.Trainer(VALID, TRAIN[:320], **ours))


def test_a_fork_has_no_learning_curve_over_rows_that_its_winner_has_seen(winner):
    study = fork(winner)
    study.run(trials=1)
    with pytest.raises(StudyError, match="the winner was trained on all of them"):
        study.best.learning_curve()


def test_forks_are_extended_and_confirmed(winner):
    study = fork(winner, folder=ALL)
    study.run(trials=2)
    longer = study.extend(epochs=4)
    assert [trial.status for trial in longer.trials] == ["DONE", "DONE"]
    whole = fork(winner, trainer=trainer(epochs=4))
    whole.run(trials=2)
    assert [t.reports[-1].metrics for t in longer.trials] == [t.reports[-1].metrics for t in whole.trials]
    assert study.confirm(top=2, seeds=2).confirmed.seeds == 2


class Counted(Keep):
    asked = 0

    def operations(self, module, rows):
        Counted.asked += 1
        return super().operations(module, rows)


def test_a_probe_is_of_the_module_that_the_steps_leave_and_asks_them_once(winner):
    study = fork(winner, steps={"keep": Counted})
    before = Counted.asked
    probes = {share: study.history.probe({"keep": {"share": share}} | RATE) for share in (0.31, 0.32, 0.89)}
    assert Counted.asked - before == 2
    assert probes[0.31] == probes[0.32]
    units = {share: round(share * WIDTH) for share in (0.31, 0.89)}
    assert {share: probes[share].parameters for share in units} == {
        share: (64 + 1) * count + (count + 1) * 10 for share, count in units.items()
    }


def test_a_section_of_a_step_may_come_later(winner, tmp_path):
    fork(winner, {"optimizer": SPACE["optimizer"]}, folder=tmp_path).run(trials=1)
    grown = fork(winner, folder=tmp_path)
    assert grown.trials[0].config["keep"] == {"share": 0.5}
    grown.run(trials=2)
    assert [trial.status for trial in grown.trials] == ["DONE", "DONE"]


def test_a_setting_of_a_step_in_no_section_is_shown_its_section(winner):
    with pytest.raises(ValueError, match=r'write tn.SearchSpace\(keep=\{"share": ...\}, optimizer=\{"lr": ...\}\)'):
        fork(winner, {"share": tn.Float(0.3, 0.9), "lr": tn.Float(0.01, 0.1)})
