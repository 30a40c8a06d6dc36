"""A training loop's generator at work: one pass is one epoch and ends with one yield."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import GeneratorType
from typing import Any, TypeVar, cast

import torch

from tuneflow.errors import Diverged, listed
from tuneflow.history.trial import Report
from tuneflow.nested import copied
from tuneflow.seeds import digest, torch_stream
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop_state import LoopState
from tuneflow.train.reported_metrics import described, numbers_of

T = TypeVar("T")
LoopFunction = Callable[[Any, Any], Iterator[Mapping[str, Any]]]  # (config, run), a generator function


class LoopRun:
    """The `run` of a training loop: the device, the epochs and the randomness of one job.

    The library makes it, from the loop's name for messages, the full length of a trial, the job, the state to go on
    from (None for a new trial), and whether to leave the loop by Built before its first pass.
    """

    def __init__(self, where: str, epochs: int, job: Job, start: TrainState | None, only_build: bool) -> None:
        self._where, self._until, self._job = where, epochs, job
        self._start, self._only_build = start, only_build
        self._named: LoopState | None = None
        self._epoch = 0  # the pass under way; 0 before the first
        self._reached: TrainState | None = None  # the state at its yield
        self._started = 0.0
        self._seeded = ExitStack()
        self.lowered = False  # autocast was asked for

    @property
    def device(self) -> torch.device:
        """The device of the study's runtime."""
        return self._job.runtime.device

    @property
    def epoch_seed(self) -> int:
        """A seed below 2 ** 32 for this epoch, for generators other than torch's; epoch 0 is before the first pass.

        The global generators of Python, NumPy and torch are seeded already.
        """
        return digest(*self._job.key, "loop", self._epoch) & (2**32 - 1)

    def generator(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a new torch generator for this epoch; the same name gives the same draws each time."""
        return torch_stream(*self._job.key, "loop", name, self._epoch, device=device)

    def place(self, thing: T) -> T:
        """Return `thing` on the device and in the runtime's memory layout.

        Args:
            thing: a module, which is changed; a tensor; or tuples, lists and dicts of tensors.
        """
        return self._job.runtime.place(thing)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a block in the runtime's precision, for a forward pass and its loss; it has no effect for fp32.

        For fp16 the loop makes a torch.amp.GradScaler, and names it in `run.epochs(...)`.
        """
        self.lowered = True
        return self._job.runtime.autocast()

    def epochs(self, /, **state: Any) -> Iterator[int]:
        """Restore the named objects and yield the numbers of the epochs to train, counted from 1.

        Args:
            state: everything that changes from one epoch to the next: modules, optimizers, learning-rate schedulers and
                other objects with `state_dict` and `load_state_dict`, tensors, and dicts and lists of plain values.

        Raises:
            TypeError: a named object cannot be restored; the message gives the way out.
            ValueError: it is called a second time, or a pass ends without a yield.
        """
        if self._named is not None:
            raise ValueError(f"{self._where}: run.epochs(...) is called twice; a loop has one run.epochs(...).")
        self._named = LoopState(self._where, state)
        return self._passes(self._named)

    def _passes(self, named: LoopState) -> Iterator[int]:
        done = 0
        if self._start is not None:
            named.restore(self._start.values)
            done = self._start.epoch
        if self._only_build:
            raise Built(named)
        for epoch in range(done + 1, self._until + 1):
            self._epoch, self._reached, self._started = epoch, None, time.perf_counter()
            self._seed("epoch", epoch)
            yield epoch
            self._check_pass(named)

    def _check_pass(self, named: LoopState) -> None:
        where = f"{self._where}, epoch {self._epoch}"
        if self._reached is None:
            raise ValueError(
                f"{where}: the pass ended without a yield; yield the epoch's metrics at its end, every time."
            )
        changed = named.changed_since(self._reached.values)
        if changed:
            raise ValueError(
                f"{where}: {listed(changed)} changed after the yield, which is lost when training stops there;"
                " make the yield the last thing in the pass."
            )

    def _seed(self, purpose: str, epoch: int) -> None:
        """Seed the global generators from the job, until the next call or `_seeded.close()`."""
        self._seeded.close()
        self._seeded.enter_context(self._job.at_work(purpose, epoch))


class Passes:
    """A loop's generator, advanced epoch by epoch; the caller's global generators are put back in between.

    Args:
        function: the generator function of `(config, run)`.
        run: a new one, for one job and the state to go on from.
    """

    def __init__(self, function: LoopFunction, run: LoopRun) -> None:
        self.run, self._where = run, run._where
        self.generator = cast("GeneratorType[Any, None, Any]", function(copied(run._job.config), run))
        self._last: dict[str, float] = run._start.values["metrics"] if run._start is not None else {}

    @property
    def named(self) -> dict[str, Any]:
        """Objects that the loop has named so far."""
        return {} if self.run._named is None else self.run._named.things

    def next(self) -> tuple[TrainState, Report] | str:
        """Train one epoch; return the state and report after it, or the reason why the loop ended without one."""
        run = self.run
        run._seed("after" if run._epoch else "init", run._epoch)
        try:
            return self._reached(next(self.generator))
        except StopIteration as end:
            return self._reason(end.value)
        finally:
            run._seeded.close()

    def close(self) -> None:
        """Leave the loop where it stands; its `finally` blocks run."""
        self.run._seed("after", self.run._epoch)
        try:
            self.generator.close()
        finally:
            self.run._seeded.close()

    def _reached(self, yielded: Any) -> tuple[TrainState, Report]:
        run, epoch = self.run, self.run._epoch
        if run._named is None or epoch == 0:
            raise ValueError(f"{self._where}: yields before the first pass of `for epoch in run.epochs(...):`.")
        where = f"{self._where}, epoch {epoch}"
        if run._reached is not None:
            raise ValueError(f"{where}: yields a second time; one pass is one epoch and yields once, at its end.")
        if run._job.runtime.precision != "fp32" and not run.lowered:
            raise ValueError(
                f"{where}: the runtime's precision is {run._job.runtime.precision}, and the loop never takes it up;"
                " put forward pass and loss into `with run.autocast():`, or leave out precision."
            )
        metrics, errors = numbers_of(yielded, where)
        for name in sorted(self._last.keys() ^ metrics.keys()) if self._last else ():
            does = "stopped yielding" if name in self._last else "began to yield"
            raise TypeError(f'{where}: {does} "{name}"; every epoch yields the same names.')
        if not math.isfinite(metrics.get("train_loss", metrics.get("loss", 0.0))):
            raise Diverged(epoch, 0, self._last.get("loss"))
        self._last = metrics
        run._reached = TrainState(epoch, {**run._named.values(), "metrics": dict(metrics)})
        return run._reached, Report(epoch, metrics, errors, time.perf_counter() - run._started)

    def _reason(self, returned: Any) -> str:
        run = self.run
        if returned is not None and not isinstance(returned, str):
            raise TypeError(f"{self._where}: returned {described(returned)}; return a string that says why it ends.")
        if run._named is None:
            raise ValueError(f"{self._where}: never calls run.epochs(...); it needs `for epoch in run.epochs(...):`.")
        if not returned:
            raise ValueError(
                f"{self._where}: ended in epoch {run._epoch} of {run._until} without a reason;"
                ' return a string that says why, such as return "no better for 5 epochs".'
            )
        if run._reached is not None:
            raise ValueError(
                f"{self._where}: returned {returned!r} after the yield of epoch {run._epoch}, where a trial that is"
                " paused there would go on; return before the yield, or at the start of the next pass by what"
                " run.epochs(...) names."
            )
        return returned


class Built(BaseException):
    """Raised to leave a loop before its first pass; no Exception, so that no `except Exception` catches it."""

    def __init__(self, named: LoopState) -> None:
        self.named = named
