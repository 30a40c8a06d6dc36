"""Outputs of several chunks joined into those of all rows, container by container."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tuneflow.nested import holds_rows, leaves, list_taken, parts_of, rebuilt


class Unjoined:
    """A place in joined outputs whose parts could not be joined.

    Args:
        reason: why they could not; opens with the place.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"<not joined: {self.reason}>"


def joined(parts: Sequence[Any], counts: Sequence[int], where: str = "outputs") -> Any:
    """Return the values of all rows from those of chunks, each container with its own type.

    Tensors are joined along their rows, lists of rows to one list. What has no rows is kept where it is equal in all
    chunks. Anything else becomes an `Unjoined` in its place, since a metric may not look at it.

    Args:
        parts: of each chunk, all of one structure.
        counts: number of rows of each chunk.
        where: the place of `parts`, for the reason.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(isinstance(part, Tensor) for part in parts):
        return _joined_tensors(parts, counts, where)
    if isinstance(first, PackedSequence):
        return Unjoined(f"{where} is a PackedSequence, which cannot be joined; pad it: pad_packed_sequence")
    if all(holds_rows(part, count) for part, count in zip(parts, counts, strict=True)):
        return type(first)([row for part in parts for row in part])
    inside = [parts_of(part) for part in parts]
    if inside[0] is None:
        return _kept(parts, where)
    if any(type(part) is not type(first) or other is None or other.keys() != inside[0].keys()
           for part, other in zip(parts, inside, strict=True)):  # fmt: skip
        return Unjoined(f"{where} differs in structure from chunk to chunk")
    return rebuilt(
        first,
        {
            key: joined([part[key] for part in inside if part is not None], counts, _place(first, where, key))
            for key in inside[0]
        },
    )


def outputs_taken(outputs: Any, rows: slice | Tensor, count: int) -> Any:
    """Return some rows of the outputs of `count` rows, wherever in a tensor these are; the reverse of `joined`.

    Args:
        outputs: tensors and containers of them.
        rows: a slice without a step, or row numbers, which may be repeated.
        count: number of rows of the outputs.
    """
    if isinstance(outputs, Tensor):
        axis = _axis_of_rows([outputs], [count])
        if axis is None:
            return outputs
        if isinstance(rows, slice):
            return outputs.narrow(axis, rows.start, rows.stop - rows.start)
        return outputs.index_select(axis, rows.to(outputs.device))
    if holds_rows(outputs, count):
        return list_taken(outputs, rows)
    parts = parts_of(outputs)
    return outputs if parts is None else rebuilt(outputs, {k: outputs_taken(v, rows, count) for k, v in parts.items()})


def can_be_taken(outputs: Any, count: int) -> bool:
    """True if every tensor has `count` rows somewhere, or is a single number; (2 * count, ...) has not."""
    return all(tensor.ndim == 0 or _axis_of_rows([tensor], [count]) is not None for tensor in leaves(outputs))


def unjoined(value: Any) -> list[Unjoined]:
    """Return the places of joined outputs that could not be joined."""
    if isinstance(value, Unjoined):
        return [value]
    return [place for part in (parts_of(value) or {}).values() for place in unjoined(part)]


def _joined_tensors(parts: Sequence[Tensor], counts: Sequence[int], where: str) -> Any:
    axis = _axis_of_rows(parts, counts)
    if axis is None:
        return _kept(parts, where)
    widths = sorted({(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts})
    if len(widths) > 1:
        return Unjoined(f"{where} has rows of unequal shape, such as {widths[0]} and {widths[-1]}")
    return torch.cat(list(parts), axis)


def _axis_of_rows(parts: Sequence[Tensor], counts: Sequence[int]) -> int | None:
    """Return the first axis that is as long as the rows in every part, as 1 in the states of a recurrent layer."""
    for axis in range(min(part.ndim for part in parts)):
        if all(part.shape[axis] == count for part, count in zip(parts, counts, strict=True)):
            return axis
    return None


def _kept(parts: Sequence[Any], where: str) -> Any:
    """Return the first of `parts` if all are equal."""
    first = parts[0]
    if all(part is first or _equal(part, first) for part in parts[1:]):
        return first
    if isinstance(first, Tensor):
        shape = f"shape {tuple(first.shape)}" if first.ndim else "a single number"
        return Unjoined(f"{where} has no rows, {shape}, and differs from chunk to chunk")
    return Unjoined(f"{where} is a {type(first).__name__}, which cannot be joined")


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    try:
        return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
    except Exception:  # an object that does not compare
        return False


def _place(container: Any, where: str, key: Any) -> str:
    if isinstance(container, dict):
        return f'{where}["{key}"]'
    return f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}"
