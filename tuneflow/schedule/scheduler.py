"""Scheduler: the base class, and the decisions that it returns."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tuneflow.history.history import History
from tuneflow.space.search_space import Config, SearchSpace


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the searcher for a new trial and train it.

    Args:
        until: the last epoch to train, counted from 1.
    """

    until: int


@dataclass(frozen=True, slots=True)
class Continue:
    """Train a paused trial on.

    Args:
        trial: its number.
        until: the last epoch to train, counted from 1.
    """

    trial: int
    until: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a running or paused trial; its reports keep counting.

    Args:
        trial: its number.
        reason: stored and shown with the trial, such as "worse than 3 of 4 at epoch 2".
    """

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until a running trial reports."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a new trial from the state of another one.

    Args:
        trial: number of the trial that is forked.
        epoch: the epoch after which its state is taken.
        config: the configuration of the new trial.
        until: the last epoch to train, counted from 1 as in the trial that is forked.
    """

    trial: int
    epoch: int
    config: Config
    until: int


Decision = Start | Continue | Fork | Stop | Wait


class Scheduler:
    """Decides which trial trains next and how far. Subclass it and write `next`.

    A decision is a function of (space, history, rng), like a searcher's suggestion. `next` is called whenever a worker
    is free, and after every report while something runs.

    Example:
        >>> class Short(Scheduler):
        ...     def next(self, space, history, rng):
        ...         return Start(min(2, history.epochs))
        >>> Short()
        Short()
    """

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        """Return the next decision for the trials in `history.running` and `history.paused`.

        Args:
            space: the study's space.
            history: all trials so far; read-only.
            rng: a generator for this decision alone; the only source of randomness.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method next(space, history, rng)")

    def check(self, history: History) -> None:
        """Raise ValueError when a study like this one cannot be scheduled; called once, when the study is made."""

    def keep(self, history: History) -> Iterable[tuple[int, int]]:  # noqa: ARG002
        """Return (trial, epoch) of the states that later decisions may need, besides those of paused trials.

        Called when a study is made, and after every decision.
        """
        return ()

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
