"""Permutation: an order of some items, as a parameter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tuneflow.errors import listed
from tuneflow.space.parameters import Int, Parameter, Value
from tuneflow.space.values import EXACT, bare, cell, check_plain, key_of, object_repr, plain


@dataclass(frozen=True, eq=False)
class Permutation(Parameter):
    """An order of some items, each of which is there once: of augmentations, of layers, of the parts of a pipeline.

    A configuration has the order as a list of the items, or of their labels; passed on is a list of the objects. An
    order of n items has n - 1 coordinates of the unit cube: the digits of its Lehmer code, each the place of the next
    item among those that are left. The order as it is listed here is in the middle. There is no prior on orders.

    Args:
        items: a list of different plain values (None, bool, int, float, str, or lists of them), or a dict from a label
            to any object. With a dict the labels are stored and the objects are passed on.

    Raises:
        ValueError, TypeError: when a space is made of it: an item is there twice, has no label, or there is none; the
            message names the parameter.

    Example:
        >>> order = Permutation(["crop", "flip", "noise"])
        >>> order.levels, order.cast(["noise", "crop", "flip"])
        (6, ['noise', 'crop', 'flip'])

    Source: Lehmer, Teaching combinatorial tricks to a computer, 1960.
    """

    items: Sequence[Value] | Mapping[str, Any]

    def __repr__(self) -> str:
        many = f", ... {len(self.items)} items" if len(self.items) > 8 else ""
        if isinstance(self.items, Mapping):
            inside = ", ".join(f"{label!r}: {object_repr(item)}" for label, item in list(self.items.items())[:8])
            return f"Permutation({{{inside}{many}}})"
        return f"Permutation([{', '.join(map(repr, list(self.items)[:8]))}{many}])"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Permutation) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def named(self, name: str) -> "Permutation":
        what = f'Permutation "{name}"'
        if isinstance(self.items, str | bytes) or not isinstance(self.items, Sequence | Mapping):
            raise TypeError(f"{what}: needs a list of items or a dict of labels, got {self.items!r}.")
        if not self.items:
            raise ValueError(f"{what}: needs at least one item, got {self.items!r}.")
        if isinstance(self.items, Mapping):
            return self._labeled(what, self.items)
        for place, value in enumerate(self.items):
            _check_item(what, place, value)
        checked = replace(self, items=[bare(value) for value in self.items])
        if len(checked._places) < len(checked.items):
            twice = next(v for place, v in enumerate(checked.values) if checked._places[key_of(v)] != place)
            raise ValueError(f"{what}: needs different items, got {twice!r} twice; remove one, or give each a label.")
        return checked

    def _labeled(self, what: str, items: Mapping[str, Any]) -> "Permutation":
        for label, item in items.items():
            if not isinstance(label, str) or not label or not label.isprintable():
                raise TypeError(f"{what}: a label needs to be a string of printable characters, got {label!r}.")
            if isinstance(item, Parameter):
                raise TypeError(
                    f"{what}: item {label!r} is {item!r}; an item is fixed, tune it under a name of its own."
                )
        return replace(self, items=dict(items))

    @property
    def levels(self) -> float:
        """Number of orders, n!; a rounded one beyond 2**53."""
        if len(self.items) > 170:
            return math.inf
        count = math.factorial(len(self.items))
        return count if count <= EXACT else float(count)

    @property
    def width(self) -> int:  # type: ignore[override]
        return len(self.items) - 1

    @cached_property
    def values(self) -> list[Value]:
        """The items as they are stored, in the order in which they are listed: values, or the labels of a dict."""
        return list(self.items)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key_of(value): place for place, value in reversed(list(enumerate(self.values)))}

    @property
    def digits(self) -> list[Int]:
        """The parameters of the coordinates, n - 1 of them, with n, n - 1, ..., 2 values."""
        return [Int(0, left - 1) for left in range(len(self.items), 1, -1)]

    def from_units(self, units: Sequence[float]) -> list[Value]:
        """Return the order at n - 1 coordinates of the unit cube."""
        left, order = list(self.values), []
        for unit in units:
            count = len(left)
            order.append(left.pop((cell(unit, count) - count // 2) % count))
        return order + left

    def to_units(self, order: Sequence[Value]) -> list[float]:
        """Return the coordinates of an order, n - 1 numbers in the middle of their cells."""
        left, units = list(range(len(self.items))), []
        for value in order[:-1]:
            count, place = len(left), self._places[key_of(value)]
            digit = left.index(place)
            left.pop(digit)
            units.append(((digit + count // 2) % count + 0.5) / count)
        return units

    def cast(self, value: Any) -> list[Value]:
        """Return an order, given as a list, a tuple or an array, as a list of the items as they are stored."""
        order = value.tolist() if hasattr(value, "tolist") else value
        if not _is_list(order):
            raise ValueError(f"needs a list of {listed(map(repr, self.values))} in any order, got {value!r}")
        places = [self._place(item, value) for item in order]
        for place in range(len(self.items)):
            if (times := places.count(place)) != 1:
                state = "is missing" if not times else f"is there {times} times"
                raise ValueError(f"needs each item once, got {value!r}, where {self.values[place]!r} {state}")
        return [self.values[place] for place in places]

    def nearest(self, order: Any) -> list[Value]:
        """Return an order of other items in this one's: those that both have in that order, then the rest as listed.

        Raises:
            ValueError: they have none in common.
        """
        keys = map(key_of, order) if _is_list(order) else ()
        places = [self._places[key] for key in keys if key in self._places]
        if not places:
            raise ValueError(f"needs a list with some of {listed(map(repr, self.values))}, got {order!r}")
        rest = [place for place in range(len(self.items)) if place not in places]
        return [self.values[place] for place in dict.fromkeys([*places, *rest])]

    def _place(self, item: Any, order: Any) -> int:
        try:
            return self._places[key_of(item)]
        except (KeyError, TypeError, ValueError):
            known = listed(map(repr, self.values))
            raise ValueError(f"needs {known} in any order, got {order!r}, where {item!r} is none of them") from None

    def object(self, value: Value) -> list[Any]:
        return [self.items[label] for label in value] if isinstance(self.items, Mapping) else list(value)

    def grid(self, points: int) -> list[Value]:
        """Return at most `points` orders, evenly spread over all in lexicographic order, the listed one first."""
        last = math.factorial(len(self.items)) - 1
        points = min(points, last + 1)
        return [self._ranked(last * place // max(points - 1, 1)) for place in range(points)]

    def _ranked(self, rank: int) -> list[Value]:
        left, order = list(self.values), []
        for count in range(len(left) - 1, -1, -1):
            place, rank = divmod(rank, math.factorial(count))
            order.append(left.pop(place))
        return order

    def to_json(self) -> dict[str, Any]:
        if not isinstance(self.items, Mapping):
            return {"kind": "permutation", "values": [plain(value) for value in self.items]}
        labels = {label: {"kind": "object", "name": object_repr(item)} for label, item in self.items.items()}
        return {"kind": "permutation", "labels": labels}


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _check_item(what: str, place: int, value: Any) -> None:
    try:
        check_plain(what, place, value)
    except TypeError as error:
        raise TypeError(str(error).replace("tn.Choice(", "tn.Permutation(")) from None
