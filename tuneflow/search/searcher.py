"""Searcher: the base class of every search strategy."""

import math

import numpy as np

from tuneflow.history.history import History
from tuneflow.space.search_space import Config, NotAllowed, SearchSpace

ASKED = 1_000  # how often for a configuration that the space's where= allows


class Searcher:
    """Says where a new trial starts. Subclass it and write `suggest`.

    A suggestion is a function of (space, history, rng): what a searcher keeps on `self` is only a
    cache, and a fresh object that is given the same history decides the same. That is what lets a
    study be killed and resumed without a trace.

    Attributes:
        ends: whether `suggest` returns None some day, as a grid does; then a study needs no other limit.
    """

    ends: bool = False

    @property
    def said(self) -> str:
        """What there is to say of the last suggestion, such as a choice that it rests on; shown when it changes."""
        return ""

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        """The configuration of trial `history.number`, or None when there is nothing left to try.

        Args:
            rng: made for this trial alone; draw from it and from nothing else.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method suggest(space, history, rng)")

    def ranked(self, space: SearchSpace, history: History) -> list[int]:
        """Numbers of the ended trials that have a score, that first of which most is to be expected.

        By default in the order of what was observed; a searcher that models noise can know better. `study.confirm`
        asks for it. With several objectives the first one counts.
        """
        scored = [trial for trial in history.finished if history.cost(trial) < math.inf]
        return [trial.number for trial in sorted(scored, key=lambda trial: (history.rank(trial), trial.number))]

    def check(self, space: SearchSpace) -> None:
        """Raise ValueError when `space` cannot be searched; called once, when a study is made."""

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


def proposed(searcher: Searcher, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
    """What `searcher` suggests, cast; asked again with the same generator while `where=` excludes it.

    Raises:
        ValueError: the suggestion is not in the space, or a thousand were excluded.
    """
    attempt = 0
    while True:
        attempt += 1
        config = searcher.suggest(space, history, rng)
        if config is None:
            return None
        try:
            return space.cast(config)
        except ValueError as error:
            if not isinstance(error, NotAllowed) or attempt == ASKED:
                raise ValueError(f"{searcher!r} proposed for trial {history.number}: {error}") from None
