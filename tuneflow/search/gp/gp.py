"""Gaussian process search."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuneflow.history.history import History
from tuneflow.search.exhaustive import everything
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.gp.kernel import apart
from tuneflow.search.gp.targets import Targets, bound_target, breach_targets, front_targets, targets
from tuneflow.search.observations import Observations
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.sobol import Sobol, sobol_points
from tuneflow.search.untried import untried
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Array
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_flag

if TYPE_CHECKING:
    from tuneflow.search.gp.feasibility import Acquisition
    from tuneflow.search.gp.gaussian_process import GaussianProcess, Posterior

Warp = Callable[[Array, Array], Targets]

SPREAD = 1_024  # candidates all over the cube
LEADERS = 5  # configurations that are mutated
DRAWS = 4  # of the hyper-parameters
ACTIVE = 150  # points that the process is conditioned on, at most
PENDING = 64  # trials under way whose scores are made up, at most
STEP = 1.3  # hyper-parameters are fitted anew whenever there are so many times more trials
TRUST = 10  # up to so many trials the priors count in full; their power falls with the square of the number
NEAR = 0.005  # points that differ by less in every coordinate are one where scores are noisy and may be repeated
WHOLE = 2_048  # of a space with at most so many configurations, all are candidates


class GP(Searcher):
    """Bayesian optimization with a Gaussian process: the fewest trials, at a few hundredths of a second each.

    The first min(10, max(5, d + 1)) trials of d parameters are the middle of the space, or of its priors, and a
    scrambled Sobol sequence. After that each trial is where the expected improvement on the best score is largest.
    Failed and diverged trials count as worse than the worst, paused and stopped ones with their extrapolated scores,
    running ones with scores drawn from the process itself, and a known standard error of a score as its noise. Priors
    of the space count less the more trials there are.

    With several objectives each has a process, and the acquisition is the expected hypervolume improvement. Limits have
    a process for each bound: the improvement is weighted by the probability of keeping to them. No configuration is
    proposed twice while another is left, however noisy the scores.

    Args:
        repeats: True proposes a configuration again where its score has an error and another training of it promises
            more than a new one. Each has a seed of its own, and the mean of a configuration's trainings is its score.

    Raises:
        ValueError: when the study is made: the space has more than 21,201 parameters.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0), y=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(lambda x, y: (x - 1) ** 2 + y**2, space, trials=15, searcher=GP())
        >>> best.metrics["value"] < 0.1
        True

    Source: Snoek, Larochelle, Adams, Practical Bayesian optimization, NIPS 2012; and those of docs/howto/searchers.md.
    """

    def __init__(self, repeats: bool = False) -> None:
        self.repeats = check_flag("GP: repeats", repeats)
        self._model = Latest(_SpaceModel)

    def __repr__(self) -> str:
        return "GP(repeats=True)" if self.repeats else "GP()"

    def check(self, space: SearchSpace) -> None:
        Sobol().check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        return self._model(space, history.seed, self.repeats).suggest(history, rng)

    def ranked(self, space: SearchSpace, history: History) -> list[int]:
        """Numbers of the ended trials with a score, the one with the best predicted mean first.

        Where scores are noisy, the best observed one is also the luckiest; the process's mean corrects for that.

        Raises:
            ValueError: the study has several objectives.
        """
        if history.objective.several:
            raise ValueError("ranked needs a study with one objective; history.front has the best of several.")
        scores = Observations.of(history)
        ranked = [] if scores is None else _SpaceModel(space, history.seed, self.repeats).ranked(scores)
        return [number for number in ranked if history.trials[number].ended]


class _SpaceModel:
    """The layout and cached fits of one space and seed; the cache never changes a suggestion."""

    def __init__(self, space: SearchSpace, seed: int, repeats: bool, warp: Warp = targets) -> None:
        self.space, self.seed, self.layout, self.sobol = space, seed, FeatureMap(space), Sobol()
        self._repeats, self._warp = repeats, warp
        self._spread: Array | None = None
        self._fits: dict[bytes, Array] = {}
        self._columns: dict[tuple[str, int], _SpaceModel] = {}

    def suggest(self, history: History, rng: np.random.Generator) -> Config:
        start = min(10, max(5, len(self.space) + 1))
        scores = None if history.number < start or not len(self.space) else Observations.of(history)
        if scores is None or len(scores.numbers) < 2:
            return self._first(history, rng)
        unit = self._found(scores, rng)
        if unit is None:
            return self._untried(history, rng)
        return self._again(unit, history) if self._repeats else self.space.from_unit(unit)

    def _again(self, unit: Array, history: History) -> Config:
        """Return the configuration at a point: to the last digit that of the trial there, where there is one."""
        same = self.layout.same(np.asarray(history.units), unit)
        return history.trials[int(same[0])].config if len(same) else self.space.from_unit(unit)

    def _untried(self, history: History, rng: np.random.Generator) -> Config:
        new = untried(self.space, lambda config: history.first(config) is not None, rng)
        return self.space.sample(rng) if new is None else new

    def _first(self, history: History, rng: np.random.Generator) -> Config:
        if not len(history.trials):
            middle = self.space.from_unit(self.space.quantile([0.5] * len(self.space)))
            if self.space.allows(middle):
                return middle
        config = self.sobol.suggest(self.space, history, rng)
        return config if history.first(config) is None else self._untried(history, rng)

    def ranked(self, scores: Observations) -> list[int]:
        rng = stream(self.seed, "ranked")
        processes, _ = self._processes(scores, scores.costs, scores.errors, rng)
        scored = np.flatnonzero(np.isfinite(scores.costs))
        features = self.layout.features(scores.units[scored])
        means = np.mean([process.predict(features)[0] for process in processes], axis=0)
        return [int(scores.numbers[scored[place]]) for place in np.lexsort((means, scores.beyond[scored]))]

    def _found(self, scores: Observations, rng: np.random.Generator) -> Array | None:
        from tuneflow.search.gp.expected_improvement import ExpectedImprovement
        from tuneflow.search.gp.maximize_acquisition import Maximizer, WeightedAcquisition

        layout = self.layout
        gain: Acquisition
        if scores.costs.ndim == 1 and not scores.breaches.shape[1]:
            processes, error = self._processes(scores, scores.costs, scores.errors, rng)
            gain, clean = ExpectedImprovement(self._fantasized(processes, scores, rng), error), not error
        else:
            gain, clean = self._several(scores, rng)
        weight = min(1.0, TRUST / len(scores.costs)) ** 2 if self.space.informed else 0.0
        promise = WeightedAcquisition(layout, gain, self.space, weight)
        again = self._repeats and not clean
        tried = set(layout.keys(scores.pending if again else np.concatenate([scores.pending, scores.units])))
        leaders = scores.units[np.argsort(scores.merits, kind="stable")[:LEADERS]]
        unit = Maximizer(promise, tried, rng).found(self._candidates(rng, leaders), leaders)
        return self._snapped(unit, scores.units) if again and unit is not None else unit

    def _snapped(self, unit: Array, units: Array) -> Array:
        """Return the point of `units` next to `unit`, where they hardly differ; else `unit`."""
        apart = np.where(np.isnan(units) & np.isnan(unit), 0.0, np.abs(units - unit)).max(1)
        nearest = int(np.argmin(np.where(np.isnan(apart), np.inf, apart)))
        return np.asarray(units[nearest]) if apart[nearest] < NEAR else unit

    def _several(self, scores: Observations, rng: np.random.Generator) -> tuple["Acquisition", bool]:
        """Return the acquisition for several objectives or limits, and whether the scores are clean."""
        from tuneflow.search.gp.feasibility import Bound, FeasibleImprovement
        from tuneflow.search.gp.hypervolume import HypervolumeImprovement

        def column(
            kind: str, place: int, warp: Warp, costs: Array, errors: Array
        ) -> tuple[list["GaussianProcess"], bool]:
            known = self._columns.setdefault((kind, place), _SpaceModel(self.space, self.seed, self._repeats, warp))
            processes, error = known._processes(scores, costs, errors, rng)
            return self._fantasized(processes, scores, rng), not error

        count = len(scores.numbers)
        costs, errors = scores.costs.reshape(count, -1), scores.errors.reshape(count, -1)
        found = [column("cost", j, front_targets, costs[:, j], errors[:, j]) for j in range(costs.shape[1])]
        bounds = [
            Bound(column("breach", j, breach_targets, breaches, np.full(count, np.nan))[0], bound_target(breaches))
            for j, breaches in enumerate(scores.breaches.T)
        ]
        counted = np.all([end.kept() for end in bounds], axis=0) if bounds else None
        gain = HypervolumeImprovement(list(zip(*(processes for processes, _ in found), strict=True)), counted)
        return FeasibleImprovement(gain, bounds) if bounds else gain, all(clean for _, clean in found)

    def _fantasized(
        self, processes: list["GaussianProcess"], scores: Observations, rng: np.random.Generator
    ) -> list["GaussianProcess"]:
        """Return the processes conditioned on scores drawn for the running trials."""
        pending = self.layout.features(scores.pending[-PENDING:])
        return [process.fantasized(pending, rng) for process in processes] if len(pending) else processes

    def _processes(
        self, scores: Observations, costs: Array, errors: Array, rng: np.random.Generator
    ) -> tuple[list["GaussianProcess"], float]:
        """Return one process per draw of the hyper-parameters, and the noise variance; 0 where that is small."""
        from tuneflow.search.gp.gaussian_process import GaussianProcess

        posterior, features, error = self._posterior(scores.units, costs, errors, scores.counts, scores.merits)
        start = self._start(scores.units, costs, errors, scores.counts)
        points = posterior.draws(posterior.fit(start, 20), DRAWS, rng)
        facts = self.layout.owner, features, posterior.values, posterior.variances, posterior.counts
        return [GaussianProcess(point, *facts) for point in points], error

    def _candidates(self, rng: np.random.Generator, leaders: Array) -> Array:
        """Return points all over the cube: a Sobol set, shifted anew for each trial, or all points of a small space."""
        if self.space.size <= WHOLE:
            return self._whole
        if self._spread is None:
            self._spread = sobol_points(SPREAD, len(self.space), self.seed)
        points = self._spread + rng.random(len(self.space))
        points -= np.floor(points)
        return np.concatenate([points, leaders]) if self._repeats else points

    @cached_property
    def _whole(self) -> Array:
        """Every configuration of a small space."""
        units = [self.space.to_unit(config) for config in everything(self.space)]
        return np.array(units).reshape(-1, len(self.space))

    def _start(self, units: Array, costs: Array, errors: Array, counts: Array) -> Array:
        """Return starting hyper-parameters: those of the first trials, refitted only now and then."""
        first = math.floor(STEP ** math.floor(math.log(len(costs) + 1e-9, STEP)))
        units, costs, errors, counts = units[:first], costs[:first], errors[:first], counts[:first]
        key = units.tobytes() + costs.tobytes() + errors.tobytes() + counts.tobytes()
        if key not in self._fits:
            if not np.isfinite(costs).any():
                return self._posterior(units, np.zeros(first), errors, counts, costs)[0].mean
            posterior, _, _ = self._posterior(units, costs, errors, counts, costs)
            self._fits = {key: posterior.fit(posterior.mean, 40)}
        return self._fits[key]

    def _posterior(
        self, units: Array, costs: Array, errors: Array, counts: Array, ranks: Array
    ) -> tuple["Posterior", Array, float]:
        """Return the posterior of the hyper-parameters, the features it is conditioned on, and the noise variance."""
        from tuneflow.search.gp.gaussian_process import Posterior

        chosen = _active(self.layout, units, ranks)
        features, warped = self.layout.features(units[chosen]), self._warp(costs, errors)
        squared = apart(features, self.layout.owner, self.layout.scales)
        posterior = Posterior(squared, warped.values[chosen], warped.variances[chosen], counts[chosen])
        return posterior, features, warped.error


def _active(layout: FeatureMap, units: Array, costs: Array) -> NDArray[np.int64]:
    """Return the trials to condition on: the better half, then those farthest from all chosen so far."""
    if len(costs) <= ACTIVE:
        return np.arange(len(costs))
    order = np.argsort(costs, kind="stable")
    chosen, rest = list(order[: ACTIVE // 2]), order[ACTIVE // 2 :]
    features = layout.features(units)
    nearest = np.full(len(rest), np.inf)
    for place in chosen:
        nearest = np.minimum(nearest, np.square(features[rest] - features[place]).sum(1))
    while len(chosen) < ACTIVE:
        far = int(np.argmax(nearest))
        chosen.append(rest[far])
        nearest = np.minimum(nearest, np.square(features[rest] - features[rest[far]]).sum(1))
    return np.sort(np.array(chosen))
