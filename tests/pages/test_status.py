"""The text of a status: what it says, and what it leaves out where there is no room."""

import math
import time

import pytest

import tuneflow as tn
from tuneflow.history.history import History
from tuneflow.history.objective import Limit, Objective
from tuneflow.history.trial import Report, Trial, with_reports
from tuneflow.pages.run_status import RunStatus
from tuneflow.pages.status import Status, TimeLeft
from tuneflow.pages.throttle import BURST, Throttle

SPACE = tn.SearchSpace(x=tn.Float(0, 1))
ACCURACY = Objective((("accuracy", True),))
WHOLE = Status("12/32", "best 0.956 +- 0.011", "(trial 9)", "training 12: epoch 7/10", "accuracy 0.93",
               "41 of 320 epochs", "about 2 min left")  # fmt: skip


def history(*trials, objective=ACCURACY, epochs=10):
    """A history of trials (status, accuracies by epoch)."""
    made = History(SPACE, objective, epochs=epochs)
    for number, (status, scores) in enumerate(trials):
        reports = [
            Report(n, {"accuracy": score, "size": 9.0}, {"accuracy": 0.011}) for n, score in enumerate(scores, 1)
        ]
        made.record(with_reports(Trial(number, {"x": 0.5}, status), reports, objective))
    return made


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, "12/32  best 0.956 +- 0.011 (trial 9)  training 12: epoch 7/10, accuracy 0.93  41 of 320 epochs"
              "  about 2 min left"),
        (100, "12/32  best 0.956 +- 0.011 (trial 9)  training 12: epoch 7/10, accuracy 0.93  about 2 min left"),
        (80, "12/32  best 0.956 +- 0.011  training 12: epoch 7/10  about 2 min left"),
        (60, "12/32  best 0.956 +- 0.011  about 2 min left"),
        (30, "12/32  about 2 min left"),
        (9, "12/32  ab"),
        (0, ""),
    ],
)  # fmt: skip
def test_what_matters_least_is_left_out_where_there_is_no_room(width, line):
    assert WHOLE.fitted(width) == line


@pytest.mark.parametrize(
    ("trials", "objective", "words"),
    [
        ([], ACCURACY, "0/4  0 of 40 epochs"),
        ([("DONE", [0.9, 0.95] + 8 * [0.9])], ACCURACY, "1/4  best 0.950 +- 0.011 (trial 0)  10 of 40 epochs"),
        ([("RUNNING", [0.9, 0.85])], ACCURACY, "0/4  training 0: epoch 3/10, accuracy 0.850  2 of 40 epochs"),
        ([("RUNNING", [0.9]), ("RUNNING", [0.95]), ("RUNNING", [])], ACCURACY,
         "0/4  3 in training, the best of them 1: epoch 2/10, accuracy 0.950  2 of 40 epochs"),
        ([("DIVERGED", []), ("FAILED", [])], ACCURACY, "2/4"),
        ([("DONE", 10 * [math.nan])], ACCURACY, "1/4  10 of 40 epochs"),
        ([("DONE", 10 * [0.9]), ("STOPPED", [0.8, 0.8])], ACCURACY,
         "2/4  best 0.900 +- 0.011 (trial 0)  12 of about 24 epochs"),
        ([("DONE", 10 * [0.9])], Objective((("accuracy", True),), limits=(Limit("size", None, 5),)),
         "1/4  none within the limits  10 of 40 epochs"),
        ([("DONE", 10 * [0.9])], Objective((("accuracy", True), ("size", False)), "last"),
         "1/4  1 on the front  10 of 40 epochs"),
    ],
    ids=["new", "best", "running", "several", "failed", "nan", "stopped", "limits", "front"],
)  # fmt: skip
def test_a_status_says_what_ended_what_is_the_best_and_what_is_under_way(trials, objective, words):
    status = RunStatus(history(*trials, objective=objective), 4).status()
    assert str(status).replace(status.left, "").replace(f" since {time.strftime('%H:%M:%S')}", "").strip() == words


def test_functions_have_no_epochs_and_an_open_end_has_no_full_length():
    assert str(RunStatus(history(("DONE", [0.9]), epochs=1), 4).status()) == "1/4  best 0.900 +- 0.011 (trial 0)"
    assert "epoch 2 " in str(RunStatus(history(("RUNNING", [0.9]), epochs=None)).status())


def test_a_run_that_ends_by_its_epochs_counts_to_them():
    assert RunStatus(history(("RUNNING", [0.9])), epochs=8).status().epochs == "1 of 8 epochs"


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (TimeLeft(0, 40, 100.0), ""),
        (TimeLeft(10, 40, 0.5), ""),
        (TimeLeft(10, 40, 30.0), "about 2 min left"),
        (TimeLeft(10, 40, 30.0, earlier=True), "at most 2 min left"),
        (TimeLeft(10, 40, 30.0, budget=60.0), "60 s left"),
        (TimeLeft(10, math.nan, 30.0), ""),
        (TimeLeft(10, math.nan, 30.0, budget=7200.0), "2 h left"),
    ],
    ids=["first", "start", "estimate", "target", "seconds", "unknown", "only seconds"],
)
def test_the_time_left_is_said_once_it_can_be_estimated(left, words):
    assert left.words == words


def test_the_start_of_workers_is_no_time_of_epochs():
    run = history()
    status = RunStatus(run, 4)
    status.began -= 3600.0
    run.record(with_reports(Trial(0, {"x": 0.5}), [Report(1, {"accuracy": 0.9}, seconds=2.0)], ACCURACY))
    assert status.status().left == "about 78 s left"


def test_where_epochs_are_slow_the_end_is_a_time_of_the_clock():
    at = time.strftime("%H:%M", time.localtime(time.time() + 4 * 1200))
    assert TimeLeft(2, 4, 2400.0).words == f"ends about {at}"


def test_something_is_shown_at_most_every_second_on_average_and_for_one_percent_of_the_time(monkeypatch):
    clock, shown = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    throttle = Throttle()
    for _ in range(1000):
        throttle.run(lambda: shown.append(clock[0]))
        clock[0] += 0.01
    assert 10 <= len(shown) <= 10 + BURST

    def slow():
        clock[0] += 0.05
        shown.append(clock[0])

    shown.clear()
    for _ in range(1000):
        throttle.run(slow)
        clock[0] += 1.0
    assert 1000 / 5 <= len(shown) <= 1000 / 5 + BURST + 20
