"""Orders: which rows an epoch has and in which order, drawn from a generator of ours; torch's samplers become one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, WeightedRandomSampler


class Order(Protocol):
    """The rows of an epoch.

    Attributes:
        rows: how many an epoch has.
    """

    @property
    def rows(self) -> int: ...

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return the row numbers of an epoch: int64, shape (rows,)."""
        ...

    def part(self, numbers: Sequence[int]) -> "Order":
        """Return the order of these rows alone, numbered anew; the epoch shrinks with them."""
        ...

    def describe(self) -> str:
        """Return the facts that training depends on; empty for every row once."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Every row once, in random order."""

    rows: int

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(self.rows, generator=generator)

    def part(self, numbers: Sequence[int]) -> "Shuffled":
        return Shuffled(len(numbers))

    def describe(self) -> str:
        return ""


@dataclass(frozen=True)
class Drawn:
    """So many of `count` rows, all equally likely.

    Attributes:
        count: number of rows to draw from.
        rows: number of rows of an epoch.
        replacement: draw each independently; else every row comes once before any comes again.
    """

    count: int
    rows: int
    replacement: bool

    def draw(self, generator: torch.Generator) -> Tensor:
        if self.replacement:
            return torch.randint(self.count, (self.rows,), generator=generator)
        rounds = -(-self.rows // self.count)
        return torch.cat([torch.randperm(self.count, generator=generator) for _ in range(rounds)])[: self.rows]

    def part(self, numbers: Sequence[int]) -> "Drawn":
        return Drawn(len(numbers), _share(self.rows, len(numbers), self.count), self.replacement)

    def describe(self) -> str:
        return f"{self.rows} drawn with{'' if self.replacement else 'out'} replacement"


@dataclass(frozen=True, eq=False)
class Weighted:
    """So many rows, each drawn with a probability in proportion to its weight.

    Attributes:
        weights: of every row, float64, shape (count,).
        rows: number of rows of an epoch.
        replacement: a row may come several times in an epoch.
    """

    weights: Tensor
    rows: int
    replacement: bool

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.weights, self.rows, self.replacement, generator=generator)

    def part(self, numbers: Sequence[int]) -> "Weighted":
        weights = self.weights[torch.as_tensor(numbers)]
        rows = _share(self.rows, len(numbers), len(self.weights))
        return Weighted(weights, rows if self.replacement else min(rows, int((weights > 0).sum())), self.replacement)

    def describe(self) -> str:
        digest = hashlib.sha256(self.weights.numpy().tobytes()).hexdigest()[:8]
        return f"{self.rows} drawn with{'' if self.replacement else 'out'} replacement by weights {digest}"


def order_of(sampler: Any, count: int) -> Order | None:
    """Return the order of a sampler of torch's over `count` rows; None for one that is not known.

    Raises:
        ValueError: its weights do not fit the rows.
    """
    if type(sampler) is WeightedRandomSampler:
        return _checked(Weighted(_padded(sampler.weights.double(), count), sampler.num_samples, sampler.replacement))
    if type(sampler) is RandomSampler and (sampler.replacement or sampler.num_samples != count):
        return Drawn(count, sampler.num_samples, sampler.replacement)
    return None


def _checked(order: Weighted) -> Weighted:
    weights, positive = order.weights, int((order.weights > 0).sum())
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()) or not positive:
        raise ValueError("DataLoader: weights of a sampler need to be finite, not below 0, and one of them above 0.")
    if not order.replacement and order.rows > positive:
        raise ValueError(
            f"DataLoader: {order.rows} rows without replacement need as many weights above 0, got {positive}; use"
            " replacement=True."
        )
    return order


def _padded(weights: Tensor, count: int) -> Tensor:
    """Return the weights of all rows; those that a sampler does not name are never drawn."""
    if len(weights) > count:
        raise ValueError(f"DataLoader: a sampler needs a weight for each row, got {len(weights)} for {count} rows.")
    return torch.cat([weights, weights.new_zeros(count - len(weights))])


def _share(rows: int, part: int, whole: int) -> int:
    return max(1, round(rows * part / whole))
