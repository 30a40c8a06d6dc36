"""The loss of outputs and targets inside of another loss, which adds a mean over rows to it."""

from functools import partial
from typing import Any

from tuneflow.signature import name_of


def checked_inner(what: str, loss: Any) -> Any:
    """Return a loss of outputs and targets, if it is one that a mean over rows can be added to.

    Args:
        what: opens the message, such as "Distill".
        loss: a function of outputs and targets, or anything else.

    Raises:
        TypeError: it is no function of outputs and targets.
        ValueError: it is fitted to targets, or sees the module, or has another reduction than the mean.
    """
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"{what}: loss needs a function of outputs and targets, such as nn.MSELoss(), got {loss!r}.")
    if callable(getattr(loss, "fit", None)) or callable(getattr(loss, "loss_of", None)):
        raise ValueError(
            f"{what}: loss needs a plain function of outputs and targets, and {name_of(loss)} is fitted to targets, or"
            " sees the module; write an object with loss_of that calls both."
        )
    reduction = setting_of(loss, "reduction")
    if reduction not in (None, "mean"):
        raise ValueError(f'{what}: loss needs reduction="mean", as a mean over rows is added, got "{reduction}".')
    return loss


def setting_of(loss: Any, name: str) -> Any:
    """Return a keyword of a partial or an attribute of a loss; None where it has none of that name."""
    return loss.keywords.get(name) if isinstance(loss, partial) else getattr(loss, name, None)
