"""Search by two densities: that of the good trials and that of the others."""

import math

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.pareto import ranking
from tuneflow.search.mallows import turned
from tuneflow.search.observations import Observations
from tuneflow.search.parzen import Parzen
from tuneflow.search.repair import allowed, repaired
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.sobol import Sobol
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.order_codes import orders_at
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_whole

GOOD, MOST = 0.1, 25  # the share of trials that are good, and how many they are at most
KERNELS = 500  # of the other trials so many are looked at, spread evenly over the ranks
ROUNDS = 10  # of draws, where the space's where= excludes some,
REPAIRED = 4  # and so many candidates are made of those that it excludes, where it leaves fewer
NARROWEST = 0.03  # standard deviation of a kernel; a whole cell where that is more


class TPE(Searcher):
    """Proposes points that are likely among the good trials and unlikely among the others.

    Both densities are mixtures with one kernel per trial, over all parameters jointly, so that interactions are
    modeled; a parameter that is not active takes no part. Good trials weigh more the better they are. The space's prior
    is one more kernel of the good density: it leads at first and loses weight as trials end. Of `candidates` draws from
    the good density, the one with the highest ratio of the two densities is proposed.

    An order is drawn around those of good trials, the less likely the more pairs of its items are turned. Draws that
    `where=` excludes are drawn again, then repaired.

    Every trial counts: a stopped or paused one with its extrapolated score, a failed one among the bad, and a running
    one too, so that parallel workers get different points. With several objectives, trials are ranked by fronts, within
    a front the least crowded first. The first `start` trials are a Sobol sequence. A configuration that was tried is
    not proposed while another is among the candidates.

    Args:
        start: number of ended or paused trials before the densities are used, at least 1.
        candidates: number of draws that are compared, at least 1; more of them explore less.

    Raises:
        ValueError: `start` or `candidates` is below 1.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(lambda x: (x - 1) ** 2, space, trials=30, searcher=TPE())
        >>> abs(best.config["x"] - 1) < 0.5
        True

    Source: Bergstra, Bardenet, Bengio, Kegl, NIPS 2011; joint over all parameters: Falkner, Klein, Hutter, BOHB, ICML
    2018; its parts compared: Watanabe, 2023.
    """

    def __init__(self, start: int = 10, candidates: int = 24) -> None:
        self.start, self.candidates = check_whole("TPE: start", start), check_whole("TPE: candidates", candidates)
        self._start = Sobol()
        self._axes = Latest(Coordinates)

    def check(self, space: SearchSpace) -> None:
        self._start.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        scores = Observations.of(history)
        if scores is None or len(scores.numbers) < self.start:
            return self._start.suggest(space, history, rng)
        axes = self._axes(space)
        good, rest = _split(scores)
        ranks = np.log(len(good) + 1) - np.log(np.arange(1, len(good) + 1))
        better = Parzen(axes, good, ranks / ranks.mean(), widths(axes, good), informed=True)
        worse = Parzen(axes, rest, np.ones(len(rest)), widths(axes, rest), informed=False)
        points = better.draw(self.candidates, rng)
        if space.where:
            points = self._allowed(points, better, axes, rng)
        for place in np.argsort(worse.log_density(points) - better.log_density(points), kind="stable"):
            config = space.from_unit(points[place])
            if history.first(config) is None and space.allows(config):
                return config
        return space.sample(rng)

    def _allowed(self, points: Array, better: Parzen, axes: Coordinates, rng: np.random.Generator) -> Array:
        """Return as many candidates that `where=` allows, from further draws, or repaired where these have too few."""
        found = list(allowed(axes, points))
        for _ in range(ROUNDS):
            if len(found) >= self.candidates:
                break
            found += allowed(axes, better.draw(self.candidates, rng))
        short = max(0, REPAIRED - len(found))
        return np.array([*found[: self.candidates], *(repaired(axes, point, rng) for point in points[:short])])


def widths(axes: Coordinates, points: Array) -> Array:
    """Return the kernels' standard deviations, shape (d,), by Scott's rule; the prior counts as one more point.

    At the first coordinate of an order it is the share of pairs of items that a kernel turns, by the same rule.
    """
    count, d = points.shape
    known = np.where(np.isnan(points), 0.5, points)
    spread = np.sqrt(np.vstack([known, np.full(d, 0.5)]).var(0) + 1 / 12 / (count + 1))
    narrowest = np.maximum(NARROWEST, 1 / axes.levels)
    for first, own in axes.orders.items():
        spread[first] = (turned(orders_at(points[:, own])) * count + 0.5) / (count + 1)
        narrowest[first] = 1 / math.comb(own.stop - own.start + 1, 2)
    return np.asarray(np.clip(spread * (count + 1) ** (-1 / (d + 4)), narrowest, 1.0))


def _split(scores: Observations) -> tuple[Array, Array]:
    """Return the points of the good trials, the best first, and of all others, pending ones included."""
    costs = scores.costs.reshape(len(scores.numbers), -1)
    order = np.argsort(scores.numbers)
    order = order[ranking(costs[order], MOST, scores.beyond[order])]
    sound = int(np.isfinite(costs).all(1).sum())  # they come before the others
    count = min(math.ceil(GOOD * len(order)), MOST, sound)
    good, rest = order[:count], order[count:]
    if len(rest) > KERNELS:
        rest = rest[np.linspace(0, len(rest) - 1, KERNELS).astype(int)]
    return scores.units[good], np.concatenate([scores.units[rest], scores.pending])
