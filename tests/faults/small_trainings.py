"""A study of small trainings, what is compared of two of them, and processes that work on one folder."""

import faulthandler
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest
import torch
from torch import nn

import tuneflow as tn

if "fork" not in multiprocessing.get_all_start_methods():
    pytest.skip("needs fork: a process that starts from nothing takes seconds to import torch", allow_module_level=True)

FORK = multiprocessing.get_context("fork")
TRIALS, EPOCHS = 4, 3
TRAIN, VALID, _ = tn.data.digits()
SEARCHERS = {"grid": lambda: tn.Grid(4), "random": tn.Random, "sobol": tn.Sobol}


def net(dropout):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 10)
    )


def make(folder, searcher="random", checkpoint=0.0, epochs=EPOCHS, **settings):
    """A study that keeps all weights; dropout, momentum and running means tell an exact resume from others."""
    return tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            TRAIN[:64],
            VALID[:32],
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=epochs,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(
            model={"dropout": tn.Float(0.1, 0.5)},
            optimizer={"lr": tn.Float(0.01, 0.2), "momentum": tn.Float(0.5, 0.95)},
        ),
        searcher=SEARCHERS[searcher](),
        minimize="loss",
        runtime=tn.Runtime("cpu", threads=1),
        folder=tn.Folder(folder, keep="all", checkpoint=checkpoint),
        seed=3,
        progress=False,
        **settings,
    )


def run(folder, trials=TRIALS, **settings):
    """Work on a folder until the study has so many trials."""
    with make(folder, **settings) as study:
        study.run(trials=trials)


# What is compared.


def facts(study):
    """Every trial with its reports, and the digest of its weights."""
    return [
        (t.number, t.config, t.status, dict(t.metrics), [(r.epoch, dict(r.metrics), dict(r.errors)) for r in t.reports],
         digest(study.result(t.number).model()) if t.status == "DONE" else None)
        for t in study.trials
    ]  # fmt: skip


def digest(module):
    whole = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


def undisturbed(trials=TRIALS, **settings):
    """The facts of the study that meets no fault, in memory."""
    study = make(None, **settings)
    study.run(trials=trials)
    return facts(study)


def finished(folder, trials=TRIALS, **settings):
    """The facts of a study that goes on, after whatever has happened, to its end."""
    with make(folder, **settings) as study:
        study.run(trials=trials)
        return facts(study)


def reports(folder):
    """How many reports the store holds by now."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True)) as db:
            live = "SELECT count(*) FROM report"
            ended = "SELECT coalesce(sum(epochs), 0) FROM trial WHERE reports NOT NULL"
            return sum(db.execute(query).fetchone()[0] for query in (live, ended))
    except sqlite3.OperationalError:  # not made yet
        return 0


# Processes.


def wait_until(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.002)


def ended_with(process, seconds=60):
    """The exit code of a process that ends by itself; minus the number of a signal that ended it."""
    process.join(seconds)
    return process.exitcode


def kill(process):
    process.kill()
    assert ended_with(process) == -signal.SIGKILL


def state_of(process):
    """The letter that the kernel has for what a process does: T where it is stopped."""
    with open(f"/proc/{process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def quietly(function, *arguments, **settings):
    """Call a function; a crash of the process is not reported by pytest."""
    faulthandler.disable()
    function(*arguments, **settings)


def outcome(function, *arguments, **settings):
    """In a process of its own: the result of a function, or the error that it raised."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_send_outcome, args=(theirs, function, arguments, settings), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join(60)
        process.kill()


def _send_outcome(pipe, function, arguments, settings):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = function(*arguments, **settings)
    except Exception as error:
        result = error
    pipe.send(result)
    os._exit(0)
