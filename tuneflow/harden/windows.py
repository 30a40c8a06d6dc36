"""Windows of rows: random blocks of neighboring positions, and patterns of changes to begin a random search with."""

from collections.abc import Sequence
from functools import reduce
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

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
    """Return changes of norm 1 by row, five tiles along each dimension, each of random sign and with two bumps."""
    rows, channels, *positions = grid.shape
    sides = [max(1, size // TILES) for size in positions]
    counts = [ceil(size / side) for size, side in zip(positions, sides, strict=True)]
    change = bumps(sides, rows, generator, grid).reshape(rows, 1, *sides).repeat(1, 1, *counts)
    signs = random_signs((rows, channels, *counts), grid, generator)
    for dimension, (size, side) in enumerate(zip(positions, sides, strict=True), start=2):
        change = change.narrow(dimension, 0, size)
        signs = signs.repeat_interleave(side, dimension).narrow(dimension, 0, size)
    return change * signs / row_norms(change * signs)


def bumps(sides: Sequence[int], rows: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Return two bumps of opposite sign beside each other, in windows of these sides: norm 1, shape (rows, values).

    The dimension along which they lie beside each other is drawn for each row.
    """
    patterns = torch.stack([_pair(sides, dimension) for dimension in range(len(sides))]).to(like)
    return patterns[torch.randint(len(sides), (rows,), generator=generator, device=like.device)]


def _pair(sides: Sequence[int], dimension: int) -> Tensor:
    """Return a bump and the negative of another, of the same norm, side by side along a dimension, flat."""
    half = sides[dimension] // 2
    first, second = (
        _bump([size if i == dimension else side for i, side in enumerate(sides)])
        for size in (half, sides[dimension] - half)
    )
    pair: Tensor = torch.cat([first / first.norm(), -second / second.norm()], dimension).flatten()
    return functional.normalize(pair, dim=0)


def _bump(sides: Sequence[int]) -> Tensor:
    """Return a block of these sides, whose values grow by 1 / n**2, ..., 1 / 4, 1 with each step towards its center."""
    distances = [(torch.arange(side) - side // 2).abs() for side in sides]
    distance = reduce(lambda others, own: torch.maximum(others[..., None], own), distances)
    growth = 1 / torch.arange(1, max(sides) // 2 + 2).double().square()
    return growth.flip(0).cumsum(0).flip(0)[distance]
