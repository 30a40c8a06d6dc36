"""Surrogate: a model of a study's scores over the unit cube of its space."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_scale import ScoreScale
from tuneflow.errors import NothingFinished, StudyError, did_you_mean, listed, plural
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.gp.kernel import apart, between
from tuneflow.search.observations import Observations
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Array, Places
from tuneflow.validate import is_word

if TYPE_CHECKING:
    from tuneflow.search.gp.gaussian_process import GaussianProcess, Posterior

LEAST = 4  # configurations with a score
POINTS = 128  # that the model is conditioned on, at most
DRAWS = 8  # of the hyper-parameters, for predictions
NOISE = 0.03, 2.0  # median of the noise and standard deviation of its logarithm, before any score is seen
SAMPLE = 0.75  # of the points, for each process of `resampled`
ROUNDS, AGAIN = 25, 10  # of L-BFGS, for all points and for a sample of them
PLACES = 512  # random points that tell which part of the space each trial stands for


class Surrogate:
    """A Gaussian process fitted to the scores of a study, as a function of the unit cube of its space.

    All trials count: failed and diverged ones as worse than the worst, stopped and running ones with the score that
    they are extrapolated to, and a configuration that was trained several times once, with the mean.

    Args:
        record: the study's.
        metric: one of the objectives; None for the only one.

    Attributes:
        metric: the objective's metric.
        trials: number of configurations with a score, or without one as they failed.
        layout: the space's coordinates as the model sees them.
        flat: True if all scores are equal.
        scale: costs on the scale of the model.

    Raises:
        NothingFinished: fewer than 4 configurations have ended with a score or failed, or none has a score.
        StudyError: no such objective, or several and none named.
    """

    def __init__(self, record: StudyRecord, metric: str | None = None) -> None:
        goal = goal_of(record, metric)
        self.metric, maximize = record.objective.goals[goal]
        self._sign = -1.0 if maximize else 1.0
        scores = Observations.of(record.history)
        self.trials = 0 if scores is None else len(scores.numbers)
        if scores is None or self.trials < LEAST:
            raise NothingFinished(
                f"a model of {self.metric} needs {LEAST} configurations with a score; {plural(self.trials, 'trial')}"
                " can be used so far; run more."
            )
        self.layout, self._seed = FeatureMap(record.space), record.history.seed
        costs, errors = (array.reshape(self.trials, -1)[:, goal] for array in (scores.costs, scores.errors))
        self.flat = bool((costs == costs[0]).all())
        chosen = self._chosen()
        costs, errors, self._counts = costs[chosen], errors[chosen], scores.counts[chosen]
        self._features = self.layout.features(scores.units[chosen])
        self.scale = ScoreScale(costs, self._volumes())
        self._values = self.scale.compress(costs)
        self._variances = np.square(np.nan_to_num(errors * self.scale.slopes(costs)))

    def predict(self, units: Array) -> tuple[Array, Array]:
        """Return the mean of the metric and its standard deviation, without noise, at points of the unit cube.

        Args:
            units: shape (m, len(space)); NaN where not active.
        """
        features = self.layout.features(units)
        means, variances = (np.array(all_) for all_ in zip(*(p.predict(features) for p in self._fitted), strict=True))
        mean, sd = means.mean(0), np.sqrt(variances.mean(0) + means.var(0))
        low, high = self.scale.expand(mean - sd), self.scale.expand(mean + sd)
        return self._sign * self.scale.expand(mean), (high - low) / 2

    def resampled(self, count: int, rng: np.random.Generator) -> list["GaussianProcess"]:
        """Return processes, each fitted to and conditioned on a random three quarters of the trials.

        So they differ by more than one posterior does, whose model may be wrong. Bootstrap samples, with repetitions,
        gave wider intervals that covered less.

        Source: Politis, Romano, Large sample confidence regions based on subsamples, Annals of Statistics, 1994; of
        posteriors: Huggins, Miller, Reproducible model selection using bagged posteriors, Bayesian Analysis, 2023.
        """
        return [self._process(self._sample(rng), bool(turn % 2), rng) for turn in range(count)]

    @cached_property
    def _fitted(self) -> list["GaussianProcess"]:
        """Processes conditioned on all points, under several draws of the hyper-parameters."""
        points = self._posterior(self._whole).draws(self._likeliest, DRAWS, stream(self._seed, "surrogate"))
        return [self._conditioned(point, self._whole) for point in points]

    def _process(self, rows: Places, anew: bool, rng: np.random.Generator) -> "GaussianProcess":
        posterior = self._posterior(rows)
        fitted = posterior.fit(posterior.mean if anew else self._likeliest, AGAIN)
        return self._conditioned(posterior.draws(fitted, 1, rng)[0], rows)

    def _conditioned(self, point: Array, rows: Places) -> "GaussianProcess":
        from tuneflow.search.gp.gaussian_process import GaussianProcess

        scores = self._values[rows], self._variances[rows], self._counts[rows]
        return GaussianProcess(point, self.layout.owner, self._features[rows], *scores)

    def _posterior(self, rows: Places) -> "Posterior":
        from tuneflow.search.gp.gaussian_process import Posterior

        count = len(self._values)
        squared = self._apart.reshape(-1, count, count)[:, rows][:, :, rows].reshape(len(self._apart), -1)
        return Posterior(squared, self._values[rows], self._variances[rows], self._counts[rows], NOISE)

    @cached_property
    def _apart(self) -> Array:
        return apart(self._features, self.layout.owner, self.layout.scales)

    @cached_property
    def _likeliest(self) -> Array:
        posterior = self._posterior(self._whole)
        return posterior.fit(posterior.mean, ROUNDS)

    @property
    def _whole(self) -> Places:
        return np.arange(len(self._values))

    def _sample(self, rng: np.random.Generator) -> Places:
        count = len(self._values)
        return np.sort(rng.permutation(count)[: max(LEAST - 1, round(SAMPLE * count))])

    def _chosen(self) -> Places:
        """Return the rows of all observations, or of a random part of many."""
        rng = stream(self._seed, "surrogate", "points")
        return np.sort(rng.permutation(self.trials)[:POINTS])

    def _volumes(self) -> Array:
        """Return the number of random points of the space to which each trial is the nearest."""
        rng = stream(self._seed, "surrogate", "volumes")
        places = self.layout.features(self.layout.settled(rng.random((PLACES, len(self.layout.space)))))
        nearest = between(places, self._features).argmin(1)
        return np.bincount(nearest, minlength=len(self._features)).astype(np.float64)


def goal_of(record: StudyRecord, metric: str | None) -> int:
    """Return the index of an objective, by its metric; of the only one for None.

    Raises:
        StudyError: there is no such objective, or there are several and `metric` is None.
    """
    names = [name for name, _ in record.objective.goals]
    if metric is None and len(names) == 1:
        return 0
    if metric is None:
        raise StudyError(f'the study has several objectives; name one of {listed(names)}, as in "{names[0]}".')
    if not is_word(metric, names):
        raise StudyError(
            f'"{metric}" is no objective of the study.{did_you_mean(metric, names)} It has {listed(names)}.'
        )
    return names.index(metric)
