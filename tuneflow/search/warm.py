"""Warm: earlier studies as a prior for a new one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tuneflow.errors import listed
from tuneflow.parameters import Choice, Float, Int, Parameter
from tuneflow.search.axes import Array, Axes
from tuneflow.search.fronts import ranking
from tuneflow.search.gp import GP
from tuneflow.search.mixture import Mixture
from tuneflow.search.searcher import Searcher
from tuneflow.seeds import digest
from tuneflow.space import Config, SearchSpace
from tuneflow.trial import History

STARTS = 4
KERNELS = 10
TOP = 0.2
WIDTH = 0.15
MOST = 500
SHARE = 0.8
NEAR = 5
FIRST = 0.4, 4
FULL = 0.3
LEVELS = 4
FORGOTTEN = 60
APART = 0.2
SHIFT = True


class Warm(Searcher):
    def __init__(self, source: Any, then: Searcher | None = None) -> None:
        self.then = then or GP()
        sources = source if isinstance(source, list | tuple) else [source]
        self._pasts = [_Past.of(each) for each in sources]
        self._made: _Mapped | None = None

    def check(self, space: SearchSpace) -> None:
        self.then.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        made = self._made
        if made is None or made.space is not space or made.trials is not history.trials:
            made = self._made = _Mapped(space, history, self._pasts)
        trusts = made.trusts(history)
        done, start = made.start(history, trusts)
        if start is not None:
            return start
        return self.then.suggest(
            made.expecting(trusts), cast(History, _After(history, done)) if SHIFT else history, rng
        )


class _After:
    def __init__(self, history: History, first: int) -> None:
        self._history, self.number = history, history.number - first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)


@dataclass(frozen=True)
class _Past:
    """What is kept of an earlier study.

    Attributes:
        rows: the values of each trial by dotted name, the best trial first.
        """
    rows: tuple[Mapping[str, Any], ...]
    ranks: Array

    @classmethod
    def of(cls, source: Any) -> "_Past":
        history = getattr(source, "history", source)
        numbers = np.array([t.number for t in history.finished], dtype=np.intp)
        order = numbers[ranking(history.costs[numbers])]
        space = history.space
        rows = []
        for n in order:
            unit = history.units[n]
            rows.append({axis.name: axis.parameter.from_unit(u) for axis, u in zip(space.coordinates, unit.tolist()) if u == u})
        return cls(tuple(rows), np.arange(len(rows)) / max(1, len(rows)))


def _place(parameter: Parameter, value: Any) -> float | None:
    if isinstance(parameter, Choice):
        try:
            return parameter.to_unit(parameter.cast(value))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = parameter.low, parameter.high
    value = min(max(value, low), high)
    if isinstance(parameter, Int):
        value = round(value)
    u = parameter.to_unit(value)
    return min(max(u, 0.0), 1.0)


class _Mapped:
    def __init__(self, space, history, pasts):
        self.space, self.trials = space, history.trials
        self.axes = Axes(space)
        self.tables = []
        self.starts = []
        for past in pasts:
            units, ranks, configs = [], [], []
            for row, rank in zip(past.rows, past.ranks, strict=True):
                got = self._unit(row)
                if got is None:
                    continue
                units.append(got[0]); ranks.append(rank); configs.append(got[1])
            self.tables.append((np.array(units), np.array(ranks), configs))
        self.starts = [self._starts(*t) for t in self.tables]
        self._spaces = {}
        self._predicted = [dict() for _ in pasts]

    def _unit(self, row):
        unit = self.space.quantile(np.full(len(self.space), 0.5)); missing = []
        for place, axis in enumerate(self.space.coordinates):
            if axis.name not in row:
                missing.append(place); continue
            u = _place(axis.parameter, row[axis.name])
            if u is None:
                return None
            unit[place] = u
        config = self.space.from_unit(unit)
        known = self.space.to_unit(config)
        known[missing] = np.nan
        return known, config

    def _starts(self, units, ranks, configs):
        chosen = []
        for i in range(len(ranks)):
            if ranks[i] > TOP and chosen: break
            if not self.space.allows(configs[i]): continue
            if all(self._apart(units[i], units[j]) for j in chosen):
                chosen.append(i)
            if len(chosen) == STARTS: break
        return [configs[i] for i in chosen]

    def _apart(self, a, b):
        d = np.nan_to_num(np.abs(a-b), nan=0.0)
        return bool((d >= np.where(self.axes.labels, 1e-9, APART)).any())

    def start(self, history, trusts):
        units = history.units
        done = 0; first = None
        for k in range(STARTS):
            for s, starts in enumerate(self.starts):
                if k < len(starts):
                    u = self.space.to_unit(starts[k])
                    if self.axes.among(units, u):
                        done += 1
                    elif first is None and trusts[s] > 0:
                        first = starts[k]
        n = history.number
        slot = n == 0 or n % 2 == 1
        if n >= 2*STARTS: first=None
        return done, first if slot else None

    def trusts(self, history):
        if history.ended >= FORGOTTEN:
            return tuple(0 for _ in self.tables)
        finished = [t.number for t in history.finished]
        costs = history.costs
        if costs.ndim > 1:
            o = ranking(costs[finished]); c = np.empty(len(finished)); c[o] = np.arange(len(o))
        else:
            c = costs[finished]
        out = []
        for s, (units, ranks, _) in enumerate(self.tables):
            pred = np.array([self._predict(s, n, history.units[n]) for n in finished])
            n = len(finished)
            tau = 0.0
            if n > 1:
                a = np.sign(pred[:, None] - pred[None]); b = c[:, None] - c[None]
                b = np.sign(np.where(np.isnan(b), 0, b))
                tau = (a*b).sum() / (n*(n-1))
            t = (FIRST[0]*FIRST[1] + n*tau)/(FIRST[1]+n)/FULL
            out.append(int(round(min(max(t,0),1)*LEVELS)))
        return tuple(out)

    def _predict(self, s, number, unit):
        got = self._predicted[s].get(number)
        if got is None:
            units, ranks, _ = self.tables[s]
            d = np.nan_to_num(np.abs(units - unit), nan=0.0)
            d[:, self.axes.labels] = (d[:, self.axes.labels] > 1e-9) * 0.5
            d = (d**2).sum(1)
            near = np.argsort(d, kind="stable")[:NEAR]
            got = self._predicted[s][number] = float(ranks[near].mean())
        return got

    def expecting(self, trusts):
        if not any(trusts): return self.space
        if trusts not in self._spaces:
            pts, ws = [], []
            for (units, ranks, _), t in zip(self.tables, trusts, strict=True):
                k = min(max(1, int(np.ceil(TOP*len(ranks)))), KERNELS)
                w = np.log(k+1) - np.log(np.arange(1, k+1))
                pts.append(units[:k]); ws.append(w/w.sum()*t)
            p, w = np.concatenate(pts), np.concatenate(ws)
            w = w/w.sum()*SHARE*max(trusts)/LEVELS
            self._spaces[trusts] = self.space.expecting(Mixture(self.space, p, w, WIDTH).priors())
        return self._spaces[trusts]
