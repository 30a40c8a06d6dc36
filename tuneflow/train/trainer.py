"""Trainer: how a job is trained. Two methods carry it: `init(job) -> state` and `advance(job, state, until)`."""

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from tuneflow.data import Batch, Data, Source, as_source
from tuneflow.errors import Diverged
from tuneflow.heuristics.normalise import Normalised, Normaliser, cast_only, fit, starts_normalised
from tuneflow.metrics import Measured, Metric, measure, measure_loss
from tuneflow.model import tensors_of
from tuneflow.runtime import Runtime
from tuneflow.signature import name_of
from tuneflow.space import Config
from tuneflow.train.job import Job, TrainState, copied
from tuneflow.trial import Report

RESIDENT = 2**30  # bytes: sets up to this size live on the device, prepared once
CHUNK = 3 * 2**18  # bytes of inputs evaluated at once, within 32 to 1,024 rows: more falls out of the cache


class Trainer:
    """Trains a module on `train` and reports on `valid` after every epoch.

    It holds nothing that changes: `init` and `advance` are functions of the job and the state, so training can
    stop after any epoch and go on anywhere, bit for bit. Subclass it and override `loss_of` for a loss that needs
    more than outputs and targets.

    Args:
        train, valid: tn.Data, a pair (inputs, targets), or a map-style torch Dataset.
        loss: an instance such as `nn.CrossEntropyLoss()`, a function `(outputs, targets) -> scalar`, or a class whose
            arguments are tuned in the space's section `loss`.
        optimizer: a torch optimizer class, or a callable that takes the parameters first; its other
            arguments are tuned in the section `optimizer`.
        epochs: the full length of a trial.
        batch_size: rows per optimizer step; the last batch of an epoch may be shorter. Tuned in the section `trainer`.
        metrics: name to metric, see tn.metrics; `loss` and `train_loss` are always reported.

    Raises:
        TypeError, ValueError: an argument is not of that kind; the message names it.
    """

    tunable: tuple[str, ...] = ("batch_size",)

    def __init__(
        self,
        train: Any,
        valid: Any,
        *,
        loss: Callable[..., Any],
        optimizer: Callable[..., torch.optim.Optimizer],
        epochs: int = 10,
        batch_size: int = 32,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        self.train: Source = as_source(train, "Trainer: train")
        self.valid: Source = as_source(valid, "Trainer: valid")
        for name, value in (("loss", loss), ("optimizer", optimizer)):
            if not callable(value):
                raise TypeError(f"Trainer: {name} needs to be callable, got {value!r}.")
        if isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"Trainer: optimizer needs a class such as torch.optim.SGD, got a ready {type(optimizer).__name__}."
            )
        for name, metric in (metrics or {}).items():
            if not callable(metric) or name in ("loss", "train_loss"):
                raise TypeError(
                    f'Trainer: metric "{name}" needs to be callable and not called loss or train_loss, got {metric!r}.'
                )
        self.loss, self.optimizer = loss, optimizer
        self.epochs = whole("Trainer", "epochs", epochs)
        self.batch_size = whole("Trainer", "batch_size", batch_size)
        self.metrics = dict(metrics or {})
        self._prepared: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": {}}

    @property
    def reports(self) -> list[str]:
        """Names of the metrics in every report."""
        return ["loss", *self.metrics, "train_loss"]

    def describe(self) -> dict[str, Any]:
        """What scores depend on, as JSON; a study keeps it and notices a change."""
        return {
            "data": {"train": self.train.digest(), "valid": self.valid.digest()},
            "loss": repr(self.loss) if isinstance(self.loss, nn.Module) else name_of(self.loss),
            "optimizer": name_of(self.optimizer),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
        }

    # What subclasses may override.

    def loss_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of one training batch, a scalar tensor with a gradient."""
        inputs, targets = batch
        loss: Tensor = self.loss(module(inputs), targets)
        return loss

    def evaluate(self, module: nn.Module, data: "Ready | Source") -> dict[str, Measured]:
        """Loss and metrics of `module` over all of `data` at once, so that no batch size shows in them.

        A subclass's own `loss_of` is averaged over chunks instead, weighted by their rows.
        """
        outputs, targets = outputs_of(module, data)
        if type(self).loss_of is Trainer.loss_of:
            measured = {"loss": measure_loss(self.loss, outputs, targets)}
        else:
            measured = {"loss": Measured(self._mean_loss(module, data))}
        for name, metric in self.metrics.items():
            try:
                measured[name] = measure(metric(outputs, targets))
            except TypeError as error:
                raise TypeError(f'metric "{name}": {error}') from None
        return measured

    def _mean_loss(self, module: nn.Module, data: "Ready | Source") -> float:
        size, rows = chunk_of(data), len(data)
        losses = [float(self.loss_of(module, batch)) for batch in data.batches(size)]
        return sum(loss * min(size, rows - i * size) for i, loss in enumerate(losses)) / rows

    # The two functions that carry everything.

    def init(self, job: Job) -> TrainState:
        """The state before the first epoch: a new module and optimizer, drawn from the job's seed."""
        return _Run(self.configured(job.config), job).state(0)

    def advance(self, job: Job, state: TrainState, until: int) -> Iterator[tuple[TrainState, Report]]:
        """Train on from `state` to epoch `until`; yield the new state and its report after every epoch.

        Raises:
            Diverged: a loss is not finite; the state of the epoch before stays good.
        """
        run = _Run(self.configured(job.config), job)
        run.restore(state)
        for epoch in range(state.epoch + 1, until + 1):
            started = time.perf_counter()
            with job.randomness("epoch", epoch):
                train_loss = run.train_epoch(epoch)
                measured = run.evaluate(epoch)
            metrics = {name: m.value for name, m in measured.items()} | {"train_loss": train_loss}
            errors = {name: m.error for name, m in measured.items() if m.error == m.error}
            yield run.state(epoch), Report(epoch, metrics, errors, time.perf_counter() - started)

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """The module of `state`, in evaluation mode, its input normaliser inside where it has one."""
        run = _Run(self.configured(job.config), job)
        run.restore(state)
        module = run.module if run.normaliser is None else Normalised(run.module, run.normaliser)
        return module.eval()

    # What a configuration changes.

    def configured(self, config: Config) -> Self:
        """This trainer with the sections `optimizer`, `loss` and `trainer` of a resolved configuration filled in."""
        made = copy.copy(self)
        for name, value in config.get("trainer", {}).items():
            setattr(made, name, value)
        optimizer = config.get("optimizer", {})
        made.optimizer = partial(self.optimizer, **optimizer) if isinstance(optimizer, Mapping) else optimizer
        loss = config.get("loss", {})
        chosen = partial(self.loss, **loss) if loss and isinstance(loss, Mapping) else loss or self.loss
        made.loss = chosen() if inspect.isclass(getattr(chosen, "func", chosen)) else chosen
        made.batch_size = whole("Trainer", "batch_size", made.batch_size)
        return made

    def prepared(self, source: Source, runtime: Runtime, normaliser: Normaliser | None) -> "Ready":
        """`source` on the device and normalised: once where it is small, batch by batch where it is not."""
        key = (id(source), runtime.device, normaliser is not None)
        if key not in self._prepared:
            self._prepared[key] = Ready(source, runtime, normaliser)
        ready: Ready = self._prepared[key]
        return ready

    def normaliser(self, job: Job, module: nn.Module) -> Normaliser | None:
        """What stands in front of `module` for this job, fitted on the training part only."""
        if not job.model.normalise:
            return None
        if "normaliser" not in self._prepared:
            self._prepared["normaliser"] = fit(inputs for inputs, _ in self.train.batches(4096))
        fitted: Normaliser | None = self._prepared["normaliser"]
        if fitted is None:
            return None
        inputs, _ = next(iter(self.train.batches(2)))
        fitted = fitted.to(job.runtime.device)
        placed = job.runtime.place(inputs)
        return cast_only(placed) if starts_normalised(module, fitted(placed)) else fitted


class Ready:
    """A source whose batches come on the device and normalised."""

    def __init__(self, source: Source, runtime: Runtime, normaliser: Normaliser | None) -> None:
        self.source, self._runtime, self._normaliser = source, runtime, normaliser
        if isinstance(source, Data) and 4 * source.nbytes <= RESIDENT:
            inputs = runtime.place(source.inputs)
            self.source = Data(inputs if normaliser is None else normaliser(inputs), runtime.place(source.targets))
            self._runtime, self._normaliser = None, None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        batches = self.source.batches(size, order)
        return batches if self._runtime is None else self._placed(batches)

    def _placed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            inputs, targets = self._runtime.place(batch)
            yield (inputs if self._normaliser is None else self._normaliser(inputs)), targets


class _Run:
    """The live objects of one job: module, optimizer and data, between two states."""

    def __init__(self, trainer: Trainer, job: Job) -> None:
        self.trainer, self.job = trainer, job
        with job.randomness("init", 0):
            self.module = job.runtime.place(job.model.build(job.config))
            self.normaliser = trainer.normaliser(job, self.module)
        if isinstance(trainer.loss, nn.Module):
            trainer.loss = job.runtime.place(copy.deepcopy(trainer.loss))
        self.optimizer = trainer.optimizer([p for p in self.module.parameters() if p.requires_grad])
        self.settings = [_settings(group) for group in self.optimizer.param_groups]
        self.train = trainer.prepared(trainer.train, job.runtime, self.normaliser)
        self.valid = trainer.prepared(trainer.valid, job.runtime, self.normaliser)
        self.module.train()

    def state(self, epoch: int) -> TrainState:
        optimizer = self.optimizer.state_dict()
        values = {"module": tensors_of(self.module), "optimizer": optimizer, "settings": self.settings}
        return TrainState(epoch, copied(values))

    def restore(self, state: TrainState) -> None:
        """Go on from `state`; what this configuration sets otherwise than the state's, as in a fork, takes effect."""
        saved = state.values["module"]
        with torch.no_grad():
            for name, tensor in tensors_of(self.module).items():
                tensor.copy_(saved[name])
        self.optimizer.load_state_dict(copied(state.values["optimizer"]))
        for group, mine, before in zip(
            self.optimizer.param_groups, self.settings, state.values["settings"], strict=True
        ):
            group.update({name: value for name, value in mine.items() if value != before.get(name)})

    def train_epoch(self, epoch: int) -> float:
        """One pass over the training rows; returns the mean training loss."""
        trainer, module, optimizer = self.trainer, self.module, self.optimizer
        total, last = 0.0, None
        rows = len(self.train)
        batches = self.train.batches(trainer.batch_size, self.job.order(epoch, rows))
        for step, batch in enumerate(batches, 1):
            loss = trainer.loss_of(module, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged(epoch, step, last)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value * min(trainer.batch_size, rows - (step - 1) * trainer.batch_size)
            last = value
        return total / rows

    def evaluate(self, epoch: int) -> dict[str, Measured]:
        """The loss and every metric over the whole validation part at once; training state is left as it was."""
        modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()
        with torch.no_grad():
            measured = self.trainer.evaluate(self.module, self.valid)
        for module, mode in modes:
            module.training = mode
        if not math.isfinite(measured["loss"].value):
            raise Diverged(epoch, 0, None)
        return measured


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What a parameter group was made with: learning rate, momentum, ..."""
    return {name: copied(value) for name, value in group.items() if name != "params"}


def outputs_of(module: nn.Module, data: Ready | Source) -> tuple[Any, Any]:
    """(outputs, targets) of all rows, evaluated in chunks."""
    outputs, targets = [], []
    for inputs, wanted in data.batches(chunk_of(data)):
        outputs.append(module(inputs))
        targets.append(wanted)
    return joined(outputs), joined(targets)


def joined(parts: list[Any]) -> Any:
    """Batches joined along the first dimension, tuples and dicts element by element."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], Mapping):
        return {key: joined([part[key] for part in parts]) for key in parts[0]}
    return type(parts[0])(joined([part[i] for part in parts]) for i in range(len(parts[0])))


def chunk_of(data: Ready | Source) -> int:
    """How many rows are evaluated at once."""
    source = data.source if isinstance(data, Ready) else data
    per_row = source.nbytes // len(source) if isinstance(source, Data) else 2**14
    return min(1024, max(32, CHUNK // max(1, per_row)))


def whole(what: str, name: str, value: Any) -> int:
    """`value` as a whole number of at least 1, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what}: {name} needs to be a whole number >= 1, got {value!r}.")
    return value
