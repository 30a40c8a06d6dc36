"""One small job, kept by tuneflow and by two stores of Optuna: every point of a grid, once. Serves faults.py.

Each evaluation adds a line to a file of its own, so what was evaluated is known without the store. Optuna is used as
its documentation has it for several processes and for processes that may die: one name, `load_if_exists`, one seed for
all grids, a heartbeat with retries for SQLite, a lock with a grace period for the journal. Its grace periods are short,
5 seconds; the time after which tuneflow takes another host for dead is left as it is, about a minute.
"""

import os
import socket
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend

import tuneflow as tn

GRACE = 5  # seconds


@dataclass(frozen=True)
class Job:
    """A grid of `points`, each of which takes `seconds`, on a host of that name."""

    folder: Path
    points: int = 40
    seconds: float = 0.03
    host: str = ""

    def evaluate(self, x: int) -> float:
        with self.calls.open("a") as file:
            file.write(f"{x}\n")
        time.sleep(self.seconds)
        return x / 7 + 0.123456789

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    @property
    def called(self) -> list[int]:
        return [int(line) for line in self.calls.read_text().split()] if self.calls.exists() else []


@dataclass(frozen=True)
class Row:
    """A trial as it is read from a store."""

    x: int | None
    state: str
    value: float | None


class Tuneflow:
    name = "tuneflow"
    file = "study/study.sqlite"
    errors = tn.errors.TuneflowError

    def run(self, job: Job) -> None:
        points = tn.SearchSpace(x=tn.Choice(range(job.points)))
        folder = job.folder / "study"
        tn.minimize(job.evaluate, points, trials=job.points, searcher=tn.Grid(), folder=folder, progress=bool(job.host))

    def make(self, job: Job) -> None:
        """Nothing has to be made before: the first process does it."""

    def rows(self, folder: Path) -> list[Row]:
        study = tn.open(folder / "study")
        return [Row(t.config.get("x"), t.status, t.metrics.get("value")) for t in study.trials]


class OptunaSqlite:
    name = "Optuna SQLite"
    file = "optuna.sqlite"
    errors = (optuna.exceptions.OptunaError,)

    def storage(self, folder: Path) -> optuna.storages.BaseStorage:
        return RDBStorage(
            f"sqlite:///{folder / self.file}",
            engine_kwargs={"connect_args": {"timeout": 20}},
            heartbeat_interval=1,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
        )

    def study(self, job: Job) -> optuna.Study:
        sampler = optuna.samplers.GridSampler({"x": list(range(job.points))}, seed=0)
        return optuna.create_study(
            study_name="job", storage=self.storage(job.folder), sampler=sampler, load_if_exists=True
        )

    def run(self, job: Job) -> None:
        study = self.study(job)
        if not study.sampler.is_exhausted(study):
            study.optimize(lambda trial: job.evaluate(trial.suggest_int("x", 0, job.points - 1)))

    def make(self, job: Job) -> None:
        self.study(job)

    def rows(self, folder: Path) -> list[Row]:
        study = optuna.load_study(study_name="job", storage=self.storage(folder))
        return [Row(t.params.get("x"), t.state.name, t.value) for t in study.get_trials()]


class OptunaJournal(OptunaSqlite):
    name = "Optuna journal"
    file = "journal.log"

    def storage(self, folder: Path) -> optuna.storages.BaseStorage:
        path = str(folder / self.file)
        lock = optuna.storages.journal.JournalFileSymlinkLock(path, grace_period=GRACE)
        return JournalStorage(JournalFileBackend(path, lock_obj=lock))


CONTESTANTS = (Tuneflow(), OptunaSqlite(), OptunaJournal())
DONE = ("DONE", "COMPLETE")


def into_log(folder: Path) -> None:
    """Send all that the process prints to a file of the folder."""
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def quiet() -> None:
    """Keep experimental warnings and the line that Optuna prints of each trial from the terminal."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def work(contestant, job: Job) -> None:
    """Do the job, as a process of its own does: its last words are in the log of its folder."""
    quiet()
    if job.host:
        socket.gethostname = lambda: job.host
    into_log(job.folder)
    contestant.run(job)


def counts(contestant, job: Job) -> Counter:
    """What a store holds of a job: points `kept`, `lost` and `twice`, trials still `running`, and points `again`.

    `again` are evaluations beyond one for each point, by the job's own count.
    """
    rows = contestant.rows(job.folder)
    done = Counter(row.x for row in rows if row.state in DONE)
    return Counter(
        kept=len(done),
        lost=job.points - len(done),
        twice=sum(done.values()) - len(done),
        running=sum(row.state == "RUNNING" for row in rows),
        again=len(job.called) - len(set(job.called)),
    )
