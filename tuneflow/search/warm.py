"""Warm start: earlier studies as a prior for a new one."""

from typing import Any

import numpy as np

from tuneflow.errors import listed
from tuneflow.history.history import History
from tuneflow.history.pareto import ranking
from tuneflow.search.earlier_study import EarlierStudy, MappedStudy
from tuneflow.search.gp.gp import GP
from tuneflow.search.mixture import Mixture
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.shifted_history import shifted
from tuneflow.search.wrapper import Wrapper
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.search_space import Config, SearchSpace

STARTS = 2  # configurations of each past that are tried first,
TURNS = (0, 1, 3, 5)  # as these trials
KERNELS = 10  # of the best trials of a past that make up the prior
SHARE = 0.8  # of the prior that a trusted past has; the rest is even
WIDTH = 0.2  # of the prior around a trial, in sides of the cube
BELIEVED, COUNTS = 0.3, 3  # agreement that is assumed beforehand, and as how many trials that counts
FULL = 0.3  # agreement from which on a past is trusted in full
LEVELS = 4  # steps of trust
FORGOTTEN = 60  # trials after which the past says nothing that they do not


class Warm(Wrapper):
    """Starts with the best trials of earlier studies, and drops those studies as soon as they mislead.

    The first trial, and up to three that follow, are the best configurations of the earlier studies, which need not
    have had the same space: parameters are matched by name, numbers are clipped to the range, new parameters are in the
    middle, and trials with a label that is gone are left out. After that `then` searches under a prior around the best
    ten trials of each study, joint over all parameters; 0.2 of it is uniform.

    A study is trusted by how well it ranks the trials that have ended here, through its nearest trials: fully from an
    agreement of 0.3 on (Kendall's tau, with 0.3 for three trials assumed at the start), not at all at 0. A study that
    is not trusted gives no prior and no more trials. After 60 trials earlier studies no longer count.

    The earlier trials are copied when this is made. A prior that the space already has stays.

    Args:
        source: an earlier Study, its History, the result of `tn.open(folder)`, or a list of these.
        then: the searcher; GP() by default.

    Raises:
        TypeError: a source is none of these, or `then` is not a searcher.
        ValueError: a source has no trial with a score; when the study is made: none has anything in common with its
            space.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0))
        >>> earlier = tn.Study(space=space, minimize="loss", progress=False)
        >>> for _ in range(5):
        ...     trial = earlier.ask()
        ...     _ = earlier.tell(trial, {"loss": (trial.config["x"] - 1) ** 2})
        >>> study = tn.Study(space=space, minimize="loss", searcher=Warm(earlier), progress=False)
        >>> study.ask().config == earlier.best.config
        True

    Source: transfer as a prior of the best: Souza et al., BOPrO, ECML 2021; Mallik et al., PriorBand, NeurIPS 2023.
    """

    def __init__(self, source: Any, then: Searcher | None = None) -> None:
        super().__init__(GP() if then is None else then)
        self._pasts = [EarlierStudy.of(each) for each in (source if isinstance(source, list | tuple) else [source])]
        if not self._pasts:
            raise ValueError("Warm: needs at least one earlier study, got an empty list.")
        self._transfer = Latest(_Transfer)

    def __repr__(self) -> str:
        return f"Warm({', '.join(map(repr, self._pasts))}, then={self.then!r})"

    def check(self, space: SearchSpace) -> None:
        self.then.check(space)
        names = list(dict.fromkeys(name for past in self._pasts for row in past.rows for name in row))
        if not set(names) & set(space.parameters):
            raise ValueError(
                f"Warm: the earlier studies tuned {listed(names)}, this one tunes {listed(space.parameters)}:"
                " no name in common; leave Warm out."
            )
        if not any(len(MappedStudy(past, space, 0)) for past in self._pasts):
            raise ValueError("Warm: every trial of the earlier studies has a label that this space lacks.")

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        transfer = self._transfer(space, history, self._pasts)
        levels = transfer.levels()
        tried, start = transfer.start(history, levels)
        if start is not None:
            return start
        return self.then.suggest(transfer.expecting(levels), shifted(history, tried), rng)

    def trust(self, space: SearchSpace, history: History) -> list[float]:
        """Trust in each earlier study after the trials that have ended, from 0 to 1."""
        return [level / LEVELS for level in self._transfer(space, history, self._pasts).levels()]


class _Transfer:
    """The earlier studies in one space, compared with one history; its caches never change a suggestion."""

    def __init__(self, space: SearchSpace, history: History, pasts: list[EarlierStudy]) -> None:
        self.space, self._history = space, history
        self._axes = Coordinates(space)
        self._pasts = [MappedStudy(past, space, STARTS) for past in pasts]
        self._starts: list[tuple[int, Config]] = []
        for turn in range(STARTS):  # the best of each past, then the next of each
            for place, past in enumerate(self._pasts):
                if len(self._starts) < len(TURNS) and past.starts[turn:]:
                    known = [config for _, config in self._starts]
                    self._starts += [(place, config) for config in past.starts[turn : turn + 1] if config not in known]
        self._ranks: list[dict[int, float]] = [{} for _ in pasts]
        self._spaces: dict[tuple[int, ...], SearchSpace] = {}

    def start(self, history: History, levels: tuple[int, ...]) -> tuple[int, Config | None]:
        """Return the number of the earlier studies' best that were tried, and the next one if it is due."""
        first = history.units[: 4 * len(TURNS)]
        tried = [self._axes.among(first, self.space.to_unit(config)) for _, config in self._starts]
        left = (
            config
            for (place, config), known in zip(self._starts, tried, strict=True)
            if not known and levels[place] > 0
        )
        return min(sum(tried), history.number), next(left, None) if history.number in TURNS else None

    def levels(self) -> tuple[int, ...]:
        """Return the trust in each earlier study, from 0 to LEVELS."""
        history = self._history
        if len(history.observed) >= FORGOTTEN:
            return (0,) * len(self._pasts)
        numbers = [trial.number for trial in history.observed]
        places = _places(history.comparable_costs[numbers])
        levels = []
        for past, ranks in zip(self._pasts, self._ranks, strict=True):
            if not len(past):
                levels.append(0)
                continue
            ranks.update({n: past.rank(history.units[n]) for n in numbers if n not in ranks})
            agreed = _agreement(np.array([ranks[n] for n in numbers]), places)
            agreed = (BELIEVED * COUNTS + agreed * len(numbers)) / (COUNTS + len(numbers))
            levels.append(round(LEVELS * min(max(agreed / FULL, 0.0), 1.0)))
        return tuple(levels)

    def expecting(self, levels: tuple[int, ...]) -> SearchSpace:
        """Return the space with the prior of the trusted studies; without one where none is trusted."""
        if not any(levels):
            return self.space
        if levels not in self._spaces:
            points, weights = [], []
            for past, level in zip(self._pasts, levels, strict=True):
                points.append(past.top(KERNELS)[: KERNELS * level])
                own = np.log(len(points[-1]) + 1) - np.log(np.arange(1, len(points[-1]) + 1))
                weights.append(level * own / (own.sum() or 1.0))
            shares = np.concatenate(weights)
            shares *= SHARE * max(levels) / LEVELS / shares.sum()
            mixture = Mixture(self.space, np.concatenate(points), shares, WIDTH)
            self._spaces[levels] = self.space.expecting(mixture.priors())
        return self._spaces[levels]


def _places(costs: Array) -> Array:
    """Return costs as numbers of which only the order matters, shape (n,); failures last, and all alike."""
    if costs.ndim == 1:
        return np.where(np.isfinite(costs), costs, np.inf)
    places = np.empty(len(costs))
    places[ranking(costs)] = np.arange(len(costs))
    return places


def _agreement(one: Array, other: Array) -> float:
    """Return Kendall's tau, concordant minus discordant pairs as a share of all; 0 for fewer than two values."""
    if len(one) < 2:
        return 0.0
    above = (other[:, None] > other).astype(float)
    return float((np.sign(one[:, None] - one) * (above - above.T)).sum() / (len(one) * (len(one) - 1)))
