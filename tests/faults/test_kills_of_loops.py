"""kill -9 of loops at random moments, under several searchers: the study becomes the one that was never interrupted."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn

if "fork" not in multiprocessing.get_all_start_methods():
    pytest.skip("needs fork: a process that starts from nothing takes seconds to import torch", allow_module_level=True)

FORK = multiprocessing.get_context("fork")
KILLS, EPOCHS, ROWS = 20, 3, 120
SEARCHERS = {"grid": partial(tn.Grid, 20), "random": tn.Random, "sobol": tn.Sobol}

# Python 3.12 and later warn when a process with threads forks; the children need nothing that those threads hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@tn.loop(epochs=EPOCHS)
def fit(config, run):
    """Momentum and dropout tell an exact resume from others; the loss goes up and down, so any epoch is the best."""
    net = run.place(nn.Sequential(nn.Linear(3, 4), nn.Dropout(config["dropout"]), nn.Linear(4, 1)))
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=0.9)
    for _ in run.epochs(net=net, optimizer=optimizer):
        optimizer.zero_grad()
        loss = net(torch.randn(8, 3)).sub(1).square().mean()
        loss.backward()
        optimizer.step()
        yield {"loss": loss}


def make(folder, searcher="random", checkpoint=0.0, die=None, **more):
    """The study. Every epoch trained and every end is a line of the folder's log, before it is a row of the store.

    `die`: the process kills itself where the log has this line.
    """

    def note(study, trial):
        line = f"{trial.number} {trial.epochs} {trial.status}"
        with (folder / "log").open("a") as file:
            file.write(line + "\n")
        if line == die:
            os.kill(os.getpid(), signal.SIGKILL)

    return tn.Study(
        space=tn.SearchSpace(lr=tn.Float(0.01, 0.2), dropout=tn.Float(0.1, 0.5)),
        trainer=fit,
        searcher=SEARCHERS[searcher](),
        runtime=tn.Runtime("cpu"),
        folder=tn.Folder(folder, checkpoint=checkpoint),
        seed=3,
        callbacks=[note] if folder else [],
        progress=False,
        **more,
    )


def work(folder, trials, before, after, settings):
    for barrier in before:
        barrier.wait()
    with make(folder, **settings) as study:
        for barrier in after:
            barrier.wait()
        study.run(trials=trials)


@pytest.fixture
def start():
    """Starts a process that works on a folder; at the end of the test none is left.

    `before`, `after`: barriers to wait at before and after the folder is opened.
    """
    processes = []

    def start(folder, trials=10**6, before=(), after=(), **settings):
        process = FORK.Process(target=work, args=(folder, trials, before, after, settings), daemon=True)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What torch imports at its first step is imported here, once, and not by every process."""
    make(None).run(trials=1)


@pytest.fixture(autouse=True)
def kills_come_faster_than_epochs(monkeypatch):
    """So a trial may lose any number of processes; that the third is too many is tested in test_processes."""
    monkeypatch.setattr("tuneflow.study.ledger.TRIES", math.inf)


def kill(*processes):
    for process in processes:
        process.kill()
    assert_exit([-signal.SIGKILL] * len(processes), processes)


def assert_exit(codes, processes):
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == codes


def rows(folder):
    """How many reports and ends the store holds, and the rows of the trials that ended."""
    ends = "SELECT number, status, config, seconds, metrics, errors, reports FROM trial WHERE reports NOT NULL"
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")  # both as of one moment
            ended = set(db.execute(ends))
            (live,) = db.execute("SELECT count(*) FROM report").fetchone()
    except sqlite3.OperationalError:  # not made yet
        return 0, set()
    return live + sum(1 + len(json.loads(row[-1])) for row in ended), ended


def log(folder):
    path = folder / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def moments(folder, seed):
    """Returns at a random moment after each of KILLS random numbers of rows, with (trials that ended, lines of log)."""
    rng = np.random.default_rng(seed)
    for count in np.sort(rng.choice(ROWS, KILLS, replace=False)):
        deadline = time.monotonic() + 60
        while rows(folder)[0] < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        seen = rows(folder)[1], len(log(folder))
        time.sleep(rng.uniform(0, 0.005))
        yield seen


def table(study):
    return [
        (t.number, t.config, t.status, dict(t.metrics), t.epochs, [(r.epoch, dict(r.metrics)) for r in t.reports])
        for t in study.trials
    ]


def assert_as_never_killed(folder, searcher="random", seen=()):
    """The table and the files are those of a study of its own; a trial that was seen to have ended was left alone."""
    with make(folder, searcher) as study:
        alone = make(None, searcher)
        alone.run(trials=len(study.trials))
        assert table(study) == table(alone)
    best = alone.objective.pick(alone.best.reports).epoch
    assert [file.name for file in (folder / "states").iterdir()] == [f"{alone.best.number:06d}-{best:06d}.state"]
    for ended, lines in seen:
        assert ended <= rows(folder)[1]
        assert not {row[0] for row in ended} & {int(number) for number, *_ in log(folder)[lines:]}


def lost_epochs(folder):
    """How many epochs were trained more than once."""
    trained = [(number, epoch) for number, epoch, status in log(folder) if status == "RUNNING"]
    return len(trained) - len(set(trained))


def last_run(start, folder, **settings):
    """Two processes to the end of the study."""
    total = 4 + max(int(number) for number, *_ in log(folder))
    assert_exit([0, 0], [start(folder, total, **settings) for _ in range(2)])


@pytest.mark.parametrize("checkpoint", [0.0, 0.02])
def test_a_process_killed_twenty_times_might_as_well_not_have_been(tmp_path, start, checkpoint):
    seen = []
    process = start(tmp_path, checkpoint=checkpoint)
    for moment in moments(tmp_path, seed=1):
        kill(process)
        seen.append(moment)
        process = start(tmp_path, checkpoint=checkpoint)
    kill(process)
    last_run(start, tmp_path)
    assert_as_never_killed(tmp_path, seen=seen)
    assert checkpoint or lost_epochs(tmp_path) <= KILLS + 1


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_two_processes_killed_twenty_times_alone_or_together_might_as_well_be_one(tmp_path, start, searcher):
    seen, killed = [], 2
    rng = np.random.default_rng(2)
    pair = [start(tmp_path, searcher=searcher) for _ in range(2)]
    for moment in moments(tmp_path, seed=3):
        victims = ([0], [1], [0, 1])[rng.integers(3)]
        kill(*(pair[place] for place in victims))
        seen.append(moment)
        for place in victims:
            pair[place] = start(tmp_path, searcher=searcher)
        killed += len(victims)
    kill(*pair)
    last_run(start, tmp_path, searcher=searcher)
    assert_as_never_killed(tmp_path, searcher, seen)
    assert lost_epochs(tmp_path) <= killed


def test_fifteen_pairs_that_open_a_new_folder_at_once_share_it(tmp_path, start):
    for name in map(str, range(15)):
        barrier = FORK.Barrier(2)
        assert_exit([0, 0], [start(tmp_path / name, 4, before=[barrier], checkpoint=60.0) for _ in range(2)])
        assert_as_never_killed(tmp_path / name)
        assert lost_epochs(tmp_path / name) == 0


def test_a_kill_between_checkpoints_costs_what_was_trained_since_the_last(tmp_path, start):
    with make(tmp_path) as study:
        study.run(trials=1, epochs=1)
    assert_exit([-signal.SIGKILL], [start(tmp_path, checkpoint=60.0, die="0 3 RUNNING")])
    assert_exit([0], [start(tmp_path, 1)])
    assert [epoch for _, epoch, status in log(tmp_path) if status == "RUNNING"] == ["1", "2", "3", "2", "3"]
    assert_as_never_killed(tmp_path)


@pytest.mark.parametrize("die", ["0 2 RUNNING", "0 3 DONE", "1 1 RUNNING", "1 3 RUNNING"])
def test_a_study_that_was_open_when_another_process_died_goes_on_with_its_trial(tmp_path, start, die):
    with make(tmp_path) as study:
        study.run(trials=1, epochs=1)
    opened, died = FORK.Barrier(2), FORK.Barrier(2)
    watching = start(tmp_path, 2, after=[opened, died])
    opened.wait(60)
    assert_exit([-signal.SIGKILL], [start(tmp_path, die=die)])
    died.wait(60)
    assert_exit([0], [watching])
    assert_as_never_killed(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the system does not tell who is dead already")
def test_a_process_that_died_is_dead_before_its_parent_has_waited_for_it(tmp_path, start):
    process = start(tmp_path, die="0 2 RUNNING")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with make(tmp_path) as study:
        assert [trial.status for trial in study.trials] == ["PAUSED"]


@pytest.mark.parametrize("scheduler", [tn.Full(), tn.Halving(2)])
def test_a_number_whose_process_died_before_it_had_a_configuration_is_tried(tmp_path, start, monkeypatch, scheduler):
    claimed, asked = FORK.Barrier(2), []

    def hang(self, space, history, rng):
        if history.number == 0:
            asked.append(0)
        if history.number == 0 and len(asked) == 2:  # the first question is for the check of the loop
            claimed.wait()
            signal.pause()
        return space.sample(rng)

    with monkeypatch.context() as patch:
        patch.setattr(tn.Random, "suggest", hang)
        hanging = start(tmp_path, 6, scheduler=scheduler)
        claimed.wait(60)
        assert_exit([0], [start(tmp_path, 6, scheduler=scheduler)])
        kill(hanging)
    with make(tmp_path, scheduler=scheduler) as study:
        assert {trial.number for trial in study.trials if not trial.ended} == {0}
        study.run(trials=6)
        assert all(trial.ended for trial in study.trials)
