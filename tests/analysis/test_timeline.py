"""Spans, runs and idle times follow from the times of reports, whatever the clock does."""

import pytest

import tuneflow as tn
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.timeline import timeline_of
from tuneflow.analysis.totals import totals_of
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial, with_reports, with_status

SPACE, OBJECTIVE = tn.SearchSpace(x=tn.Float(0, 1)), Objective((("loss", False),))
T = 1_700_000_000.0
FUSED = {"runtime": {"device": "cpu", "executor": "fused", "precision": "fp32"}, "trainer": {}}


def record(*trials, facts=None, epochs=9):
    """A record of trials, each a list of (seconds after T at which an epoch was reported, its seconds, worker)."""
    history = History(SPACE, OBJECTIVE, 0, epochs)
    for number, (times, status, *rest) in enumerate(trials):
        reports = [Report(e, {"loss": 1.0}, {}, s, at and T + at, w) for e, (at, s, w) in enumerate(times, 1)]
        trial = with_reports(Trial(number, {"x": 0.5}), reports, OBJECTIVE)
        history.record(trial if status == "RUNNING" else with_status(trial, status, "", "", *rest))
    return StudyRecord("in memory", facts or {}, SPACE, history)


def spans(timeline):
    return [(s.worker, s.row, s.trial, round(s.begin - T, 6), round(s.end - T, 6), s.epochs) for s in timeline.spans]


A_AND_B = ([(1, 1, 0), (2, 1, 0), (4, 1, 0)], "DONE"), ([(3, 1, 0)], "STOPPED")
CASES = {
    "one trial after the other": (
        record(([(1, 1, 0), (2.1, 1, 0)], "DONE"), ([(4, 1.5, 0)], "RUNNING")),
        [(0, 0, 0, 0, 2.1, 2), (0, 0, 1, 2.5, 4, 1)],
    ),
    "a trial that was paused for another one": (
        record(*A_AND_B),
        [(0, 0, 0, 0, 2, 2), (0, 0, 1, 2, 3, 1), (0, 0, 0, 3, 4, 1)],
    ),
    "two workers": (
        record(([(1, 1, 0), (2, 1, 1)], "DONE"), ([(1, 1, 1)], "DONE")),
        [(0, 0, 0, 0, 1, 1), (1, 0, 1, 0, 1, 1), (1, 0, 0, 1, 2, 1)],
    ),
    "lanes, in which an epoch's seconds are its share": (
        record(*[([(2, 1, 0), (4, 1, 0), (6, 1, 0)], "DONE")] * 2, facts=FUSED),
        [(0, 0, 0, 0, 6, 3), (0, 1, 1, 0, 6, 3)],
    ),
    "lanes, in which the first epoch took longer, for its tracing": (
        record(*[([(3, 3, 0), (5, 1, 0), (7, 1, 0)], "DONE")] * 2, facts=FUSED),
        [(0, 0, 0, 0, 7, 3), (0, 1, 1, 0, 7, 3)],
    ),
    "epochs that were reported late, as a head start is": (
        record(([(2, 1, 0), (2.01, 1, 0), (3, 0.9, 0)], "DONE")),
        [(0, 0, 0, 0.01, 3, 3)],
    ),
    "seconds after the last report, in which it failed": (
        record(([(1, 1, 0)], "FAILED", 5.0)),
        [(0, 0, 0, 0, 6, 1)],
    ),
    "a clock that was set back": (
        record(([(100, 1, 0), (2, 1, 0)], "DONE"), ([(3, 1, 0)], "DONE")),
        [(0, 0, 0, 1, 2, 1), (0, 0, 1, 2, 3, 1), (0, 0, 0, 99, 100, 1)],
    ),
    "reports without a time": (record(([(0, 1, 0), (2, 1, 0)], "DONE")), [(0, 0, 0, 1, 2, 1)]),
}


@pytest.mark.parametrize(("case", "expected"), CASES.values(), ids=list(CASES))
def test_epochs_make_spans(case, expected):
    assert sorted(spans(timeline_of(case)), key=lambda row: row[3:]) == sorted(expected, key=lambda row: row[3:])


def test_idle_is_what_a_worker_did_not_train_while_there_was_a_run():
    timeline = timeline_of(record(([(1, 1, 0), (1000, 1, 0)], "DONE"), ([(2, 2, 1)], "DONE")))
    assert [(begin - T, end - T) for begin, end in timeline.runs] == [(0, 2), (999, 1000)]
    assert timeline.seconds == 3
    assert timeline.idle == pytest.approx({0: 1 / 3, 1: 1 / 3})


def test_trials_that_ended_without_a_time_are_named():
    timeline = timeline_of(record(([], "FAILED", 3.0), ([(0, 1, 0)], "DONE"), ([], "RUNNING")))
    assert (timeline.spans, timeline.idle, timeline.seconds) == ((), {}, 0.0)
    assert timeline.untimed == (0, 1)


def test_a_study_that_is_asked_and_told_has_a_timeline():
    study = tn.Study(space=SPACE, minimize="loss", epochs=2)
    trial = study.ask()
    study.tell(trial, 1.0, done=False)
    study.tell(trial, 1.0)
    (span,) = timeline_of(study.record()).spans
    assert (span.trial, span.epochs, span.status) == (0, 2, "DONE")
    assert 0 <= span.end - span.begin < 60


def test_totals_count_what_was_trained_and_what_stopping_saved():
    halved = record(*A_AND_B, ([], "FAILED", 2.0), ([(5, 1, 1)], "PAUSED"), facts=FUSED)
    totals = totals_of(halved)
    assert totals.statuses == {"DONE": 1, "STOPPED": 1, "FAILED": 1, "PAUSED": 1}
    assert (totals.epochs, totals.full, totals.saved) == (5, 5 + 8 + 8, 16)
    assert (totals.seconds, totals.workers) == (7.0, 2)
    assert totals.place == ("cpu", "fp32", "in lanes", "2 workers")


def test_forks_and_extended_trials_count_their_own_epochs_once():
    history = History(SPACE, OBJECTIVE, 0, 4)
    history.lengths = (4, 8)
    reports = [Report(epoch, {"loss": 1.0}) for epoch in range(1, 9)]
    parts = [(0, 4, None, False), (4, 8, (0, 4), True), (2, 3, (0, 2), False)]
    for number, (start, end, parent, extends) in enumerate(parts):
        trial = with_reports(Trial(number, {"x": 0.5}, parent=parent, extends=extends), reports[start:end], OBJECTIVE)
        history.record(with_status(trial, "STOPPED" if number == 2 else "DONE"))
    totals = totals_of(StudyRecord("in memory", {}, SPACE, history))
    assert (totals.epochs, totals.place) == (4 + 4 + 1, ())


def test_members_that_a_fork_replaced_saved_nothing():
    study = tn.Study(space=SPACE, minimize="loss", epochs=6, progress=False, scheduler=tn.Population(4, every=2))
    while (trial := study.ask()) is not None:
        while trial.status == "RUNNING":
            trial = study.tell(trial, {"loss": float(trial.number)}, done=False)
    totals = totals_of(study.record())
    assert totals.statuses["STOPPED"] > 0
    assert (totals.epochs, totals.saved) == (4 * 6, 0)
