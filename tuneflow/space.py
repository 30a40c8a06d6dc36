"""SearchSpace: where a searcher may look. It translates between configurations and the unit cube.

A configuration is nested plain data, shaped like the space:

    {"model": {"width": 16}, "optimizer": {"sgd": {"lr": 0.1, "momentum": 0.9}}}

A Choice between things with settings of their own is stored as `{label: settings}`, any other value as
itself. Every parameter but a Constant has one coordinate of the unit cube, conditional ones too; those
of a branch that was not chosen are not active, and their coordinates are NaN.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tuneflow import parameters
from tuneflow.errors import StudyError, did_you_mean, listed
from tuneflow.parameters import Choice, Constant, Float, Int, Parameter, check_name
from tuneflow.signature import check_keywords

Config = dict[str, Any]
Unit = NDArray[np.float64]
Needs = tuple[tuple[int, str], ...]  # (coordinate of a Choice, the label chosen there), outermost first
Points = int | Mapping[str, "int | Sequence[Any]"]


@dataclass(frozen=True)
class Call:
    """A callable with settings to be tuned; made by `call`."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        inside = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"call({parameters.object_repr(self.function)}{inside})"


def call(function: Callable[..., Any], /, **arguments: Any) -> Call:
    """A callable whose keyword arguments are parameters; what is passed on is `functools.partial` of it.

    Raises:
        TypeError: `function` is not callable, or does not take one of the arguments.

    Example:
        >>> call(dict, lr=Float(0.0, 1.0)).function
        <class 'dict'>
    """
    if not callable(function):
        raise TypeError(f"tn.call needs something callable first, got {function!r}.")
    check_keywords(function, arguments, "tn.call")
    return Call(function, arguments)


@dataclass(frozen=True)
class Coordinate:
    """One axis of the unit cube: where its parameter stands, and which choices make it active."""

    path: tuple[str, ...]
    parameter: Parameter
    needs: Needs

    @property
    def name(self) -> str:
        return ".".join(self.path)


class SearchSpace:
    """Named parameters, in sections or flat.

    A section holds the keyword arguments of the thing that a Study is given under the same name
    (`model=`, `optimizer=`, `loss=`, `augment=`, `trainer=`); a flat space holds the arguments of a plain function.

    Args:
        entries: each a Float, Int, Choice or Constant; a dict or SearchSpace of them; a `tn.call`; or a
            plain value, which is a Constant.

    Raises:
        ValueError, TypeError: a parameter or a name is not valid; the message names it.

    Example:
        >>> space = SearchSpace(model={"width": Int(8, 32)}, lr=Float(0.01, 1.0, log=True))
        >>> space.from_unit([0.5, 0.5])
        {'model': {'width': 20}, 'lr': 0.1}
    """

    def __init__(self, /, **entries: Any) -> None:
        self.entries = entries
        planter = _Planter()
        self._root = _Group(planter.group(entries, (), ()))
        self.coordinates: tuple[Coordinate, ...] = tuple(planter.axes)

    def __len__(self) -> int:
        """The number of coordinates of the unit cube."""
        return len(self.coordinates)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        wide = max((len(c.name) for c in self.coordinates), default=0)
        rows = (f"  {c.name:<{wide}}  {_short(c.parameter)}" for c in self.coordinates)
        return "\n".join(["SearchSpace(", *rows, ")"])

    @property
    def names(self) -> list[str]:
        """Dotted names of the coordinates, such as `optimizer.lr`."""
        return [c.name for c in self.coordinates]

    @property
    def size(self) -> float:
        """How many configurations there are; `inf` with a continuous parameter."""
        return self._root.size()

    def find(self, name: str) -> int:
        """The coordinate called `name`: its dotted name, or the end of it where only one ends so.

        Raises:
            ValueError: no coordinate, or more than one, is called so.
        """
        exact = [i for i, c in enumerate(self.coordinates) if c.name == name]
        ends = exact or [i for i, c in enumerate(self.coordinates) if c.name.endswith("." + name)]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise ValueError(f'"{name}" could be {listed(self.coordinates[i].name for i in ends)}; use the whole name.')
        known = self.names + [c.path[-1] for c in self.coordinates]
        raise ValueError(f'the space has no "{name}".{did_you_mean(name, known)} It has {listed(self.names)}.')

    def sample(self, rng: np.random.Generator) -> Config:
        """A configuration drawn uniformly from the unit cube."""
        config: Config = self._root.read(rng.random(len(self)).tolist())
        return config

    def from_unit(self, unit: Sequence[float] | Unit) -> Config:
        """The configuration at a point of the unit cube.

        Args:
            unit: shape (len(space),), each in [0, 1]. NaN in an active coordinate is read as 0.5: a
                searcher that moves into a branch starts in the middle of its parameters.

        Raises:
            ValueError: the shape is wrong, or a number lies outside of [0, 1].
        """
        point = np.asarray(unit, dtype=np.float64)
        if point.shape != (len(self),):
            raise ValueError(
                f"from_unit needs {len(self)} numbers, one for each of {listed(self.names)}; got shape {point.shape}."
            )
        values = [0.5 if u != u else u for u in point.tolist()]
        for axis, u in zip(self.coordinates, values, strict=True):
            if not 0.0 <= u <= 1.0:
                raise ValueError(f'from_unit needs numbers in [0, 1], got {u} for "{axis.name}"; clip it.')
        config: Config = self._root.read(values)
        return config

    def to_unit(self, config: Config) -> Unit:
        """Where `config` lies: shape (len(space),), float64, NaN where a coordinate is not active."""
        unit = np.full(len(self), np.nan)
        self._root.write(config, unit)
        return unit

    def cast(self, config: Config) -> Config:
        """`config` checked and in plain Python types, as it is stored and passed on.

        Raises:
            ValueError: a value is out of range, missing or unknown; the message names the parameter.
        """
        checked: Config = self._root.cast(config, "")
        return checked

    def resolve(self, config: Config) -> dict[str, Any]:
        """`config` with every label replaced by its object and every `tn.call` by a partial."""
        resolved: dict[str, Any] = self._root.resolve(config)
        return resolved

    def grid(self, points: Points = 5) -> "GridPoints":
        """Every combination of evenly spread values, as a lazy sequence; the last name varies fastest.

        Args:
            points: how many values of each Float and Int (all of a Choice), or a dict from names to a
                number or a list of values; a name that is left out has 5.

        Raises:
            ValueError: a name is not in the space, a list is empty, or a value is not allowed.
        """
        return GridPoints(self, points)

    def examples(self, most: int = 32) -> Iterator[Config]:
        """The middle of the space, then one configuration for each label of each dict of options."""
        middle = np.full(len(self), 0.5)
        yield self.from_unit(middle)
        for place, axis in enumerate(self.coordinates):
            if isinstance(axis.parameter, Choice) and isinstance(axis.parameter.options, Mapping):
                for label in axis.parameter.values[:most]:
                    point = middle.copy()
                    for parent, chosen in (*axis.needs, (place, label)):
                        point[parent] = self.coordinates[parent].parameter.to_unit(chosen)
                    if not np.array_equal(point, middle):
                        yield self.from_unit(point)

    def to_json(self) -> dict[str, Any]:
        """The space as JSON; objects and callables by their names."""
        described: dict[str, Any] = self._root.to_json()
        return described

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SearchSpace":
        """The space that `to_json` described. Its labels and calls stand for themselves: it translates
        configurations like the original, but `resolve` gives names where that gave objects."""
        return cls(**{name: _entry_from_json(entry) for name, entry in data["entries"].items()})


class GridPoints(Sequence[Config]):
    """The points of a grid, made when they are asked for: ten to the twelfth cost nothing.

    Attributes:
        values: the values of each coordinate.
        total: how many points there are, also where `len` would overflow.
    """

    def __init__(self, space: SearchSpace, points: Points = 5) -> None:
        self._root = space._root
        wanted: dict[int, Any] = {}
        if isinstance(points, Mapping):
            for name, values in points.items():
                place = space.find(name)
                if place in wanted:
                    raise ValueError(f'grid of "{space.names[place]}": is given twice, as {name!r} too; remove one.')
                wanted[place] = values
        rest = 5 if isinstance(points, Mapping) else points
        self.values = [_grid_values(axis, wanted.get(i, rest)) for i, axis in enumerate(space.coordinates)]
        self.total: int = self._root.count(self.values)

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, place: int) -> Config: ...
    @overload
    def __getitem__(self, place: slice) -> list[Config]: ...
    def __getitem__(self, place: int | slice) -> Config | list[Config]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self.total))]
        if not -self.total <= place < self.total:
            raise IndexError(f"a grid of {self.total} points has no point {place}")
        config: Config = self._root.nth(place % self.total, self.values)
        return config


def _grid_values(axis: Coordinate, wanted: Any) -> list[Any]:
    what = f'grid of "{axis.name}"'
    if isinstance(wanted, bool | str) or not isinstance(wanted, int | Sequence):
        raise TypeError(f"{what}: needs a number of points or a list of values, got {wanted!r}.")
    if isinstance(wanted, int):
        if wanted < 1:
            raise ValueError(f"{what}: needs at least 1 point, got {wanted}.")
        return axis.parameter.grid(wanted)
    if not wanted:
        raise ValueError(f"{what}: needs at least one value, got {wanted!r}; leave the name out for 5 points.")
    try:
        values = [axis.parameter.cast(value) for value in wanted]
    except ValueError as error:
        raise ValueError(f"{what}: {error}.") from None
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{what}: needs different values, got {value!r} twice; remove one.")
    return values


class _Node:
    """A part of the space: it translates its part of a configuration."""

    def read(self, unit: Sequence[float]) -> Any:
        """The part at a point of the whole space's unit cube."""
        raise NotImplementedError

    def write(self, part: Any, unit: Unit) -> None:
        """The inverse of `read`, into `unit`; what is not active stays as it is."""
        raise NotImplementedError

    def cast(self, part: Any, name: str) -> Any:
        raise NotImplementedError

    def resolve(self, part: Any) -> Any:
        raise NotImplementedError

    def size(self) -> float:
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        raise NotImplementedError

    def count(self, values: list[list[Any]]) -> int:
        """How many parts there are when each coordinate has only its `values`."""
        raise NotImplementedError

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        """Number `place` of those that `count` counts."""
        raise NotImplementedError


class _Leaf(_Node):
    def __init__(self, parameter: Parameter, place: int) -> None:
        self.parameter, self.place = parameter, place

    def read(self, unit: Sequence[float]) -> Any:
        return self.parameter.from_unit(unit[self.place])

    def write(self, part: Any, unit: Unit) -> None:
        unit[self.place] = self.parameter.to_unit(part)

    def cast(self, part: Any, name: str) -> Any:
        return _cast(self.parameter, part, name)

    def resolve(self, part: Any) -> Any:
        return self.parameter.object(part) if isinstance(self.parameter, Choice) else part

    def size(self) -> float:
        return self.parameter.levels

    def to_json(self) -> dict[str, Any]:
        return self.parameter.to_json()

    def count(self, values: list[list[Any]]) -> int:
        return len(values[self.place])

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        return values[self.place][place]


class _Fixed(_Node):
    """A Constant: part of every configuration, no coordinate of the unit cube."""

    def __init__(self, constant: Constant) -> None:
        self.constant = constant

    def read(self, unit: Sequence[float]) -> Any:
        return self.constant.value

    def write(self, part: Any, unit: Unit) -> None:
        pass

    def cast(self, part: Any, name: str) -> Any:
        return _cast(self.constant, part, name)

    def resolve(self, part: Any) -> Any:
        return part

    def size(self) -> float:
        return 1

    def to_json(self) -> dict[str, Any]:
        return self.constant.to_json()

    def count(self, values: list[list[Any]]) -> int:
        return 1

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        return self.constant.value


class _Branch(_Node):
    """A Choice of which some options have parameters of their own."""

    def __init__(self, leaf: _Leaf, branches: dict[str, _Node]) -> None:
        self.leaf, self.branches = leaf, branches

    def read(self, unit: Sequence[float]) -> Any:
        label = self.leaf.read(unit)
        return {label: self.branches[label].read(unit)} if label in self.branches else label

    def write(self, part: Any, unit: Unit) -> None:
        label, settings = _split(part)
        self.leaf.write(label, unit)
        if label in self.branches:
            self.branches[label].write(settings, unit)

    def cast(self, part: Any, name: str) -> Any:
        label, settings = _split(part)
        label = self.leaf.cast(label, name)
        if label in self.branches:
            return {label: self.branches[label].cast(settings, f"{name}.{label}")}
        if settings:
            raise ValueError(f'"{name}" has no settings under {label!r}, got {settings!r}.')
        return label

    def resolve(self, part: Any) -> Any:
        label, settings = _split(part)
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


class _Group(_Node):
    """Named parts: a section, the arguments of a call, or the whole space."""

    def __init__(self, parts: dict[str, _Node], function: Callable[..., Any] | None = None) -> None:
        self.parts, self.function = parts, function

    def read(self, unit: Sequence[float]) -> Any:
        return {name: part.read(unit) for name, part in self.parts.items()}

    def write(self, part: Any, unit: Unit) -> None:
        for name, node in self.parts.items():
            node.write(part[name], unit)

    def cast(self, part: Any, name: str) -> Any:
        prefix = f"{name}." if name else ""
        if not isinstance(part, Mapping):
            what = f'"{name}"' if name else "a configuration"
            raise ValueError(f"{what} needs a dict of {listed(self.parts)}, got {part!r}.")
        for unknown in part.keys() - self.parts.keys():
            near = did_you_mean(str(unknown), self.parts)
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
        return {"kind": "call", "name": parameters.object_repr(self.function), "arguments": entries}

    def count(self, values: list[list[Any]]) -> int:
        return math.prod(part.count(values) for part in self.parts.values())

    def nth(self, place: int, values: list[list[Any]]) -> Any:
        chosen: dict[str, Any] = {}
        for name, part in reversed(self.parts.items()):
            place, here = divmod(place, part.count(values))
            chosen[name] = part.nth(here, values)
        return {name: chosen[name] for name in self.parts}


def _short(parameter: Parameter) -> str:
    if isinstance(parameter, Choice) and isinstance(parameter.options, Mapping):
        return f"Choice({' | '.join(parameter.values)})"
    return repr(parameter)


def _cast(parameter: Parameter, part: Any, name: str) -> Any:
    try:
        return parameter.cast(part)
    except ValueError as error:
        raise ValueError(f'"{name}" {error}.') from None


def _split(part: Any) -> tuple[Any, Any]:
    """The label and the settings of what a Choice chose."""
    if isinstance(part, Mapping) and len(part) == 1:
        label, settings = next(iter(part.items()))
        return label, settings
    return part, {}


class _Planter:
    """Grows the tree of nodes from what the user wrote, and numbers the coordinates on the way."""

    def __init__(self) -> None:
        self.axes: list[Coordinate] = []

    def group(self, entries: Mapping[str, Any], path: tuple[str, ...], needs: Needs) -> dict[str, _Node]:
        for name in entries:
            check_name(name, f'a name in "{".".join(path)}"' if path else "a name in the space")
        return {name: self.node(entry, (*path, name), needs) for name, entry in entries.items()}

    def node(self, entry: Any, path: tuple[str, ...], needs: Needs) -> _Node:
        name = ".".join(path)
        if isinstance(entry, Mapping | SearchSpace):
            return _Group(self.group(entry if isinstance(entry, Mapping) else entry.entries, path, needs))
        if isinstance(entry, Call):
            return _Group(self.group(entry.arguments, path, needs), entry.function)
        if entry is None or isinstance(entry, bool | int | float | str):
            entry = Constant(entry)
        if isinstance(entry, Constant):
            return _Fixed(entry.named(name))
        if not isinstance(entry, Parameter):
            way = f"tn.Choice({entry!r})" if isinstance(entry, list | tuple) else f'tn.Choice({{"{path[-1]}": ...}})'
            raise TypeError(f'"{name}" needs a parameter, a dict of them or a plain value, got {entry!r}; try {way}.')
        place, parameter = len(self.axes), entry.named(name)
        self.axes.append(Coordinate(path, parameter, needs))
        leaf = _Leaf(parameter, place)
        if not isinstance(parameter, Choice) or not isinstance(parameter.options, Mapping):
            return leaf
        branches = {
            label: self.node(option, (*path, label), (*needs, (place, label)))
            for label, option in parameter.options.items()
            if isinstance(option, Call | SearchSpace)
        }
        return _Branch(leaf, branches) if branches else leaf


def _entry_from_json(data: Any) -> Any:
    """The inverse of a node's `to_json`, with names in the place of objects."""
    if not isinstance(data, Mapping):
        return data
    kind = data["kind"]
    if kind == "float":
        return Float(data["low"], data["high"], data["log"], data["step"])
    if kind == "int":
        return Int(data["low"], data["high"], data["log"], data["step"])
    if kind == "constant":
        return Constant(data["value"])
    if kind == "choice":
        labels = data.get("labels")
        options = data["values"] if labels is None else {k: _entry_from_json(v) for k, v in labels.items()}
        return Choice(options, data["ordered"])
    if kind == "call":
        return Call(_Named(data["name"]), {k: _entry_from_json(v) for k, v in data["arguments"].items()})
    if kind == "space":
        return SearchSpace.from_json(data)
    return _Named(data["name"])


@dataclass(frozen=True)
class _Named:
    """Stands for an object of which only the name is known."""

    name: str

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise StudyError(f"{self.name} is known by its name only: the study was opened without its space.")
