"""Machines and containers that die, fall silent, or are slow: their trials are freed in the end, and trained once."""

import os
import signal
import socket
import time

import pytest

import tuneflow as tn
from tests.faults.small_trainings import ended_with, facts, finished, kill, make, reports, run, state_of, wait_until
from tuneflow.__main__ import main
from tuneflow.store import sightings


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch):
    """An owner elsewhere is taken for dead after 0.6 seconds of silence."""
    monkeypatch.setattr(sightings, "BEAT", 0.05)


def slowly(study, trial):
    time.sleep(0.05)


def run_on(host, folder, trials=4, **settings):
    socket.gethostname = lambda: host
    run(folder, trials, **settings)


@pytest.fixture
def on_another_host(tmp_path, start):
    """A process on the host podA, in the middle of its second trial."""
    process = start(run_on, "podA", tmp_path, callbacks=[slowly])
    wait_until(lambda: reports(tmp_path) >= 4)
    return process


def silence(process, how):
    if how == "killed":
        return kill(process)
    os.kill(process.pid, signal.SIGSTOP)
    return wait_until(lambda: state_of(process) == "T")


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_run_that_lasts_frees_and_ends_the_trial_of_a_host_that_fell_silent(tmp_path, on_another_host, whole, how):
    silence(on_another_host, how)
    with make(tmp_path, callbacks=[lambda *_: time.sleep(0.15)]) as study:
        study.run(trials=4)
        assert facts(study) == whole


def test_what_a_host_writes_after_its_trial_was_freed_counts_for_nothing(tmp_path, on_another_host, whole):
    silence(on_another_host, "stopped")
    with make(tmp_path, callbacks=[lambda *_: time.sleep(0.15)]) as study:
        study.run(trials=4)
    os.kill(on_another_host.pid, signal.SIGCONT)
    assert ended_with(on_another_host) == 0
    assert finished(tmp_path) == whole


def test_a_short_run_says_which_trial_waits_for_whom_and_free_ends_the_waiting(
    tmp_path, on_another_host, whole, capsys, monkeypatch
):
    monkeypatch.setattr(sightings, "BEAT", 60.0)
    silence(on_another_host, "killed")
    assert ended_with_text(tmp_path, capsys).count("trial 1 waits for podA (process") == 1
    assert [t.status for t in tn.open(tmp_path).trials] == ["DONE", "RUNNING", "DONE", "DONE"]
    assert main(["check", str(tmp_path), "--free", "podA"]) == 0
    assert finished(tmp_path) == whole


def ended_with_text(folder, capsys):
    """What a run of the other trials prints."""
    study = make(folder)
    study.progress = True
    study.run(trials=4)
    study.close()
    return capsys.readouterr().err


def sleep_once(study, trial):
    """For longer than a host may be silent."""
    time.sleep(2.5 if trial.epochs == 1 else 0)


def test_a_host_that_is_slow_but_beats_keeps_its_trial(tmp_path, start, whole, monkeypatch):
    monkeypatch.setattr(sightings, "BEAT", 0.1)
    slow = start(run_on, "podA", tmp_path, 1, callbacks=[sleep_once])
    wait_until(lambda: reports(tmp_path) >= 1)
    with make(tmp_path, callbacks=[lambda *_: time.sleep(0.15)]) as study:
        study.run(trials=4)
        assert [t.status for t in study.trials][1:] == ["DONE"] * 3
    assert ended_with(slow) == 0
    assert finished(tmp_path) == whole
