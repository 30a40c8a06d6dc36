"""Session: the live objects of one job, between two states."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tuneflow.compress.completed_form import completed_form
from tuneflow.compress.operations import apply_all, operations_of
from tuneflow.compress.step import StepRows
from tuneflow.compress.winner import BuildRecord, record_of, recorded, wrappers
from tuneflow.data.data import Batch
from tuneflow.errors import Diverged, warn
from tuneflow.heuristics.initialization_record import Initialized
from tuneflow.heuristics.initialize import initialize
from tuneflow.heuristics.restoring import restore_tensors
from tuneflow.heuristics.target_scaling import RescaledModule, brought_scale, completed
from tuneflow.history.trial import Report
from tuneflow.metrics.measured import Measured
from tuneflow.model import tensors_of
from tuneflow.nested import copied
from tuneflow.optim.build import build_optimizer
from tuneflow.train.augmentation import Augmentation
from tuneflow.train.boxed_module import box_where_used
from tuneflow.train.decided_steps import decided_recipe, step_rows
from tuneflow.train.gradients import backward, backward_in_parts
from tuneflow.train.job import Job, TrainState
from tuneflow.train.module_metrics import of_report, take_all
from tuneflow.train.patience import Waiting
from tuneflow.train.preparation import Preparation
from tuneflow.train.reported_metrics import measured_of
from tuneflow.train.scored_form import ScoredForm
from tuneflow.train.scored_weights import ScoredWeights, estimate_statistics
from tuneflow.train.settings import Settings
from tuneflow.train.surroundings import KEY, surroundings
from tuneflow.train.taught_rows import taught_outputs, with_taught
from tuneflow.train.trained_loss import TrainedLoss, evaluating

INIT_ROWS = 256  # of the training part, that an initialization is corrected on
WATCHED = 64  # rows of the training part, that an augmentation looks at after an epoch
CALIBRATION_MOST, CALIBRATION_SIZE = (
    512,
    64,
)  # rows of the training part, that ranges for int8 come from; more gain nothing


class Session:
    """Module, optimizer, schedule and data of one job. Everything is constructed first and loaded after.

    Attributes:
        module: as its builder made it; it may learn standardized targets.
        whole: it takes the batches and gives outputs in the targets' units: the module itself, or with these behind it.
            If the loss takes raw inputs, the batches are raw, and the normalizer is in front of it.
        recipe: the operations of the model's steps, which the module has behind it.
        form: converts the module where it is scored and handed over in another arithmetic.
        epoch: the one that was trained last.
        unit: the trainer's loss divided by this is minimized.
        loss: the trainer's loss, as far as it is trained.
        parameters: those of the module and of the loss that are trained.
        groups: the options that each parameter group of the optimizer was made with.
    """

    def __init__(
        self, settings: Settings, preparation: Preparation, job: Job, recipe: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.settings, self.job = settings, job
        if job.model is None:
            raise TypeError("a Trainer needs a job with a model; give Job(model=tn.Model(builder), ...).")
        self.model = job.model
        with job.at_work("init", 0):
            self.module = job.runtime.place(self.model.build(job.config))
            preparation.ready(job, self.module)
            self.normalizer, self.scale = preparation.scaling(job, self.module, settings)
        self.whole, self.unit = self.module, 1.0
        if self.scale is not None:
            self.whole = RescaledModule(self.module, self.scale.mean, self.scale.std)
            self.unit = self.scale.unit_of(settings.loss)
        elif (brought := brought_scale(self.module)) is not None and not settings.own_loss:
            self.unit = brought.unit_of(settings.loss)
        decide = partial(decided_recipe, self.model, job, self.module)
        decided = None if recipe is None else operations_of(recipe)
        cleaning = decide(partial(self._raw_rows, preparation), sanitizes=True) if decided is None else decided
        self.normalizer = preparation.sanitized(self.normalizer, cleaning)
        self.loss = TrainedLoss(settings.loss)
        self.augmentation = Augmentation(settings.augment)
        before = None if settings.raw_inputs else self.normalizer  # else it is a part of `whole`
        self._box = box_where_used(settings.objects, preparation.fits.box)
        self.whole = self.complete() if settings.raw_inputs else self.whole
        self.late = before if settings.augment else None  # augmentations see raw inputs
        early = None if settings.augment else before
        self._raw_valid = preparation.valid
        parts = (self.module, self.normalizer, self.scale, self._box, settings.own_module)
        self._surroundings = partial(surroundings, preparation, job, *parts)
        self.train = preparation.on_device(preparation.train, job.runtime, early)
        self.valid = preparation.on_device(preparation.valid, job.runtime, before)
        self._taught = partial(taught_outputs, settings.loss, self.train, preparation.cache)
        self.steps = math.ceil(self.train.order.rows / settings.batch_size)
        self.recipe = [*cleaning, *decide(partial(self._step_rows, preparation))] if decided is None else decided
        apply_all(self.recipe, self.module)
        self.form = ScoredForm(self.recipe, job.runtime)
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        trained |= {f"loss.{name}": p for name, p in self.loss.parameters.items()}
        self.parameters = list(trained.values())
        self.optimizer = build_optimizer(settings.optimizer, self.module, trained, self.steps * settings.epochs)
        self.groups = [_options(group) for group in self.optimizer.param_groups]
        self.weights = ScoredWeights(self.optimizer)
        self.rate = settings.schedule.attach(self.optimizer, self.groups, self.steps, settings.epochs)
        self.waiting = Waiting(settings.patience)
        self.scaler = job.runtime.scaler()
        self.epoch, self._warned = 0, False
        self.module.train()

    def _step_rows(self, preparation: Preparation) -> StepRows:
        """Return the training rows, as a step sees them that changes the module."""
        return step_rows(self._module_batches, self._loss_of_steps, self.scale, preparation.fits.box)

    def _raw_rows(self, preparation: Preparation) -> StepRows:
        """Return the training rows, as a step sees them that sanitizes."""
        source, order = preparation.train, self.job.order(1, preparation.train.order)

        def batches(size: int) -> Iterator[Batch]:
            return map(self.job.runtime.place, source.batches(size, order))

        return step_rows(batches, self._loss_of_steps, self.scale, preparation.fits.box, self.normalizer)

    def begin(self) -> Initialized | None:
        """Draw the weights by the model's initialization; return its record, or None where the builder drew them."""
        scheme, data_driven = self.model.initialization(self.job.config)
        if scheme == "default" and not data_driven:
            return None
        inputs, targets = self.first_rows()
        inputs = self._normalized(inputs)
        targets = targets if self.scale is None else self.scale(targets)
        own = self.settings.own_loss
        with self.job.at_work("init", 1):
            return initialize(
                self.module,
                inputs,
                scheme=scheme,
                loss=None if own else self.settings.loss,
                targets=None if own else targets,
                data_driven=data_driven,
            )

    def _normalized(self, inputs: Any) -> Any:
        """Return the inputs of a batch as the module itself takes them."""
        if self.normalizer is None or not self.settings.raw_inputs:
            return inputs
        return self.normalizer(inputs)

    @property
    def _loss_of_steps(self) -> Callable[[nn.Module, Batch], Tensor]:
        """The loss of a module without its normalizer, and a batch."""
        return self._plain_loss if self.settings.raw_inputs else self.loss_of

    def _plain_loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of outputs and targets, where the training loss takes raw inputs.

        Raises:
            ValueError: it cannot be called with outputs and targets.
        """
        loss = self.settings.loss
        if not callable(loss):
            raise ValueError(
                f"a step needs the loss of outputs and targets, and {type(loss).__name__} takes raw inputs; give it a"
                " method __call__(outputs, targets)."
            )
        with self.job.runtime.autocast():
            value: Tensor = loss(module(batch[0]), batch[1]) / self.unit
        return value

    def first_rows(self, count: int = INIT_ROWS) -> Batch:
        """The first rows of the first epoch's order, as `whole` takes them."""
        rows = self.job.order(1, self.train.order)[:count]
        inputs, targets = next(iter(self.train.batches(count, rows)))
        return inputs if self.late is None else self.late(inputs), targets

    def state(self, epoch: int) -> TrainState:
        """Return a copy of everything that the epoch after `epoch` depends on."""
        values: dict[str, Any] = {
            "module": tensors_of(self.module),
            "optimizer": self.optimizer.state_dict(),
            "settings": self.groups,
            "rate": self.rate.state(),
            "waiting": self.waiting.state(),
        }
        if self.recipe:
            values["recipe"] = [operation.to_values() for operation in self.recipe]
        if self.form.calibration:
            values["calibration"] = self.form.calibration
        if self.loss.module is not None:
            values["loss"] = self.loss.state()
        if self.scaler is not None:
            values["scaler"] = self.scaler.state_dict()
        if self.weights.switches:
            values["weights"] = self.weights.mode
        if self._warned:
            values["warned"] = True
        return TrainState(epoch, copied(values) | {KEY: self._surroundings()})

    def restore(self, state: TrainState) -> None:
        """Go on from `state`; what this configuration sets otherwise than the state's, as in a fork, takes effect."""
        saved, before = state.values["module"], state.values["settings"]
        self._warned = bool(state.values.get("warned"))
        self.weights.to(state.values.get("weights", "train"))  # before they are loaded: a mode may be an attribute
        restore_tensors(self.module, saved)
        self.form.calibration = copied(state.values.get("calibration", {}))
        self.loss.restore(state.values.get("loss", {}))
        self.optimizer.load_state_dict(copied(state.values["optimizer"]))
        lay_out(self.optimizer)
        for group, mine, was in zip(self.optimizer.param_groups, self.groups, before, strict=True):
            group.update({name: value for name, value in mine.items() if value != was.get(name) and name != "lr"})
        self.rate.load(state.values["rate"], before)
        self.waiting.load(state.values["waiting"])
        if self.scaler is not None and "scaler" in state.values:  # not in a state of another precision
            self.scaler.load_state_dict(state.values["scaler"])

    def train_epoch(self, epoch: int) -> float:
        """Train one pass over the training rows; return the mean training loss.

        Raises:
            Diverged: the loss of a batch is not finite.
        """
        self.weights.to("train")
        total, last, self.epoch = 0.0, None, epoch
        first, rows, size = (epoch - 1) * self.steps, self.train.order.rows, self.settings.batch_size
        for step, batch in enumerate(self.batches(epoch)):
            self.rate.before(first + step)
            value = self.backward(batch) * self.unit
            if not math.isfinite(value):
                raise Diverged(epoch, step + 1, last)
            if self.step():
                self.rate.after_step()
            total += value * min(size, rows - step * size)
            last = value
        if self.augmentation.watches_epochs and not self._warned:
            self._watch(epoch)
        return total / rows

    def _watch(self, epoch: int) -> None:
        """Have the augmentation look at the module; warn of what it returns, once in a trial."""
        rows = self.job.order(1, self.train.order)[:WATCHED]
        with self.job.at_work("watch", epoch):
            text = self.augmentation.after_epoch(self.complete(), next(iter(self.train.batches(len(rows), rows))))
        if text:
            self._warned = True
            warn(f"epoch {epoch}: {text}")

    def evaluate(self, epoch: int | None = None) -> dict[str, Measured]:
        """Return loss and metrics over the whole validation part; what the next epoch depends on is left as it was.

        Args:
            epoch: the epoch whose report it is for, which may lack metrics of the module; None for all of them.
        """
        with self.evaluating():
            returned = self.settings.evaluate(self._scored(), self.valid)
        return {**measured_of(returned), **self.of_module(epoch)}

    def of_module(self, epoch: int | None = None) -> dict[str, Measured]:
        """Return the metrics of the module that the report of an epoch has; all of them for None."""
        own = self.settings.module_metrics
        due = own if epoch is None else of_report(own, epoch, self.settings.epochs, self.settings.also_due)
        return self._taken(due)

    def _taken(self, metrics: Mapping[str, Any]) -> dict[str, Measured]:
        """Return the values of these metrics of the module."""
        if not metrics:
            return {}
        with self.evaluating():
            return take_all(self.job, metrics, self.handed_over(), self._raw_valid)

    def _scored(self) -> nn.Module:
        """Return the module that is scored, in the form of `whole`; within `evaluating`.

        Raises:
            Diverged: a value in the module is not finite, so that it has no range.
        """
        if self.form.plain:
            return self.whole
        with self.job.at_work("calibration", 0):
            try:
                module = self.form.calibrated(self.module, self._calibration_inputs())
            except FloatingPointError:
                raise Diverged(self.epoch, 0, None) from None
        return completed(module, self.normalizer if self.settings.raw_inputs else None, self.scale)

    def _calibration_inputs(self) -> Iterator[Any]:
        """Yield the inputs of training rows, in the order of the first epoch, from which ranges are taken."""
        rows = min(CALIBRATION_MOST, max(2 * CALIBRATION_SIZE, self.train.order.rows // 8))  # the cost is bounded
        batches = islice(self._module_batches(CALIBRATION_SIZE), rows // CALIBRATION_SIZE)
        return (inputs for inputs, _ in batches)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the scored weights are in place, in evaluation mode, without gradients.

        The precision is that of training, and float32 where the module is converted to another arithmetic.
        """
        self.to_scored()
        modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad(), self.job.runtime.autocast(self.form.plain), evaluating(self.settings.loss):
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def to_scored(self) -> None:
        """Switch to the weights that are scored and handed over, with statistics of BatchNorm that fit them."""
        if self.weights.to("eval"):
            with self.job.at_work("statistics", 0):
                estimate_statistics(self.module, self._forward, self._plain_batches(self.settings.batch_size))

    def after_epoch(
        self, epoch: int, train_loss: float, measured: Mapping[str, Measured], seconds: float
    ) -> tuple[TrainState, Report]:
        """Return the state after an epoch and its report; schedule and patience take note of it.

        Where patience ends the training, the report has the metrics too that are not due: no later one will.
        """
        metrics = {name: m.value for name, m in measured.items()} | {"train_loss": train_loss}
        lacking = {name: each for name, each in self.settings.module_metrics.items() if name not in metrics}
        self.rate.after_epoch(metrics, *([lacking] if lacking else []))  # a schedule of the user's may know no other
        self.waiting.after_epoch(metrics, lacking)
        if self.waiting.over:
            measured = {**measured, **self._taken(lacking)}
        metrics |= {name: measured[name].value for name in lacking if name in measured}
        errors = {name: m.error for name, m in measured.items() if m.error == m.error}
        return self.state(epoch), Report(epoch, metrics, errors, seconds)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the training batches of an epoch as `whole` takes them."""
        order, batches = self.job.order(epoch, self.train.order), self.train.batches
        if self.settings.augment is None:
            size, taught = self.settings.batch_size, self._taught()
            plain = batches(size, order)
            yield from plain if taught is None else with_taught(plain, order, size, taught)
            return
        module = self.complete() if self.augmentation.sees_module else None
        for batch in batches(self.settings.batch_size, order):
            inputs, targets = self.augmentation(module, batch)
            yield (inputs if self.late is None else self.late(inputs)), targets

    def _plain_batches(self, size: int) -> Iterator[Batch]:
        """Yield batches of the first epoch's order without augmentation, as `whole` takes them."""
        for inputs, targets in self.train.batches(size, self.job.order(1, self.train.order)):
            yield (inputs if self.late is None else self.late(inputs)), targets

    def _module_batches(self, size: int) -> Iterator[Batch]:
        """Yield such batches as the module itself takes them, without a normalizer in front of it."""
        return ((self._normalized(inputs), targets) for inputs, targets in self._plain_batches(size))

    def _forward(self, batch: Batch) -> None:
        """Call the module on a batch, as training does; through the loss only where that has its own way."""
        if self.settings.own_loss:
            self.loss_of(self.whole, batch)
            return
        with self.job.runtime.autocast():
            self.whole(batch[0])

    def complete(self) -> nn.Module:
        """Return the module with normalizer and scale around it: raw inputs, and outputs in the targets' units."""
        module = completed(self.module, self.normalizer, self.scale)
        return module if self._box is None else recorded(module, replace(record_of(module), box=self._box))

    @property
    def record(self) -> BuildRecord:
        """The facts by which the module is made again, but for the builder's configuration."""
        job, winner = self.job, self.model.winner
        if winner is None:
            new = BuildRecord(normalize=self.model.normalization(job.config), wrapped=len(wrappers(self.module)))
        else:
            new = winner.record
        before = [operation for operation in new.operations if not operation.converts]
        return replace(new, operations=[*before, *self.recipe], box=self._box or new.box)

    def handed_over(self) -> nn.Module:
        """Return the module that is scored, complete and in evaluation mode, once `to_scored` was called."""
        if self.form.plain:
            return self.complete().eval()
        with self.job.at_work("calibration", 0):
            module = self.form.handed_over(self.module.eval(), self._calibration_inputs())
        module = completed_form(module, self.normalizer, self.scale).eval()
        if self._box is None:
            return module
        return recorded(module, replace(record_of(module), box=self._box, trained=self.complete().eval()))

    def loss_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the loss to minimize on a batch: the trainer's, divided by `unit`; `module` is `whole`."""
        with self.job.runtime.autocast():
            loss = self.settings.loss_of(module, batch)
        return loss if self.unit == 1.0 else loss / self.unit

    def backward(self, batch: Batch) -> float:
        """Set the gradients, which the scaler has multiplied where there is one; return the minimized loss."""
        settings, arguments = self.settings, (self.loss_of, self.whole, batch, self.optimizer)
        if settings.micro_batch is None:
            return backward(*arguments, self.scaler)
        return backward_in_parts(*arguments, settings.loss, settings.micro_batch, self.scaler)

    def step(self, clipped: bool = True) -> bool:
        """Take an optimizer step; False where a scaler skipped it for a gradient that is not finite.

        Args:
            clipped: whether the gradients are clipped to the norm that the settings give, if they give one.
        """
        scaler = self.scaler
        if scaler is not None and all(p.grad is None for p in self.parameters):
            return True  # nothing to move, which a scaler takes for an error
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if clipped and self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        if scaler is None:
            self.optimizer.step()
            return True
        before = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        return scaler.get_scale() >= before


def lay_out(optimizer: Optimizer) -> None:
    """Give the tensors of a loaded optimizer the memory layout of their parameters, as new ones have it."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """Options of a parameter group: learning rate, momentum, ..."""
    return {name: copied(value) for name, value in group.items() if name != "params"}
