"""Processes that are told to end, are stopped for a while, or whose clock is wrong."""

import os
import signal
import time

import pytest

import tuneflow as tn
from tests.faults.small_trainings import (
    FORK,
    ended_with,
    finished,
    kill,
    make,
    outcome,
    reports,
    run,
    state_of,
    wait_until,
)

STATUS = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "SystemExit 143"}
HOUR = 3600.0


def slowly(study, trial):
    time.sleep(0.05)


def run_until_told(folder, pipe):
    """Send how the run ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        run(folder, callbacks=[slowly])
    except KeyboardInterrupt:
        pipe.send("KeyboardInterrupt")
    except SystemExit as error:
        pipe.send(f"SystemExit {error.code}")


@pytest.mark.parametrize("number", STATUS, ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_told_to_end_finishes_the_epoch_and_goes_on_exactly(tmp_path, start, whole, number):
    ours, theirs = FORK.Pipe(duplex=False)
    process = start(run_until_told, tmp_path, theirs)
    wait_until(lambda: reports(tmp_path) >= 2)
    os.kill(process.pid, number)
    assert ours.recv() == STATUS[number]
    assert ended_with(process) == 0
    assert {t.status for t in tn.open(tmp_path).trials} <= {"DONE", "PAUSED"}
    assert finished(tmp_path) == whole


@pytest.fixture
def stopped(tmp_path, start):
    """A process that was stopped in the middle of its second trial."""
    process = start(run, tmp_path, callbacks=[slowly])
    wait_until(lambda: reports(tmp_path) >= 4)
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(process) == "T")
    return process


def test_a_process_that_is_stopped_keeps_its_trial_and_ends_it_when_it_goes_on(tmp_path, start, stopped, whole):
    assert ended_with(start(run, tmp_path)) == 0  # all the others
    assert sorted(t.status for t in tn.open(tmp_path).trials) == ["DONE", "DONE", "DONE", "RUNNING"]
    os.kill(stopped.pid, signal.SIGCONT)
    assert ended_with(stopped) == 0
    assert finished(tmp_path) == whole


def test_a_process_that_is_killed_while_it_is_stopped_frees_its_trial(tmp_path, stopped, whole):
    kill(stopped)
    assert finished(tmp_path) == whole


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_during_a_run_changes_nothing(tmp_path, monkeypatch, whole, hours):
    right = time.time

    def jump(study, trial):
        monkeypatch.setattr(time, "time", lambda: right() + hours * HOUR)

    run(tmp_path, callbacks=[jump])
    assert finished(tmp_path) == whole
    with make(tmp_path) as study:
        assert all(0 <= report.seconds < 60 for trial in study.trials for report in trial.reports)
        assert study.report(tmp_path / "report.html").stat().st_size > 0


def run_at(folder, hours, trials):
    right = time.time
    time.time = lambda: right() + hours * HOUR
    run(folder, trials)


def test_processes_whose_clocks_differ_by_hours_share_a_study(tmp_path, start, whole):
    pair = [start(run_at, tmp_path, hours, 4) for hours in (-24, 24)]
    assert [ended_with(process) for process in pair] == [0, 0]
    assert finished(tmp_path) == whole


def test_a_limit_of_seconds_is_not_of_the_wall_clock(tmp_path):
    def set_back():
        right = time.time
        with make(tmp_path, callbacks=[lambda *_: setattr(time, "time", lambda: right() - HOUR)]) as study:
            study.run(seconds=0.3)
        return "ended"

    assert outcome(set_back) == "ended"
