"""Tensors that a loss gives a gradient to, and that no optimizer would move: they are found in the loss's graph."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn


def check_trained(loss: Tensor, again: Callable[[], Tensor], trained: Iterable[Tensor]) -> None:
    """Raise ValueError if a tensor outside the model and the loss would get a gradient at every step.

    A tensor that one step makes for itself, as for a gradient penalty, is not in the graph of the next.

    Args:
        loss: of a batch, with its graph.
        again: computes the loss of the same batch once more; called only where a tensor is no parameter.
        trained: the parameters that an optimizer gets.
    """
    known = list(trained)
    others = [leaf for leaf in leaves_of(loss) if not any(leaf is one for one in known)]
    lasting: Tensor | None = next((leaf for leaf in others if isinstance(leaf, nn.Parameter)), None)
    if lasting is None and others:
        second = leaves_of(again())
        lasting = next((leaf for leaf in others if any(leaf is other for other in second)), None)
    if lasting is not None:
        what = "a parameter" if isinstance(lasting, nn.Parameter) else "a tensor that requires a gradient,"
        raise ValueError(
            f"the loss depends on {what} of shape {tuple(lasting.shape)} that is neither the model's nor the loss's, so"
            " that it would never be trained; hold it in an nn.Module, as nn.Parameter, layer or nn.ModuleList, that is"
            " part of the model or is the loss, or detach it where it is to stay as it is: torch.no_grad()."
        )


def leaves_of(loss: Tensor) -> list[Tensor]:
    """Return the tensors that a backward pass from `loss` accumulates gradients in."""
    leaves, seen, left = [], set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        left += [inner for inner, _ in node.next_functions]
    return leaves
