"""SearchSpace: named parameters, and the translation between configurations and the unit cube.

A configuration is nested plain data, shaped like the space:

    {"model": {"width": 16}, "optimizer": {"sgd": {"lr": 0.1, "momentum": 0.9}}}

A Choice between things with settings of their own is stored as `{label: settings}`, any other value as itself. Every
parameter but a Constant has one coordinate of the unit cube (a Permutation of n items n - 1), conditional ones too;
those of a branch that was not chosen are not active, and their coordinates are NaN.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np

from tuneflow.errors import did_you_mean, ending_where, listed, plural
from tuneflow.markup.fragment import cut, fragment, pairs
from tuneflow.seeds import stream
from tuneflow.signature import check_keywords
from tuneflow.space.filled import filled
from tuneflow.space.grid_points import GridPoints, grid_values
from tuneflow.space.nodes import Call, Coordinate, Needs, Record, Section, TreeBuilder, Unit
from tuneflow.space.parameters import Choice, Float, Parameter, Value
from tuneflow.space.priors import Curve
from tuneflow.space.rare import along_lines, copied, one_of
from tuneflow.space.stored_space import entries_from_json
from tuneflow.space.values import object_repr, rounded

Config = dict[str, Any]
Where = Callable[[Config], bool]
CurveAt = Callable[[Sequence[float]], Curve]
TRIES = 10_000  # draws before where= is taken to allow almost nothing,
FEW = 200  # and so many where all configurations can be listed,
COUNTABLE = 200_000  # which are so many at most
CHECKED = 30  # random configurations on which where= is evaluated before trial 0
Points = int | Mapping[str, "int | Sequence[Any]"]


class NotAllowed(ValueError):
    """A configuration that the space's `where=` excludes."""


def call(function: Callable[..., Any], /, **arguments: Any) -> Call:
    """Return a callable whose keyword arguments are parameters; the space resolves it to a `functools.partial`.

    Args:
        function: the callable.
        arguments: its parameters by keyword.

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


class SearchSpace(Section):
    """Named parameters, in sections or flat.

    A section holds the keyword arguments of the object that a Study takes under the same name (`model=`, `optimizer=`,
    `loss=`, `augment=`, `trainer=`, and `normalize=` and `init=` of its Model); a flat space holds the arguments of a
    plain function.

    Args:
        where: a constraint: a function that returns True for the configurations that are allowed, or a list of such
            functions. It gets plain values and labels, in the nested shape of a configuration.
        entries: each a Float, Int, Choice, Permutation or Constant; a dict or SearchSpace of them; a `tn.call`; or a
            plain value, which is a Constant.

    Raises:
        ValueError, TypeError: a parameter or a name is not valid; the message names it.

    Example:
        >>> from tuneflow import Int
        >>> space = SearchSpace(model={"width": Int(8, 32)}, lr=Float(0.01, 1.0, log=True))
        >>> space.from_unit([0.5, 0.5])
        {'model': {'width': 20}, 'lr': 0.1}
    """

    def __init__(self, /, where: Any = (), **entries: Any) -> None:
        self.entries = entries
        self.where: tuple[Where, ...] = (where,) if callable(where) else _checked_where(where)
        planter = TreeBuilder()
        self._root = Record(planter.group(entries, (), ()))
        self.coordinates: tuple[Coordinate, ...] = tuple(planter.axes)
        self._curves = [
            (place, _always(c.parameter.curve)) for place, c in enumerate(planter.axes) if c.parameter.curve
        ]

    def __len__(self) -> int:
        """Number of coordinates of the unit cube."""
        return len(self.coordinates)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        wide = max((len(name) for name in self.parameters), default=0)
        rows = (f"  {name:<{wide}}  {_short(self.coordinates[at].whole)}" for name, at in self.parameters.items())
        return "\n".join(["SearchSpace(", *rows, ")"])

    def _repr_html_(self) -> str:
        shown, rest = cut([(name, _short(self.coordinates[at].whole)) for name, at in self.parameters.items()], "rows")
        title = f"SearchSpace: {plural(len(self.parameters), 'parameter')}"
        return fragment(title, pairs(shown), rest)

    @property
    def root(self) -> Record:
        """The tree of its parts."""
        return self._root

    @property
    def names(self) -> list[str]:
        """Names of the coordinates, such as `optimizer.lr`, or `augment.order[0]` of a Permutation."""
        return [c.name for c in self.coordinates]

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Dotted names of the parameters, such as `optimizer.lr`, and the index of each one's first coordinate."""
        return {".".join(axis.path): place for place, axis in enumerate(self.coordinates) if not axis.digit}

    @property
    def size(self) -> float:
        """Number of configurations; `inf` with a continuous parameter."""
        return self._root.size()

    def discrete(self, config: Config) -> bool:
        """True if no continuous parameter is active in `config`, so that it may come a second time."""
        return not self.continuous and bool(np.isnan(self.to_unit(config)[self._continua]).all())

    @cached_property
    def continuous(self) -> bool:
        """True if a continuous parameter is active in every configuration."""
        return any(not self.coordinates[place].needs for place in self._continua)

    @cached_property
    def _continua(self) -> list[int]:
        return [place for place, axis in enumerate(self.coordinates) if math.isinf(axis.parameter.levels)]

    @cached_property
    def finite_part(self) -> GridPoints:
        """Every configuration without an active parameter of more than 200,000 values, as a lazy sequence.

        Of a space with at most 200,000 configurations, those that `where=` excludes are left out.
        """
        if self._countable:
            return self._all_allowed
        wholes = [None if axis.digit else axis.whole for axis in self.coordinates]
        values = [w.grid(int(w.levels)) if w is not None and w.levels <= COUNTABLE else [] for w in wholes]
        return GridPoints(self._root, values)

    @property
    def informed(self) -> bool:
        """True if any coordinate has a prior."""
        return bool(self._curves)

    def find(self, name: str) -> int:
        """Return the index of a parameter's coordinate, the first of a Permutation.

        Args:
            name: its dotted name, or the end of it where only one ends so; or the coordinate's own name.

        Raises:
            ValueError: nothing has the name, or more than one.
        """
        names, known = self.names, self.parameters
        if name in known or name in names:
            return known[name] if name in known else names.index(name)
        ends = [whole for whole in known if whole.endswith("." + name)]
        if len(ends) == 1:
            return known[ends[0]]
        if ends:
            raise ValueError(f'"{name}" could be {listed(ends)}; use the whole name.')
        words = [*known, *(self.coordinates[place].path[-1] for place in known.values())]
        raise ValueError(f'the space has no "{name}".{did_you_mean(name, words)} It has {listed(known)}.')

    def sample(self, rng: np.random.Generator) -> Config:
        """Draw a configuration from the priors, uniformly in the unit cube where there are none.

        Where `where=` excludes all of many draws, it is drawn from the allowed configurations of the space, if these
        can be listed; or else one parameter takes all of its values in turn.

        Raises:
            ValueError: `where=` allows nothing, or nothing that was found.
        """
        draws = (self._drawn(rng) for _ in range(FEW if self._countable else TRIES))
        config = self._first_allowed(draws)
        if config is None and not self._countable:
            config = self._first_allowed(along_lines(self.coordinates, partial(self._drawn, rng), rng))
        if config is not None:
            return config
        if self._countable and len(self._all_allowed):
            drawn: Config = one_of(self._all_allowed, self._density if self.informed else None, rng)
            return drawn
        what = f"the {self.size:,.0f} configurations" if self._countable else f"{TRIES:,} random configurations"
        raise ValueError(f"SearchSpace: {self._constraints} allowed none of {what}; relax it.")

    @cached_property
    def _countable(self) -> bool:
        """True if all configurations can be listed, to see which of them `where=` allows."""
        return self.size <= COUNTABLE

    @cached_property
    def _all_allowed(self) -> GridPoints:
        return self.grid({name: int(self.coordinates[at].whole.levels) for name, at in self.parameters.items()})

    def _drawn(self, rng: np.random.Generator) -> list[float]:
        return self._placed(rng.random(len(self)).tolist())

    def _first_allowed(self, points: Iterable[list[float]]) -> Config | None:
        configs: Iterator[Config] = (self._root.read(point) for point in points)
        return next((config for config in configs if self.allows(config)), None)

    def _density(self, config: Config) -> float:
        return math.exp(self.log_prior(self.to_unit(config)))

    def quantile(self, shares: Sequence[float] | Unit) -> Unit:
        """Return the point of the unit cube below which these shares of the priors lie, coordinate by coordinate.

        It turns evenly spread points into points spread as the priors say; without priors it changes nothing.

        Args:
            shares: shape (len(space),), each in [0, 1].
        """
        return np.array(self._placed(np.asarray(shares, dtype=np.float64).tolist()))

    def log_prior(self, unit: Sequence[float] | Unit) -> float:
        """Return the log density of the priors at a point of the unit cube, where active; 0 without priors."""
        places = np.asarray(unit, dtype=np.float64).tolist()
        densities = (curve(places).density(places[i]) for i, curve in self._curves if places[i] == places[i])
        return sum(math.log(density) if density > 0 else -math.inf for density in densities)

    def allows(self, config: Config) -> bool:
        """True if `config` satisfies `where=`, each function of which gets a copy.

        Raises:
            ValueError: a constraint raised on it.
        """
        for constraint in self.where:
            try:
                if not constraint(copied(config)):
                    return False
            except Exception as error:
                message = (
                    f"SearchSpace: where={object_repr(constraint)} fails with {type(error).__name__}: {error},"
                    f" for the configuration {rounded(config)}; it gets a dict shaped like the space."
                )
                raise ending_where(error, ValueError(message)) from None
        return True

    def expecting(self, curves: Mapping[int, CurveAt]) -> "SearchSpace":
        """Return the same space with more priors, such as those that a searcher has measured.

        Args:
            curves: coordinate to a function that returns its prior's density at a point of the unit cube, shape
                (len(space),): it may depend on coordinates that come before it in this mapping or have no prior. The
                space's own priors stay.
        """
        made, own = copy.copy(self), {place for place, _ in self._curves}
        made._curves = self._curves + [(place, curve) for place, curve in curves.items() if place not in own]
        return made

    def _placed(self, shares: list[float]) -> list[float]:
        for place, curve in self._curves:
            shares[place] = curve(shares).quantile(shares[place])
        return shares

    @property
    def _constraints(self) -> str:
        return "where=" + listed(object_repr(constraint) for constraint in self.where)

    def from_unit(self, unit: Sequence[float] | Unit) -> Config:
        """Return the configuration at a point of the unit cube.

        Args:
            unit: shape (len(space),), each in [0, 1]. NaN in an active coordinate counts as 0.5: a
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
        return self._root.read(values)

    def to_unit(self, config: Config) -> Unit:
        """Return the point of `config`: shape (len(space),), float64, NaN where a coordinate is not active."""
        unit = np.full(len(self), np.nan)
        self._root.write(config, unit)
        return unit

    def cast(self, config: Config, where: bool = True) -> Config:
        """Return `config` checked and in plain Python types, as it is stored and passed on.

        Args:
            config: a configuration, NumPy's and torch's scalars included.
            where: False skips `where=`, as for a trial that exists already.

        Raises:
            ValueError: a value is out of range, missing or unknown; the message names the parameter.
            NotAllowed: `where=` excludes it.
        """
        checked: Config = self._root.cast(config, "")
        if where and not self.allows(checked):
            raise NotAllowed(f"{self._constraints} excludes {rounded(checked)}; choose another configuration.")
        return checked

    def values_at(self, unit: Sequence[float] | Unit) -> dict[str, Value]:
        """Return the values of the active parameters at a point of the unit cube, by dotted name."""
        point = np.asarray(unit, dtype=np.float64).tolist()
        active = {name: place for name, place in self.parameters.items() if point[place] == point[place]}
        wholes = {name: self.coordinates[place].whole for name, place in active.items()}
        return {name: wholes[name].from_units(point[at : at + wholes[name].width]) for name, at in active.items()}

    def filled(self, config: Config, values: Mapping[str, Any]) -> Config:
        """Return a configuration of an earlier, smaller space with `values` for the names that it lacks, unchecked.

        Args:
            config: as the earlier space had it; not changed.
            values: dotted name to value.
        """
        completed: Config = filled(self._root, config, "", values)
        return completed

    def structure(self, config: Config) -> dict[str, Any]:
        """Return the active parameters of `config` by name, without the Floats: those that decide shapes and kinds."""
        values, known = self.values_at(self.to_unit(config)), self.parameters
        return {k: v for k, v in values.items() if not isinstance(self.coordinates[known[k]].parameter, Float)}

    def resolve(self, config: Config) -> dict[str, Any]:
        """Return `config` with every label replaced by its object and every `tn.call` by a partial."""
        resolved: dict[str, Any] = self._root.resolve(config)
        return resolved

    def grid(self, points: Points = 5) -> GridPoints:
        """Return every combination of evenly spread values, as a lazy sequence; the last name varies fastest.

        Args:
            points: number of values of each Float, Int and Permutation (all of a Choice), or a dict from names to a
                number or a list of values; a name that is left out has 5.

        Raises:
            ValueError: a name is not in the space, a list is empty, or a value is not allowed.
        """
        wanted: dict[int, Any] = {}
        for name, values in points.items() if isinstance(points, Mapping) else ():
            place = self.find(name)
            place -= self.coordinates[place].digit
            if place in wanted:
                whole = ".".join(self.coordinates[place].path)
                raise ValueError(f'grid of "{whole}": is given twice, as {name!r} too; remove one.')
            wanted[place] = values
        rest = 5 if isinstance(points, Mapping) else points
        values = [
            [] if axis.digit else grid_values(axis, wanted.get(i, rest)) for i, axis in enumerate(self.coordinates)
        ]
        return GridPoints(self._root, values, self.allows if self.where else None)

    def examples(self, most: int = 32) -> Iterator[Config]:
        """Yield the middle of the space, then one configuration for each label of each dict of options.

        Where `where=` excludes one of them, a random one with its labels takes its place.
        """
        middle = np.full(len(self), 0.5)
        yield from self._near(middle, ())
        for place, axis in enumerate(self.coordinates):
            if isinstance(axis.parameter, Choice) and isinstance(axis.parameter.options, Mapping):
                for label in axis.parameter.values[:most]:
                    point, chosen = middle.copy(), (*axis.needs, (place, label))
                    for parent, value in chosen:
                        point[parent] = self.coordinates[parent].parameter.to_unit(value)
                    if not np.array_equal(point, middle):
                        yield from self._near(point, chosen)

    def _near(self, point: Unit, chosen: Needs) -> Iterator[Config]:
        """Yield the configuration at `point`, or where that is excluded one with the `chosen` labels; or none."""
        rng, config = stream("examples"), self.from_unit(point)
        if self.allows(config):
            yield config
        elif not chosen:
            yield self.sample(rng)
        else:
            yield from islice(self._with_labels({place: point[place] for place, _ in chosen}, rng), 1)

    def _with_labels(self, chosen: Mapping[int, float], rng: np.random.Generator) -> Iterator[Config]:
        """Yield allowed configurations with these values at some coordinates, first random ones, then all of a few."""
        for _ in range(FEW if self._countable else TRIES):
            point = rng.random(len(self))
            for place, value in chosen.items():
                point[place] = value
            if self.allows(config := self.from_unit(point)):
                yield config
        for config in self._all_allowed if self._countable else ():
            unit = self.to_unit(config)
            if all(unit[place] == value for place, value in chosen.items()):
                yield config

    def check_where(self) -> None:
        """Evaluate `where=` on an example of each branch and on random configurations, before any of them is trained.

        Raises:
            ValueError: it raises on one of them, or allows nothing.
        """
        if self.where:
            rng = stream("where")
            for _ in range(CHECKED):
                self.allows(self._root.read(self._drawn(rng)))
            for _ in self.examples():
                pass

    def to_json(self) -> dict[str, Any]:
        """Return the space as JSON; objects and callables by their names."""
        where = {"where": [object_repr(constraint) for constraint in self.where]} if self.where else {}
        return self._root.to_json() | where

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SearchSpace":
        """Return the space that `to_json` described, with names in the place of objects.

        It translates configurations like the original, but `resolve` returns names, and it has no `where=`.
        """
        return cls(**entries_from_json(data["entries"]))


def _always(curve: Curve) -> CurveAt:
    return lambda _: curve


def _checked_where(where: Any) -> tuple[Where, ...]:
    if isinstance(where, str) or not isinstance(where, Sequence) or not all(map(callable, where)):
        raise TypeError(
            f"SearchSpace: where needs a function of a configuration, or a list of them, got {where!r};"
            " a section or parameter cannot be called where."
        )
    return tuple(where)


def _short(parameter: Parameter) -> str:
    if isinstance(parameter, Choice) and isinstance(parameter.options, Mapping):
        return f"Choice({' | '.join(parameter.values)})"
    return repr(parameter)
