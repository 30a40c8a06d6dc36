"""A few rows of the data for a trial step, and what has to hold for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.nested import mapped

SAMPLE = 64  # rows looked at where each has to be fetched from a Dataset


@dataclass(frozen=True)
class Part:
    """What can be looked at of the training or the validation part: all rows of a Data, else a sample of them.

    Attributes:
        name: "train" or "valid".
        leaves: every tensor by its place: `inputs`, `targets["box"]`, ...
        numbers: of the rows; None where they are all there.
        total: how many rows the part has.
    """

    name: str
    leaves: dict[str, Tensor]
    numbers: list[int] | None
    total: int

    def told(self, place: str, wrong: Tensor) -> str:
        """Which rows are wrong: `train targets: 3 of 1077 rows, the first is row 17`.

        Args:
            wrong: booleans, shape (rows, ...).
        """
        rows = wrong.reshape(len(wrong), -1).any(1).nonzero().flatten().tolist()
        first = rows[0] if self.numbers is None else self.numbers[rows[0]]
        looked = "" if self.numbers is None else " that were looked at"
        return f"{self.name} {place}: {len(rows)} of {len(wrong)} rows{looked}, the first is row {first}"


def part_of(source: Source, name: str) -> Part:
    """`source` as a Part; the items of a Dataset are fetched from evenly spread places."""
    if isinstance(source, Data):
        return Part(name, leaves_of((source.inputs, source.targets)), None, len(source))
    numbers = spread(len(source), SAMPLE)
    batch = next(source.rows(numbers).batches(len(numbers)))
    return Part(name, leaves_of(batch), numbers, len(source))


def few(source: Source, most: int) -> Source:
    """At most `most` rows of `source`, evenly spread; copies, where the source holds tensors."""
    numbers = spread(len(source), most)
    return source[numbers] if isinstance(source, Data) else source.rows(numbers)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, from the first to the last in even steps."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long().tolist()


def check_finite(part: Part) -> None:
    """Raise ValueError when a number is NaN or infinite."""
    for place, tensor in part.leaves.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            wrong = torch.cat([~torch.isfinite(rows) for rows in torch.split(tensor, 4096)])
            if wrong.any():
                raise ValueError(
                    f"needs finite numbers, got NaN or inf in {part.told(place, wrong)}; fill them in or drop the rows:"
                    " data[mask]."
                )


def leaves_of(batch: Any, place: str = "") -> dict[str, Tensor]:
    """Every tensor of a batch by its place: `inputs`, `inputs["pixels"]`, `targets[1]`."""
    if not place:
        return leaves_of(batch[0], "inputs") | leaves_of(batch[1], "targets")
    return dict(_leaves(batch, place))


def _leaves(values: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(values, Tensor):
        yield place, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, f'{place}["{key}"]')
    elif isinstance(values, tuple | list):
        for number, value in enumerate(values):
            yield from _leaves(value, f"{place}[{number}]")


def cloned(batch: Any) -> Any:
    """A copy of every tensor in a batch."""
    return mapped(torch.clone, batch)
