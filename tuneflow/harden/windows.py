"""Windows of rows: random blocks of neighboring positions, and patterns of changes to begin a random search with."""

from collections.abc import Sequence
from functools import reduce
from math import ceil

import torch
from torch import Tensor

from tuneflow.harden.threat import row_norms

TILES = 5  # along each dimension of positions


def window_sides(positions: Sequence[int], share: float, least: int = 1) -> list[int]:
    """Return the sides of a window that covers about a share of the positions, at least `least` where there is room."""
    return [min(size, max(least, round(size * share ** (1 / len(positions))))) for size in positions]


def random_windows(
    rows: int, positions: Sequence[int], sides: Sequence[int], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Return the flat numbers of the positions in a window of each row, drawn evenly: int64, shape (rows, values).

    Args:
        rows: number of rows.
        positions: sizes of the dimensions of positions.
        sides: of the window, along each of them.
        generator: draws on the device; None for torch's global one.
        device: of the result.
    """
    index = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    for size, side in zip(positions, sides, strict=True):
        starts = torch.randint(size - side + 1, (rows, 1), generator=generator, device=device)
        along = starts + torch.arange(side, device=device)
        index = (index[:, :, None] * size + along[:, None, :]).flatten(1)
    return index


def random_signs(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return -1 and 1 at random, in the dtype and on the device of a tensor."""
    return 2 * torch.randint(2, tuple(shape), generator=generator, device=like.device).to(like.dtype) - 1


def stripes(grid: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a sign for each row, channel and place in the last dimension: shape (rows, channels, ..., places)."""
    rows, channels, *positions = grid.shape
    return random_signs((rows, channels, *[1] * (len(positions) - 1), positions[-1]), grid, generator)


def tiles(grid: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return changes of norm 1 by row, five tiles along each dimension, each of random sign and with a bump in it."""
    rows, channels, *positions = grid.shape
    sides = [max(1, size // TILES) for size in positions]
    counts = [ceil(size / side) for size, side in zip(positions, sides, strict=True)]
    change = random_signs((rows, channels, *counts), grid, generator)
    for dimension, (size, side) in enumerate(zip(positions, sides, strict=True), start=2):
        change = change.repeat_interleave(side, dimension).narrow(dimension, 0, size)
    offsets = [torch.arange(size, device=grid.device) % side for size, side in zip(positions, sides, strict=True)]
    change = change * _rings(offsets, sides).to(grid.dtype)
    return change / row_norms(change)


def bumps(sides: Sequence[int], rows: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Return two bumps of opposite sign beside each other, in windows of these sides: shape (rows, values).

    The dimension along which they lie beside each other is drawn for each row.
    """
    patterns = torch.stack([_pair(sides, dimension, like) for dimension in range(len(sides))])
    return patterns[torch.randint(len(sides), (rows,), generator=generator, device=like.device)]


def _pair(sides: Sequence[int], dimension: int, like: Tensor) -> Tensor:
    """Return a bump and below it its negative, flat, side by side along a dimension."""
    half = ceil(sides[dimension] / 2)
    halves = [half if i == dimension else side for i, side in enumerate(sides)]
    offsets = [torch.arange(side, device=like.device) for side in sides]
    sign = torch.where(offsets[dimension] < half, 1, -1)
    shape = [-1 if i == dimension else 1 for i in range(len(sides))]
    offsets[dimension] = offsets[dimension] % half
    return (_rings(offsets, halves) * sign.reshape(shape)).flatten().to(like.dtype)


def _rings(offsets: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Return a bump: values that grow by 1 / n**2, 1 / (n - 1)**2, ..., 1 from the border of a block to its center.

    Args:
        offsets: of each place within its block, along each dimension.
        sides: of a block.
    """
    depths = [torch.minimum(offset, side - 1 - offset) for offset, side in zip(offsets, sides, strict=True)]
    depth = reduce(lambda outer, inner: torch.minimum(outer[..., None], inner), depths)
    count = (min(sides) + 1) // 2
    growth = 1 / torch.arange(count, 0, -1, device=depth.device).double().square()
    return growth.cumsum(0)[depth]
