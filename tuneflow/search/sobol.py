"""Search along a Sobol sequence."""

import numpy as np
import torch
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import digest
from tuneflow.space.search_space import Config, SearchSpace

MOST = torch.quasirandom.SobolEngine.MAXDIM  # parameters
LOOKED = 2_000  # points for each trial that are checked against where=, after which it is drawn at random


class Sobol(Searcher):
    """The points of a scrambled Sobol sequence: random search without its gaps and clumps.

    The first 2^k points fill the unit cube evenly in every coordinate. The scrambling is fixed by the study's seed.
    Points that `where=` excludes are left out; where it allows fewer than one in 2,000, trials are random draws.

    Raises:
        ValueError: when the study is made: the space has more than 21,201 parameters.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> best = tn.minimize(lambda x: abs(x - 0.5), space, trials=16, searcher=Sobol())
        >>> abs(best.config["x"] - 0.5) <= 1 / 16
        True

    Source: Sobol, 1967; Owen's scrambling, 1998, in the linear form of Matousek, 1998 (torch's engine).
    """

    def __init__(self) -> None:
        self._sequence = Latest(_Sequence)

    @override
    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        config = self._sequence(space, history.seed)[history.number]
        return space.sample(rng) if config is None else config

    def check(self, space: SearchSpace) -> None:
        if len(space) > MOST:
            raise ValueError(f"Sobol: at most {MOST} parameters, got {len(space)}; use tn.Random().")


class _Sequence:
    """The points of one space and seed as configurations, without those that `where=` excludes."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        self._points = np.empty((0, len(space)))
        self._allowed: list[Config] = []
        self._looked = 0  # number of points checked against where=

    def __getitem__(self, number: int) -> Config | None:
        """Return the configuration of a trial; None where `where=` allows too few points to reach it."""
        if not self.space.where:
            return self._config(number)
        while len(self._allowed) <= number:
            if self._looked >= LOOKED * (len(self._allowed) + 1):
                return None
            config = self._config(self._looked)
            self._looked += 1
            if self.space.allows(config):
                self._allowed.append(config)
        return self._allowed[number]

    def _config(self, place: int) -> Config:
        if place >= len(self._points):
            self._points = sobol_points(max(64, 1 << place.bit_length()), len(self.space), self.seed)
        return self.space.from_unit(self.space.quantile(self._points[place]))


def sobol_points(count: int, dimensions: int, seed: int) -> np.ndarray:
    """The first `count` points, shape (count, dimensions), in [0, 1]."""
    if dimensions == 0:
        return np.empty((count, 0))
    number = digest(seed, "sobol") & (2**63 - 1)
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=number)  # type: ignore[no-untyped-call]
    return np.asarray(engine.draw(count, dtype=torch.float64))
