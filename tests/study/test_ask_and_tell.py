"""Trials that are trained elsewhere: told in epochs or at once, by threads, by other processes, and by mistake."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers import forked, scripts
from tests.helpers.messages import refused
from tests.helpers.small_studies import make
from tuneflow.errors import StudyError

KILLED = Path(scripts.__file__).parent / "asked_and_killed.py"


def asked(**settings):
    settings = {"space": tn.SearchSpace(x=tn.Float(0, 1)), "progress": False} | settings
    return tn.Study(**settings)


def test_a_trial_ends_as_done_with_what_it_reported():
    study = asked()
    trial = study.ask()
    for loss in (3.0, 1.0, 2.0):
        trial = study.tell(trial, loss, done=False)
        assert (trial.status, trial.ended) == ("RUNNING", False)
    trial = study.tell(trial)
    assert (trial.status, trial.epochs, dict(trial.metrics)) == ("DONE", 3, {"loss": 1.0})
    assert study.best.number == 0


def test_at_its_full_length_a_trial_is_done():
    study = asked(epochs=2)
    trial = study.ask()
    assert trial.until == 2
    assert [study.tell(trial, 1.0, done=False).status for _ in range(2)] == ["RUNNING", "DONE"]
    refused(StudyError, lambda: study.tell(trial, 0.5, done=False), "trial 0 is DONE")


def test_a_loss_that_is_not_finite_ends_a_trial():
    study = asked(epochs=9)
    trial = study.ask()
    study.tell(trial, 1.0, done=False)
    trial = study.tell(trial, math.inf, done=False)
    assert (trial.status, trial.reason) == ("DIVERGED", "loss is inf at epoch 2")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_too_large_for_a_float_is_refused(sign):
    study = asked()
    trial = study.ask()
    with pytest.raises(ValueError, match=r'"loss" needs to be a number that a float can hold, got -?1000.*characters'):
        study.tell(trial, sign * 10**400)
    assert study.tell(trial, math.inf).status == "DIVERGED"


def test_a_metric_that_is_not_finite_is_worse_than_any_other_epoch():
    study = asked(maximize="auc")
    trial = study.ask()
    study.tell(trial, (math.nan, math.nan), done=False)
    trial = study.tell(trial, 0.7)
    assert (trial.status, dict(trial.metrics)) == ("DONE", {"auc": 0.7})


def test_seconds_count_from_ask_to_tell():
    study = asked()
    trial = study.ask()
    time.sleep(0.02)
    study.tell(trial, 2.0, done=False)
    time.sleep(0.03)
    trial = study.tell(trial, 1.0)
    assert [report.seconds >= least for report, least in zip(trial.reports, (0.02, 0.03), strict=True)] == [True, True]
    assert trial.seconds == pytest.approx(sum(report.seconds for report in trial.reports))
    failed = study.ask()
    time.sleep(0.02)
    assert study.tell(failed, None).seconds >= 0.02


@pytest.mark.parametrize(
    ("metrics", "errors", "kept"),
    [
        (0.5, 0.1, {"loss": 0.1}),
        ((0.5, 0.1), None, {"loss": 0.1}),
        ((0.5, 0.1), 0.2, {"loss": 0.2}),
        ({"loss": torch.tensor(0.5), "size": (3, 1)}, {"loss": np.float32(0.25)}, {"loss": 0.25, "size": 1.0}),
        ({"loss": np.float64(0.5)}, {}, {}),
    ],
)
def test_errors_are_kept_with_the_metrics(metrics, errors, kept):
    study = asked()
    trial = study.tell(study.ask(), metrics, errors=errors)
    assert (trial.metrics["loss"], dict(trial.errors)) == (0.5, kept)
    assert study.history.errors.tolist() == pytest.approx([kept.get("loss", math.nan)], nan_ok=True)


REFUSED = {
    "a negative error": (lambda s, t: s.tell(t, 1.0, errors=-1), ValueError, ["trial 0", "standard error >= 0", "-1"]),
    "an error of NaN": (lambda s, t: s.tell(t, 1.0, errors=math.nan), ValueError, ["got nan", "leave the error out"]),
    "an error of no metric": (
        lambda s, t: s.tell(t, {"loss": 1.0}, errors={"los": 1.0}),
        ValueError,
        ['errors names "los"', 'Did you mean "loss"?'],
    ),
    "True": (lambda s, t: s.tell(t, True), TypeError, ["got True", "done="]),
    "a list": (lambda s, t: s.tell(t, [1.0]), TypeError, ['"loss" needs to be one number, got [1.0]']),
    "nothing but done=False": (lambda s, t: s.tell(t, done=False), ValueError, ["done=False need metrics"]),
    "None and errors": (lambda s, t: s.tell(t, None, errors=1.0), ValueError, ["errors= and done=False need metrics"]),
    "a reason for success": (lambda s, t: s.tell(t, 1.0, reason="why"), ValueError, ["tell(trial, None, reason=...)"]),
    "another metric": (lambda s, t: s.tell(t, {"lss": 1.0}), StudyError, ['"loss" was never reported', '"lss"']),
    "an empty dict": (lambda s, t: s.tell(t, {}), TypeError, ["needs a dict of numbers", "got {}"]),
    "no report at all": (lambda s, t: s.tell(t), StudyError, ["has no report yet", "reason=...) if it failed"]),
    "a word for done": (lambda s, t: s.tell(t, 1.0, done="no"), TypeError, ["True or False, got 'no'"]),
    "a number for a reason": (lambda s, t: s.tell(t, None, reason=3), TypeError, ["needs to be a string, got 3"]),
    "an unknown number": (lambda s, t: s.tell(7, 1.0), StudyError, ["trial 7 does not exist"]),
    "a negative number": (lambda s, t: s.tell(-1, 1.0), TypeError, ["needs a trial that ask() returned", "got -1"]),
    "a configuration": (lambda s, t: s.tell(t.config, 1.0), TypeError, ["or its number, got {'x'"]),
    "a trial of another study": (
        lambda s, t: s.tell(asked(seed=1).ask(), 1.0),
        StudyError,
        ["trial 0 has {'x'", "tell the study that was asked for it"],
    ),
}


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_told_is_refused_and_the_trial_goes_on(call, kind, words):
    study = asked()
    trial = study.ask()
    refused(kind, lambda: call(study, trial), *words)
    assert (study.trials[0].status, study.trials[0].epochs) == ("RUNNING", 0)
    assert study.tell(trial, 1.0).status == "DONE"


def test_several_objectives_are_checked_in_every_report():
    study = asked(minimize=["loss", "size"], limits={"memory": 3})
    trial = study.ask()
    whole = {"loss": 1.0, "size": 2.0, "memory": 1.0}
    for name in whole:
        less = {key: value for key, value in whole.items() if key != name}
        refused(StudyError, lambda less=less: study.tell(trial, less, done=False), f'"{name}" was never reported')
    refused(TypeError, lambda: study.tell(trial, 1.0), "several objectives need a dict of loss, size")
    assert study.tell(trial, {**whole, "extra": 3}, done=False).epochs == 1


def test_full_length_is_the_trainers_where_there_is_one():
    refused(TypeError, lambda: make(epochs=3), "Write trainer=tn.Trainer(..., epochs=...)")
    refused(ValueError, lambda: asked(replicas=3), "without a trainer nothing is trained here", "errors=")
    refused(ValueError, lambda: asked(epochs=0), "Study: epochs needs to be a whole number >= 1", "for an open end")


def test_what_needs_a_trainer_says_so():
    study = asked()
    study.tell(study.ask(), 1.0)
    for call in (study.best.model, study.best.models, lambda: study.best.test(None), lambda: study.best.save("x")):
        refused(StudyError, call, "trial 0 was trained outside of the study", "load the one that your own loop saved")
    refused(StudyError, study.confirm, "confirm: this study has no trainer")
    refused(StudyError, lambda: study.run(trials=1), "run: this study has no trainer")


def test_many_are_asked_before_any_is_told():
    study = asked(scheduler=tn.Halving(), epochs=9)
    trials = [study.ask() for _ in range(9)]
    assert [t.until for t in trials] == [1] * 9
    for trial in reversed(trials):
        assert study.tell(trial, trial.number, done=False).status == "PAUSED"
    assert [(t.number, t.epochs, t.until) for t in (study.ask(), study.ask(), study.ask())] == [
        (0, 1, 3),
        (1, 1, 3),
        (2, 1, 3),
    ]


def test_a_paused_trial_waits_for_the_scheduler_or_is_ended():
    study = asked(scheduler=tn.Halving(), epochs=9)
    first, second = study.ask(), study.ask()
    for trial in (first, second):
        study.tell(trial, 1.0, done=False)
    refused(StudyError, lambda: study.best, "(0 of 2 ended, 2 paused)")
    refused(StudyError, lambda: study.tell(first, 0.5), "trial 0 is PAUSED at epoch 1", "ask() gives it back")
    assert study.tell(first).status == "DONE"
    assert study.tell(second, None, reason="enough").status == "FAILED"


def test_a_trial_that_was_stopped_meanwhile_comes_back_as_it_is():
    study = asked(scheduler=tn.Median(trials=2))
    slow = study.tell(study.ask(), 9.0, done=False)
    for loss in (1.0, 2.0):
        study.tell(study.ask(), loss)
    study.ask()
    assert study.trials[0].status == "STOPPED"
    for told in (study.tell(slow, 0.1, done=False), study.tell(slow, 0.1), study.tell(slow), study.tell(slow, None)):
        assert (told.status, told.epochs, told.reason) == ("STOPPED", 1, "worse than 2 of 2 at epoch 1")


def test_ask_ends_with_its_trials_or_with_the_space():
    study = asked(scheduler=tn.Halving(), epochs=9)
    while (trial := study.ask(trials=3)) is not None:
        while trial.status == "RUNNING":
            trial = study.tell(trial, trial.number + 1 / (trial.epochs + 1), done=False)
    assert [(t.status, t.epochs) for t in study.trials] == [("STOPPED", 3), ("STOPPED", 1), ("STOPPED", 1)]
    small = asked(space=tn.SearchSpace(n=tn.Int(0, 1)), searcher=tn.Grid())
    assert [small.tell(small.ask(), 1.0).status for _ in range(2)] == ["DONE", "DONE"]
    assert small.ask() is small.ask() is None
    small.enqueue({"n": 1})
    assert small.ask().config == {"n": 1}
    refused(ValueError, lambda: small.ask(trials=0), "ask: trials needs to be a whole number >= 1")


def test_a_callback_that_fails_costs_no_trial():
    def fails(study, trial):
        raise OSError("no plot")

    study = asked(callbacks=[fails])
    for metrics, status in ((1.0, "DONE"), (None, "FAILED")):
        trial = study.ask()
        with pytest.raises(OSError, match="no plot"):
            study.tell(trial, metrics)
        assert study.trials[trial.number].status == status


def test_a_callback_hears_of_the_study_of_reports_and_of_ends():
    class Noted:
        def __init__(self):
            self.events = []

        def on_study_start(self, study):
            self.events.append("start")

        def on_report(self, study, trial):
            self.events.append((trial.epochs, trial.status))

        def on_trial_end(self, study, trial):
            self.events.append(trial.status)

    noted = Noted()
    study = asked(callbacks=[noted])
    trial = study.ask()
    study.tell(trial, 2.0, done=False)
    study.tell(trial, 1.0)
    study.tell(study.ask(), None)
    assert noted.events == ["start", (1, "RUNNING"), (2, "RUNNING"), "DONE", "FAILED"]


def test_threads_may_ask_and_tell(tmp_path):
    study = asked(scheduler=tn.Median(), folder=tmp_path)

    def work(_):
        trial = study.ask()
        for epoch in range(1, 4):
            trial = study.tell(trial, trial.config["x"] + 1 / epoch, done=epoch == 3)
            if trial.ended:
                return trial.number
        raise AssertionError(trial)

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(work, range(24)))
    assert sorted(numbers) == list(range(24))
    assert {t.status for t in tn.open(tmp_path).trials} == {"DONE", "STOPPED"}


# Other processes.


def test_two_that_ask_in_turn_share_trials_and_decisions(tmp_path):
    settings = {"scheduler": tn.Median(trials=2), "folder": tmp_path}
    one, other = asked(**settings), asked(**settings)
    slow = one.tell(one.ask(), 9.0, done=False)
    words = "was given to another process or study object, which is still there"
    refused(StudyError, lambda: other.tell(slow.number, 1.0), f"tell: trial 0 {words}")
    for loss in (1.0, 2.0):
        trial = other.ask()
        other.tell(trial, loss)
    other.ask()  # decides about every trial
    assert other.trials[0].reason == "worse than 2 of 2 at epoch 1"
    told = one.tell(slow, 0.1, done=False)
    assert (told.status, told.epochs, told.reason) == ("STOPPED", 1, "worse than 2 of 2 at epoch 1")
    assert [t.status for t in tn.open(tmp_path).trials] == ["STOPPED", "DONE", "DONE", "RUNNING"]


def killed(folder):
    process = forked.start(KILLED, folder)
    process.join()
    assert process.exitcode == -9


def test_the_trial_of_a_process_that_was_killed_is_told_by_another(tmp_path):
    killed(tmp_path)
    study = asked(epochs=9, folder=tmp_path)
    trial = study.tell(0, 1.0, done=False)
    assert (trial.status, trial.epochs, [r.metrics["loss"] for r in trial.reports]) == ("RUNNING", 3, [3.0, 2.0, 1.0])
    assert [r.errors for r in trial.reports] == [{"loss": 0.5}, {"loss": 0.5}, {}]


def test_the_trial_of_a_process_that_was_killed_is_given_again(tmp_path):
    with asked(epochs=9, folder=tmp_path) as before:
        assert len(before.trials) == 0
    watching = asked(epochs=9, folder=tmp_path)
    for _ in range(4):  # deaths alone never fail a trial
        killed(tmp_path)
    trial = watching.ask()
    assert (trial.number, trial.status, trial.until) == (0, "RUNNING", 9)
    assert trial.epochs == 8
    assert watching.tell(trial, 1.0, done=False).status == "DONE"


def test_an_open_study_is_shown_without_its_code(tmp_path):
    with asked(folder=tmp_path, scheduler=tn.Halving()) as study:
        for _ in range(2):
            study.tell(study.ask(), 1.0, done=False)
        study.ask()
    archive = tn.open(tmp_path)
    assert (archive.facts["epochs"], archive.history.open_end) == (None, True)
    assert archive.listing().splitlines()[0] == f"{tmp_path}: 2 PAUSED, 1 RUNNING"
    with pytest.raises(tn.errors.FingerprintError, match="epochs was None, now 9"):
        asked(folder=tmp_path, scheduler=tn.Halving(), epochs=9)
