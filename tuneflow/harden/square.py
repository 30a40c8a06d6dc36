"""Square: random search for windows of a row to change, by the logits alone."""

import torch
from torch import Tensor

from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.threat import Box, Threat
from tuneflow.harden.windows import bumps, random_signs, random_windows, stripes, tiles, window_sides
from tuneflow.metrics.classes import accuracy
from tuneflow.validate import check_whole

SHARE = 0.8  # of a row, that the first windows cover
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of the queries, after each of which it halves


class Square(Attack):
    """Random search without gradients: a window of each row takes other values, and keeps them where that helps.

    A change is kept unless it raises the margin between the logit of the row's class and the largest other, so that
    the search also moves on where outputs are rounded or cut off. It needs nothing but logits, and finds what a module
    hides from its gradient. A row is attacked until its class is lost. A window covers all channels, and shrinks in the
    course of the queries; rows without positions, of shape (values,), have windows of neighboring values.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        queries: forward passes that a row may take, at least 1.

    Raises:
        ValueError: one of these is out of its range.

    Example:
        >>> rows, classes = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        >>> moved, _ = Square(eps=0.1, box=(0, 16), queries=5)(net, rows, classes)
        >>> bool(moved.min() >= 0), bool(moved.max() <= 1.6)
        (True, True)

    Source: Andriushchenko, Croce, Flammarion, Hein, Square attack: a query-efficient black-box adversarial attack via
    random search, 2020.
    """

    def __init__(self, eps: float, norm: str = "linf", box: Box | None = None, queries: int = 1000) -> None:
        super().__init__(eps, norm, box)
        self.queries = check_whole("Square: queries", queries)

    def perturb(
        self,
        attacked: AttackedModule,
        form: str,  # noqa: ARG002
        inputs: Tensor,
        targets: Tensor,
        threat: Threat,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        search = _Search(attacked, inputs, targets, threat)
        begin, propose = (stripes, _new_signs) if threat.norm == "linf" else (tiles, _moved_change)
        proposed = search.grid + threat.radius * begin(search.grid, generator)
        for query in range(1, self.queries + 1):
            if not search.any_left:
                break
            search.keep(proposed)
            share = SHARE / 2 ** sum(query > self.queries * part for part in HALVINGS)
            proposed = propose(search.best, search.grid, share, threat.radius, generator)
        return search.best.reshape(inputs.shape)


class _Search:
    """The best rows so far, and their margins.

    Args:
        attacked: gives the logits.
        inputs: the rows as they are, shape (rows, ...).
        targets: their classes.
        threat: what is allowed.

    Attributes:
        grid: the rows as they are, shape (rows, channels, positions, ...).
        best: the rows of the least margin, in the same shape; a row whose class is lost stays.
    """

    def __init__(self, attacked: AttackedModule, inputs: Tensor, targets: Tensor, threat: Threat) -> None:
        self._attacked, self._targets, self._threat, self._shape = attacked, targets, threat, inputs.shape[1:]
        self.grid = inputs if inputs.ndim > 2 else inputs.reshape(len(inputs), 1, -1)
        self.best = self.grid.clone()
        self._margins, self._right = self._seen(inputs, targets)

    @property
    def any_left(self) -> bool:
        """True while a row has the class of its target."""
        return bool(self._right.any())

    def keep(self, rows: Tensor) -> None:
        """Keep those rows, moved into ball and box, that do not raise the margin, where the class is not lost yet."""
        left = self._right.nonzero().flatten()
        moved = self._threat.project(rows[left], self.grid[left])
        margins, right = self._seen(moved.reshape(-1, *self._shape), self._targets[left])
        taken = margins <= self._margins[left]
        changed = left[taken]
        self.best[changed], self._margins[changed], self._right[changed] = moved[taken], margins[taken], right[taken]

    def _seen(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins of rows, and True for those that have the class of their target."""
        logits = self._attacked.logits(rows)
        return logit_margin(logits, targets), accuracy(logits, targets).bool()


def _new_signs(best: Tensor, grid: Tensor, share: float, radius: float, generator: torch.Generator | None) -> Tensor:
    """Return rows in which one window has the largest change, up or down by channel."""
    rows, channels, *positions = grid.shape
    index = random_windows(rows, positions, window_sides(positions, share), generator, grid.device)
    where = index[:, None].expand(-1, channels, -1)
    change = radius * random_signs((rows, channels, 1), grid, generator)
    return best.flatten(2).scatter(2, where, grid.flatten(2).gather(2, where) + change).reshape(grid.shape)


def _moved_change(best: Tensor, grid: Tensor, share: float, radius: float, generator: torch.Generator | None) -> Tensor:
    """Return rows in which a window takes over the change of another, with two bumps and what is left of the radius."""
    rows, channels, *positions = grid.shape
    sides = window_sides(positions, share, least=3)
    source, target = (
        random_windows(rows, positions, sides, generator, grid.device)[:, None].expand(-1, channels, -1)
        for _ in range(2)
    )
    change = (best - grid).flatten(2)
    rest = change.scatter(2, source, 0.0).scatter(2, target, 0.0)
    left = (radius**2 - change.square().sum((1, 2), keepdim=True)).clamp(min=0) / channels
    freed = change.square().sum(2, keepdim=True) - rest.square().sum(2, keepdim=True)
    signs = random_signs((rows, channels, 1), grid, generator)
    new = bumps(sides, rows, generator, grid)[:, None] * signs + _unit(change.gather(2, target), 2)
    moved = rest.scatter(2, target, _unit(new, 2) * (left + freed).clamp(min=0).sqrt())
    return grid + (radius * _unit(moved, (1, 2))).reshape(grid.shape)


def _unit(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return values over their norm along some dimensions; 0 where that is 0."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=dim, keepdim=True)
    return values / norms.clamp(min=torch.finfo(values.dtype).tiny)
