"""The tree of a search space: each node translates its part of a configuration."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from tuneflow.errors import did_you_mean, listed
from tuneflow.space.parameters import Choice, Constant, Parameter
from tuneflow.space.permutation import Permutation
from tuneflow.space.values import check_name, object_repr
from tuneflow.validate import is_int, is_number

Unit = NDArray[np.float64]
Needs = tuple[tuple[int, str], ...]  # (coordinate of a Choice, the label chosen there), outermost first


@dataclass(frozen=True)
class Call:
    """A callable with arguments to be tuned; made by `call`."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        inside = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"call({object_repr(self.function)}{inside})"


@dataclass(frozen=True)
class Coordinate:
    """One axis of the unit cube: the path of its parameter, and the choices that make it active.

    An axis of a Permutation has one digit of its code as its parameter.

    Attributes:
        whole: the parameter as the space has it.
        digit: number of the axis among those of its parameter, from 0.
    """

    path: tuple[str, ...]
    parameter: Parameter
    needs: Needs
    whole: Parameter
    digit: int = 0

    @property
    def name(self) -> str:
        """The dotted path, with the number of the digit for an axis of a Permutation: `augment.order[0]`."""
        return ".".join(self.path) + (f"[{self.digit}]" if isinstance(self.whole, Permutation) else "")


class Section:
    """Named entries: the base of SearchSpace, which may also be an option of a Choice."""

    where: tuple[Callable[..., bool], ...] = ()

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries


class Node(Protocol):
    """A part of the space, which translates its part of a configuration."""

    def read(self, unit: Sequence[float]) -> Any:
        """Return the part at a point of the whole space's unit cube."""

    def write(self, part: Any, unit: Unit) -> None:
        """Write the inverse of `read` into `unit`; inactive coordinates stay as they are."""

    def cast(self, part: Any, name: str) -> Any: ...

    def resolve(self, part: Any) -> Any: ...

    def size(self) -> float: ...

    def to_json(self) -> dict[str, Any]: ...

    def count(self, values: list[list[Any]]) -> int:
        """Number of parts when each coordinate has only its `values`."""

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        """Return part number `place` of those that `count` counts."""


class Leaf(Node):
    """A parameter with one coordinate of the unit cube."""

    def __init__(self, parameter: Parameter, place: int) -> None:
        self.parameter, self.place = parameter, place

    def read(self, unit: Sequence[float]) -> Any:
        return self.parameter.from_unit(unit[self.place])

    def write(self, part: Any, unit: Unit) -> None:
        unit[self.place] = self.parameter.to_unit(part)

    def cast(self, part: Any, name: str) -> Any:
        try:
            return self.parameter.cast(part)
        except ValueError as error:
            raise ValueError(f'"{name}" {error}.') from None

    def resolve(self, part: Any) -> Any:
        return self.parameter.object(part)

    def size(self) -> float:
        return self.parameter.levels

    def to_json(self) -> dict[str, Any]:
        return self.parameter.to_json()

    def count(self, values: list[list[Any]]) -> int:
        return len(values[self.place])

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        return values[self.place][place]


class ConstantNode(Leaf):
    """A Constant: part of every configuration, without a coordinate of the unit cube."""

    def __init__(self, constant: Constant) -> None:
        super().__init__(constant, -1)
        self.value = constant.value

    @override
    def read(self, unit: Sequence[float]) -> Any:
        return self.value

    def write(self, part: Any, unit: Unit) -> None:
        pass

    @override
    def count(self, values: list[list[Any]]) -> int:
        return 1

    @override
    def nth(self, place: int, values: list[list[Any]]) -> Any:
        return self.value


class OrderNode(Leaf):
    """A Permutation: a parameter with a coordinate for each digit of its code."""

    def __init__(self, permutation: Permutation, place: int) -> None:
        super().__init__(permutation, place)
        self.permutation = permutation
        self._own = slice(place, place + permutation.width)

    @override
    def read(self, unit: Sequence[float]) -> Any:
        return self.permutation.from_units(unit[self._own])

    def write(self, part: Any, unit: Unit) -> None:
        unit[self._own] = self.permutation.to_units(part)

    @override
    def count(self, values: list[list[Any]]) -> int:
        return len(values[self.place]) if self.permutation.width else 1

    @override
    def nth(self, place: int, values: list[list[Any]]) -> Any:
        return list(values[self.place][place] if self.permutation.width else self.permutation.values)


class Branch(Node):
    """A Choice where some options have parameters of their own."""

    def __init__(self, leaf: Leaf, branches: dict[str, Node]) -> None:
        self.leaf, self.branches = leaf, branches

    def read(self, unit: Sequence[float]) -> Any:
        label = self.leaf.read(unit)
        return {label: self.branches[label].read(unit)} if label in self.branches else label

    def write(self, part: Any, unit: Unit) -> None:
        label, settings = label_and_settings(part)
        self.leaf.write(label, unit)
        if label in self.branches:
            self.branches[label].write(settings, unit)

    def cast(self, part: Any, name: str) -> Any:
        label, settings = label_and_settings(part)
        label = self.leaf.cast(label, name)
        if label in self.branches:
            return {label: self.branches[label].cast(settings, f"{name}.{label}")}
        if settings:
            raise ValueError(f'"{name}" has no settings under {label!r}, got {settings!r}.')
        return label

    def resolve(self, part: Any) -> Any:
        label, settings = label_and_settings(part)
        return self.branches[label].resolve(settings) if label in self.branches else self.leaf.resolve(label)

    def size(self) -> float:
        plain = self.leaf.size() - len(self.branches)
        return plain + sum(branch.size() for branch in self.branches.values())

    def to_json(self) -> dict[str, Any]:
        described = self.leaf.to_json()
        described["labels"] |= {label: branch.to_json() for label, branch in self.branches.items()}
        return described

    def count(self, values: list[list[Any]]) -> int:
        return sum(self._count(label, values) for label in values[self.leaf.place])

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        for label in values[self.leaf.place]:
            if place < (here := self._count(label, values)):
                return {label: self.branches[label].nth(place, values)} if label in self.branches else label
            place -= here
        raise IndexError(place)

    def _count(self, label: str, values: list[list[Any]]) -> int:
        return self.branches[label].count(values) if label in self.branches else 1


class Record(Node):
    """Named parts: a section, the arguments of a call, or the whole space."""

    def __init__(self, parts: dict[str, Node], function: Callable[..., Any] | None = None) -> None:
        self.parts, self.function = parts, function

    def read(self, unit: Sequence[float]) -> dict[str, Any]:
        return {name: part.read(unit) for name, part in self.parts.items()}

    def write(self, part: Any, unit: Unit) -> None:
        for name, node in self.parts.items():
            node.write(part[name], unit)

    def cast(self, part: Any, name: str) -> Any:
        prefix = f"{name}." if name else ""
        if not isinstance(part, Mapping):
            what = f'"{name}"' if name else "a configuration"
            example = f'; write {{"{next(iter(self.parts))}": ...}}' if self.parts else ""
            raise ValueError(f"{what} needs a dict of {listed(self.parts)}, got {part!r}{example}.")
        for unknown in part.keys() - self.parts.keys():
            near = _nested(self, str(unknown), part[unknown]) or did_you_mean(str(unknown), self.parts)
            raise ValueError(f'"{prefix}{unknown}" is not in the space.{near} Known here: {listed(self.parts)}.')
        for missing in self.parts.keys() - part.keys():
            raise ValueError(f'"{prefix}{missing}" is missing; give it a value.')
        return {key: node.cast(part[key], prefix + key) for key, node in self.parts.items()}

    def resolve(self, part: Any) -> Any:
        settings = {name: node.resolve(part[name]) for name, node in self.parts.items()}
        return settings if self.function is None else partial(self.function, **settings)

    def size(self) -> float:
        return math.prod(part.size() for part in self.parts.values())

    def to_json(self) -> dict[str, Any]:
        entries = {name: part.to_json() for name, part in self.parts.items()}
        if self.function is None:
            return {"kind": "space", "entries": entries}
        return {"kind": "call", "name": object_repr(self.function), "arguments": entries}

    def count(self, values: list[list[Any]]) -> int:
        return math.prod(part.count(values) for part in self.parts.values())

    def nth(self, place: int, values: list[list[Any]]) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for name, part in reversed(self.parts.items()):
            place, here = divmod(place, part.count(values))
            chosen[name] = part.nth(here, values)
        return {name: chosen[name] for name in self.parts}


DEEP = 50  # levels of names; a space has up to five


class TreeBuilder:
    """Builds the tree of nodes from a user's entries, and numbers the coordinates."""

    def __init__(self) -> None:
        self.axes: list[Coordinate] = []

    def group(self, entries: Mapping[str, Any], path: tuple[str, ...], needs: Needs) -> dict[str, Node]:
        for name in entries:
            check_name(name, f'a name in "{".".join(path)}"' if path else "a name in the space")
        return {name: self.node(entry, (*path, name), needs) for name, entry in entries.items()}

    def node(self, entry: Any, path: tuple[str, ...], needs: Needs) -> Node:
        name = ".".join(path)
        if len(path) > DEEP:
            raise ValueError(f'"{path[0]}" is nested more than {DEEP} levels deep, or holds itself.')
        if isinstance(entry, Section) and entry.where:
            raise TypeError(f'"{name}": where= of an inner space is not used; give it to the outermost SearchSpace.')
        if isinstance(entry, Mapping | Section):
            return Record(self.group(entry if isinstance(entry, Mapping) else entry.entries, path, needs))
        if isinstance(entry, Call):
            return Record(self.group(entry.arguments, path, needs), entry.function)
        if entry is None or isinstance(entry, bool | int | float | str):
            entry = Constant(entry)
        if isinstance(entry, Constant):
            return ConstantNode(entry.named(name))
        if not isinstance(entry, Parameter):
            way = f"tn.Choice({entry!r})" if isinstance(entry, list | tuple) else f'tn.Choice({{"{path[-1]}": ...}})'
            if isinstance(entry, list):
                way += f", or tn.Constant({entry!r}) for the list itself"
            if isinstance(entry, tuple) and len(entry) == 2 and all(map(is_number, entry)):
                way = f"tn.{'Int' if all(map(is_int, entry)) else 'Float'}{entry!r}, or {way}"
            raise TypeError(f'"{name}" needs a parameter, a dict of them or a plain value, got {entry!r}; try {way}.')
        place, parameter = len(self.axes), entry.named(name)
        if isinstance(parameter, Permutation):
            _check_items(name, parameter)
            self.axes += [Coordinate(path, axis, needs, parameter, i) for i, axis in enumerate(parameter.digits)]
            return OrderNode(parameter, place)
        self.axes.append(Coordinate(path, parameter, needs, parameter))
        leaf = Leaf(parameter, place)
        if not isinstance(parameter, Choice) or not isinstance(parameter.options, Mapping):
            return leaf
        branches = {
            label: self.node(option, (*path, label), (*needs, (place, label)))
            for label, option in parameter.options.items()
            if isinstance(option, Call | Section)
        }
        return Branch(leaf, branches) if branches else leaf


def _check_items(name: str, permutation: Permutation) -> None:
    for label, item in permutation.items.items() if isinstance(permutation.items, Mapping) else ():
        if isinstance(item, Call | Section):
            raise TypeError(
                f'Permutation "{name}": item {label!r} is {item!r}; an item has no settings of its own: use'
                " functools.partial for fixed ones, and tune others under a name beside the permutation."
            )


def _nested(node: Node, name: str, value: Any) -> str:
    """Return a hint for a name that belongs further down: ` Write {"optimizer": {"lr": 0.1}}.`; else empty."""
    path = next((p for p in _paths(node) if p[-1] == name or ".".join(p) == name), ())
    if not path:
        return ""
    text = repr(value)
    for step in reversed(path):
        text = f'{{"{step}": {text}}}'
    return f" Write {text}."


def _paths(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every leaf of a node."""
    parts = node.parts if isinstance(node, Record) else node.branches if isinstance(node, Branch) else {}
    for name, inner in parts.items():
        yield from _paths(inner, (*path, name))
    if not isinstance(node, Record):
        yield path


def label_and_settings(part: Any) -> tuple[Any, Any]:
    """Return the label and the settings of what a Choice chose."""
    if isinstance(part, Mapping) and len(part) == 1:
        label, settings = next(iter(part.items()))
        return label, settings
    return part, {}
