"""Label smoothing as a tensor, so that each lane may have its own."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


def smoothed(loss: nn.CrossEntropyLoss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the same loss with the amount of label smoothing as a third argument, which may be a tensor.

    The loss is linear in that amount, so that the losses at 0 and at 1 give it for any. Outputs need to be finite where
    the amount is 0: 0 times infinity is NaN.

    Args:
        loss: its own `label_smoothing` is not used.

    Returns:
        (outputs, targets, smoothing) -> loss, shapes as `loss` takes them, smoothing a single number from 0 to 1.

    Example:
        >>> import torch
        >>> outputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
        >>> ours = smoothed(nn.CrossEntropyLoss())(outputs, targets, torch.tensor(0.1))
        >>> torch.allclose(ours, nn.CrossEntropyLoss(label_smoothing=0.1)(outputs, targets))
        True
    """

    def at(outputs: Tensor, targets: Tensor, amount: float) -> Tensor:
        return functional.cross_entropy(
            outputs,
            targets,
            weight=loss.weight,
            ignore_index=loss.ignore_index,
            reduction=loss.reduction,
            label_smoothing=amount,
        )

    def amount_given(outputs: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
        return (1 - smoothing) * at(outputs, targets, 0.0) + smoothing * at(outputs, targets, 1.0)

    return amount_given
