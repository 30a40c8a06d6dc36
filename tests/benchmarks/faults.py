"""What faults do to a study of tuneflow, and to the same job in Optuna. Run: python tests/benchmarks/faults.py

Each fault meets every store in turn, in folders of their own. Processes are forked from a server that has imported both
packages, so two that start together do start together. A table is printed, a fault a row; --only takes some of them.
The file fault_contestants.py has the job, and how each package is set up.
"""

import argparse
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from fault_contestants import CONTESTANTS, GRACE, Job, counts, quiet, work

PROCESSES = multiprocessing.get_context("forkserver")
LONGEST = 180.0  # seconds that a process may take before it counts as hanging


def start(contestant, job):
    process = PROCESSES.Process(target=work, args=(contestant, job))
    process.start()
    return process


def end(process, longest=LONGEST):
    """Return how a process ended: "" where it did so by itself and well."""
    process.join(longest)
    if process.is_alive():
        process.kill()
        process.join()
        return "hangs"
    return "" if process.exitcode == 0 else f"status {process.exitcode}"


def finish(contestant, job, longest=LONGEST):
    return end(start(contestant, job), longest)


def after_calls(process, job, count):
    """Wait until `count` points were begun, or the process has ended."""
    while len(job.called) < count and process.is_alive():
        time.sleep(0.002)


def last_words(job):
    lines = (job.folder / "log").read_text().strip().splitlines() if (job.folder / "log").exists() else []
    return lines[-1][:160] if lines else ""


def told(result, *names):
    """Return counts in words, those that are 0 left out, and how the last process ended."""
    words = {"kept": "kept", "lost": "lost", "twice": "kept twice", "running": "left RUNNING", "again": "run again"}
    parts = [f"{result[name]} {words[name]}" for name in names if result[name]]
    return ", ".join(parts) or "every point once"


def into_one_file(path):
    """Bring what is in SQLite's log into the file, as a process does that closes it; these are ended without that."""
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def kills(contestant, folder):
    """15 kill -9 at random times, then a run to the end."""
    job, rng = Job(folder, points=60), random.Random(0)
    for _ in range(15):
        process = start(contestant, job)
        after_calls(process, job, len(job.called) + 1)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
    time.sleep(GRACE + 1)  # so that no heartbeat is young
    ended = finish(contestant, job)
    return told(counts(contestant, job), "lost", "twice", "running") + (f"; the last run: {ended}" if ended else "")


def pairs(contestant, folder, before=False):
    """Two processes begin in a fresh folder at once, 20 times."""
    ended, total = Counter(), Counter()
    for number in range(20):
        job = Job(folder / str(number), points=6, seconds=0.02)
        job.folder.mkdir()
        if before:
            contestant.make(job)
        both = [start(contestant, job) for _ in range(2)]
        ended.update(bool(end(process)) for process in both)
        if ended[True] < 20:
            total += counts(contestant, job)
    return f"{ended[True]} of 40 processes died; {told(total, 'lost', 'twice', 'running')}"


def pairs_made_before(contestant, folder):
    """The same, the study made beforehand by a third, as Optuna's documentation asks."""
    return pairs(contestant, folder, before=True)


def one_grid(contestant, folder):
    """Two processes share one grid of 80 points."""
    job = Job(folder, points=80)
    contestant.make(job)
    ended = [end(process) for process in [start(contestant, job) for _ in range(2)]]
    died = sum(map(bool, ended))
    return told(counts(contestant, job), "lost", "twice", "running", "again") + (f"; {died} died" if died else "")


def terminated(contestant, folder, what=signal.SIGTERM):
    """SIGTERM within a point, then a run to the end."""
    job = Job(folder, points=20, seconds=0.1)
    process = start(contestant, job)
    after_calls(process, job, 5)
    os.kill(process.pid, what)
    end(process)
    time.sleep(GRACE + 1)
    finish(contestant, job)
    return told(counts(contestant, job), "lost", "twice", "running", "again")


def interrupted(contestant, folder):
    """SIGINT, as Ctrl-C sends it, within a point, then a run to the end."""
    return terminated(contestant, folder, signal.SIGINT)


def stopped(contestant, folder):
    """SIGSTOP of one of two processes for twice the grace period, then SIGCONT."""
    job = Job(folder, points=20, seconds=0.1)
    one = start(contestant, job)
    after_calls(one, job, 3)
    os.kill(one.pid, signal.SIGSTOP)
    other = start(contestant, job)
    time.sleep(2 * GRACE)
    os.kill(one.pid, signal.SIGCONT)
    died = sum(map(bool, [end(one), end(other)]))
    result = told(counts(contestant, job), "lost", "twice", "running", "again")
    return result + (f"; {died} of 2 processes died" if died else "")


def flipped(contestant, folder):
    """One bit of the finished study's file flipped, 200 places, and everything read."""
    job = Job(folder, points=60, seconds=0.0)
    finish(contestant, job)
    path, rng = folder / contestant.file, random.Random(0)
    into_one_file(path)
    before = contestant.rows(folder)
    whole, seen = path.read_bytes(), Counter()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        seen[read(contestant, folder, before)] += 1
    order = ("silently other", "raw error", "own error", "harmless")
    return ", ".join(f"{seen[kind]} {kind}" for kind in order if seen[kind])


def read(contestant, folder, before):
    """Return what reading a damaged file comes to."""
    try:
        return "harmless" if contestant.rows(folder) == before else "silently other"
    except contestant.errors:
        return "own error"
    except Exception:
        return "raw error"


def emptied(contestant, folder):
    """The file of a study of 20 points emptied, and the script run again."""
    job = Job(folder, points=20)
    finish(contestant, job)
    into_one_file(folder / contestant.file)
    os.truncate(folder / contestant.file, 0)
    ended = finish(contestant, job)
    return f"refused: {last_words(job)}" if ended else f"begins anew in silence, {len(job.called)} evaluations"


def deleted(contestant, folder):
    """The file deleted in the middle of a run of 40 points."""
    job = Job(folder)
    process = start(contestant, job)
    after_calls(process, job, 10)
    (folder / contestant.file).unlink()
    ended = end(process)
    try:
        kept = counts(contestant, job)["kept"]
    except Exception:
        kept = 0
    how = f"ends after {len(job.called)} points: {last_words(job)}" if ended else "ends well, says nothing"
    return f"{how}; {kept} kept"


def dead_host(contestant, folder, seconds=6.0, later=0):
    """A host dies within a point; then one of another name trains the others, for about 80 seconds."""
    job = Job(folder, points=18, seconds=0.1, host="hostA")
    process = start(contestant, job)
    after_calls(process, job, 5)
    process.kill()
    process.join()
    if later:
        beat_in_the_future(contestant, folder, later)
    finish(contestant, Job(folder, points=18, seconds=seconds, host="hostB"), LONGEST)
    return f"{told(counts(contestant, job), 'lost', 'twice', 'running')}; last line: {last_words(job)}"


def dead_host_short_run(contestant, folder):
    """The same, but the other host's run ends within seconds."""
    return dead_host(contestant, folder, seconds=0.05)


def beat_in_the_future(contestant, folder, seconds):
    """Leave the database as a clock leaves it that was set back by so many seconds after the last heartbeat."""
    if contestant.name == "Optuna SQLite":
        with closing(sqlite3.connect(folder / contestant.file)) as database, database:
            database.execute(f"UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '+{seconds} seconds')")


def clock_set_back(contestant, folder):
    """The same, and the clock is set back by an hour after the host's last beat."""
    return dead_host(contestant, folder, later=3600)


FAULTS = {
    "kills": kills,
    "pairs": pairs,
    "pairs made before": pairs_made_before,
    "one grid": one_grid,
    "SIGTERM": terminated,
    "SIGINT": interrupted,
    "SIGSTOP": stopped,
    "flipped bits": flipped,
    "emptied": emptied,
    "deleted": deleted,
    "dead host": dead_host,
    "dead host, short run": dead_host_short_run,
    "clock set back": clock_set_back,
}


def measured(fault, contestant):
    folder = Path(tempfile.mkdtemp())
    try:
        return fault(contestant, folder)
    finally:
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--store", nargs="+", choices=[one.name for one in CONTESTANTS])
    options = parser.parse_args()
    PROCESSES.set_forkserver_preload(["tuneflow", "optuna.storages._rdb.storage", "scipy.stats"])
    quiet()
    print(f"tuneflow {version('tuneflow-torch')}, Optuna {version('optuna')}, Python {platform.python_version()}")
    for name in options.only:
        for one in CONTESTANTS:
            if not options.store or one.name in options.store:
                print(f"{name:<18} {one.name:<15} {measured(FAULTS[name], one)}", flush=True)


if __name__ == "__main__":
    main()
