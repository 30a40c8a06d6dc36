"""Row numbers: those of a slice, list or mask, and those of random parts."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneflow.seeds import torch_stream


def selected(rows: Any, count: int) -> Tensor:
    """Return the numbers that a slice, a sequence of row numbers or a boolean mask selects among `count` rows.

    Raises:
        TypeError: `rows` is a single number.
        IndexError: a number or a mask does not fit.
    """
    check_no_number(rows)
    numbers: Tensor = torch.arange(count)[rows if isinstance(rows, slice) else as_index(rows)]
    return numbers


def check_no_number(rows: Any) -> None:
    """Raise TypeError for a single row number."""
    if isinstance(rows, int | np.integer):
        raise TypeError(f"Data: rows are taken with a slice or a list, got {rows}; data[{rows}:{rows + 1}] is one row.")


def as_index(rows: Any) -> Tensor:
    """Return a sequence of row numbers or a mask as a tensor."""
    numbers: Tensor = torch.as_tensor(rows)
    return numbers.long() if numbers.numel() == 0 else numbers


def random_parts(count: int, shares: tuple[float, ...], seed: int) -> list[Tensor]:
    """Return the row numbers of random parts without overlap, with these shares of the rows, rounded.

    Raises:
        ValueError: a share is not above 0, or they add up to more than 1.
    """
    if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise ValueError(f"Data.split: shares need to be above 0 and add up to at most 1, got {shares}.")
    order = torch.randperm(count, generator=torch_stream(seed, "split"))
    ends = [round(sum(shares[: i + 1]) * count) for i in range(len(shares))]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
