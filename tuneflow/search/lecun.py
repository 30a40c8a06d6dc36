"""LeCun's start: first trials at a measured learning rate, and priors around it for later trials."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from tuneflow.errors import did_you_mean, listed, warn
from tuneflow.history.history import History
from tuneflow.search.random import Random
from tuneflow.search.roles import ROLES, USUAL, is_group_rate, role_of, scaled
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.shifted_history import shifted
from tuneflow.search.wrapper import Wrapper
from tuneflow.space.nodes import Coordinate, Unit
from tuneflow.space.parameters import Choice, Float, Int, Parameter
from tuneflow.space.priors import Curve, Steps
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import shown

log = logging.getLogger("tuneflow")

CELLS = 256
UNIFORM = 0.2  # the share of draws that know nothing of the prior
BRANCHES = 4  # structures that are probed, each with a trial of its own
GUESS = 1.0  # decades of doubt, with which a rate is hardly known
FLAT = Curve()


class LeCun(Wrapper):
    """Starts at the learning rate that the model's own curvature and a race of short trainings suggest.

    The first trial has the learning rate that `tn.probe` finds for the middle of the space, and every other parameter
    at the mean of its prior, at its usual value, or in its middle. Where optimizer or model are a Choice of labels,
    each of up to four labels has such a trial. Then `then` searches under a prior on the learning rate around the
    measured one: 0.8 of a normal density with a standard deviation of 0.4 in log10 units (0.6 where no race was run, 1
    where a part of the model is frozen or has its own rate, or the race found no optimum), and 0.2 uniform. Momentum,
    Adam's betas, AdamW's decay, dropout, label smoothing and warm-up get their usual priors; all other parameters stay
    uniform.

    Rates of groups of parameters (tn.optim.Groups) keep their ratio to the common rate in the first trials, and have no
    prior. The rate moves with the parameters that it is known to depend on: with SGD's momentum as (1 - momentum), and
    with the batch size by a slope that is measured at its smallest and its largest value, at the cost of two more
    probes.

    A prior that the space already has stays for the later trials, also on the learning rate; the first trial always has
    the measured rate. Where that lies beyond the range, or `where=` excludes it, a warning says so. Without a model to
    measure, as with `tn.loop`, every trial is left to `then`; and so are those of a structure whose rate cannot be
    measured, because its probe raises: the progress has the reason, and no study ends by it.

    Args:
        then: the searcher after the first trials; Random() by default.
        roles: dotted name to the parameter's role, where its name does not show it: "lr", "momentum",
            "weight_decay", "beta1", "beta2", "dropout", "label_smoothing", "warmup" or "batch_size"; None for a
            parameter without one.

    Raises:
        TypeError: `then` is not a searcher.
        ValueError: a role is not one of these; when the study is made: a name is not in the space.

    Example:
        >>> import torch, tuneflow as tn
        >>> train, valid, _ = tn.data.digits()
        >>> model = tn.Model(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
        >>> loss, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD
        >>> trainer = tn.Trainer(train, valid, loss=loss, optimizer=optimizer, epochs=1)
        >>> space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-5, 10.0, log=True)})
        >>> study = tn.Study(
        ...     space=space, model=model, trainer=trainer, searcher=LeCun(), minimize="loss", progress=False
        ... )
        >>> 0.01 < study.ask().config["optimizer"]["lr"] < 1.0
        True

    Source: LeCun, Simard, Pearlmutter, NIPS 5, 1993; LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998; the form of
    the prior: Hvarfner et al., piBO, ICLR 2022.
    """

    def __init__(self, then: Searcher | None = None, roles: Mapping[str, str | None] | None = None) -> None:
        super().__init__(Random() if then is None else then)
        if roles is not None and not isinstance(roles, Mapping):
            raise TypeError(f"LeCun: roles needs to be a dict from parameter to role, got {shown(roles)}.")
        self.roles = dict(roles or {})
        for name, role in self.roles.items():
            if role is not None and role not in ROLES:
                near = did_you_mean(str(role), ROLES)
                raise ValueError(f'LeCun: the role of "{name}" needs to be one of {listed(ROLES)}, got {role!r}.{near}')
        self._measured = Latest(MeasuredSpace)

    def __repr__(self) -> str:
        roles = f", roles={self.roles!r}" if self.roles else ""
        return f"LeCun(then={self.then!r}{roles})"

    @property
    def by_number(self) -> bool:  # type: ignore[override]
        return self.then.by_number

    def check(self, space: SearchSpace) -> None:
        for name in self.roles:
            space.find(name)
        self.then.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        if history.prober is None:
            log.info("LeCun: there is no model to measure; %r searches alone", self.then)
            return self.then.suggest(space, history, rng)
        measured = self._measured(space, history, self.roles)
        number, count = history.number, len(measured.starts)
        if number < count and not _tried(space, history, measured.starts[number]):
            return measured.starts[number]
        return self.then.suggest(measured.space, shifted(history, min(number, count)), rng)


def _tried(space: SearchSpace, history: History, config: Config) -> bool:
    """True for a configuration that can be counted and was tried, as one may be that was put in the queue."""
    first = history.first(config) if space.discrete(config) else None
    return first is not None and first < history.number


class MeasuredSpace:
    """A space with its measurements: the first configurations, and the priors.

    Attributes:
        plain: the space as the user made it.
        starts: the first configurations, the most promising one first.
        space: the same with priors.
    """

    def __init__(self, space: SearchSpace, history: History, roles: Mapping[str, str | None]) -> None:
        self.plain, self.history = space, history
        given = {space.find(name): role for name, role in roles.items()}
        self.roles = {place: given.get(place, role_of(axis)) for place, axis in enumerate(space.coordinates)}
        self.middles = [self._usual(config) for config in _branches(space)]
        self.probes = [history.probe(config) for config in self.middles]
        self.slope = self._slope()
        pairs = sorted(zip(self.probes, self.middles, strict=True), key=lambda pair: pair[0].reached)
        self.starts = [self._at_rate(config, probe) for probe, config in pairs if not (probe.screened or probe.failed)]
        self.space = space.expecting(
            {
                place: curve
                for wanted in (*USUAL, "lr", "weight_decay")  # what others depend on first
                for place, role in self.roles.items()
                if role == wanted and (curve := self._curve(place, wanted)) is not None
            }
        )

    def _usual(self, config: Config) -> Config:
        """Return `config` with every parameter at the mean of its prior, or at its usual value."""
        unit = self.plain.to_unit(config)
        for place, axis in enumerate(self.plain.coordinates):
            likely = USUAL[role][1] if (role := self.roles[place]) in USUAL else None
            if isinstance(axis.parameter, Float | Int) and axis.parameter.prior is not None:
                likely = axis.parameter.prior.mean
            if likely is not None and unit[place] == unit[place]:
                unit[place] = _nearest(axis.parameter, likely, unit[place])
        return self._allowed(unit, config)

    def _at_rate(self, config: Config, probe: Any) -> Config:
        """Return `config` at a measured rate, or at the nearest one in the space."""
        unit, rate = self.plain.to_unit(config), float(probe.rate)
        way = "widen the range" if probe.doubt < GUESS else "the range may be right, as this is known to a factor of 10"
        for place, role in self.roles.items():
            if role == "lr" and unit[place] == unit[place]:
                axis = self.plain.coordinates[place]
                before = axis.parameter.from_unit(unit[place])
                unit[place] = _nearest(axis.parameter, rate, unit[place])
                self._keep_ratios(unit, axis, before)
                if unit[place] in (0.0, 1.0):
                    rule = f'LeCun: the measured rate {rate:.3g} of "{axis.name}" lies beyond {axis.parameter!r}'
                    warn(f"{rule}; {way}.")
        started = self._allowed(unit, config)
        if self.plain.where and started != self.plain.from_unit(unit):
            warn(f"LeCun: where= excludes the measured rate {rate:.3g}; the nearest that is allowed takes its place.")
        return started

    def _keep_ratios(self, unit: Unit, common: Coordinate, before: float) -> None:
        """Move the rates of groups of parameters with the common one, as the race does."""
        factor = common.parameter.from_unit(unit[self.plain.coordinates.index(common)]) / before
        for place, axis in enumerate(self.plain.coordinates):
            if is_group_rate(axis, common) and unit[place] == unit[place] and not isinstance(axis.parameter, Choice):
                moved = axis.parameter.from_unit(unit[place]) * factor
                unit[place] = _nearest(axis.parameter, moved, unit[place])

    def _allowed(self, unit: Unit, otherwise: Config) -> Config:
        """Return the configuration at `unit`, or the first allowed one on the line from there to `otherwise`."""
        if not self.plain.where:
            return self.plain.from_unit(unit)
        end = self.plain.to_unit(otherwise)
        shares = np.linspace(0.0, 1.0, 41)[:-1]
        points = (self.plain.from_unit(unit + (end - unit) * share) for share in shares)
        return next((config for config in points if self.plain.allows(config)), otherwise)

    def _slope(self) -> float:
        """Return the decades that the rate grows per decade of the batch size, between its ends; 0 if it is fixed."""
        place = next((place for place, role in self.roles.items() if role == "batch_size"), None)
        if place is None or self.probes[0].screened or self.probes[0].failed:
            return 0.0
        axis, points = self.plain.coordinates[place], []
        for unit in (0.0, 1.0):
            moved = self.plain.to_unit(self.middles[0])
            moved[place] = axis.parameter.to_unit(axis.parameter.from_unit(unit))
            config = self.plain.from_unit(moved)
            if self.plain.allows(config):
                found = self.history.probe(config)
                if found.failed:
                    return 0.0
                points.append((math.log10(found.batch_size), math.log10(found.rate)))
        if len(points) < 2 or points[0][0] == points[1][0]:
            return 0.0
        (low, slow), (high, fast) = points
        return min(max((fast - slow) / (high - low), 0.0), 1.0)

    def _curve(self, place: int, role: str) -> Callable[[Sequence[float]], Curve] | None:
        axis = self.plain.coordinates[place]
        if axis.parameter.levels == 1 or isinstance(axis.parameter, Choice):
            return None
        if role in USUAL:
            scale, likely, sd = USUAL[role]
            usual = bell(axis.parameter, scale, likely, sd)
            return lambda _: usual
        around = self._around_rate if role == "lr" else self._around_decay
        return lambda units: around(axis, units) if self._active(axis, units) else FLAT

    def _around_rate(self, axis: Coordinate, units: Sequence[float]) -> Curve:
        probe = self._nearest_probe(units)
        if probe.failed:
            return FLAT
        return bell(axis.parameter, "log", self._rate(axis, units, probe), probe.doubt)

    def _rate(self, axis: Coordinate, units: Sequence[float], probe: Any) -> float:
        """Return the expected rate at a point of the unit cube."""
        rate = float(probe.rate)
        if probe.momentum is not None and (momentum := self._value("momentum", axis, units)) is not None:
            rate *= (1 - momentum) / (1 - probe.momentum)
        if (batch := self._value("batch_size", None, units)) is not None:
            rate *= (batch / probe.batch_size) ** self.slope
        return rate

    def _around_decay(self, axis: Coordinate, units: Sequence[float]) -> Curve:
        """Return AdamW's prior: it forgets over 1 / (lr wd) steps, usually the run's length; uniform for others."""
        probe = self._nearest_probe(units)
        if probe.optimizer != "AdamW" or probe.failed:
            return FLAT
        rate = self._value("lr", axis, units) or probe.rate
        return bell(axis.parameter, "log", 1 / (rate * probe.steps), 0.7)

    def _value(self, role: str, beside: Coordinate | None, units: Sequence[float]) -> float | None:
        """Return the value of the active parameter with this role, in the section of `beside` where that is in one."""
        for place, known in self.roles.items():
            axis = self.plain.coordinates[place]
            near = beside is None or axis.path[:-1] == beside.path[:-1]
            if known == role and near and self._active(axis, units) and units[place] == units[place]:
                return float(axis.parameter.from_unit(units[place]))
        return None

    def _active(self, axis: Coordinate, units: Sequence[float]) -> bool:
        return all(self.plain.coordinates[p].parameter.from_unit(units[p]) == label for p, label in axis.needs)

    def _nearest_probe(self, units: Sequence[float]) -> Any:
        """Return the probe with the most labels in common with a point, the optimizer's first."""
        labeled = [(p, c) for p, c in enumerate(self.plain.coordinates) if isinstance(c.parameter, Choice)]

        def alike(number: int) -> float:
            own = self.plain.to_unit(self.middles[number])
            same = [(c, _same(c.parameter, own[p], units[p])) for p, c in labeled]
            return sum(10.0 * yes if axis.path[0] == "optimizer" else yes for axis, yes in same)

        return self.probes[max(range(len(self.probes)), key=lambda number: (alike(number), -number))]


def _branches(space: SearchSpace) -> list[Config]:
    """Return one configuration in the middle for each label of model and optimizer, at most BRANCHES."""
    found: dict[str, Config] = {}
    for config in space.examples():
        unit = space.to_unit(config).tolist()
        labels = [
            str(axis.parameter.from_unit(u))
            for axis, u in zip(space.coordinates, unit, strict=True)
            if u == u and axis.path[0] in ("model", "optimizer") and isinstance(axis.parameter, Choice)
        ]
        found.setdefault("/".join(labels), config)
    return list(found.values())[:BRANCHES]


def _same(parameter: Parameter, one: float, other: float) -> bool:
    if one != one or other != other:
        return one != one and other != other
    return bool(parameter.from_unit(one) == parameter.from_unit(other))


def _nearest(parameter: Parameter, value: float, otherwise: float) -> float:
    """Return the unit coordinate of the allowed value next to `value`; `otherwise` for a Choice."""
    if isinstance(parameter, Choice):
        return otherwise
    low, high = parameter.from_unit(0.0), parameter.from_unit(1.0)
    if not low < value < high:
        return 0.0 if value <= low else 1.0
    inside = 0.0, 1.0
    for _ in range(60):
        middle = sum(inside) / 2
        inside = (middle, inside[1]) if parameter.from_unit(middle) < value else (inside[0], middle)
    return inside[1]


def bell(parameter: Parameter, scale: str, mean: float, sd: float) -> Curve:
    """Return a normal density on a scale of the values, mixed with a uniform one, over the unit interval."""
    edges = [scaled(scale, parameter.from_unit(i / CELLS)) for i in range(CELLS + 1)]
    low, high = min(edges[0], edges[-1]), max(edges[0], edges[-1])
    normal = NormalDist(min(max(scaled(scale, mean), low), high), sd)
    below = [normal.cdf(edge) for edge in edges]
    masses = [abs(b - a) for a, b in pairwise(below)]
    total = sum(masses)
    if total <= 0:
        return FLAT
    return Steps([(1 - UNIFORM) * mass / total + UNIFORM / CELLS for mass in masses])
