"""Callbacks are functions or objects; an object hears of the start and the end of a study, however that ends."""

import threading

import pytest

import tuneflow as tn
from tests.helpers.small_studies import scripted
from tuneflow.errors import StudyError


class Tracker:
    """Notes its calls, and raises in one of them if it is told to."""

    def __init__(self, raises=""):
        self.calls, self.raises, self.lock = [], raises, threading.Lock()

    def _note(self, name, *values):
        self.calls.append((name, *values))
        if name == self.raises:
            raise OSError("no network")

    def on_study_start(self, study):
        self._note("start", len(study.trials))

    def on_report(self, study, trial):
        self._note("report", trial.number, trial.epochs)

    def on_trial_end(self, study, trial):
        self._note("end", trial.number, trial.status)

    def on_study_end(self, study):
        self._note("stop", len(study.trials))


class Called(Tracker):
    """An object with methods that can be called too: its methods count."""

    def __call__(self, study, trial):
        raise AssertionError


class OnlyEnds:
    def __init__(self):
        self.numbers = []

    def on_trial_end(self, study, trial):
        self.numbers.append(trial.number)


OF_A_TRIAL = [("report", 0, 1), ("report", 0, 2), ("report", 0, 3), ("end", 0, "DONE")]


@pytest.mark.parametrize("kind", [Tracker, Called])
def test_an_object_hears_of_start_reports_ends_and_the_end_of_each_run(kind):
    tracker, ends, calls = kind(), OnlyEnds(), []
    study = scripted(callbacks=[tracker, ends, lambda study, trial: calls.append((trial.number, trial.epochs))])
    study.run(trials=1)
    assert tracker.calls == [("start", 0), *OF_A_TRIAL, ("stop", 1)]
    assert calls == [(0, 1), (0, 2), (0, 3), (0, 3)]
    study.run(trials=2)
    assert [call for call in tracker.calls if call[0] in ("start", "stop")] == [
        ("start", 0), ("stop", 1), ("start", 1), ("stop", 2),
    ]  # fmt: skip
    assert ends.numbers == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StudyError])
def test_an_object_hears_of_the_end_of_a_run_that_does_not_come_to_its_own(error):
    def interrupt(study, trial):
        raise error

    tracker = Tracker()
    with pytest.raises(error):
        scripted(callbacks=[tracker, interrupt]).run(trials=1)
    assert tracker.calls == [("start", 0), ("report", 0, 1), ("stop", 1)]


def test_a_study_that_runs_is_not_run_by_its_callback():
    study = scripted(callbacks=[lambda study, trial: study.run(trials=3)])
    with pytest.raises(StudyError, match="run: this study is running already"):
        study.run(trials=1)
    study.callbacks.clear()
    study.run(trials=1)
    assert [(trial.status, trial.epochs) for trial in study.trials] == [("DONE", 3)]


def test_all_that_started_end_even_if_one_of_them_fails_to():
    first, broken, last = Tracker(), Tracker(raises="stop"), Tracker()
    with pytest.raises(OSError, match="no network"):
        scripted(callbacks=[first, broken, last]).run(trials=1)
    assert first.calls[-1] == last.calls[-1] == ("stop", 1)
    first, broken = Tracker(), Tracker(raises="start")
    with pytest.raises(OSError, match="no network"):
        scripted(callbacks=[first, broken, last]).run(trials=1)
    assert first.calls == [("start", 0), ("stop", 0)]


@pytest.mark.parametrize("raises", ["report", "end"])
def test_an_error_in_a_callback_ends_the_run_names_it_and_costs_no_trial(raises, tmp_path):
    study = scripted(callbacks=[Tracker(raises)], folder=tmp_path)
    with pytest.raises(OSError, match="no network") as caught:
        study.run(trials=2)
    event = "on_report of trial 0" if raises == "report" else "on_trial_end of trial 0"
    assert "Tracker" in caught.value.__notes__[0]
    assert caught.value.__notes__[0].endswith(event)
    study.callbacks.clear()
    study.run(trials=2)
    assert [(t.status, t.epochs) for t in study.trials] == [("DONE", 3)] * 2


def test_whoever_asks_starts_with_the_first_ask_and_ends_with_close():
    tracker = Tracker()
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), callbacks=[tracker], progress=False) as study:
        assert tracker.calls == []
        for _ in range(2):
            study.tell(study.ask(), 1.0)
    assert tracker.calls == [
        ("start", 0), ("report", 0, 1), ("end", 0, "DONE"), ("report", 1, 1), ("end", 1, "DONE"), ("stop", 2),
    ]  # fmt: skip
    study.close()
    assert tracker.calls[-1] == ("stop", 2)


def test_a_study_that_nobody_asked_ends_without_a_word():
    tracker = Tracker()
    scripted(callbacks=[tracker]).close()
    assert tracker.calls == []


# Arguments.


class Misspelt:
    def on_trial_ended(self, study, trial): ...


class PartlyMisspelt(OnlyEnds):
    def on_reports(self, study, trial): ...


class TakesTooFew:
    def on_report(self, study): ...


class NoMethod:
    on_report = 3


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Misspelt(), r'any of on_study_start, .*got a Misspelt. It has on_trial_ended. Did you mean "on_trial_end"\?'),
        (3, "needs to be callable: .*got 3"),
        (Tracker, "instances, got the class Tracker; add parentheses"),
        (TakesTooFew(), r"on_report of callback .*TakesTooFew.* is called with \(study, trial\), and takes \(study\)"),
        (lambda trial: None, r"callback <function .* is called with \(study, trial\), and takes \(trial\)"),
        (NoMethod(), "on_report needs to be a method, got 3"),
    ],
)
def test_callbacks_of_another_kind_are_refused_when_the_study_is_made(callback, message):
    with pytest.raises(TypeError, match=message):
        scripted(callbacks=[callback])


def test_a_method_that_would_never_be_called_is_warned_of():
    with pytest.warns(UserWarning, match=r'never called. It has on_reports. Did you mean "on_report"\?'):
        scripted(callbacks=[PartlyMisspelt()])
