"""Searcher: the base class of every search strategy."""

import logging
import math
from collections.abc import Callable
from operator import is_
from typing import Any, Generic, TypeVar

import numpy as np

from tuneflow.history.history import History
from tuneflow.space.search_space import Config, NotAllowed, SearchSpace

T = TypeVar("T")
log = logging.getLogger("tuneflow")
ASKED = 100  # how often a searcher is asked for a configuration that the space's where= allows


class Searcher:
    """Proposes the configuration of each new trial. Subclass it and write `suggest`.

    A suggestion is a function of (space, history, rng): attributes are only a cache, and a fresh object that is given
    the same history proposes the same. Therefore a study can be killed and resumed, and continues as if it had not
    been.

    Attributes:
        ends: True if `suggest` returns None eventually, as a grid does; then a study needs no other limit.

    Example:
        >>> class Climb(Searcher):
        ...     def suggest(self, space, history, rng):
        ...         if not history.finished:
        ...             return space.sample(rng)
        ...         step = 0.1 * rng.standard_normal(len(space))
        ...         return space.from_unit((space.to_unit(history.best.config) + step).clip(0, 1))
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(lambda x: (x - 1) ** 2, space, trials=30, searcher=Climb())
        >>> abs(best.config["x"] - 1) < 0.5
        True
    """

    ends: bool = False

    @property
    def notice(self) -> str:
        """A notice on the last suggestion, such as the searcher that made it; shown when it changes."""
        return ""

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        """Return the configuration of trial `history.number`, or None when there is nothing left to try.

        Args:
            space: the space to propose from.
            history: all trials so far; read-only.
            rng: a generator for this trial alone; the only source of randomness.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method suggest(space, history, rng)")

    def ranked(self, space: SearchSpace, history: History) -> list[int]:  # noqa: ARG002
        """Numbers of the ended trials with a score, the one with the best expected score first.

        By default in the order of the observed scores; a searcher that models noise can do better. `study.confirm` uses
        it. With several objectives the first one counts.
        """
        scored = [trial for trial in history.finished if history.cost(trial) < math.inf]
        return [trial.number for trial in sorted(scored, key=lambda trial: (history.rank(trial), trial.number))]

    def check(self, space: SearchSpace) -> None:
        """Raise ValueError when `space` cannot be searched; called once, when a study is made."""

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


class Latest(Generic[T]):
    """A searcher's cache: the latest result of `make`, kept while its arguments are the same objects.

    A history counts as the same where its trials are, so a shifted one does too.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: tuple[list[Any], T] | None = None

    def __call__(self, *arguments: Any) -> T:
        keys = [getattr(argument, "trials", argument) for argument in arguments]
        if self._kept is None or not all(map(is_, keys, self._kept[0])):
            self._kept = keys, self._make(*arguments)
        return self._kept[1]


def proposed(searcher: Searcher, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
    """Return a searcher's suggestion, cast; ask again with the same generator while `where=` excludes it.

    A searcher that has not met `where=` after so many tries is replaced by a draw from the space with that generator.

    Raises:
        ValueError: the suggestion is not in the space.
    """
    for _ in range(ASKED):
        config = searcher.suggest(space, history, rng)
        if config is None:
            return None
        try:
            return space.cast(config)
        except NotAllowed:
            continue
        except ValueError as error:
            raise ValueError(f"{searcher!r} proposed for trial {history.number}: {error}") from None
    log.info("where= excluded %d proposals of %r for trial %d: drawn at random", ASKED, searcher, history.number)
    return space.sample(rng)
