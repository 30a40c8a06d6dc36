"""Settings: the training of one configuration, with everything resolved that a configuration can change."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tuneflow.data.data import Batch
from tuneflow.metrics.measured import Measured
from tuneflow.signature import name_of
from tuneflow.space.values import object_repr
from tuneflow.train.evaluation_plan import Measures, Plan
from tuneflow.train.patience import Patience
from tuneflow.train.rates import Fixed, Schedule
from tuneflow.train.rates import __all__ as RATES
from tuneflow.validate import check_positive, check_whole, repr_of

WRAPPED = (
    "; schedulers of torch's are wrapped, such as tn.rates.Torch(functools.partial(torch.optim.lr_scheduler.{0}, ...))."
)


@dataclass(frozen=True)
class Settings:
    """The values that a session trains with; made by a Trainer that is configured for a job.

    Attributes:
        loss: function of (outputs, targets), or object with `loss_of(module, batch)`; on the job's device.
        optimizer: makes the optimizer of a list of parameters.
        augment: function of a batch's inputs, or of module, inputs and targets, or None.
        epochs: the full length of a trial.
        batch_size: rows per optimizer step.
        micro_batch: rows per backward pass; None for a whole batch.
        clip: the largest norm of a gradient; None for no limit.
        schedule: the learning rate over the trial.
        patience: the rule for ending a trial early, or None.
        loss_of: training loss of (module, batch), a scalar tensor with a gradient.
        evaluate: loss and metrics of (module, data).
        measures: loss and metrics as functions of outputs and targets.
        module_metrics: metrics of the module itself, but for those once for each structure.
        also_due: epochs that have all of them, beside those that their `every` gives.
        plan: the way to evaluate (module, data), of which the first rows are given.
        own_loss: True if a subclass or an object computes the training loss, from anything in module and batch.
        raw_inputs: True if such an object takes raw inputs, and the module with its normalizer.
        own_evaluation: True if a subclass evaluates by itself.
        own_module: True if a subclass makes the trained module of a state by itself.
    """

    loss: Callable[..., Any]
    optimizer: Callable[..., Optimizer]
    augment: Callable[..., Any] | None
    epochs: int
    batch_size: int
    micro_batch: int | None
    clip: float | None
    schedule: Schedule
    patience: Patience | None
    loss_of: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[..., dict[str, Measured]]
    measures: Measures
    module_metrics: Mapping[str, Any]
    also_due: Collection[int]
    plan: Callable[..., Plan]
    own_loss: bool
    raw_inputs: bool
    own_evaluation: bool
    own_module: bool

    @property
    def objects(self) -> tuple[Any, ...]:
        """Metrics of the module, augmentation and loss."""
        return (*self.module_metrics.values(), self.augment, self.loss)


def with_section(target: Any, section: Any) -> Any:
    """Return `target` with the arguments of a section of the space, or the object that the section chose instead.

    Args:
        target: a function or a class, given to the Trainer.
        section: resolved keyword arguments, empty for `target` as it is; or a chosen function or class, or None.
    """
    if isinstance(section, Mapping):
        return partial(target, **section) if section else target
    return section


def schedule_of(value: Any) -> Schedule:
    """Return `value` as a Schedule: an instance, a callable that makes one, or None for a fixed rate.

    Raises:
        TypeError: it is anything else; the message shows how to wrap a scheduler of torch's.
    """
    if value is None:
        return Fixed()
    schedule = value() if callable(value) and not isinstance(value, Schedule) and not _required(value) else value
    if isinstance(schedule, Schedule):
        return schedule
    kind = name_of(value) if inspect.isclass(value) else "StepLR"
    word = repr_of(value).strip("'").lower()
    near = next((f"; did you mean tn.rates.{name}()?" for name in RATES if name.lower() == word), "")
    raise TypeError(
        f"Trainer: schedule needs one of tn.rates, got {object_repr(schedule)}{near or WRAPPED.format(kind)}"
    )


def _required(function: Callable[..., Any]) -> bool:
    """True if a call of `function` needs arguments, as a scheduler of torch's needs an optimizer."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return True
    return False


def clip_of(value: Any) -> float | None:
    """Return `value` if it is None, infinite, or a number > 0; as Python's own.

    Raises:
        ValueError: it is anything else.
    """
    if value is None:
        return None
    if not (isinstance(value, Real) and value == math.inf):
        check_positive("Trainer: clip", value, "for none")
    return value if type(value) is int else float(value)


def patience_of(value: Any) -> Patience | None:
    """Return `value` as a Patience: an instance, a number of epochs, or None for none.

    Raises:
        ValueError: it is anything else.
    """
    if value is None or isinstance(value, Patience):
        return value
    return Patience(check_whole("Trainer: patience", value))
