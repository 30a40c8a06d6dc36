"""The `run` of a training loop: the device, the epochs, the batches and the randomness of one job."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from types import GeneratorType
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from tuneflow.data.data import Batch
from tuneflow.data.loaded import LoaderSource
from tuneflow.data.sources import Source, as_source
from tuneflow.errors import in_use, listed
from tuneflow.seeds import digest, torch_stream
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop_bindings import Bindings, EpochNumbers
from tuneflow.train.loop_state import LoopState
from tuneflow.train.loop_watch import LoopWatch
from tuneflow.train.preparation import DeviceData
from tuneflow.validate import check_whole

T = TypeVar("T")
FIRST = 3  # passes of a run after which NumPy's and Python's generators are looked at
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
        self._seed, self._seed_read = 0, False  # torch's for the pass, and whether the loop has asked for one
        self._marks = (0, 0)  # of NumPy's and Python's generator after the last pass
        self._placed: dict[int, tuple[Any, DeviceData]] = {}  # data that batches were taken of, by their id
        self._generator: GeneratorType[Any, None, Any] | None = None  # the loop at work
        self._watch: LoopWatch | None = None  # over the loop's variables
        self._bindings: Bindings | None = None  # of the named objects, from the first pass on
        self._numbers: EpochNumbers | None = None  # that `epochs` has returned
        self._most: int | None = None  # batches that `batches` gives at most, where a check shortens the passes
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
        self._seed_read = True
        return digest(*self._job.key, "loop", self._epoch) & (2**32 - 1)

    @property
    def seconds(self) -> float:
        """Wall-clock time since the pass under way began."""
        return time.perf_counter() - self._started

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

    def batches(self, data: Any, batch_size: int, shuffle: bool = True) -> Iterator[Batch]:
        """Return the batches of one pass over `data`, on the device: inputs and targets, the last batch shorter.

        The order is that of a tn.Trainer: it depends on the trial's seed and on the epoch only, so a second pass over
        the same data in the same epoch has it too. Before trial 0, a check of the loop may get the first few batches.

        Args:
            data: as a Trainer takes it: a tn.Data, a pair (inputs, targets), a map-style torch Dataset or a DataLoader
                of one, of which the batch size and the order are not used, but a sampler that draws is.
            batch_size: rows of a batch.
            shuffle: False for the stored order, every row once, as for an evaluation.

        Raises:
            TypeError, ValueError: the data are none of these, batch_size is not a whole number >= 1, or shuffle is not
                True or False.
        """
        if not isinstance(shuffle, bool):
            raise TypeError(f"run.batches: shuffle needs to be True or False, got {shuffle!r}.")
        size, rows = check_whole("run.batches: batch_size", batch_size), self._on_device(data, shuffle)
        order = self._job.order(self._epoch, rows.order) if shuffle else None
        return islice(rows.batches(size, order), self._most)

    def _on_device(self, data: Any, shuffle: bool) -> DeviceData:
        """Return `data` for batches on the device; what cannot change unseen is placed once."""
        _, placed = self._placed.get(id(data), (None, None))
        if placed is None:
            placed = DeviceData(_source_of(data, shuffle), self._job.runtime, None)
            if isinstance(data, Source):
                self._placed[id(data)] = data, placed
        return placed

    def epochs(self, /, **state: Any) -> Iterator[int]:
        """Restore the named objects and yield the numbers of the epochs to train, counted from 1.

        Args:
            state: everything that changes from one epoch to the next: modules, optimizers, learning-rate schedulers and
                other objects with `state_dict` and `load_state_dict`, tensors, and dicts and lists of plain values.
                `result` names the module that is handed over, by `study.best.model()` for one; it may be one that has
                another name too. Without it that is the first module named.

        Raises:
            TypeError: a named object cannot be restored, or `result` is no module; the message gives the way out.
            ValueError: it is called a second time, or a pass ends without a yield.
        """
        if self._named is not None:
            raise ValueError(f"{self._where}: run.epochs(...) is called twice; a loop has one run.epochs(...).")
        self._named = LoopState(self._where, state)
        self._numbers = EpochNumbers(self._passes(self._named), self._generator and self._generator.gi_code)
        return self._numbers

    def _passes(self, named: LoopState) -> Iterator[int]:
        done = 0
        if self._start is not None:
            with in_use(f"the state after epoch {self._start.epoch}"):
                named.restore(self._start.values)
            done = self._start.epoch
        if self._only_build:
            raise Built(named, (torch.get_rng_state(), np.random.get_state(), random.getstate()))  # noqa: NPY002
        frame = self._generator and self._generator.gi_frame
        if frame is not None:
            self._bindings = Bindings(frame, named.things)
            if self._watch is not None:
                self._watch.begin(frame, named, self)
        for epoch in range(done + 1, self._until + 1):
            self._epoch, self._reached, self._started = epoch, None, time.perf_counter()
            self._enter("epoch", epoch)
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

    def _enter(self, purpose: str, epoch: int) -> None:
        """Seed the global generators from the job, until the next call or `_seeded.close()`."""
        self._seeded.close()
        self._seeded.enter_context(self._job.at_work(purpose, epoch))
        self._seed, self._seed_read = torch.initial_seed(), False

    def _reseeded(self) -> list[str]:
        """Return the generators that the loop has seeded in this pass by a number that is not the run's.

        NumPy's and Python's are noticed where two of the first passes of a run leave them in the same state, which
        seeds of ours never do.
        """
        torchs = ["torch"] if torch.initial_seed() != self._seed and not self._seed_read else []
        if self._epoch - (0 if self._start is None else self._start.epoch) > FIRST:
            return torchs
        numpys: Any = np.random.get_state()  # noqa: NPY002
        before, self._marks = self._marks, (hash((numpys[1].tobytes(), numpys[2])), hash(random.getstate()))
        same = zip(("NumPy", "Python"), before, self._marks, strict=True)
        return torchs + [name for name, one, other in same if one == other]


def _source_of(data: Any, shuffle: bool) -> Source:
    """Return a source of batches; to be shuffled, it may have a sampler that draws."""
    if shuffle and isinstance(data, LoaderSource):
        return data
    return LoaderSource(data) if shuffle and isinstance(data, DataLoader) else as_source(data, "run.batches: data")


class Built(BaseException):
    """Raised to leave a loop before its first pass; no Exception, so that no `except Exception` catches it."""

    def __init__(self, named: LoopState, generators: tuple[Any, Any, Any]) -> None:
        self.named, self.generators = named, generators  # torch's, NumPy's and Python's, as they are then
