"""The check of a searcher: what it proposes over several kinds of space and of history."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from tuneflow.errors import NothingFinished, StudyError, ending_where
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Status, Trial
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import stream
from tuneflow.space.parameters import Choice, Float, Int
from tuneflow.space.permutation import Permutation
from tuneflow.space.priors import Normal
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.testing.common import require, untouched
from tuneflow.testing.small_space import check_small_space

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "one dimension": lambda: SearchSpace(x=Float(-1.0, 1.0)),
    "sections": lambda: SearchSpace(
        model={"width": Int(4, 64, log=True)}, optimizer={"lr": Float(1e-4, 1.0, log=True)}
    ),
    "discrete": lambda: SearchSpace(a=Int(0, 9), b=Choice(["x", "y", "z"]), c=Choice([1, 2, 4], ordered=True)),
    "conditional": lambda: SearchSpace(
        kind=Choice({"a": SearchSpace(p=Float(0.0, 1.0), q=Int(1, 5)), "b": SearchSpace(r=Float(1e-3, 1.0, log=True))})
    ),
    "constrained": lambda: SearchSpace(where=_uneven, x=Float(0.0, 1.0), y=Float(0.0, 1.0)),
    "tied, with an order": lambda: SearchSpace(
        where=_tied, x=Int(0, 9), y=Int(0, 9), order=Permutation(["a", "b", "c", "d"]), z=Float(0.0, 1.0)
    ),
    "priors": lambda: SearchSpace(
        lr=Float(1e-4, 1.0, log=True, prior=Normal(0.01, 0.5)), kind=Choice({"a": 1, "b": 2}, prior=[0.9, 0.1])
    ),
    "thirty dimensions": lambda: SearchSpace(**{f"x{i}": Float(0.0, 1.0) for i in range(30)}),
}


def _uneven(config: Config) -> bool:
    return bool(config["x"] > config["y"])


def _tied(config: Config) -> bool:
    return bool(config["x"] == config["y"])


def check_searcher(make: Callable[[], Searcher], trials: int = 12) -> None:
    """Check that a searcher proposes allowed configurations, from the history and its rng alone.

    Over several kinds of space, and over histories where trials end in several ways: one by one with good, equal,
    diverged and failed ones among them; four at once, ended out of order, one of them paused; the first half all
    failed; all equal; with two objectives, unless the searcher asks for the best of several. A fresh searcher proposes
    what the kept one does; proposals pass the space's cast; the seed is obeyed (unless the searcher ends by itself, as
    a grid); its `repr`, the global generators and the history do not change.

    Of six configurations each is tried, unless the searcher ends before; one whose `ends` is True ends by itself; and
    the scores do not matter to one whose `by_number` is True.

    Args:
        make: returns a new searcher, configured alike each time.
        trials: number of proposals in each of them.

    Raises:
        AssertionError: a rule is broken; the message names the space and the rule.

    Example:
        >>> from tuneflow.search.random import Random
        >>> check_searcher(Random, trials=4)
    """
    for name, space in SPACES.items():
        first = _proposals(make, space(), 0, trials, name, _one_by_one)
        other = _proposals(make, space(), 1, trials, name, _one_by_one)
        ends = _checked(make, space()).ends
        require(not first or ends or first != other, name, "another seed gave the same proposals: the rng is not used")
    for name in ("discrete", "conditional"):
        for way, record in WAYS.items():
            _proposals(make, SPACES[name](), 0, trials, f"{name}, {way}", record)
    check_small_space(make)


def _proposals(
    make: Callable[[], Searcher], space: SearchSpace, seed: int, trials: int, name: str, record: Callable[..., None]
) -> list[Any]:
    goals = (("loss", False), ("size", True)) if record is _several else (("loss", False),)
    kept, history = make(), History(space, Objective(goals), seed, 1)
    try:
        kept.check(space)
    except ValueError:
        return []
    proposals: list[Any] = []
    for number in range(trials):
        history.remaining = trials - number
        with untouched(name):
            try:
                config, fresh = (_asked(each, space, history, seed, name) for each in (kept, _checked(make, space)))
            except StudyError as error:
                taken = len(goals) == 1 or isinstance(error, NothingFinished)
                require(not taken, name, f"it asks for what the study does not have: {error}")
                return proposals
        require(len(history) == number, name, "the history was changed")
        found = f"a fresh searcher proposed {fresh} for trial {number}, the kept one {config}"
        require(config == fresh, name, f"{found}; a suggestion needs to follow from space, history and rng alone")
        if config is None:
            break
        proposals.append(config)
        record(history, number, config)
    require(repr(kept) == repr(make()), name, f"its settings were changed from {make()!r} to {kept!r}")
    return proposals


def _checked(make: Callable[[], Searcher], space: SearchSpace) -> Searcher:
    searcher = make()
    with suppress(ValueError):
        searcher.check(space)
    return searcher


def _asked(searcher: Searcher, space: SearchSpace, history: History, seed: int, name: str) -> Config | None:
    try:
        return proposed(searcher, space, history, stream(seed, "search", history.number))
    except StudyError:
        raise
    except ValueError as error:
        raise ending_where(error, AssertionError(f"{name}: {error}")) from None
    except Exception as error:
        raise ending_where(error, AssertionError(f"{name}: {type(error).__name__}: {error}")) from None


def _one_by_one(history: History, number: int, config: Config) -> None:
    """Record mostly a bowl around the middle; now and then a diverged, failed or equal trial."""
    if number % 5 == 3:
        history.record(Trial(number, config, "DIVERGED" if number % 2 else "FAILED", "made up"))
    else:
        history.record(_done(number, config, loss=1.0 if number % 4 == 2 else _bowl(history, config)))


def _in_batches(history: History, number: int, config: Config) -> None:
    history.record(Trial(number, config))
    if number % 4 == 3:
        for place in (2, 0, 3):
            trial = history.trials[number - 3 + place]
            history.record(_done(trial.number, trial.config, loss=_bowl(history, trial.config)))
        waits = history.trials[number - 2]
        history.record(_done(waits.number, waits.config, "PAUSED", loss=_bowl(history, waits.config)))


def _failing(history: History, number: int, config: Config) -> None:
    if number < history.remaining:
        history.record(Trial(number, config, "FAILED" if number % 2 else "DIVERGED", "made up"))
    else:
        history.record(_done(number, config, loss=_bowl(history, config)))


def _equal(history: History, number: int, config: Config) -> None:
    history.record(_done(number, config, loss=1.0))


def _several(history: History, number: int, config: Config) -> None:
    if number % 5 == 3:
        history.record(Trial(number, config, "FAILED", "made up"))
    else:
        size = float(np.nansum(history.space.to_unit(config)))
        history.record(_done(number, config, loss=_bowl(history, config), size=size))


WAYS: dict[str, Callable[..., None]] = {
    "four at once": _in_batches,
    "the first ones failed": _failing,
    "all equal": _equal,
    "two objectives": _several,
}


def _bowl(history: History, config: Config) -> float:
    return float(np.nansum((history.space.to_unit(config) - 0.5) ** 2))


def _done(number: int, config: Config, status: Status = "DONE", **metrics: float) -> Trial:
    return Trial(number, config, status, metrics=metrics, epochs=1, reports=(Report(1, metrics),))
