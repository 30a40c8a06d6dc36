"""A process that is killed, crashes, leaves or runs out of memory costs its trial; the others are as ever."""

import pytest

import tuneflow as tn
from tests.faults.ends_of_processes import DEATHS, ERRORS, make
from tests.faults.small_trainings import ended_with

REASONS = {
    "kill": "two worker processes died in epoch 1; the last was killed by SIGKILL",
    "segfault": "two worker processes died in epoch 1; the last was killed by SIGSEGV",
    "leave": "two worker processes died in epoch 1; the last exited with status 3",
    "exit": "SystemExit: 3",
    "out of memory": "allocate memory",
    "memory error": "MemoryError",
}


@pytest.fixture(scope="module")
def in_workers():
    """The trials of a study whose workers meet every end, each after a trial that has none."""
    ends = [end for number, name in enumerate(REASONS) for end in (f"none {number}", name)]
    study = make(ends, runtime=tn.Runtime("cpu", workers=2, threads=1))
    study.run()
    return {trial.config["end"]: trial for trial in study.trials}


@pytest.mark.parametrize("end", REASONS)
def test_a_worker_that_ends_costs_its_trial_and_says_why(in_workers, end):
    assert in_workers[end].status == "FAILED"
    assert REASONS[end] in in_workers[end].reason


def test_the_trials_beside_those_whose_workers_end_are_as_ever(in_workers):
    others = [trial for name, trial in in_workers.items() if name not in REASONS]
    assert [(trial.status, trial.metrics["value"]) for trial in others] == [("DONE", 6.0)] * len(REASONS)


def run_all(ends, folder):
    with make(ends, folder) as study:
        study.run()


@pytest.mark.parametrize("end", DEATHS)
def test_a_trial_that_ends_the_process_of_the_study_three_times_has_failed(tmp_path, start, end):
    ends = ["before", end, "after"]
    for _ in range(3):
        assert ended_with(start(run_all, ends, tmp_path)) != 0
    assert ended_with(start(run_all, ends, tmp_path)) == 0
    trials = tn.open(tmp_path).trials
    assert [trial.status for trial in trials] == ["DONE", "FAILED", "DONE"]
    assert trials[1].reason == "its process died 3 times without finishing an epoch"


@pytest.mark.parametrize("end", ERRORS)
def test_an_error_in_the_process_of_the_study_fails_its_trial_alone(start, tmp_path, end):
    ends = ["before", end, "after"]
    ended_with(start(run_all, ends, tmp_path))
    assert [trial.status for trial in tn.open(tmp_path).trials] == ["DONE", "FAILED", "DONE"]
