"""Auto: choose a searcher by the space, the number of trials and the objectives."""

import logging
import math
from collections.abc import Callable

import numpy as np

from tuneflow.errors import plural
from tuneflow.history.history import History
from tuneflow.search.evolution.cmaes import CMAES
from tuneflow.search.evolution.nsga2 import NSGA2
from tuneflow.search.exhaustive import Exhaustive, everything
from tuneflow.search.gp.gp import GP
from tuneflow.search.lecun import LeCun
from tuneflow.search.roles import role_of
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.tpe import TPE
from tuneflow.search.untried import untried
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.search_space import Config, SearchSpace

log = logging.getLogger("tuneflow")

TINY = 16  # of so many configurations all are tried, in a random order
SMALL = 1_000  # of so many all are tried as well, the promising ones first; then there is nothing left
LONG = 1_000  # trials for which a Gaussian process is worth its time
FRONT = 300  # the same with several objectives
CROWD = 64  # trials under way, for which a Gaussian process can make up scores
MANY = 5  # numbers from which on a distribution of them is followed to the end,
NUMBERS = 500  # after so many trials


class Auto(Searcher):
    """Chooses among the other searchers, and logs which one and why.

    - At most 16 configurations: all of them, once, in a random order.
    - Several objectives: GP for 300 trials, then NSGA2.
    - More than 64 running trials: TPE.
    - Five or more numbers, no labels and no orders: GP for 500 trials, then CMAES.
    - All else: GP for 1,000 trials, then TPE.

    The first line that holds counts. LeCun precedes each of them but the first, where there is a model to measure and a
    learning rate to tune. A study of a finite space ends when all configurations were tried.

    The choice depends on the trials so far and never on how many are planned: a study that runs for 50 trials and then
    to 200 has the same trials as one that runs to 200 at once. A new searcher learns from all earlier trials.

    A change is shown by the study's progress and logged to `tuneflow`; `choice` returns the current one.

    Raises:
        ValueError: when the study is made: the space has more than 21,201 parameters.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(lambda x: (x - 1) ** 2, space, trials=12, searcher=Auto())
        >>> abs(best.config["x"] - 1) < 0.5
        True
    """

    def __init__(self) -> None:
        self._made: dict[str, Searcher] = {}
        self._count = Latest(_count)
        self._chosen = self._notice = ""
        self._ends = False

    @property
    def ends(self) -> bool:  # type: ignore[override]
        """True if the space that was checked is finite: the study ends when all of it was tried."""
        return self._ends

    @property
    def notice(self) -> str:
        return self._notice

    def check(self, space: SearchSpace) -> None:
        self._ends = math.isfinite(space.size)
        TPE().check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        if history.number >= space.size and self._all_tried(space, history, rng):
            return None
        searcher, reason = self.choice(space, history)
        if repr(searcher) != self._chosen:
            resumed = history.number and not self._chosen
            where = f"goes on at trial {history.number}" if resumed else f"from trial {history.number} on"
            self._chosen = repr(searcher)
            self._notice = f"Auto: {searcher!r} {where}, for {reason}"
            log.info("%s", self._notice)
        return searcher.suggest(space, history, rng)

    def _all_tried(self, space: SearchSpace, history: History, rng: np.random.Generator) -> bool:
        return untried(space, lambda config: history.first(config) is not None, rng) is None

    def ranked(self, space: SearchSpace, history: History) -> list[int]:
        return self.choice(space, history)[0].ranked(space, history)

    def choice(self, space: SearchSpace, history: History) -> tuple[Searcher, str]:
        """The searcher that proposes trial `history.number`, and the reason."""
        make, reason = _choice(space, history, self._count(space))
        rates = [axis.name for axis in space.coordinates if role_of(axis) == "lr"]
        if make is Exhaustive or history.prober is None or not rates:
            return self._kept(make.__name__, make), reason
        when = "was" if history.number else "is"
        searcher = self._kept(f"LeCun {make.__name__}", lambda: LeCun(make()))
        return searcher, f"{reason}; {rates[0]} {when} measured first"

    def _kept(self, key: str, make: Callable[[], Searcher]) -> Searcher:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _count(space: SearchSpace) -> float:
    """Return the number of configurations to try; inf where there are too many to try all."""
    return everything(space).total if space.size <= SMALL else math.inf


def _choice(space: SearchSpace, history: History, count: float) -> tuple[Callable[[], Searcher], str]:
    number, waiting = history.number, len(history.running)
    if count <= TINY:
        return Exhaustive, f"{count:.0f} configurations in all"
    if number >= count:
        return Exhaustive, f"what is left of {count:.0f} configurations"
    if history.objective.several:
        goals = f"{len(history.objective.goals)} objectives"
        return (GP, f"{goals} and less than {FRONT} trials") if number < FRONT else (NSGA2, f"{goals}, {FRONT} trials")
    if waiting > CROWD:
        return TPE, f"{waiting} trials under way at once"
    axes = Coordinates(space)
    labels, numbers = int(axes.labels.sum()) + len(axes.orders), int(axes.numbers.sum())
    follow = numbers >= MANY and not labels
    most, what = (NUMBERS, plural(numbers, "number")) if follow else (LONG, plural(len(space), "parameter"))
    if number < most:
        return GP, f"less than {most:,} trials of {what}"
    return CMAES if follow else TPE, f"{most:,} trials of {what}"
