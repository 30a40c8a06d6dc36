"""Scheduler: the base class, and the decisions it may take."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tuneflow.history.history import History
from tuneflow.space.search_space import Config, SearchSpace


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the searcher for a new trial and train it to epoch `until`."""

    until: int


@dataclass(frozen=True, slots=True)
class Continue:
    """Train a paused trial on, to epoch `until`."""

    trial: int
    until: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a running or paused trial; its reports keep counting."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before something that is running reports."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a new trial with `config` from the state of `trial` after `epoch`, and train it to epoch `until`."""

    trial: int
    epoch: int
    config: Config
    until: int


Decision = Start | Continue | Fork | Stop | Wait


class Scheduler:
    """Says who trains next and how far. Subclass it and write `next`.

    A decision is a function of (space, history, rng), as a searcher's is. It is asked for whenever a
    worker is free, and after every report while something runs.
    """

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        """The next decision. `history.running` and `history.paused` say what there is to decide on."""
        raise NotImplementedError(f"{type(self).__name__} needs a method next(space, history, rng)")

    def check(self, history: History) -> None:
        """Raise ValueError when a study like this one cannot be scheduled; called once, when it is made."""

    def keep(self, history: History) -> Iterable[tuple[int, int]]:
        """(trial, epoch) of the states that later decisions may need, beside those of paused trials.

        Asked when a study is made, and after every decision.
        """
        return ()

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
