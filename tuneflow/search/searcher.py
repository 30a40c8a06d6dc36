"""Searcher: the base class of every search strategy."""

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from operator import is_
from typing import Any, Generic, TypeVar

import numpy as np

from tuneflow.history.history import History
from tuneflow.search.promising import promising
from tuneflow.search.shifted_history import shifted
from tuneflow.search.untried import untried
from tuneflow.seeds import stream
from tuneflow.space.search_space import Config, NotAllowed, SearchSpace

T = TypeVar("T")
log = logging.getLogger("tuneflow")
ASKED = 100  # how often a searcher is asked for a configuration that the space's where= allows
REPEATED = 16  # and how often for one that was not tried


class Searcher:
    """Proposes the configuration of each new trial. Subclass it and write `suggest`.

    A suggestion is a function of (space, history, rng): attributes are only a cache, and a fresh object that is given
    the same history proposes the same. Therefore a study can be killed and resumed, and continues as if it had not
    been.

    In a paired study a configuration without a continuous parameter is trained once. A searcher that proposes one again
    is asked again, and after that an untried one takes its place, so `suggest` need not see to it.

    Attributes:
        ends: True if `suggest` returns None eventually, as a grid does; then a study needs no other limit.
        repeats: True if it proposes configurations again on purpose; each of these trainings has a seed of its own.
        by_number: True if suggestions follow from `history.number` and the seed, and not from other trials. Then
            several processes agree on what replaces a repetition.

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
    repeats: bool = False
    by_number: bool = False

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


def proposed(
    searcher: Searcher,
    space: SearchSpace,
    history: History,
    rng: np.random.Generator,
    once: bool = True,
    refused: Collection[Config] = (),
) -> Config | None:
    """Return the configuration of trial `history.number`: the searcher's suggestion, cast; None where it ends.

    It is asked again with the same generator while `where=` excludes its suggestion or it was tried before; then an
    untried configuration takes its place. Configurations with a continuous parameter count as untried, and so do forks.
    Where all were tried, one that was comes again, unless the searcher `ends`: a drawn one where suggestions go
    `by_number`, else a good one.

    Args:
        searcher: makes the suggestion.
        space: the space to propose from.
        history: all trials so far.
        rng: the trial's generator.
        once: False allows configurations that were tried, as a searcher with `repeats` does.
        refused: configurations that the study would not take.

    Raises:
        ValueError: the suggestion is not in the space.
    """
    if not once or searcher.repeats or space.continuous:
        return _asked(searcher, space, history, rng, lambda _: False)
    before = history.number if searcher.by_number else math.inf
    others = [*_foreseen(searcher, space, history), *refused] if searcher.by_number else refused
    return _asked(searcher, space, history, rng, _Tried(space, history, before, others))


def _foreseen(searcher: Searcher, space: SearchSpace, history: History) -> list[Config]:
    """Return the configurations that other processes will have for the lower numbers that they have claimed."""
    configs: list[Config] = []
    for number in history.unknown:
        rng, then = stream(history.seed, "search", number), shifted(history, history.number - number)
        config = _asked(searcher, space, then, rng, _Tried(space, history, number, configs))
        configs += [] if config is None else [config]
    return configs


@dataclass(frozen=True)
class _Tried:
    """True for a configuration that may not be proposed, as it can be counted and was tried before.

    Attributes:
        before: number below which trials count.
        others: configurations that count as well.
    """

    space: SearchSpace
    history: History
    before: float
    others: Collection[Config]

    def __call__(self, config: Config) -> bool:
        if not self.space.discrete(config):
            return False
        first = self.history.first(config)
        return (first is not None and first < self.before) or config in self.others


def _asked(
    searcher: Searcher, space: SearchSpace, history: History, rng: np.random.Generator, tried: Callable[[Config], bool]
) -> Config | None:
    excluded = repeated = 0
    while excluded < ASKED and repeated < REPEATED:
        before = rng.bit_generator.state
        config = searcher.suggest(space, history, rng)
        if config is None:
            return None
        try:
            config = space.cast(config)
        except NotAllowed:
            excluded += 1
            continue
        except ValueError as error:
            raise ValueError(f"{searcher!r} proposed for trial {history.number}: {error}") from None
        if not tried(config):
            return config
        repeated = repeated + 1 if rng.bit_generator.state != before else REPEATED
    if not repeated:
        log.info("where= excluded %d proposals of %r for trial %d: drawn at random", ASKED, searcher, history.number)
    left = untried(space, tried, rng)
    if left is not None or searcher.ends:
        return left
    return (None if searcher.by_number else promising(history)) or space.sample(rng)
