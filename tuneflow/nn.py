"""Modules that torch.nn does not have."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.validate import LARGEST, check_word, is_number, is_whole, shown

__all__ = ["BalancedCrossEntropy", "ScaledTanh"]


class ScaledTanh(nn.Module):
    """LeCun's activation, 1.7159 tanh(2 x / 3): about the identity within -1 and 1.

    Normal inputs of standard deviation 1 leave with 0.87, where tanh leaves 0.63. It passes through (1, 1) and (-1,
    -1), so targets of plus and minus one lie where the second derivative is largest and not at the asymptotes, where
    gradients vanish.

    Shapes: any; the output has the input's.

    Example:
        >>> print([round(y, 3) for y in ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])).tolist()])
        [-1.0, 0.0, 1.0]

    Source: LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.4.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(inputs * (2 / 3))


class BalancedCrossEntropy(nn.Module):
    """Cross-entropy in which a class weighs its frequency to the power of -`power`: one number to tune for imbalance.

    0 is nn.CrossEntropyLoss exactly, or nn.BCEWithLogitsLoss for one output; with 1 all classes weigh the same, however
    rare they are; between them lies what usually does best. The weights have mean 1 over the training rows, and the
    loss divides by the number of rows that count, not by their weights, so that the gradient of a batch of any size is
    that of the weighted training set on average. A class without training rows weighs as if it had one.

    A Trainer calls `fit` with its training targets, those of the fold in cross-validation.

    Args:
        power: from 0 to 1, usually; tunable in the section `loss`.
        label_smoothing: share of each target that is spread over all classes, from 0 to 1; not for one output.
        ignore_index: class number of targets that do not count.
        reduction: "mean", "sum" or "none", as in torch.

    Shapes: outputs (n, classes, ...) with class numbers (n, ...), or shares of classes (n, classes, ...); or one output
    per row, (n,) or (n, 1), with targets 0 and 1 as floats of the same shape. The result is a scalar.

    Example:
        >>> loss = BalancedCrossEntropy(power=1.0)
        >>> loss.fit(torch.tensor([0, 0, 0, 1]))
        >>> loss.weights(2)
        tensor([0.6667, 2.0000])

    Source: the power of the frequency: Mikolov et al., NIPS 2013, where it smooths the frequencies of words.
    """

    counts: Tensor

    def __init__(
        self, power: float = 1.0, label_smoothing: float = 0.0, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__()
        for name, value in (("power", power), ("label_smoothing", label_smoothing)):
            if not is_number(value) or value < 0:
                raise ValueError(f"BalancedCrossEntropy: {name} needs to be a number >= 0, got {shown(value)}.")
        if not is_whole(ignore_index, -LARGEST):
            raise TypeError(f"BalancedCrossEntropy: ignore_index needs to be a class, got {shown(ignore_index)}.")
        self.power, self.label_smoothing, self.ignore_index = power, label_smoothing, ignore_index
        self.reduction = check_word("BalancedCrossEntropy: reduction", reduction, ("mean", "sum", "none"))
        self.register_buffer("counts", torch.zeros(0))

    def extra_repr(self) -> str:
        return f"power={self.power}, label_smoothing={self.label_smoothing}, ignore_index={self.ignore_index}"

    @torch.no_grad()
    def fit(self, targets: Any) -> None:
        """Count the classes of all training targets.

        Args:
            targets: as in training, of all rows.

        Raises:
            TypeError: they are no tensor.
        """
        if not isinstance(targets, Tensor):
            kind = type(targets).__name__
            raise TypeError(f"BalancedCrossEntropy: fit needs the targets as one tensor, got {kind}.")
        if not targets.is_floating_point():
            counted = targets[(targets != self.ignore_index) & (targets >= 0)]
            self.counts = torch.bincount(counted.flatten().long()).float()
        elif targets.ndim == 1 or targets.shape[1] == 1:
            ones = targets.double().sum()
            self.counts = torch.stack([targets.numel() - ones, ones]).float()
        else:
            self.counts = targets.double().transpose(0, 1).flatten(1).sum(1).float()

    def weights(self, classes: int) -> Tensor:
        """Return the weight of each class, shape (classes,): mean 1 over the training rows.

        Args:
            classes: number of outputs.

        Raises:
            ValueError: `fit` was not called.
        """
        if not len(self.counts):
            raise ValueError(
                "BalancedCrossEntropy needs the training targets first: a Trainer fits it, elsewhere call fit(targets)."
            )
        rows = self.counts.sum()
        counts = functional.pad(self.counts, (0, max(0, classes - len(self.counts))))[:classes]
        weights: Tensor = (counts.clamp(min=1) / rows) ** -self.power
        weights *= rows / (counts * weights).sum()
        return weights

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        binary = outputs.ndim == 1 or (outputs.shape[1] == 1 and targets.is_floating_point())
        loss_of = self._of_one_output if binary else self._of_classes
        if not self.power or self.reduction != "mean":
            return loss_of(outputs, targets, self.reduction)
        each = loss_of(outputs, targets, "none")
        return each.mean() if targets.is_floating_point() else each.sum() / (targets != self.ignore_index).sum()

    def _of_classes(self, outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.cross_entropy(
            outputs,
            targets,
            weight=self.weights(outputs.shape[1]).to(outputs) if self.power else None,
            ignore_index=-100 if targets.is_floating_point() else self.ignore_index,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )

    def _of_one_output(self, outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        weight: Tensor | None = None
        if self.power:
            no, yes = self.weights(2).to(outputs)
            weight = no + (yes - no) * targets
        return functional.binary_cross_entropy_with_logits(outputs, targets, weight, reduction=reduction)
