"""What it costs to keep a study on disk. Run: python tests/benchmarks/store.py

Trivial random trials, kept durably, by tuneflow as it comes (ends of trials under 10 ms share a sync) and with a sync
for every end, by bare committed inserts with a sync each, and by Optuna's journal and SQLite stores, in turn in one
run; wall time. Then loading 10,000 trials of 10 reports each, against reading the same rows with plain sqlite3.
"""

import argparse
import contextlib
import shutil
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from overhead import bowl

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial
from tuneflow.store import sqlite
from tuneflow.store.checkpoints import States
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study.ledger import Ledger
from tuneflow.train.function_trainer import Function

SPACE = tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5))


def ours(folder, trials, durable="end"):
    where = tn.Folder(folder, durable=durable)
    with tn.Study(space=SPACE, trainer=Function(bowl), minimize="value", progress=False, folder=where) as study:
        study.run(trials=trials)


def every_end_synced(folder, trials):
    before, sqlite.SHORT = sqlite.SHORT, 0.0
    try:
        ours(folder, trials)
    finally:
        sqlite.SHORT = before


def bare(folder, trials, mode="FULL"):
    with contextlib.closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={mode}")
        db.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, config TEXT)")
        for number in range(trials):
            db.execute("INSERT INTO t VALUES (?, ?)", (number, '{"x": 1.2345678, "y": 2.3456789}'))


def optuna_store(make_storage):
    def run(folder, trials):
        def objective(trial):
            return bowl(trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5))

        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=make_storage(folder), sampler=sampler)
        study.optimize(objective, n_trials=trials)

    return run


CONTESTANTS = {
    "tuneflow": ours,
    "tuneflow, every end synced": every_end_synced,
    "bare inserts": bare,
    "tuneflow, not synced": lambda folder, trials: ours(folder, trials, "never"),
    "bare inserts, not synced": lambda folder, trials: bare(folder, trials, "NORMAL"),
    "optuna journal": optuna_store(lambda f: JournalStorage(JournalFileBackend(str(f / "journal.log")))),
    "optuna sqlite": optuna_store(lambda f: f"sqlite:///{f / 'optuna.sqlite'}"),
}


def seconds(run, trials):
    folder = Path(tempfile.mkdtemp())
    try:
        started = time.perf_counter()
        run(folder, trials)
        return (time.perf_counter() - started) / trials
    finally:
        shutil.rmtree(folder)


def writing(trials, rounds, names):
    taken = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            few = min(trials, 100) if name == "optuna sqlite" else trials
            taken[name].append(seconds(CONTESTANTS[name], few))
    return taken


def ratio(taken, one, other):
    return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))


def fill(folder, trials=10_000, reports=10):
    store = SqliteStore(folder / "study.sqlite", "never")
    seen = tuple(Report(e, {"loss": 1.0 / e, "accuracy": 0.9}, {"accuracy": 0.01}, 0.5) for e in range(1, reports + 1))
    for number in range(trials):
        store.claim(float("inf"))
        best = {"metrics": seen[-1].metrics, "errors": seen[-1].errors, "epochs": reports, "seconds": 5.0}
        store.put(Trial(number, {"x": 1.5, "y": -2.5}, "DONE", reports=seen, **best))
    store.commit()
    store.close()
    with contextlib.closing(sqlite3.connect(folder / "plain.sqlite", isolation_level=None)) as db:
        db.execute("CREATE TABLE trial (number INTEGER PRIMARY KEY, config TEXT, status TEXT)")
        db.execute("CREATE TABLE report (trial INTEGER, epoch INTEGER, loss REAL, accuracy REAL, seconds REAL)")
        db.execute("BEGIN")
        rows = ((n, '{"x": 1.5, "y": -2.5}', "DONE") for n in range(trials))
        db.executemany("INSERT INTO trial VALUES (?, ?, ?)", rows)
        rows = ((n, r.epoch, r.metrics["loss"], 0.9, 0.5) for n in range(trials) for r in seen)
        db.executemany("INSERT INTO report VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")


def loading(rounds):
    folder = Path(tempfile.mkdtemp())
    fill(folder)
    objective = Objective((("loss", False),))
    quotients = []
    for _ in range(rounds):
        started = time.perf_counter()
        with contextlib.closing(sqlite3.connect(folder / "plain.sqlite")) as db:
            trials = db.execute("SELECT * FROM trial").fetchall()
            reports = db.execute("SELECT * FROM report").fetchall()
        plain = time.perf_counter() - started
        started = time.perf_counter()
        store = SqliteStore(folder / "study.sqlite")
        history = tn.types.History(SPACE, objective, 0, 10)
        ledger = Ledger(store, States(None), history, 1, 10.0)
        ledger.sync()
        quotients.append((time.perf_counter() - started) / plain)
        store.close()
        assert (len(trials), len(reports), len(history)) == (10_000, 100_000, 10_000)
    shutil.rmtree(folder)
    return statistics.median(quotients)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for trials in (100, 1_000):
        taken = writing(trials, rounds, list(CONTESTANTS))
        for one, other in (
            ("tuneflow", "bare inserts"),
            ("tuneflow, every end synced", "bare inserts"),
            ("tuneflow, not synced", "bare inserts, not synced"),
            ("optuna journal", "tuneflow"),
            ("optuna sqlite", "tuneflow"),
        ):
            print(f"{trials:>6} trials: time of {one} / {other}: {ratio(taken, one, other):.2f}", flush=True)
    taken = writing(10_000, 1, ["tuneflow", "bare inserts"])
    print(f" 10000 trials: time of tuneflow / bare inserts: {ratio(taken, 'tuneflow', 'bare inserts'):.2f}")
    print(f"loading 10,000 trials x 10 reports / plain sqlite3: {loading(rounds):.2f}")


if __name__ == "__main__":
    main()
