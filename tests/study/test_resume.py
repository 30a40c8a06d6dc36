"""An interrupted study, run again, is the uninterrupted one: same trials, scores and weights."""

import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.forked import start
from tests.helpers.scripts.digits_study import make

SCRIPT = Path(__file__).parents[1] / "helpers" / "scripts" / "digits_study.py"


def table(study):
    return [
        (t.number, t.config, t.status, t.epochs, [(r.epoch, dict(r.metrics), dict(r.errors)) for r in t.reports])
        for t in study.trials
    ]


def weights(study):
    kept = (study.result(trial.number) for trial in study.trials if trial.status == "DONE")
    return [{name: t.clone() for name, t in result.model().state_dict().items()} for result in kept]


def assert_same(one, other):
    assert table(one) == table(other)
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def rows(folder):
    path = folder / "study.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            live = "SELECT count(*) FROM report"
            ended = "SELECT coalesce(sum(json_array_length(reports)), 0) FROM trial"
            count = sum(db.execute(query).fetchone()[0] for query in (live, ended))
        db.close()
        return count
    except sqlite3.OperationalError:
        return 0


def kill_after(folder, optimizer, count, delay):
    """Run the script and kill it `delay` seconds after `count` reports are there; False when it was done before."""
    process = start(SCRIPT, folder, optimizer, "0.1")
    deadline = time.monotonic() + 60
    while rows(folder) < count and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_study_killed_three_times_equals_the_uninterrupted_one(tmp_path, optimizer):
    whole = make(tmp_path / "whole", optimizer)
    whole.run(trials=5)

    rng = np.random.default_rng(11 if optimizer == "sgd" else 12)
    killed = [
        kill_after(tmp_path / "killed", optimizer, int(count), float(rng.uniform(0, 0.15)))
        for count in (rng.integers(1, 5), rng.integers(6, 11), rng.integers(12, 17))
    ]
    assert all(killed)
    again = make(tmp_path / "killed", optimizer)
    assert not any(trial.status == "RUNNING" for trial in again.trials)
    again.run(trials=5)
    assert_same(again, whole)


@pytest.mark.parametrize("checkpoint", [0.0, 1e9])
def test_a_study_stopped_between_epochs_goes_on_exactly(tmp_path, checkpoint):
    whole = make(None, "sgd")
    whole.run(trials=3)
    for total in (3, 6, 7, 12):
        make(tmp_path, "sgd", checkpoint=checkpoint).run(epochs=total, trials=3)
    again = make(tmp_path, "sgd")
    assert_same(again, whole)


def test_a_trial_whose_state_is_lost_is_trained_again_from_its_start(tmp_path):
    whole = make(None, "adam")
    whole.run(trials=2)
    make(tmp_path, "adam").run(epochs=6, trials=2)
    for file in (tmp_path / "states").glob("000001-*"):
        file.unlink()
    again = make(tmp_path, "adam")
    again.run(trials=2)
    assert_same(again, whole)


def test_a_model_that_another_process_trained_is_there(tmp_path):
    watching, working = make(tmp_path, "sgd"), make(tmp_path, "sgd")
    working.run(trials=2)
    working.run(epochs=10, trials=3)
    watching.run(trials=3)
    whole = make(None, "sgd")
    whole.run(trials=3)
    assert_same(watching, whole)


def test_running_a_finished_study_again_trains_nothing(tmp_path):
    study = make(tmp_path, "sgd")
    study.run(trials=2)
    before = table(study)
    again = make(tmp_path, "sgd")
    again.trainer.advance = None
    again.run(trials=2)
    assert table(again) == before


def test_a_run_of_more_trials_continues_the_same_sequence(tmp_path):
    whole = make(None, "sgd")
    whole.run(trials=3)
    study = make(tmp_path, "sgd")
    study.run(trials=1)
    study.run(trials=3)
    assert_same(study, whole)


def test_two_studies_with_another_seed_differ(tmp_path):
    one, other = make(None, "sgd"), make(None, "sgd", seed=4)
    one.run(trials=1)
    other.run(trials=1)
    assert one.trials[0].config != other.trials[0].config
