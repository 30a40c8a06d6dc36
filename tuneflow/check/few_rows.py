"""The dry run of small batches: some layers and losses cannot train on the few rows that an epoch ends with."""

import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import torch
from torch import nn

from tuneflow.check.layer_watch import Watch
from tuneflow.data.data import Batch, sliced
from tuneflow.errors import listed
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

FEWER, FEW = 8, 8  # rows at most that an advice leaves out, and batch sizes that it lists
MOST = 600  # values of a range: so many numbers in a row have every remainder for batches up to this size
SETTINGS = ("rows", "batch_size", "micro_batch")


@dataclass(frozen=True)
class Batching:
    """A way in which an epoch is cut into batches, and those into parts.

    Attributes:
        rows: number of training rows.
        where: their place in words, such as ` in fold 1`.
        batch_size: rows of a batch; the last may have fewer.
        micro_batch: rows of a part of a batch; None for whole batches.
    """

    rows: int
    where: str
    batch_size: int
    micro_batch: int | None

    @property
    def last(self) -> int:
        """Rows of the smallest batch."""
        return self.rows % self.batch_size or min(self.rows, self.batch_size)

    @property
    def smallest(self) -> int:
        """Rows of the smallest part of a batch that is trained on."""
        batches, part = {min(self.rows, self.batch_size), self.last}, self.micro_batch
        return self.last if part is None else min(rows % part or min(rows, part) for rows in batches)


def batchings(space: SearchSpace, config: Config, trainer: Trainer, counts: Mapping[int, str]) -> list[Batching]:
    """Return every way in which an epoch is cut into batches in a branch of the space.

    Args:
        space: every value of its batch_size and micro_batch counts, where `where=` allows it.
        config: an example of the branch.
        trainer: gives the settings that are not in the space.
        counts: numbers of training rows, each with its place in words.
    """
    columns = [_values(space, config, name, getattr(trainer, name, None)) for name in SETTINGS]
    return [
        Batching(min(total, rows or total), where, size, micro)
        for rows, size, micro in product(*columns)
        if not space.where or space.allows(_changed(config, (rows, size, micro)))
        for total, where in counts.items()
    ]


def _values(space: SearchSpace, config: Config, name: str, fixed: Any) -> list[Any]:
    """Return every value of a setting in the section `trainer`; of a long range the first, in a row."""
    for axis in space.coordinates:
        if axis.path == ("trainer", name):
            parameter = axis.parameter
            values = parameter.grid(int(parameter.levels))[:MOST]
            return [parameter.object(value) for value in values]
    return [config.get("trainer", {}).get(name, fixed)]


def _changed(config: Config, values: Sequence[Any]) -> Config:
    section = config.get("trainer", {})
    settings = {name: value for name, value in zip(SETTINGS, values, strict=True) if name in section}
    return {**config, "trainer": {**section, **settings}} if settings else config


def check_few_rows(
    ways: Sequence[Batching], trainer: Trainer, job: Job, module: nn.Module, batch: Batch, rows: int
) -> None:
    """Raise unless the smallest batches can be trained on.

    Args:
        ways: all of one branch of the space.
        trainer: configured for it.
        job: the configuration.
        module: it has trained on `batch`, and is left with other buffers and gradients.
        batch: as the module takes it.
        rows: number of its rows, some 32; larger batches are not tried.

    Raises:
        ValueError: the rows of one fail, or give a loss or a gradient that is not finite, where all rows do not; the
            message names the values that lead to it.
    """
    fewest = min((way.smallest for way in ways if way.rows > 1), default=rows)
    if fewest >= rows or not _finite_gradients(module):
        return
    reason = failure_of(trainer, job, module, batch, fewest)
    if reason and not failure_of(trainer, job, module, batch, rows):
        more = range(fewest + 1, rows)
        works = bisect_left(more, True, key=lambda count: not failure_of(trainer, job, module, batch, count))
        raise ValueError(_message(reason, ways, fewest + works))


def failure_of(trainer: Trainer, job: Job, module: nn.Module, batch: Batch, rows: int) -> str:
    """Return the reason why `module` cannot train on the first `rows` rows; empty if it can."""
    few = next(iter(sliced(batch, rows)))
    watch = Watch(module.train(), rows)
    module.zero_grad()
    try:
        with warnings.catch_warnings(), watch, job.runtime.autocast():
            warnings.simplefilter("ignore")
            loss = trainer.loss_of(module, few)
            loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        known = isinstance(error, ValueError) and "more than 1 value" in str(error)
        layer = str(watch.at[-1]) if watch.at else "the loss"
        return layer if known else f"{layer}, by {type(error).__name__}: {error},"
    if bool(loss.isfinite()) and _finite_gradients(module):
        return ""
    return f"a finite {'gradient' if bool(loss.isfinite()) else 'loss'}"


def _finite_gradients(module: nn.Module) -> bool:
    gradients = (p.grad for p in module.parameters() if p.grad is not None)
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


# Messages.


def _message(reason: str, ways: Sequence[Batching], most: int) -> str:
    """Return the message where batches of up to `most` rows fail."""
    wrong = [way for way in ways if way.rows > 1 and way.smallest <= most]
    first, few = wrong[0], f"{_count(most)} row{'' if most == 1 else 's'}"
    if all(way.last <= most for way in wrong):
        sizes = sorted({way.batch_size for way in wrong if way.rows == first.rows})
        left = _count(first.last) if most == 1 or len(sizes) == 1 else f"{most} or fewer"
        end, remedy = "the last batch", _remedy(ways, first, sizes, most)
    else:
        first = next(way for way in wrong if way.last > most)
        sizes, left = [first.batch_size], _count(first.smallest)
        end, remedy = f"the last part of micro_batch={first.micro_batch}", _smaller_part(first, most)
    batches = f"{first.rows} rows{first.where} in batches of {_or(sizes)}"
    return f"{reason} needs more than {few}, but {batches} leave {left} for {end}; {remedy}."


def _count(rows: int) -> str:
    return "one" if rows == 1 else str(rows)


def _or(numbers: Sequence[int]) -> str:
    return " or ".join(listed(map(str, numbers)).rsplit(", ", 1))


def _remedy(ways: Sequence[Batching], first: Batching, sizes: Sequence[int], most: int) -> str:
    counts = sorted({way.rows for way in ways})
    fewer = next(_fewer_rows(ways, first.rows, most), None) if len(counts) == 1 else None
    rows = "" if fewer is None else f"{fewer} rows do not"
    if len({way.batch_size for way in ways}) == 1:
        fits = next(_other_sizes(counts, sizes[0], most), max(counts))
        return f"batch_size={fits} or {rows}" if rows else f"batch_size={fits} does not"
    right = sorted({way.batch_size for way in ways} - set(sizes))
    if 0 < len(right) <= FEW:
        change = f"tn.Choice({right}) has none that does"
    else:
        change = f"SearchSpace(where=lambda config: {_condition(counts, most)}) excludes them"
    return f"{rows}, and {change}" if rows else change


def _condition(counts: Sequence[int], most: int) -> str:
    size = 'config["trainer"]["batch_size"]'
    lowest = f"{size} > {most} and "
    return lowest + " and ".join(
        f"{n} % {size} != 1" if most == 1 else f"not 0 < {n} % {size} <= {most}" for n in counts
    )


def _fewer_rows(ways: Sequence[Batching], rows: int, most: int) -> Iterator[int]:
    """Yield numbers of rows below `rows` with which every way works."""
    sizes = {(way.batch_size, way.micro_batch) for way in ways}
    for fewer in range(rows - 1, max(1, rows - FEWER), -1):
        if all(Batching(fewer, "", *pair).smallest > most for pair in sizes):
            yield fewer


def _other_sizes(counts: Sequence[int], size: int, most: int) -> Iterator[int]:
    """Yield batch sizes, the smaller ones first, that work for all these numbers of rows."""
    others = chain(range(size - 1, most, -1), range(size + 1, max(counts)))
    return (other for other in others if all(Batching(n, "", other, None).smallest > most for n in counts))


def _smaller_part(way: Batching, most: int) -> str:
    parts = range((way.micro_batch or 1) - 1, most, -1)
    works = (part for part in parts if Batching(way.rows, "", way.batch_size, part).smallest > most)
    part = next(works, None)
    return "without micro_batch there is none" if part is None else f"micro_batch={part} does not"
