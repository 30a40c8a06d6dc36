"""Quick attack: few steps on logits that are brought to one scale, for a metric that every epoch takes."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from tuneflow.harden.ascent import gradient_if_any
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.square import Square
from tuneflow.harden.threat import Threat
from tuneflow.metrics.classes import accuracy
from tuneflow.seeds import torch_stream

LONGEST, SHORTEST = 1.5, 0.1  # radii, that the first and the last step are long
SCALE = 6.0  # the largest distance of a row's logits from their mean
QUERIES = 200  # of the search for rows that have no gradient: it takes ten times as long as the steps would


def withstood(attacked: AttackedModule, rows: Tensor, classes: Tensor, threat: Threat, steps: int) -> Tensor:
    """Return True for rows that are right, and stay so under the quick attack; boolean, shape (rows,).

    Each form of the module is attacked by steps that become shorter, and a row is let go once its class is lost. The
    logits of a row are brought to one scale before the cross-entropy is taken, so that large ones hide nothing. Rows
    that no form has a gradient for are attacked by a short random search.

    Args:
        attacked: the module, in evaluation mode.
        rows: floating-point rows on the module's device.
        classes: of the rows, shape (rows,).
        threat: what is allowed.
        steps: number of steps in each form.
    """
    left = accuracy(attacked.logits(rows), classes).bool()
    stuck = left.clone()
    for form in attacked.forms:
        tried = left.nonzero().flatten()
        left[tried], still = _under_steps(attacked, form, rows[tried], classes[tried], threat, steps)
        stuck[tried] &= still
    unmoved = (left & stuck).nonzero().flatten()
    if len(unmoved):
        left[unmoved] = _under_search(attacked, rows[unmoved], classes[unmoved], threat)
    return left


def _under_steps(
    attacked: AttackedModule, form: str, rows: Tensor, classes: Tensor, threat: Threat, steps: int
) -> tuple[Tensor, Tensor]:
    """Return True for rows that stay right; and for those that a gradient of 0 has stopped."""
    left, stuck = (torch.full((len(rows),), value, device=rows.device) for value in (True, False))
    index, here = torch.arange(len(rows), device=rows.device), rows
    for length in _lengths(threat.radius, steps):
        if not len(index):
            break
        gradient = _gradient(attacked, form, here, classes[index])
        here = threat.project(here + length * threat.direction(gradient), rows[index])
        threat.check(here, rows[index])
        right, moved = accuracy(attacked.logits(here), classes[index]).bool(), (gradient != 0).flatten(1).any(1)
        left[index], stuck[index] = right, ~moved
        index, here = index[right & moved], here[right & moved]
    return left, stuck


def _lengths(radius: float, steps: int) -> Iterator[float]:
    """Yield the length of each step, in raw units."""
    return (radius * (LONGEST + (SHORTEST - LONGEST) * step / max(1, steps - 1)) for step in range(steps))


def _gradient(attacked: AttackedModule, form: str, rows: Tensor, classes: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy of logits at one scale; 0 where there is none."""

    def loss(moved: Tensor) -> Tensor:
        logits = at_one_scale(attacked.logits_of(attacked.forms[form], moved))
        return functional.cross_entropy(logits, classes, reduction="sum")

    gradient = gradient_if_any(loss, rows)
    return torch.zeros_like(rows) if gradient is None else gradient


def at_one_scale(logits: Tensor) -> Tensor:
    """Return logits times a factor of each row, by which the largest distance from their mean is 6; no class changes.

    Args:
        logits: shape (rows, classes).

    Example:
        >>> at_one_scale(torch.tensor([[2000.0, 1000.0, 0.0], [0.2, 0.1, 0.0]]))
        tensor([[ 6.,  0., -6.],
                [ 6.,  0., -6.]])
    """
    centered = logits - logits.mean(1, keepdim=True)
    largest = centered.detach().abs().amax(1, keepdim=True)
    return centered / largest.clamp(min=torch.finfo(logits.dtype).tiny) * SCALE


def _under_search(attacked: AttackedModule, rows: Tensor, classes: Tensor, threat: Threat) -> Tensor:
    """Return True for rows that stay right under a short random search, always of the same random numbers."""
    search = Square(threat.eps, threat.norm, threat.box, queries=QUERIES)
    generator = torch_stream("quick attack", device=rows.device)
    moved = search.perturb(attacked, "", rows, classes, threat, generator)
    threat.check(moved, rows)
    return accuracy(attacked.logits(moved), classes).bool()
