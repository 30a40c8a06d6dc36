"""Distillation: a loss that has a module learn from the outputs of a trained teacher."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.compress.inner_loss import checked_inner, setting_of
from tuneflow.compress.teacher import Teacher, teacher_of
from tuneflow.heuristics.target_scaling import power_of
from tuneflow.signature import name_of
from tuneflow.validate import check_positive, is_number

CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, functional.cross_entropy, functional.nll_loss)
LABELS = (nn.BCEWithLogitsLoss, functional.binary_cross_entropy_with_logits)
NUMBERS = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, functional.mse_loss, functional.l1_loss),
    *(functional.smooth_l1_loss, functional.huber_loss),
)
IGNORED = -100  # torch's default for the class number of targets that do not count


class Distill:
    """A loss that has a module learn from the data and from a trained teacher, by its outputs.

    It minimizes (1 - weight) times the loss of outputs and targets, plus weight times a soft loss of outputs and the
    teacher's. For classes that is the Kullback-Leibler divergence between softened probabilities, softmax(outputs /
    temperature), times the square of the temperature, so that its gradient does not shrink with it; the same for
    labels that are each true or false; for numbers the mean squared difference to the teacher's. On validation rows the
    score is the loss of outputs and targets alone, so that trials with other weights or temperatures compare.

    To tune weight and temperature in the space's section `loss`, fix the teacher:
    `tn.Trainer(..., loss=functools.partial(tn.compress.Distill, study.best))`.

    Args:
        teacher: a Result such as `study.best`, or a module that takes raw inputs, as `tn.load` returns. It is copied,
            in evaluation mode, and never trained; a digest of its tensors is a fact of the study.
        loss: function of outputs and targets with the mean as its reduction; None for `nn.CrossEntropyLoss()`.
        weight: the teacher's part, 0 to 1.
        temperature: above 0; more than 1 shows what the teacher thinks of the less likely classes. Numbers have none.

    Raises:
        TypeError: `teacher` is no module, or `loss` no function of outputs and targets.
        ValueError: weight or temperature is out of its range, or the loss has another reduction or is to be fitted.

    Example:
        >>> teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> loss = Distill(teacher, weight=1.0)
        >>> batch = torch.ones(2, 4), torch.tensor([0, 2])
        >>> loss.loss_of(teacher, batch).item(), loss.loss_of(student, batch).item() > 0
        (0.0, True)

    Source: Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015.
    """

    raw_inputs = True

    def __init__(
        self,
        teacher: Any,
        loss: Callable[[Any, Any], Tensor] | None = None,
        weight: float = 0.5,
        temperature: float = 4.0,
    ) -> None:
        if not is_number(weight) or not 0 <= weight <= 1:
            raise ValueError(f"Distill: weight needs to be within [0, 1], got {weight!r}.")
        check_positive("Distill: temperature", temperature)
        self.loss = checked_inner("Distill", nn.CrossEntropyLoss() if loss is None else loss)
        teacher = teacher_of(teacher)
        self.teacher: str = teacher.digest
        self._module: nn.Module = teacher.module
        self._rows: tuple[str, ...] = teacher.rows
        self.weight, self.temperature = float(weight), float(temperature)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of outputs and targets alone."""
        value: Tensor = self.loss(outputs, targets)
        return value

    def __repr__(self) -> str:
        return (
            f"Distill({self.teacher}, {name_of(self.loss)}, weight={self.weight:g}, temperature={self.temperature:g})"
        )

    @property
    def ignore_index(self) -> int | None:
        """The class number of targets that do not count, for classes; else None."""
        own = setting_of(self.loss, "ignore_index")
        return own if isinstance(own, int) else IGNORED if _kind(self.loss) is CLASSES else None

    @property
    def rows(self) -> tuple[str, ...]:
        """Digests of the rows that the teacher was trained on, as far as they are known."""
        return self._rows

    @property
    def unit_power(self) -> int | None:
        """The power of the targets' unit in the loss's; None where it is none of numbers."""
        return 2 if power_of(self.loss) == 2 else None

    def loss_of(self, module: nn.Module, batch: tuple[Any, Any]) -> Tensor:
        """Return the loss of a batch.

        Args:
            module: takes raw inputs, and gives outputs in the targets' units.
            batch: raw inputs, and targets; with the teacher's outputs as its attribute `taught` where they are known.

        Raises:
            TypeError, ValueError: the outputs are not one tensor of the shape of the teacher's.
        """
        inputs, targets = batch
        taught = getattr(batch, "taught", None)
        taught = self.taught(inputs) if taught is None else taught
        outputs = module(inputs)
        return (1 - self.weight) * self(outputs, targets) + self.weight * self._soft(outputs, taught, targets)

    def taught(self, inputs: Any) -> Any:
        """Return the teacher's outputs for raw inputs."""
        with torch.no_grad():
            return self._module(inputs)

    def _soft(self, outputs: Any, taught: Any, targets: Any) -> Tensor:
        if not isinstance(outputs, Tensor) or not isinstance(taught, Tensor):
            kinds = f"{type(outputs).__name__} and {type(taught).__name__}"
            raise TypeError(f"Distill compares one tensor of outputs with the teacher's, got {kinds}.")
        if outputs.shape != taught.shape:
            raise ValueError(
                f"Distill needs outputs of the teacher's shape {tuple(taught.shape)}, got {tuple(outputs.shape)}."
            )
        kind = _kind(self.loss) or _kind_of_targets(outputs, targets)
        outputs, taught, temperature = outputs.float(), taught.float(), self.temperature
        if kind is NUMBERS:
            return functional.mse_loss(outputs, taught)
        if kind is LABELS:
            return temperature**2 * _labels(outputs / temperature, taught / temperature).mean()
        each = _classes(outputs / temperature, taught / temperature)
        if self.ignore_index is not None and isinstance(targets, Tensor) and targets.shape == each.shape:
            each = each[targets != self.ignore_index]
        return temperature**2 * each.mean()


def with_teacher(loss: Any) -> Any:
    """Return a partial of Distill with its teacher taken from the study that trained it; any other loss as it is."""
    if not (isinstance(loss, partial) and loss.func is Distill):
        return loss
    if loss.args:
        return partial(Distill, teacher_of(loss.args[0]), *loss.args[1:], **loss.keywords)
    keywords = dict(loss.keywords)
    if "teacher" in keywords:
        keywords["teacher"] = teacher_of(keywords["teacher"])
    return partial(Distill, **keywords)


def rows_of_teacher(loss: Any) -> tuple[str, ...]:
    """Return digests of the rows that the teacher of a loss was trained on; empty where there is no teacher."""
    if isinstance(loss, partial) and loss.func is Distill:
        loss = next((part for part in (*loss.args, loss.keywords.get("teacher")) if isinstance(part, Teacher)), None)
    return loss.rows if isinstance(loss, Distill | Teacher) else ()


def _classes(outputs: Tensor, taught: Tensor) -> Tensor:
    """Return the divergence of each row, and of each place in it; the classes are in dimension 1."""
    own, others = functional.log_softmax(outputs, 1), functional.log_softmax(taught, 1)
    return (others.exp() * (others - own)).sum(1)


def _labels(outputs: Tensor, taught: Tensor) -> Tensor:
    """Return the divergence of each label, true or false."""
    yes, no = functional.logsigmoid(taught), functional.logsigmoid(-taught)
    gap_yes, gap_no = yes - functional.logsigmoid(outputs), no - functional.logsigmoid(-outputs)
    return yes.exp() * gap_yes + no.exp() * gap_no


def _kind(loss: Any) -> Any:
    """Return the tuple of torch's losses that this one is of; None for any other."""
    inner = loss.func if isinstance(loss, partial) else loss
    return next((kinds for kinds in (CLASSES, LABELS, NUMBERS) if inner in kinds or type(inner) in kinds), None)


def _kind_of_targets(outputs: Tensor, targets: Any) -> Any:
    """Return the kind of soft loss that fits the targets.

    Raises:
        TypeError: none does.
    """
    if isinstance(targets, Tensor) and targets.is_floating_point() and targets.shape == outputs.shape:
        return NUMBERS
    if isinstance(targets, Tensor) and not targets.is_floating_point() and targets.ndim == outputs.ndim - 1:
        return CLASSES
    raise TypeError(
        "Distill needs to know what the outputs are: with a loss that is not torch's, targets are class numbers, or"
        f" numbers of the outputs' shape {tuple(outputs.shape)}, got {_described(targets)}."
    )


def _described(targets: Any) -> str:
    return f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
