"""Preparation: a trainer's data on the device, and the scaling of inputs and targets that is fitted to them."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Operation, Sanitize
from tuneflow.compress.winner import Winner
from tuneflow.data.data import Batch, Data
from tuneflow.data.orders import Order
from tuneflow.data.sources import Source
from tuneflow.heuristics.lazy_layers import copy_of, lazy_tensors, materialize
from tuneflow.heuristics.sanitizing import SanitizedInputs, with_sanitizers
from tuneflow.heuristics.target_scaling import Scale, reaches_any_number, scales_with_targets
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import seeded_globals
from tuneflow.signature import parameters_of
from tuneflow.train.input_fits import InputFits, choose_normalizer
from tuneflow.train.job import Job
from tuneflow.train.settings import Settings
from tuneflow.train.spread import Spread, install, spread_of

RESIDENT = 2**28  # bytes as stored: sets up to this size live on the device, prepared once
SANITIZED = 64  # normalizers with sanitizers that are kept
CLEANED = 512  # rows that are sanitized at once: what comes between stays small
KEPT = 2**31  # bytes of such sets that are kept, those used last; there is one for each normalizer


class DeviceData:
    """A source whose batches come on the device and normalized: once where it is small, else batch by batch.

    Attributes:
        source: the rows; of a small set, on the device and normalized.
        runtime: places the batches.
        resident: all rows as modules take them, where they are on the device; else None.
    """

    def __init__(self, source: Source, runtime: Runtime, normalizer: nn.Module | None) -> None:
        self.source, self.runtime = source, runtime
        self._normalizer = normalizer
        self.resident: Data | None = None
        if isinstance(source, Data) and source.nbytes <= RESIDENT:
            self.source = self.resident = Data(*self._on_device((source.inputs, source.targets)))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def order(self) -> Order:
        """The rows of a training epoch."""
        return self.source.order

    @property
    def held(self) -> int:
        """Bytes that it keeps on the device."""
        return 0 if self.resident is None else self.resident.nbytes

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches of `size` rows, as Data.batches does."""
        batches = self.source.batches(size, order)
        return map(self._on_device, batches) if self.resident is None else batches

    def _on_device(self, batch: Batch) -> Batch:
        inputs, targets = map(self.runtime.place, batch)
        return (inputs if self._normalizer is None else self._normalized(inputs)), targets

    def _normalized(self, inputs: Any) -> Any:
        assert self._normalizer is not None
        if not isinstance(self._normalizer, SanitizedInputs) or len(inputs) <= CLEANED:
            return self._normalizer(inputs)
        return torch.cat([self._normalizer(part) for part in inputs.split(CLEANED)])


class Preparation:
    """The data of a trainer, prepared for jobs; what it makes is kept in a cache that all its jobs share.

    Args:
        train: training rows, which scaling is fitted to.
        valid: validation rows.
        cache: filled here; one dict per trainer.
        fits: to other rows than `train`, for a dry run of few rows; None fits to `train`.
    """

    def __init__(self, train: Source, valid: Source, cache: dict[Any, Any], fits: InputFits | None = None) -> None:
        self.train, self.valid, self.cache = train, valid, cache
        self.fits = fits or InputFits(train, cache)

    def on_device(self, source: Source, runtime: Runtime, normalizer: nn.Module | None) -> DeviceData:
        """Return `source` on the device and normalized: once where it is small, batch by batch where it is not."""
        key = (id(source), runtime.device, runtime.channels_last, id(normalizer))
        sets: OrderedDict[Any, DeviceData] = self.cache.setdefault("on device", OrderedDict())
        if key not in sets:
            sets[key] = DeviceData(source, runtime, normalizer)
        sets.move_to_end(key)
        while len(sets) > 2 and sum(data.held for data in sets.values()) > KEPT:
            sets.popitem(last=False)
        data = sets[key]
        if data.runtime is not runtime:  # of the same device and layout, maybe of another precision
            data = copy.copy(data)
            data.runtime = runtime
        return data

    def scaling(self, job: Job, module: nn.Module, settings: Settings) -> tuple[nn.Module | None, Scale | None]:
        """Return the input normalizer of `module` and the scale of its targets, fitted to the training rows only.

        Those of a winner are the winner's. No normalizer where `module` takes raw inputs, neither of the two where the
        model has normalize=False. No scale, so that `module` learns the targets as they are, where the loss does not
        scale with its targets, where a subclass computes loss or metrics by itself, and where the module's outputs are
        bound to the targets' units.

        Raises:
            ValueError, TypeError: the inputs are not of the kind that the normalization takes, or `module` looks at
                them by value.
        """
        if job.model is not None and job.model.winner is not None:
            return self._brought(job.model.winner, job.runtime)
        kind = False if job.model is None else job.model.normalization(job.config)
        if kind is False:
            return None, None
        normalizer = choose_normalizer(kind, module, self.fits, job.runtime)
        fitted, own = self.fits.standard(job.runtime), settings.own_loss and not settings.raw_inputs
        own = own or settings.own_evaluation
        if fitted.scale is None or own or not scales_with_targets(settings.loss):
            return normalizer, None
        scalable = reaches_any_number(module, fitted.rows if normalizer is None else normalizer(fitted.rows))
        return normalizer, fitted.scale if scalable else None

    def _brought(self, winner: Winner, runtime: Runtime) -> tuple[nn.Module | None, Scale | None]:
        """Return a winner's normalizer and scale on the device."""
        key = ("winner", id(winner), runtime.device)
        if key not in self.cache:
            parts = (None if part is None else copy.deepcopy(part).to(runtime.device).requires_grad_(False)
                     for part in (winner.normalizer, winner.scale))  # fmt: skip
            self.cache[key] = (winner, *parts)
        _, normalizer, scale = self.cache[key]
        return normalizer, scale

    def sanitized(self, normalizer: nn.Module | None, operations: Sequence[Operation]) -> nn.Module | None:
        """Return `normalizer` with the sanitizers of a recipe before it; itself where there are none.

        The same module each time, as prepared data are kept by it.
        """
        sanitizers = [each for each in operations if isinstance(each, Sanitize)]
        if not sanitizers:
            return normalizer
        kept: OrderedDict[Any, tuple[Any, nn.Module]] = self.cache.setdefault("sanitized", OrderedDict())
        key = id(normalizer), repr([each.to_values() for each in sanitizers])
        if key not in kept:
            kept[key] = normalizer, with_sanitizers(normalizer, [each.module() for each in sanitizers]).eval()
        kept.move_to_end(key)
        while len(kept) > SANITIZED:
            kept.popitem(last=False)
        return kept[key][1]

    def ready(self, job: Job, module: nn.Module) -> None:
        """Make a new module ready for the inputs: spread over its arguments, and lazy layers with their shapes.

        Raises:
            TypeError: its forward cannot take such inputs.
            ValueError: a lazy layer does not run.
        """
        self.connect(job, module)
        if lazy_tensors(module):
            materialize(module, self._shaped(job))
            job.runtime.place(module)

    def connect(self, job: Job, module: nn.Module) -> None:
        """Give a new module the hook that spreads a dict or tuple of inputs over its arguments, if it needs one.

        Raises:
            TypeError: its forward cannot take such inputs.
        """
        if isinstance(self.train, Data) and self.train.single:
            return
        inner = getattr(module, "_orig_mod", module)
        key = ("spread", job.runtime.device, str(parameters_of(inner.forward)), *map(type, module.modules()))
        if key not in self.cache:
            tried = copy_of(module) if lazy_tensors(module) else module  # it takes no shapes from a trial
            self.cache[key] = spread_of(tried, self.two_rows(job), self.train.target)
        spread: Spread | None = self.cache[key]
        if spread is not None:
            install(module, spread)

    def _shaped(self, job: Job) -> Any:
        """Return the inputs of two rows in the shape that the module gets them in."""
        rows, kind = self.two_rows(job), False if job.model is None else job.model.normalization(job.config)
        normalizer = None if isinstance(kind, bool) else self.fits.of(kind, job.runtime)
        return rows if normalizer is None else normalizer(rows)

    def two_rows(self, job: Job) -> Any:
        """Return the inputs of two training rows, on the device and not normalized."""
        if (key := ("few", job.runtime.device)) not in self.cache:
            with seeded_globals(0, "few rows"):  # a dataset may draw
                self.cache[key] = job.runtime.place(next(iter(self.train.batches(2)))[0])
        return self.cache[key]
