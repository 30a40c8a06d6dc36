"""Search along a Sobol sequence."""

import numpy as np
import torch
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import digest
from tuneflow.space.search_space import Config, SearchSpace

REPEATED = 1_000  # points in a row that repeat others, after which there are hardly any new ones
MOST = torch.quasirandom.SobolEngine.MAXDIM  # parameters
LOOKED = 2_000  # points for each trial that are checked against where=, after which it is drawn at random


class Sobol(Searcher):
    """The points of a scrambled Sobol sequence: random search without its gaps and clumps.

    The first 2^k points fill the unit cube evenly in every coordinate. The scrambling is fixed by the study's seed.
    Points that repeat a configuration are left out, and so are those that `where=` excludes; where it allows fewer than
    one in 2,000, or hardly any point is new, trials are random draws.

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

    by_number = True

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
    """The points of one space and seed as configurations, without repetitions and those that `where=` excludes.

    After so many of these in a row all points count, and the study replaces what it cannot take.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        self._points = np.empty((0, len(space)))
        self._new: list[Config] = []
        self._keys: set[bytes] = set()  # of these
        self._looked = self._repeated = 0  # number of points checked, and of the last ones that repeat others

    def __getitem__(self, number: int) -> Config | None:
        """Return the configuration of a trial; None where too few points are allowed and new to reach it."""
        if self.space.continuous and not self.space.where:
            return self._config(number)
        while len(self._new) <= number:
            if self._looked >= LOOKED * (len(self._new) + 1) or self._repeated >= REPEATED:
                return None
            self._check_next()
        return self._new[number]

    def _check_next(self) -> None:
        config = self._config(self._looked)
        self._looked += 1
        key = self.space.to_unit(config).tobytes()
        if key in self._keys:
            self._repeated += 1
        elif self.space.allows(config):
            self._new.append(config)
            self._keys.add(key)
            self._repeated = 0

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
