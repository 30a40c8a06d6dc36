"""tn.minimize and tn.maximize: a plain function, tuned in one call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneflow.errors import in_one_line, warn
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.searcher import Searcher
from tuneflow.signature import check_complete, check_keywords, hinting, name_of
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.folder import Folder
from tuneflow.study.result import Result
from tuneflow.study.short_interrupts import short_interrupts
from tuneflow.study.study import Study
from tuneflow.train.function_trainer import Function


@short_interrupts
@hinting
def minimize(
    f: Callable[..., Any],
    space: SearchSpace,
    *,
    trials: int,
    metric: str = "value",
    searcher: Searcher | None = None,
    scheduler: Scheduler | None = None,
    folder: str | Path | Folder | None = None,
    seed: int = 0,
    runtime: Runtime | None = None,
    progress: bool = False,
) -> Result:
    """Return the trial with the smallest value of `f`, which is called with the names of `space` as keyword arguments.

    Args:
        f: returns a number; or a dict of numbers, of which `metric` counts. A pair (value, standard error) in place of
            a number makes its noise known to the searcher.
        space: the search space; its names are f's arguments.
        trials: number of calls in all; with a folder, those of earlier runs included.
        metric: the name of the number to minimize, where `f` returns a dict.
        searcher: proposes configurations; Random() by default.
        scheduler: decides which trial goes on; Full() by default.
        folder: a path or tn.Folder to keep the study in; None keeps it in memory.
        seed: any int; the only source of randomness.
        runtime: the number of worker processes; Runtime() by default.
        progress: print a line for each finished trial.

    Raises:
        TypeError: `f` does not take the space's names.
        StudyError: five calls in a row failed.
        SystemExit: `f` raised it in this process, or another BaseException that is no error. That trial is FAILED, the
            others are run, and then it is raised again.

    Example:
        >>> from tuneflow import Float
        >>> best = minimize(lambda x: (x - 1) ** 2, SearchSpace(x=Float(-5, 5)), trials=50)
        >>> abs(best.config["x"] - 1) < 0.5
        True
    """
    return _best(
        f, space, trials, minimize=metric, searcher=searcher, scheduler=scheduler, folder=folder, seed=seed,
        runtime=runtime, progress=progress,
    )  # fmt: skip


@short_interrupts
@hinting
def maximize(  # noqa: D417 (as for minimize)
    f: Callable[..., Any],
    space: SearchSpace,
    *,
    trials: int,
    metric: str = "value",
    searcher: Searcher | None = None,
    scheduler: Scheduler | None = None,
    folder: str | Path | Folder | None = None,
    seed: int = 0,
    runtime: Runtime | None = None,
    progress: bool = False,
) -> Result:
    """Return the trial with the largest value of `f`.

    Args:
        f, space, trials, metric: as for `minimize`.
        searcher, scheduler, folder, seed, runtime, progress: as Study's.

    Raises:
        TypeError, StudyError: as `minimize`.

    Example:
        >>> from tuneflow import Float
        >>> best = maximize(lambda x: -((x - 1) ** 2), SearchSpace(x=Float(-5, 5)), trials=50)
        >>> abs(best.config["x"] - 1) < 0.5
        True
    """
    return _best(
        f, space, trials, maximize=metric, searcher=searcher, scheduler=scheduler, folder=folder, seed=seed,
        runtime=runtime, progress=progress,
    )  # fmt: skip


def _best(f: Callable[..., Any], space: SearchSpace, trials: int, **settings: Any) -> Result:
    """Tune `f` and return the best trial; `settings` are arguments of Study."""
    trainer = Function(f)
    way = "minimize" if "minimize" in settings else "maximize"
    metric = settings[way]
    if not isinstance(metric, str):
        raise TypeError(
            f"tn.{way}: metric needs the name of one number, got {metric!r}; for several objectives, make a tn.Study"
            " and a tn.loop."
        )
    if isinstance(space, SearchSpace):
        check_keywords(f, space.entries, "space")
        check_complete(f, space.entries, "space")
    with Study(space=space, trainer=trainer, **settings) as study:
        study.run(trials=trials)
        if trainer.exit is not None:  # the program asked to end, which is not to be lost
            best = f"The best is {study.best!r}" if study.history.leader else "None has a score"
            error = in_one_line(trainer.exit)
            warn(f"{name_of(f)} raised {error}, which is raised again now that other trials ran. {best}.")
            raise trainer.exit
        return study.best
