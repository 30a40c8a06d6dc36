"""Samples of what a process holds, and the test of whether any of it grows."""

import gc
import os
import statistics
import tempfile
import threading
import time
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
WARM = 0.2  # the share of a part's samples that come before its caches are full, and are not judged
COUNTS = 1.0  # handles, threads, processes or files that a part may come to hold more


@dataclass(frozen=True)
class Sample:
    """What a process holds after some trials.

    Attributes:
        trials: number of trials so far.
        ms: milliseconds per trial since the sample before.
        memory: resident memory of this process, in MiB.
        workers: resident memory of its child processes together, in MiB.
        handles: number of open file descriptors.
        threads: number of threads of the process, native ones included.
        children: number of child processes.
        folder: size of the study's folder, in MiB, without SQLite's log: that fills up to 4 MB before it is used again.
        files: number of files in it.
        temporary: number of half-written files in it, and of files and folders in the system's temporary folder.
    """

    trials: int
    ms: float
    memory: float
    workers: float
    handles: int
    threads: int
    children: int
    folder: float
    files: int
    temporary: int


NAMES = [field.name for field in fields(Sample)]


class Part:
    """Takes samples in the course of a part of the soak, and judges them.

    Args:
        name: the part's name.
        memory, folder: bytes that one trial may add to the process and to the folder: its record, not its state.
    """

    def __init__(self, name: str, memory: float, folder: float) -> None:
        self.name, self.limits = name, {"memory": memory, "workers": memory, "folder": folder}
        self.samples: list[Sample] = []
        self._trials, self._before = 0, time.perf_counter()
        print(f"\n{name}\n{''.join(f'{each:>10}' for each in NAMES)}", flush=True)

    def take(self, trials: int, folder: Path) -> None:
        """Take a sample after so many trials in all, and print it."""
        gc.collect()
        ms = 1000 * (time.perf_counter() - self._before) / max(1, trials - self._trials)
        self.samples.append(sample := Sample(trials, ms, *_memory(), *_counts(), *_folder(folder)))
        print("".join(f"{_shown(each):>10}" for each in astuple(sample)), flush=True)
        self._trials, self._before = trials, time.perf_counter()

    def growing(self) -> list[str]:
        """Return a line for everything that grows without bound."""
        trials, columns = self._judged()
        growths = {
            name: (growth(trials, values), self._limit(name, trials, values)) for name, values in columns.items()
        }
        return [
            f"{self.name}: {name} grew by {grown:.4g} in {trials[-1] - trials[0]} trials; at most {limit:.4g}"
            for name, (grown, limit) in growths.items()
            if grown > limit
        ]

    def summary(self) -> list[str]:
        """Return the part's row of the table at the end, as in the documentation."""
        trials, columns = self._judged()
        each = {
            name: growth(trials, columns[name]) * MIB / (trials[-1] - trials[0])
            for name in ("memory", "workers", "folder")
        }
        ms, most = columns["ms"], {name: max(columns[name]) for name in ("handles", "threads", "children", "files")}
        half = len(ms) // 2
        return [
            self.name,
            *(f"{each[name]:.0f}" for name in each),
            *(f"{most[name]}" for name in most),
            f"{max(columns['temporary']) - min(columns['temporary'])}",
            f"{statistics.median(ms[half:]) / statistics.median(ms[:half]):.2f}",
        ]

    def _judged(self) -> tuple[list[int], dict[str, list[float]]]:
        """Return trials and columns of the samples but the first fifth."""
        samples = self.samples[int(WARM * len(self.samples)) :]
        columns = {name: [getattr(sample, name) for sample in samples] for name in NAMES[1:]}
        return [sample.trials for sample in samples], columns

    def _limit(self, name: str, trials: list[int], values: list[float]) -> float:
        if name == "ms":
            return statistics.median(values)  # from half of the middle to one and a half
        return self.limits[name] * (trials[-1] - trials[0]) / MIB if name in self.limits else COUNTS


SUMMARY = [
    *("", "memory, bytes per trial", "workers' memory, bytes per trial", "folder, bytes per trial", "handles, at most"),
    *("threads", "processes", "files", "temporary files more", "time per trial, second half / first"),
]


def growth(trials: list[int], values: list[float]) -> float:
    """Return by how much `values` grew over all trials.

    It is the median of the slopes between all pairs of samples, which outliers do not move, as of a loaded machine or
    of a log that is written back every so often.

    Source: Sen, Estimates of the Regression Coefficient Based on Kendall's Tau, JASA 63, 1968.
    """
    pairs = combinations(zip(trials, values, strict=True), 2)
    return statistics.median((b - a) / (n - m) for (m, a), (n, b) in pairs) * (trials[-1] - trials[0])


def held() -> dict[str, int]:
    """Return how many handles, threads, child processes and temporary files there are."""
    gc.collect()
    time.sleep(1.0)  # for threads of what was just collected to end
    handles, threads, children = _counts()
    temporary = len(os.listdir(tempfile.gettempdir()))
    return {"handles": handles, "threads": threads, "children": children, "temporary": temporary}


def _memory() -> tuple[float, float]:
    return _resident("self"), sum(_resident(child) for child in _children())


def _resident(process: str) -> float:
    """Return the resident memory of a process in MiB; 0 where it has just ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / MIB
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _counts() -> tuple[int, int, int]:
    threads = max(threading.active_count(), len(os.listdir("/proc/self/task")))
    return len(os.listdir("/proc/self/fd")) - 1, threads, len(_children())  # less the one that lists them


def _children() -> list[str]:
    return [child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()]


def _folder(folder: Path) -> tuple[float, int, int]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    temporary = sum(file.name.endswith(".tmp") for file in files) + len(os.listdir(tempfile.gettempdir()))
    log = sum(file.stat().st_size for file in files if file.name.endswith("-wal"))
    assert log < 8 * MIB, f"{log} bytes of log"
    return sum(file.stat().st_size for file in files) / MIB - log / MIB, len(files), temporary


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"
