"""Parameters: one hyperparameter each, as Float, Int, Choice or Constant.

A parameter maps its values to the unit interval and back, casts and range-checks a proposal, and lists its grid. It is
validated when a SearchSpace names it, so that every message can show the name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from typing_extensions import override

from tuneflow.errors import listed, warn
from tuneflow.space.priors import Bell, Curve, Normal, Steps
from tuneflow.space.values import (
    EXACT,
    bare,
    cell,
    check_bounds,
    check_name,
    check_plain,
    key_of,
    number_of,
    object_repr,
    plain,
    real,
    spread,
    stepped,
    tidy,
)
from tuneflow.validate import check_flag

Value = Any  # a JSON value: None, bool, int, float, str, or lists and dicts of them


class Parameter:
    """The interface of Float, Int, Choice, Constant and Permutation.

    Attributes:
        width: number of coordinates of the unit cube.
        levels: number of different values; infinite for a continuous range.
    """

    width: int = 1

    @property
    def levels(self) -> float:
        """Number of different values; infinite for a continuous range."""
        raise NotImplementedError

    def named(self, name: str) -> "Parameter":
        """Return this parameter, validated; every message opens with its kind and `name`."""
        raise NotImplementedError

    @property
    def curve(self) -> Curve | None:
        """The prior's density over the unit interval; None without a prior."""
        return None

    def to_unit(self, value: Any) -> float:
        """Return the position of `value` in [0, 1]; the middle of its cell for discrete values."""
        raise NotImplementedError

    def from_unit(self, unit: float) -> Value:
        """Return the value at `unit` in [0, 1]; equal lengths are equally likely."""
        raise NotImplementedError

    def from_units(self, units: Sequence[float]) -> Value:
        """Return the value at as many coordinates as the parameter has."""
        return self.from_unit(units[0])

    def to_units(self, value: Any) -> list[float]:
        """Return the coordinates of `value`, as many as the parameter has."""
        return [self.to_unit(value)]

    def cast(self, value: Value) -> Value:
        """Return `value` as this parameter's plain Python type; ValueError when it is not one of its values."""
        raise NotImplementedError

    def grid(self, points: int) -> list[Value]:
        """Return at most `points` values, evenly spread; every value of a Choice."""
        raise NotImplementedError

    def object(self, value: Value) -> Any:
        """Return the object that is passed on for the stored `value`, by default the value itself."""
        return value

    def to_json(self) -> dict[str, Any]:
        """Return what a store keeps of the parameter; objects by name."""
        raise NotImplementedError


@dataclass(frozen=True)
class Range(Parameter):
    """The common part of Float and Int: a number in [low, high]."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    prior: Normal | None = None

    def __repr__(self) -> str:
        flags = [f"{k}={v!r}" for k in ("log", "step", "prior") if (v := getattr(self, k))]
        return f"{type(self).__name__}({', '.join([repr(self.low), repr(self.high), *flags])})"

    def to_json(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("low", "high", "log", "step")}
        prior = {} if self.prior is None else {"prior": self.prior.to_json()}
        return {"kind": type(self).__name__.lower(), **facts, **prior}

    def _check_log(self, what: str) -> None:
        check_flag(f"{what}: log", self.log)

    def _check_prior(self, what: str) -> None:
        if self.prior is None:
            return
        if not isinstance(self.prior, Normal):
            raise TypeError(f"{what}: prior needs to be a tn.Normal(mean, sd), got {self.prior!r}.")
        self.prior.check(what, self.low, self.high)


class Float(Range):
    """A real number in [low, high].

    Args:
        low: finite lower bound, included.
        high: finite upper bound, included; `low == high` is a constant.
        log: spread evenly in the logarithm (needs low > 0).
        step: only low, low + step, low + 2 step, ... (not with log).
        prior: a tn.Normal, where good values are expected.

    Raises:
        ValueError, TypeError: when a space is made of it: an argument is not valid; the message names the parameter.

    Example:
        >>> rate = Float(1e-4, 1.0, log=True)
        >>> round(rate.from_unit(0.5), 6), rate.to_unit(1.0)
        (0.01, 1.0)
    """

    def named(self, name: str) -> "Float":
        what = f'Float "{name}"'
        self._check_log(what)
        low, high = check_bounds(what, self.low, self.high, self.log, self.step, tiny="1e-6")
        if not math.isfinite(high - low):
            raise ValueError(f"{what}: high - low overflows, got low={low}, high={high}; use a narrower range.")
        self._check_prior(what)
        if self.step is None:
            return Float(low, high, bool(self.log), prior=self.prior)
        step = number_of(what, "step", self.step)
        if step <= 0:
            raise ValueError(f"{what}: step needs to be > 0, got step={self.step}; drop step for a continuous range.")
        if (high - low) / step > EXACT:
            raise ValueError(
                f"{what}: step={self.step} makes more than 2**53 values; drop step for a continuous range."
            )
        count = math.floor((high - low) / step + 1e-9)
        top = stepped(low, count, step)
        if abs(top - high) > 1e-6 * step:
            _warn_high(what, low, high, step, top)
        return Float(low, top, False, step, self.prior)

    @cached_property
    def curve(self) -> Curve | None:
        if self.prior is None or self.low == self.high:
            return None
        plain = Float(self.low, self.high, self.log)
        width = math.log10(self.high / self.low) if self.log else self.high - self.low
        return Bell(plain.to_unit(self.prior.mean), self.prior.sd / width, self.prior.uniform)

    @property
    def levels(self) -> float:
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    def to_unit(self, value: Any) -> float:
        if self.low == self.high:
            return 0.5
        if self.step is not None:
            return float((round((value - self.low) / self.step) + 0.5) / self.levels)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        return float((value - self.low) / (self.high - self.low))

    def from_unit(self, unit: float) -> float:
        if self.low == self.high:
            return self.low
        if self.step is not None:
            return stepped(self.low, cell(unit, self.levels), self.step)
        if self.log:
            ratio = self.high / self.low
            value: float = self.low * ratio**unit if math.isfinite(ratio) else self.low ** (1 - unit) * self.high**unit
        else:
            value = self.low + unit * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def cast(self, value: Value) -> float:
        number = real(value)
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        if number is None or not self.low - slack <= number <= self.high + slack:
            raise ValueError(f"needs a number from {self.low} to {self.high}, got {value!r}")
        if self.step is not None:
            near = stepped(self.low, round((number - self.low) / self.step), self.step)
            if abs(near - number) > 1e-6 * self.step:
                raise ValueError(f"goes in steps of {self.step} from {self.low}, got {value!r}; try {near}")
            return near
        return min(max(number, self.low), self.high)

    def grid(self, points: int) -> list[float]:
        if self.step is not None:
            return [stepped(self.low, i, self.step) for i in spread(int(self.levels), points)]
        if self.low == self.high:
            return [self.low]
        if points == 1:
            return [self.from_unit(0.5)]
        inner = [tidy(self.from_unit(i / (points - 1))) for i in range(1, points - 1)]
        return [self.low, *inner, self.high]


@dataclass(frozen=True, repr=False)
class Int(Range):
    """A whole number in [low, high].

    Args:
        low: lower bound, included, at most 2**53 in size.
        high: upper bound, included; `low == high` is a constant.
        log: spread evenly in the logarithm (needs low > 0; not with step).
        step: only low, low + step, low + 2 step, ...
        prior: a tn.Normal, where good values are expected.

    Raises:
        ValueError, TypeError: when a space is made of it: an argument is not valid; the message names the parameter.

    Example:
        >>> Int(8, 64, step=8).grid(4)
        [8, 24, 48, 64]
    """

    low: int
    high: int
    log: bool = False
    step: int | None = None

    def named(self, name: str) -> "Int":
        what = f'Int "{name}"'
        self._check_log(what)
        for word, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, int) and abs(bound) > EXACT:
                raise ValueError(f"{what}: is exact only up to 2**53, got {word}={bound}; use a log Float.")
            number = number_of(what, word, bound)
            if number != math.floor(number):
                raise ValueError(f"{what}: needs whole bounds, got {word}={bound}; use tn.Float for a real range.")
        check_bounds(what, self.low, self.high, self.log, self.step, tiny="1")
        low, high = int(self.low), int(self.high)
        self._check_prior(what)
        step = 1 if self.step is None else number_of(what, "step", self.step)
        if step == 1:
            return Int(low, high, bool(self.log), prior=self.prior)
        if step <= 0 or step != math.floor(step):
            raise ValueError(f"{what}: step needs to be a whole number > 0, got step={self.step}; drop step for 1.")
        top = low + (high - low) // int(step) * int(step)
        if top != high:
            _warn_high(what, low, high, int(step), top)
        return Int(low, top, False, int(step), self.prior)

    @cached_property
    def curve(self) -> Curve | None:
        if self.prior is None or self.low == self.high:
            return None
        if self.log:
            left, right = self._log_edges
            mean, width = (math.log(self.prior.mean) - left) / (right - left), (right - left) / math.log(10)
        else:
            step = self.step or 1
            mean, width = ((self.prior.mean - self.low) / step + 0.5) / self.levels, step * self.levels
        return Bell(mean, self.prior.sd / width, self.prior.uniform)

    @property
    def levels(self) -> float:
        return (self.high - self.low) // (self.step or 1) + 1

    @cached_property
    def _log_edges(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def to_unit(self, value: Any) -> float:
        if self.log and self.low < self.high:
            left, right = self._log_edges
            below, above = math.log(value - 0.5), math.log(value + 0.5)
            return ((below + above) / 2 - left) / (right - left)
        return float(((value - self.low) // (self.step or 1) + 0.5) / self.levels)

    def from_unit(self, unit: float) -> int:
        if self.log:
            left, right = self._log_edges
            return min(max(round(math.exp(left + unit * (right - left))), self.low), self.high)
        return self.low + cell(unit, self.levels) * (self.step or 1)

    def cast(self, value: Value) -> int:
        number = real(value)
        whole = None if number is None or number != math.floor(number) else int(value)
        if whole is None or not self.low <= whole <= self.high:
            raise ValueError(f"needs a whole number from {self.low} to {self.high}, got {value!r}")
        if (whole - self.low) % (self.step or 1):
            raise ValueError(f"goes in steps of {self.step} from {self.low}, got {value!r}")
        return whole

    def grid(self, points: int) -> list[int]:
        if not self.log or points >= self.levels:
            return [self.low + i * (self.step or 1) for i in spread(int(self.levels), points)]
        if points == 1:
            return [self.from_unit(0.5)]
        ratio = self.high / self.low
        values = (round(self.low * ratio ** (i / (points - 1))) for i in range(points))
        return list(dict.fromkeys(min(max(v, self.low), self.high) for v in values))


@dataclass(frozen=True, eq=False)
class Choice(Parameter):
    """One of several options.

    Args:
        options: a list of plain values (None, bool, int, float, str, or lists of them), or a dict from
            a label to any object. With a dict the label is stored and the object is passed on. An
            option that is a `tn.call(...)` or a SearchSpace has parameters of its own, which are
            active only when its label is chosen.
        ordered: the options have an order that a searcher may use, as small < medium < large.
        prior: a weight for each option, as a list or as a dict from label to weight: its probability to be the best.

    Raises:
        ValueError, TypeError: when a space is made of it: an argument is not valid; the message names the parameter.

    Example:
        >>> Choice(["adam", "sgd"]).from_unit(0.7)
        'sgd'
    """

    options: Sequence[Value] | Mapping[str, Any]
    ordered: bool = False
    prior: Sequence[float] | Mapping[str, float] | None = None

    def __repr__(self) -> str:
        ordered = ", ordered=True" if self.ordered else ""
        ordered += f", prior={list(self.weights)}" if self.prior is not None else ""
        many = len(self.options) > 8
        if isinstance(self.options, Mapping):
            inside = ", ".join(f"{k!r}: {object_repr(v)}" for k, v in list(self.options.items())[:8])
            return f"Choice({{{inside}{', ...' if many else ''}}}{ordered})"
        inside = ", ".join(map(repr, list(self.options)[:8]))
        return f"Choice([{inside}{f', ... {len(self.options)} values' if many else ''}]{ordered})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def named(self, name: str) -> "Choice":
        what = f'Choice "{name}"'
        check_flag(f"{what}: ordered", self.ordered)
        if isinstance(self.options, str | bytes) or not isinstance(self.options, Sequence | Mapping):
            raise TypeError(f"{what}: needs a list of values or a dict of labels, got {self.options!r}.")
        if not self.options:
            raise ValueError(f"{what}: needs at least one option, got {self.options!r}.")
        if isinstance(self.options, Mapping):
            for label in self.options:
                check_name(label, f"{what}: a label")
            for label, option in self.options.items():
                if isinstance(option, Parameter):
                    raise TypeError(
                        f"{what}: option {label!r} is {option!r}, which only tn.call or tn.SearchSpace can hold."
                    )
            return self._weighted(what, dict(self.options))
        for place, value in enumerate(self.options):
            check_plain(what, place, value)
        checked = self._weighted(what, [bare(v) for v in self.options])
        if len(checked._places) < len(self.options):
            seen: set[str] = set()
            twice = next(v for v in self.options if key_of(v) in seen or seen.add(key_of(v)))  # type: ignore[func-returns-value]
            raise ValueError(f"{what}: needs different options, got {twice!r} twice; remove one.")
        return checked

    def _weighted(self, what: str, options: Any) -> "Choice":
        """Return this choice with these options, its prior checked and scaled to sum to 1."""
        if self.prior is None:
            return replace(self, options=options, ordered=bool(self.ordered))
        given = self.prior
        if isinstance(given, Mapping):
            unknown = next((label for label in given if label not in options), None)
            if unknown is not None or len(given) < len(options):
                text = f"got {unknown!r}" if unknown is not None else f"got {given!r}"
                raise ValueError(f"{what}: the prior needs a weight for each of {listed(map(repr, options))}, {text}.")
            given = [given[label] for label in options]
        if not isinstance(given, list | tuple) or len(given) != len(options):
            raise ValueError(f"{what}: the prior needs {len(options)} weights, one for each option, got {given!r}.")
        weights = [number_of(what, "a prior's weight", weight) for weight in given]
        if min(weights) < 0 or not sum(weights) > 0:
            raise ValueError(f"{what}: the prior's weights need to be >= 0 and not all 0, got {given!r}.")
        return replace(self, options=options, prior=[weight / sum(weights) for weight in weights])

    @property
    def weights(self) -> Sequence[float]:
        """The prior's weights of the options; empty without a prior."""
        return list(self.prior.values()) if isinstance(self.prior, Mapping) else self.prior or []

    @cached_property
    def curve(self) -> Curve | None:
        return None if self.prior is None else Steps(self.weights)

    @property
    def levels(self) -> float:
        return len(self.options)

    @cached_property
    def values(self) -> list[Value]:
        """The options as they are stored, the values or the labels of a dict."""
        return list(self.options)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key_of(value): place for place, value in enumerate(self.values)}

    @override
    def object(self, value: Value) -> Any:
        return self.options[value] if isinstance(self.options, Mapping) else value

    def to_unit(self, value: Any) -> float:
        return (self._places[key_of(value)] + 0.5) / len(self.options)

    def from_unit(self, unit: float) -> Value:
        return self.values[cell(unit, len(self.options))]

    def cast(self, value: Value) -> Value:
        try:
            return self.values[self._places[key_of(value)]]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"needs one of {listed(map(repr, self.values))}, got {value!r}") from None

    @override
    def grid(self, points: int) -> list[Value]:
        return list(self.values)

    def to_json(self) -> dict[str, Any]:
        prior = {} if self.prior is None else {"prior": list(self.weights)}
        if not isinstance(self.options, Mapping):
            return {"kind": "choice", "values": [plain(v) for v in self.options], "ordered": self.ordered, **prior}
        labels = {label: {"kind": "object", "name": object_repr(option)} for label, option in self.options.items()}
        return {"kind": "choice", "labels": labels, "ordered": self.ordered, **prior}


@dataclass(frozen=True)
class Constant(Parameter):
    """A fixed plain value, part of the space so that it is stored with every configuration.

    Args:
        value: None, bool, int, float, str, or lists and dicts of them.
    """

    value: Value

    @property
    def levels(self) -> float:
        return 1

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"

    def named(self, name: str) -> "Constant":
        check_plain(f'Constant "{name}"', None, self.value)
        return Constant(bare(self.value))

    @override
    def to_unit(self, value: Any) -> float:
        return 0.5

    @override
    def from_unit(self, unit: float) -> Value:
        return self.value

    def cast(self, value: Value) -> Value:
        try:
            same = key_of(value) == key_of(self.value)
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(f"is the constant {self.value!r}, got {value!r}")
        return self.value

    @override
    def grid(self, points: int) -> list[Value]:
        return [self.value]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "constant", "value": plain(self.value)}


def _warn_high(what: str, low: Any, high: Any, step: Any, top: Any) -> None:
    warn(f"{what}: step={step} from low={low} does not reach high={high}; the new high is {top}.")
