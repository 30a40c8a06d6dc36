"""Trainer: trains a module by a loss and an optimizer, epoch by epoch, as a function of job and state."""

import copy
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tuneflow.compress.converted import is_converted
from tuneflow.compress.distill import with_teacher
from tuneflow.compress.winner import recorded
from tuneflow.data.data import Batch
from tuneflow.data.folds import folds_of
from tuneflow.data.nested_rows import nested_part
from tuneflow.data.sources import Source, as_source
from tuneflow.errors import did_you_mean, in_use, listed
from tuneflow.markup.fragment import fragment, pairs
from tuneflow.metrics.measured import Measured
from tuneflow.optim.build import optimizer_name, spans_trial
from tuneflow.signature import hinting_at, name_of
from tuneflow.space.search_space import Config
from tuneflow.train.boxed_module import use_box, with_box
from tuneflow.train.description import description_of
from tuneflow.train.evaluate import Evaluator
from tuneflow.train.evaluation_plan import Measures, Plan
from tuneflow.train.full_length import ended_scheduler
from tuneflow.train.halved_batch import halved
from tuneflow.train.input_fits import InputFits
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loss_object import fit_to_targets, has_loss_of, instance_of, placed, takes_outputs, takes_raw_inputs
from tuneflow.train.micro_batch import check_unknown_loss
from tuneflow.train.module_metrics import (
    every_of,
    of_epoch,
    of_module,
    of_outputs,
    of_test,
    reference_of,
    take_all,
    words_of,
)
from tuneflow.train.on_all_rows import train_unscored
from tuneflow.train.patience import Patience
from tuneflow.train.preparation import DeviceData, Preparation
from tuneflow.train.protocol import Curve, DryRun, Epochs, TrainerProtocol
from tuneflow.train.rates import Fixed, Schedule
from tuneflow.train.reported_metrics import measured_of
from tuneflow.train.running_measures import Chunk
from tuneflow.train.session import Session
from tuneflow.train.settings import Settings, clip_of, patience_of, schedule_of, with_section
from tuneflow.train.trained_loss import evaluating
from tuneflow.train.trainer_arguments import ELSEWHERE, check_callables, metrics_of
from tuneflow.validate import check_whole

PARTS = 8  # of the training rows, kept with what was prepared of them


class Trainer(TrainerProtocol):
    """Trains a module on `train` and reports on `valid` after every epoch.

    It holds nothing that changes: `init` and `advance` are functions of the job and the state, so training can stop
    after any epoch and resume anywhere, bit for bit. A loss that needs more than outputs and targets is an object with
    `loss_of(module, batch)`, or a subclass that overrides `loss_of`.

    Args:
        train, valid: tn.Data, a pair (inputs, targets), a map-style torch Dataset, or a DataLoader of one; the loader's
            order and batch size are not used. With `folds`, `valid` is left out.
        folds: cross-validation on `train`: a number of random parts, each the validation part once, with as many rows
            of each class where targets are classes; or pairs (training rows, validation rows), as numbers or masks. A
            study trains each configuration on every fold, and its score is their mean.
        loss: an instance such as `nn.CrossEntropyLoss()`, a function `(outputs, targets) -> scalar`, an object with
            `loss_of(module, batch) -> scalar`, or a class with arguments that are tuned in the space's section `loss`.
            The parameters of one that is a module are trained with the model's; one with a method `fit(targets)` is
            fitted to the training targets.
        optimizer: a torch optimizer class, one of tn.optim, or a callable that takes the parameters first; its other
            arguments are tuned in the section `optimizer`.
        epochs: the full length of a trial.
        batch_size: rows per optimizer step; the last batch of an epoch may be smaller.
        metrics: name to metric, see tn.metrics, or an object with update, compute and reset, as torchmetrics has;
            `loss` and `train_loss` are always reported. An object with `of_module(module, data)` is a metric of the
            module itself, as those of tn.measure are, which a study takes once for each structure.
        schedule: the learning rate over the full `epochs`, see tn.rates.
        clip: the largest norm of a step's gradient; a larger gradient is scaled down to it.
        patience: end a trial when the validation loss has not improved for so many epochs in a row; a
            `tn.Patience` watches another metric.
        micro_batch: rows per backward pass: the same optimization with less memory. A loss whose parts do not add up is
            refused.
        augment: called with the inputs of each training batch, on the device and before normalization; a function, or a
            class with arguments that are tuned in the section `augment`. One that requires three positional arguments
            is called with `(module, inputs, targets)` and returns inputs and targets, as mixup does: the module takes
            raw inputs and gives outputs in the targets' units. None, as an option of that section too, leaves batches
            as they are.

    The settings from `batch_size` on, but for metrics and augment, can be tuned in the space's section `trainer`; and
    there `rows`, the number of training rows: that many of them, drawn once by the study's seed, in proportion to the
    classes, where more rows contain fewer.

    Raises:
        TypeError, ValueError: an argument is not of that kind; the message names it.
    """

    inspectable = True
    tunable: tuple[str, ...] = ("batch_size", "schedule", "clip", "patience", "micro_batch", "rows")
    rows: int | None = None
    also_due: Collection[int] = ()
    _by_object: bool | None = None  # the loss has a method loss_of; looked up once for each job

    @hinting_at(ELSEWHERE)
    def __init__(
        self,
        train: Any,
        valid: Any = None,
        *,
        folds: int | Iterable[Any] | None = None,
        loss: Any,
        optimizer: Callable[..., torch.optim.Optimizer],
        epochs: int = 10,
        batch_size: int = 32,
        metrics: Mapping[str, Any] | None = None,
        schedule: Schedule | Callable[[], Schedule] = Fixed(),  # noqa: B008 (frozen)
        clip: float | None = None,
        patience: int | Patience | None = None,
        micro_batch: int | None = None,
        augment: Callable[..., Any] | None = None,
    ) -> None:
        self.train: Source = as_source(train, "Trainer: train", batch_size)
        if (valid is None) == (folds is None):
            raise TypeError(
                "Trainer needs either valid, the data that every epoch is scored on, or folds, such as folds=5, to"
                f" cross-validate on train; got {'neither' if folds is None else 'both'}."
            )
        self.valid: Source = self.train if valid is None else as_source(valid, "Trainer: valid")
        self.fold_rows = None if folds is None else folds_of(folds, self.train)
        self.folds = 1 if self.fold_rows is None else len(self.fold_rows)
        check_callables(loss, optimizer, augment)
        self.metrics = metrics_of(metrics)
        self.loss, self.optimizer = with_teacher(loss), optimizer
        self.epochs = check_whole("Trainer: epochs", epochs)
        self.batch_size, self.clip, self.micro_batch = batch_size, clip, micro_batch
        self.schedule: Any = schedule
        self.patience: Any = patience
        self.augment: Any = augment
        self._check_settings()
        self._prepared: dict[Any, Any] = {}
        self._fits: InputFits | None = None  # to other rows than `train`, in a dry run of few

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": {}}

    @property
    def reports(self) -> list[str]:
        """Names of the metrics in every report; those once for each structure are added by a study."""
        return ["loss", *self.metrics, "train_loss"]

    @property
    def sparse(self) -> Mapping[str, int]:
        return {name: every_of(metric) for name, metric in self.module_metrics.items() if every_of(metric) > 1}

    def describe(self) -> dict[str, Any]:
        """Return the facts that scores depend on, as JSON: data digests, loss, optimizer and settings."""
        parts = {"valid": self.valid.digest()} if self.fold_rows is None else {"folds": self.fold_rows.describe()}
        return {
            "data": {"train": self.train.digest()} | parts,
            "loss": description_of(self.loss),
            "optimizer": optimizer_name(self.optimizer),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "schedule": repr(self.schedule),
            "clip": self.clip,
            "patience": repr(self.patience),
            "micro_batch": self.micro_batch,
            "augment": None if self.augment is None else description_of(self.augment),
            "metrics": {name: words_of(metric) for name, metric in self.metrics.items()},
            **({} if type(self) is Trainer else {"trainer": name_of(type(self))}),
        }

    def __repr__(self) -> str:
        words = (f"{name}={fact}" for name, fact in self._settings())
        return f"{type(self).__name__}({len(self.train)} rows, {', '.join(words)})"

    def _repr_html_(self) -> str:
        rows = (self.train, self.valid) if self.fold_rows is None else (self.train,)
        title = f"{type(self).__name__}: {' and '.join(f'{len(part):,}' for part in rows)} rows"
        return fragment(title, pairs(self._settings()))

    def _settings(self) -> list[tuple[str, Any]]:
        """Return the settings that differ from leaving them out."""
        unset: tuple[Any, ...] = (None, {}, "None", "Fixed()")
        return [(name, fact) for name, fact in self.describe().items() if name != "data" and fact not in unset]

    # What subclasses may override.

    def loss_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of one training batch, a scalar tensor with a gradient."""
        by_object = self._by_object
        if has_loss_of(self.loss) if by_object is None else by_object:
            own: Tensor = self.loss.loss_of(module, batch)
            return own
        inputs, targets = batch
        loss: Tensor = self.loss(module(inputs), targets)
        return loss

    def evaluate(self, module: nn.Module, data: DeviceData | Source, size: int | None = None) -> dict[str, Measured]:
        """Return loss and metrics of `module` over all of `data`; the result does not depend on a batch size.

        Means over rows, or over what counts in the targets, are computed chunk by chunk; what needs all rows gets all
        outputs. The loss of a subclass's or an object's own `loss_of` is averaged over chunks, weighted by their rows,
        in the runtime's precision; an object that can be called with outputs and targets gives the loss by that
        instead. All else is computed in float32. A subclass may return plain numbers.

        Args:
            module: gives outputs in the targets' units.
            data: inputs as the module takes them, and targets.
            size: rows to load at once; None for as many as fit the cache.
        """
        return self._evaluator.evaluate(module, data, size)

    @property
    def measures(self) -> Measures:
        """The loss and the metrics, as functions of outputs and targets; no loss if it is computed otherwise."""
        return Measures(None if self.scored_by_own_loss else self.loss, of_outputs(self.metrics))

    @property
    def module_metrics(self) -> Mapping[str, Any]:
        """The metrics of the module that are computed with every evaluation."""
        return of_epoch(self.metrics)

    def plan(self, module: nn.Module, data: DeviceData | Source, first: Chunk) -> Plan:
        """Return the way to evaluate `module` on `data`, as its outputs for the first rows show."""
        return self._evaluator.plan(module, data, first)

    @property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.measures, self._prepared, self.loss_of if self.scored_by_own_loss else None)

    @property
    def own_loss(self) -> bool:
        """True if a subclass, or an object with `loss_of`, computes the training loss by itself."""
        return type(self).loss_of is not Trainer.loss_of or has_loss_of(self.loss)

    @property
    def raw_inputs(self) -> bool:
        """True if the loss is an object that takes raw inputs, and the module with its normalizer."""
        return type(self).loss_of is Trainer.loss_of and takes_raw_inputs(self.loss)

    @property
    def scored_by_own_loss(self) -> bool:
        """True if an own loss is the validation loss too, as it is unless its object takes outputs and targets."""
        return self.own_loss and not (type(self).loss_of is Trainer.loss_of and takes_outputs(self.loss))

    # The trainer protocol.

    def init(self, job: Job) -> TrainState:
        """Return the state before the first epoch: a new module and optimizer, drawn from the job's seed."""
        with job.runtime.active():
            run = self.configured(job.config).session(job)
            run.begin()
            check_unknown_loss(run)
            return run.state(0)

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        with job.runtime.active():
            run = self.resumed(job, state)
            if state.epoch:  # else `init` has
                check_unknown_loss(run)
        for epoch in range(state.epoch + 1, until + 1):
            started = time.perf_counter()
            if run.waiting.over:
                return run.waiting.over
            with job.at_work("epoch", epoch):
                train_loss = run.train_epoch(epoch)
                measured = run.evaluate(epoch)
            yield run.after_epoch(epoch, train_loss, measured, time.perf_counter() - started)
        return run.waiting.over

    def retrain(self, job: Job, state: TrainState, until: int, curve: Curve) -> Epochs:
        if self.alone():
            return self.advance(job, state, until)
        with job.runtime.active():
            run = self.resumed(job, state)
        return train_unscored(run, state.epoch + 1, until, curve)

    def with_epochs(self, epochs: int) -> Self:
        trainer = super().with_epochs(epochs)
        trainer._prepared = self._prepared  # a cache, shared by all lengths
        return trainer

    def reporting_at(self, epochs: Collection[int]) -> Self:
        trainer = copy.copy(self)
        trainer._prepared, trainer.also_due = self._prepared, frozenset({*self.also_due, *epochs})
        return trainer

    def finished(self, job: Job, state: TrainState, longer: int) -> str:
        own = self.configured(job.config)
        steps = math.ceil((own.rows or own.training_rows) / own.batch_size)
        return (
            own.schedule.finished(steps, self.epochs, longer)
            or spans_trial(own.optimizer)
            or ended_scheduler(state.values.get("rate"), state.epoch, self.epochs, longer)
        )

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Return the module of `state`, in evaluation mode: raw inputs, and outputs in the targets' units.

        Where a step has chosen another arithmetic, it is the converted module, which is scored too.
        """
        run = self.resumed(job, state)
        run.to_scored()
        module = run.handed_over()
        self._trained_losses[module] = run.settings.loss
        if run.normalizer is not None:
            self._normalizers[module] = run.normalizer
        trained = None if run.form.plain else run.complete().eval()
        return recorded(module, replace(run.record, rows=[*run.record.rows, self._rows], trained=trained))

    def check(self, dry_run: DryRun) -> None:
        """Raise unless every branch of the space fits this trainer; in a new study each is trained for a few steps."""
        dry_run.check_space(self)

    def smaller(self, job: Job) -> Job | None:
        """Return the job with micro-batches of half as many rows.

        None where those are of one row, where a layer computes across rows, as BatchNorm does, and where a subclass
        trains by itself.
        """
        return halved(self.configured(job.config), job)

    def alone(self) -> str:
        for name in ("init", "advance"):
            if getattr(type(self), name) is not getattr(Trainer, name):
                return f"{type(self).__name__} has an {name} of its own"
        return ""

    def test(self, job: Job, module: nn.Module, data: Any) -> dict[str, Measured]:
        with job.runtime.active():
            own = self.configured(job.config).for_job(job)
            own.loss = self._trained_losses.get(module, own.loss)
            inner = (own.own_loss and not own.raw_inputs) or own.own_evaluation
            normalizer = self._normalizers.get(module) if inner else None
            source = DeviceData(as_source(data, "test: data"), job.runtime, normalizer)
            with torch.no_grad(), job.runtime.autocast(not is_converted(module)), evaluating(own.loss):
                scores = own.tested(module if normalizer is None else module.get_submodule("module"), source)
            judges = of_test(of_module(self.metrics))
            if use_box(judges.values()):
                module = with_box(module, self.preparation().fits.box)
            return {**scores, **take_all(job, judges, module, as_source(data, "test: data"), reference_of(job))}

    def tested(self, module: nn.Module, data: DeviceData) -> dict[str, Measured]:
        """Return what `evaluate` does, every value with an error and an interval where it can have one."""
        if self.own_evaluation:
            return measured_of(self.evaluate(module, data))
        return self._evaluator.evaluate(module, data, intervals=True)

    def trained_loss(self, module: nn.Module) -> nn.Module | None:
        """Return the loss that was trained together with a module; None if the loss is no module.

        Args:
            module: as `study.best.model()`, or the method `module`, has returned it in this process.
        """
        loss = self._trained_losses.get(module)
        return loss if isinstance(loss, nn.Module) else None

    @property
    def _rows(self) -> str:
        """The digest of the training rows."""
        digest: str = self._prepared.get("digest") or self._prepared.setdefault("digest", self.train.digest())
        return digest

    @property
    def _trained_losses(self) -> WeakKeyDictionary[nn.Module, Any]:
        """The losses that were trained together, or fitted, with the modules that `module` has returned."""
        losses: WeakKeyDictionary[nn.Module, Any] = self._prepared.setdefault("losses", WeakKeyDictionary())
        return losses

    @property
    def _normalizers(self) -> WeakKeyDictionary[nn.Module, nn.Module]:
        """The normalizers in front of modules that `module` has returned: a loss of its own sees what comes behind."""
        normalizers: WeakKeyDictionary[nn.Module, nn.Module] = self._prepared.setdefault(
            "normalizers", WeakKeyDictionary()
        )
        return normalizers

    # One configuration.

    def configured(self, config: Config) -> Self:
        """Return this trainer with the sections `optimizer`, `loss`, `augment` and `trainer` of a resolved config."""
        trainer = copy.copy(self)
        trainer._prepared = self._prepared  # a cache, shared by all configurations
        for name, value in config.get("trainer", {}).items():
            if name not in self.tunable:
                near = did_you_mean(name, self.tunable)
                raise TypeError(
                    f'{type(self).__name__} has no setting "{name}" to tune.{near} It has {listed(self.tunable)}.'
                )
            setattr(trainer, name, value)
        optimizer = config.get("optimizer", {})
        trainer.optimizer = partial(self.optimizer, **optimizer) if isinstance(optimizer, Mapping) else optimizer
        trainer.loss = with_section(self.loss, config.get("loss", {}))
        trainer.augment = with_section(self.augment, config.get("augment", {}))
        trainer._check_settings()
        return trainer

    def for_job(self, job: Job) -> Self:
        """Return this configured trainer with a loss and an augmentation of the job's own, drawn from its seed."""
        own = copy.copy(self)
        with job.at_work("init", 2):
            own.loss = placed(instance_of(self.loss), job.runtime)
            fit_to_targets(own.loss, self.train, job.runtime, self._prepared)
            own.augment = instance_of(self.augment)
        own._by_object = has_loss_of(own.loss)
        return own

    def resumed(self, job: Job, state: TrainState) -> Session:
        """Return the live objects of a job, as they were at `state`."""
        run = self.configured(job.config).session(job, state.values.get("recipe", ()))
        with in_use(f"the state after epoch {state.epoch}"):
            run.restore(state)
        return run

    def session(self, job: Job, recipe: Sequence[Mapping[str, Any]] | None = None) -> Session:
        """Return the live objects of a job; this trainer needs to be configured for it.

        Args:
            job: what is trained.
            recipe: what the model's steps came to, as a state has it; None lets them decide.
        """
        with job.runtime.active():
            part = (self if job.fold is None else self.in_fold(job.fold)).at_rows(job.seed)
            own = part.for_job(job)
            if self.fold_rows is not None and job.fold is None:
                own.patience = None  # no rows are left to watch
            return Session(own.resolved(), part.preparation(), job, recipe)

    def resolved(self) -> Settings:
        """Return the values that a session trains with; this trainer needs to be configured for the job."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def scored_rows(self, job: Job) -> Source:
        """Return the rows that a job is scored on, as the user has them."""
        return (self if job.fold is None else self.in_fold(job.fold)).valid

    def preparation(self) -> Preparation:
        """Return the data with its cache, prepared for sessions."""
        return Preparation(self.train, self.valid, self._prepared, self._fits)

    def in_fold(self, number: int) -> Self:
        """Return this trainer with the rows of a fold, which its scaling is fitted to; itself without folds."""
        if self.fold_rows is None:
            return self
        trainer, key = copy.copy(self), ("fold", number)
        if key not in self._prepared:
            self._prepared[key] = (*self.fold_rows.parts(number), {})
        trainer.train, trainer.valid, trainer._prepared = self._prepared[key]
        trainer.fold_rows, trainer.folds, trainer._fits = None, 1, None
        return trainer

    def at_rows(self, seed: int) -> Self:
        """Return this trainer with the rows that it is set to train on, which its scaling is fitted to.

        Raises:
            ValueError: there are not so many.
        """
        if self.rows is None or self.rows == len(self.train) or self._fits is not None:  # a dry run has few anyway
            return self
        if self.rows > len(self.train):
            raise ValueError(f"Trainer: rows needs to be at most the {len(self.train)} training rows, got {self.rows}.")
        parts: OrderedDict[Any, Any] = self._prepared.setdefault("rows", OrderedDict())
        key = self.rows, seed
        if key not in parts:
            parts[key] = nested_part(self.train, self.rows, seed), {}
        parts.move_to_end(key)
        while len(parts) > PARTS:
            parts.popitem(last=False)
        trainer = copy.copy(self)
        trainer.train, trainer._prepared = parts[key]
        return trainer

    @property
    def training_rows(self) -> int:
        """Number of training rows, of the smallest fold if there are folds."""
        return len(self.train) if self.fold_rows is None else min(len(train) for train, _ in self.fold_rows.pairs)

    @property
    def own_module(self) -> bool:
        """True if a subclass makes the trained module of a state by itself."""
        return type(self).module is not Trainer.module

    @property
    def own_evaluation(self) -> bool:
        """True if a subclass evaluates by itself."""
        return type(self).evaluate is not Trainer.evaluate

    def _check_settings(self) -> None:
        self.batch_size = check_whole("Trainer: batch_size", self.batch_size)
        if self.micro_batch is not None:
            self.micro_batch = check_whole("Trainer: micro_batch", self.micro_batch)
        if self.rows is not None:
            self.rows = check_whole("Trainer: rows", self.rows, otherwise="for all")
        self.clip = clip_of(self.clip)
        self.schedule, self.patience = schedule_of(self.schedule), patience_of(self.patience)
