"""Random operations of two processes on one store, of which one may be killed at any moment."""

import json
import math
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.forked import start
from tuneflow.store.sqlite import SqliteStore

SCRIPT = Path(__file__).parents[1] / "helpers" / "scripts" / "store_operations.py"
TRIALS = 40


def noted(log):
    """(what, which) that a process noted, but for a line that a kill cut off."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [tuple(json.loads(line)) for line in lines]


def numbers(notes, what):
    return [which for kind, which in notes if kind == what and which is not None]


@pytest.fixture(params=["both to their ends", "one killed"])
def notes(request, tmp_path):
    """What two processes noted, each in the order in which it did it."""
    logs = [tmp_path / "one", tmp_path / "two"]
    path, processes = tmp_path / "study.sqlite", []
    for seed, log in enumerate(logs):
        processes.append(start(SCRIPT, path, log, seed, TRIALS))
    if request.param == "one killed":
        deadline = time.monotonic() + 30
        while len(noted(logs[0])) < 20 and time.monotonic() < deadline:
            time.sleep(0.001)
        processes[0].kill()
    for process in processes:
        process.join(60)
    assert processes[1].exitcode == 0
    return [noted(log) for log in logs]


def test_two_processes_lose_no_trial_and_train_none_twice(notes, tmp_path):
    store = SqliteStore(tmp_path / "study.sqlite", "never")
    store.recover()
    trials = {trial.number: trial for trial in store.changes()}
    ended = [number for each in notes for number in numbers(each, "ended")]
    assert max(Counter(ended).values()) == 1
    assert {trials[number].status for number in ended} == {"DONE"}
    assert all(trial.status in ("DONE", "PAUSED") for trial in trials.values())
    for number in ended:
        assert dict(trials[number].metrics) == {"loss": number / 3}
        assert [report.metrics["loss"] for report in trials[number].reports] == [number, number / 2, number / 3]
    given = [item for each in notes for item in numbers(each, "queued")]
    assert max(Counter(given).values()) == 1
    held = [set(numbers(each, "claimed")) - set(numbers(each, "released")) for each in notes]
    assert not held[0] & held[1]
    left = [store.claim(math.inf) for _ in range(2 * TRIALS)]
    assert sorted({*trials, *left}) == list(range(len({*trials, *left})))
    store.close()
