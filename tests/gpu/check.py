"""Checks on a real device: exactness, lanes, precision, probe, several devices; and lanes beside processes, measured.

Run: python tests/gpu/check.py                  # on the GPU, in under five minutes
     python tests/gpu/check.py --device cpu     # in a reduced form, to see that the script itself works

It prints one table and ends with status 1 if a check failed. Kernels are the deterministic ones, since atomic additions
round in another order each time. Rows with a dash are figures and no checks.
"""

import argparse
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from unittest import mock

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: deterministic products of matrices

import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import plural
from tuneflow.execute.executor import Ended
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.lanes import structure_group as group
from tuneflow.execute.lanes.engine_cache import EngineTiming
from tuneflow.execute.lanes.executor import LaneExecutor
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.history.trial import Slice

LIMIT = 240.0  # seconds after which nothing more is measured
HOST_MEMORY, DEVICE_MEMORY = 1.5 * 2**30, 2**30  # bytes that a worker process takes at most
Row = tuple[str, bool | None, str]  # what, passed (None: measured, or left out), and the figure


def mlp(dropout: float = 0.2) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10)
    )


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip


def trainer(rows: int, epochs: int, optimizer: type[torch.optim.Optimizer] = torch.optim.SGD) -> tn.Trainer:
    train, valid, _ = tn.data.digits()
    metrics = {"accuracy": tn.metrics.accuracy}
    return tn.Trainer(
        train[:rows], valid, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=epochs, metrics=metrics
    )


class Checks:
    """The checks on a device.

    Args:
        device: "cuda" for the first GPU, "cuda:1" for another, "cpu" for a reduced form.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu, self.started = device != "cpu", time.monotonic()
        self.device = "cuda:0" if device == "cuda" else device
        self.rows, self.epochs, self.counts = (1024, 8, [1, 8, 64]) if self.on_gpu else (96, 3, [1, 2])

    def runtime(self, **settings: object) -> tn.Runtime:
        return tn.Runtime(self.device, threads=1, **settings)

    def study(self, runtime: tn.Runtime, builder: Callable[..., nn.Module] = mlp, **settings: object) -> tn.Study:
        return tn.Study(
            model=tn.Model(builder),
            trainer=trainer(self.rows, self.epochs),
            space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1e-1, log=True), "momentum": 0.9}),
            searcher=tn.Sobol(),
            minimize="loss",
            runtime=runtime,
            seed=3,
            progress=False,
            **settings,
        )

    def table(self, runtime: tn.Runtime, **settings: object) -> list[object]:
        with self.study(runtime, **settings) as study:
            study.run(trials=4)
            return [(trial.status, [report.metrics for report in trial.reports]) for trial in study.trials]

    @cached_property
    def alone(self) -> list[object]:
        """The table of training one by one, in this process."""
        return self.table(self.runtime())

    # Exactness.

    def exact(self) -> Iterator[Row]:
        for name, builder, optimizer in (
            ("MLP, SGD", mlp, torch.optim.SGD),
            ("ConvNet, Adam", convnet, torch.optim.Adam),
        ):
            teacher = trainer(self.rows, self.epochs, optimizer)
            job = tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.01}}, self.runtime(), seed=1)
            whole = list(teacher.advance(job, teacher.init(job), self.epochs))
            again = list(teacher.advance(job, whole[0][0], self.epochs))
            yield f"resumed after epoch 1, bit for bit: {name}", _same(whole[1:], again), ""
            other = tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.003}}, self.runtime(), seed=1)
            forks = [list(teacher.advance(other, whole[0][0], self.epochs)) for _ in range(2)]
            yield f"forked twice, bit for bit: {name}", _same(*forks) and not _same(forks[0], again), ""
        yield "paused on disk and gone on, bit for bit", self.gone_on() == self.alone, ""

    def gone_on(self) -> list[object]:
        with tempfile.TemporaryDirectory() as folder:
            with self.study(self.runtime(), folder=folder) as study:
                study.run(epochs=self.epochs + 1)
            return self.table(self.runtime(), folder=folder)

    def processes(self) -> Iterator[Row]:
        equal = self.alone == self.table(self.runtime(workers=2))
        yield "two workers equal to this process, bit for bit", equal, ""

    def several(self) -> Iterator[Row]:
        count = torch.cuda.device_count() if self.on_gpu else 0
        if count < 2:
            yield "several devices", None, f"left out: {plural(count, 'GPU')} here"
            return
        runtime = tn.Runtime("cuda", threads=1, workers=count)
        equal = self.alone == self.table(runtime)
        yield f"workers on {count} devices equal to the first, bit for bit", equal, repr(runtime)

    # Lanes, precision, probe.

    def lanes(self) -> Iterator[Row]:
        with one_program() as obstacles:
            together = self.table(self.runtime(lanes=4), builder=convnet)
        worst = max(map(_apart, self.table(self.runtime(), builder=convnet), together))
        figure = "; ".join(obstacles) or f"{worst:.1e} of the loss"
        yield "lanes as one program equal to alone, but for rounding", worst < 1e-3 and not obstacles, figure

    def precision(self) -> Iterator[Row]:
        for name in ("bf16", "fp16"):
            what = f"{name} near float32, and the same twice"
            try:
                runtime = self.runtime(precision=name)
            except ValueError as error:
                yield what, None, f"left out: {error}"
                continue
            first, second = (self.table(runtime) for _ in range(2))
            worst = max(map(_apart, self.alone, first))
            yield what, worst < 0.25 and first == second, f"{worst:.1e} of the loss"

    def measures(self) -> Iterator[Row]:
        module, rows = convnet(), torch.randn(64, 1, 8, 8)
        there = tn.Runtime(self.device).place(convnet())
        measures = tn.measure.MACs(), tn.measure.Bytes()
        counts = [[measure.of_module(each, rows) for measure in measures] for each in (module, there)]
        yield "multiplications and bytes equal to the CPU's", counts[0] == counts[1], ""
        peaks = [tn.measure.PeakMemory(batch=64).of_module(m, rows) for m in (module, there)]
        figure = f"{peaks[1]:,} bytes, by operations {peaks[0]:,}"
        yield "peak memory at least that of the operations", peaks[1] >= 0.9 * peaks[0], figure
        ratio = tn.measure.Latency(batch=64, relative=True).of_module(there, rows, reference=there)
        yield "latency relative to itself", None, f"{ratio.value:.3f} +- {ratio.error:.3f}"

    def probe(self) -> Iterator[Row]:
        job = {"config": {"optimizer": {"momentum": 0.9}}}
        here, cpu = (
            tn.probe(tn.Model(convnet), trainer(self.rows, self.epochs), tn.Runtime(device, threads=1), **job)
            for device in (self.device, "cpu")
        )
        for name in ("loss", "curvature", "noise"):
            ours, theirs = getattr(here, name), getattr(cpu, name)
            passed = theirs is None or (ours is not None and math.isclose(ours, theirs, rel_tol=0.05))
            yield f"probe's {name} as on the CPU", passed, f"{_short(ours)}, {_short(theirs)} there"
        close = 0.25 < here.rate / cpu.rate < 4
        yield "probe's rate within a factor of 4 of the CPU's", close, f"{here.rate:.3g}, {cpu.rate:.3g} there"
        yield "probe without errors", not here.errors, "; ".join(map(str, here.errors))

    # Speed.

    def speed(self) -> Iterator[Row]:
        """Epochs per second of all trials together, once each has trained one epoch."""
        yield "1 trial in this process", None, f"{self.rate(InlineExecutor(self.runtime()), 1):.1f} epochs/s"
        for count in self.counts:
            lanes, processes = self.runtime(lanes=count), self.runtime(workers=max(2, count))
            for name, executor, obstacle in (
                (f"{count} lanes", lambda lanes=lanes: LaneExecutor(lanes), self.late()),
                (
                    f"{count} process{'es' * (count > 1)}",
                    lambda runtime=processes, count=count: ProcessExecutor(runtime, count),
                    self.late() or self.want_of_memory(count),
                ),
            ):
                if count > 1 or "process" in name:
                    yield name, None, obstacle or f"{self.rate(executor(), count):.1f} epochs/s"

    def late(self) -> str:
        return f"left out: {LIMIT:g} s are over" if time.monotonic() - self.started > LIMIT else ""

    def want_of_memory(self, processes: int) -> str:
        room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / HOST_MEMORY
        if self.on_gpu:
            room = min(room, torch.cuda.mem_get_info()[0] / DEVICE_MEMORY)
        return f"left out: memory for {int(room)} here" if processes > max(2, room) else ""

    def rate(self, executor: object, count: int) -> float:
        teacher, began, trained = trainer(self.rows, self.epochs), None, 0
        waiting, warm = list(range(count)), set()
        while waiting or executor.busy:
            while waiting and executor.free:
                number = waiting.pop()
                config = {"optimizer": {"lr": 0.01 / (1 + number)}}
                executor.submit(
                    Slice(number, 0, self.epochs), teacher, tn.types.Job(tn.Model(mlp), config, self.runtime()), None
                )
            for event in executor.wait():
                if isinstance(event, Ended):
                    continue
                trained += began is not None
                warm.add(event.trial)
                if began is None and len(warm) == count:
                    began = time.perf_counter()
        seconds = time.perf_counter() - began if began is not None else math.nan
        executor.close()
        return trained / seconds


@contextmanager
def one_program() -> Iterator[list[str]]:
    """A block in which lanes are one program without a measurement; it yields a list of what prevents that."""

    def measure(lanes: object, slots: int, programs: object, alone: float) -> EngineTiming:
        return EngineTiming("stacked", slots, alone, alone)

    obstacles: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: obstacles.append(record.getMessage())
    logging.getLogger("tuneflow").addHandler(handler)
    try:
        with mock.patch.multiple(group, TRACING=0.0, TRIED=0, measure=measure):
            yield obstacles
    finally:
        logging.getLogger("tuneflow").removeHandler(handler)


@contextmanager
def deterministic() -> Iterator[None]:
    """A block with torch's deterministic kernels, in the workers that it starts too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _same(one: list[tuple[tn.types.TrainState, tn.types.Report]], other: object) -> bool:
    """True if states and metrics of all epochs are equal to the last bit."""
    pairs = list(zip(one, other, strict=True))
    return all(a.metrics == b.metrics and _equal(s.values, t.values) for (s, a), (t, b) in pairs)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def _apart(one: object, other: object) -> float:
    """The largest difference of two trials' losses, as a share of them; inf if one of them did not end."""
    if one[0] != "DONE" or other[0] != "DONE":
        return math.inf
    return max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(one[1], other[1], strict=True))


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


PARTS = ("exact", "processes", "several", "lanes", "precision", "measures", "probe", "speed")


def rows(checks: Checks, parts: list[str]) -> Iterator[Row]:
    """Yield the rows of these parts; a part that raises is a failed one."""
    for part in parts:
        try:
            yield from getattr(checks, part)()
        except Exception as error:
            yield f"{part} raised", False, f"{type(error).__name__}: {error}"


def main(command: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check tuneflow on a device, and measure lanes beside processes.")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu in a reduced form")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run; all by default")
    options = parser.parse_args(command)
    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"{options.device}: there is no such device here; --device cpu runs a reduced form.")
        return 2
    name = "CPU, reduced" if options.device == "cpu" else torch.cuda.get_device_name()
    print(f"tuneflow {tn.__version__}, torch {torch.__version__}, {name}")
    failed, words, checks = 0, {None: "-", True: "passed", False: "FAILED"}, Checks(options.device)
    with deterministic():
        for what, passed, figure in rows(checks, options.only):
            failed += passed is False
            print(f"{what:<58} {words[passed]:<7} {figure}".rstrip(), flush=True)
    print(f"{plural(failed, 'check')} failed, {time.monotonic() - checks.started:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
