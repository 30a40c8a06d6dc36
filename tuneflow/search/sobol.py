"""Search along a Sobol sequence."""

import numpy as np
import torch

from tuneflow.search.searcher import Searcher
from tuneflow.seeds import digest
from tuneflow.space import Config, SearchSpace
from tuneflow.trial import History


class Sobol(Searcher):
    """The points of a scrambled Sobol sequence: random search without its gaps and clumps.

    The first 2^k points fill the unit cube evenly in every coordinate. The scrambling is fixed by the
    study's seed.

    Source: Sobol, 1967; Owen's scrambling, 1998, in the linear form of Matousek, 1998 (torch's engine).
    """

    def __init__(self) -> None:
        self._made: tuple[tuple[int, int], np.ndarray] | None = None

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        key = (len(space), history.seed)
        if self._made is None or self._made[0] != key or history.number >= len(self._made[1]):
            count = max(64, 1 << history.number.bit_length())
            self._made = (key, _points(count, *key))
        return space.from_unit(self._made[1][history.number])

    def check(self, space: SearchSpace) -> None:
        if len(space) > torch.quasirandom.SobolEngine.MAXDIM:
            raise ValueError(
                f"Sobol: at most {torch.quasirandom.SobolEngine.MAXDIM} parameters, got {len(space)}; use tn.Random()."
            )


def _points(count: int, dimensions: int, seed: int) -> np.ndarray:
    """The first `count` points, shape (count, dimensions), in [0, 1]."""
    if dimensions == 0:
        return np.empty((count, 0))
    number = digest(seed, "sobol") & (2**63 - 1)
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=number)  # type: ignore[no-untyped-call]
    drawn: np.ndarray = engine.draw(count, dtype=torch.float64).numpy()
    return drawn
