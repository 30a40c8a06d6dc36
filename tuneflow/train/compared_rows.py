"""Rows that show how a function counts: some of the data's, alone and beside parts of them, and as many random ones."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from tuneflow.nested import leaves, mapped, rows_taken
from tuneflow.train.joined_outputs import can_be_taken, outputs_taken
from tuneflow.train.random_outputs import Comparison, compared, drawn_comparisons, is_random, repeated
from tuneflow.train.running_measures import Chunk, Function

FEW = 7  # rows that a function is tried out on
MANY = (64, 4096)  # rows of the same with random outputs: a rounded share of them shows best in fewer, a number in more
MOST_OF_MANY = 3  # draws of the most rows, where a function written as a loop over rows takes long
DRAWN = 2**23  # bytes of outputs to draw at once, which may mean fewer rows


class ComparedRows:
    """Rows of a module, some with its outputs, many with random ones.

    Args:
        some: returns as many of the first rows as asked, from all over them, or all of them, with outputs.
        first: all of the first rows, without outputs.
        outputs_of: the module's outputs for inputs.
        size: bytes of the outputs of a row.
    """

    def __init__(self, some: Callable[[int], Chunk], first: Chunk, outputs_of: Callable[[Any], Any], size: int) -> None:
        self._some, self._first, self._outputs_of = some, first, outputs_of
        self._most = DRAWN // max(1, size)
        self._whole_fits = size * first.rows <= DRAWN

    @cached_property
    def few(self) -> Chunk:
        """A few rows with the module's outputs, as wide as they are among all of the first rows where these fit."""
        count = max(2, min(FEW, self._most))
        if not self._whole_fits or self._first.rows <= count:
            return self._some(count)
        first, rows = self._first, torch.arange(count) * (self._first.rows // count)
        outputs = self._outputs_of(first.inputs)
        if not can_be_taken(outputs, first.rows):
            return self._some(count)
        inputs, targets = (rows_taken(part, rows, first.rows) for part in (first.inputs, first.targets))
        return Chunk(inputs, targets, outputs_taken(outputs, rows, first.rows), count)

    def comparisons(self) -> Iterator[Comparison]:
        """Yield few rows beside their parts: random outputs, or the module's where random ones cannot be drawn."""
        if self._random:
            yield from drawn_comparisons(self.few)
        else:
            count = self.few.rows
            yield from self._of_module(sorted({max(2, count - 2), max(2, count - 1), count}))

    def large_comparisons(self) -> Iterator[Comparison]:
        """Yield the same of many rows."""
        for count in sorted({min(count, self._most) for count in MANY}):
            if not self._random:
                yield from self._of_module([min(count, self._first.rows)])
            elif count > self.few.rows > 1:
                yield from islice(
                    drawn_comparisons(repeated(self.few, count)), MOST_OF_MANY if count > MANY[0] else None
                )

    @cached_property
    def _random(self) -> bool:
        return self.few.rows > 1 and is_random(self.few.outputs) and can_be_taken(self.few.outputs, self.few.rows)

    def _of_module(self, counts: list[int]) -> Iterator[Comparison]:
        for count in counts:
            with suppress(Exception):  # a module may not take some rows of a batch
                chunk = self._some(count)
                if chunk.rows > 1:
                    yield compared(chunk, self._outputs_of)


def check_leaves_alone(function: Function, chunk: Chunk) -> None:
    """Raise TypeError if a function changes the outputs or targets that it gets."""
    for name, (outputs, targets), own in _copies(chunk):
        before = [(tensor.clone(), tensor._version) for tensor in leaves(own)]
        with suppress(Exception):  # what it raises is not asked here
            function(outputs, targets)
        if any(_changed(tensor, *was) for tensor, was in zip(leaves(own), before, strict=True)):
            raise TypeError(
                f"needs to leave outputs and targets as they are, but {name} were changed in place, as {name}.clamp_()"
                f" and {name}[...] = do; work on a copy: {name}.clone()."
            )


def _copies(chunk: Chunk) -> Iterator[tuple[str, tuple[Any, Any], Any]]:
    """Yield "outputs" and "targets", each with copies of both and that of its own."""
    for place, name in enumerate(("outputs", "targets")):
        both = mapped(_copy, chunk.outputs), mapped(_copy, chunk.targets)
        yield name, both, both[place]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _changed(tensor: Tensor, before: Tensor, version: int) -> bool:
    return tensor._version != version or not bool(((tensor == before) | (tensor != tensor)).all())
