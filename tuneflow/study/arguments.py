"""What a Study is given, checked: kinds, paths, seconds and callbacks."""

from collections.abc import Callable, Iterable
from typing import Any

from tuneflow.history.trial import Trial
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.searcher import Searcher
from tuneflow.space.search_space import SearchSpace
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.validate import check_whole

Callback = Callable[[Any, Trial], None]  # (study, trial)


def check_kinds(study: Any) -> None:
    """Raise TypeError unless the parts of a study are of their kinds."""
    for name, value, kind in (
        ("space", study.space, SearchSpace),
        ("searcher", study.searcher, Searcher),
        ("scheduler", study.scheduler, Scheduler),
        ("runtime", study.runtime, Runtime),
        *((("model", study.model, Model),) if study.model is not None else ()),
    ):
        if not isinstance(value, kind):
            hint = " (an instance: add parentheses)" if isinstance(value, type) else ""
            raise TypeError(f"Study: {name} needs a tn.{kind.__name__}, got {value!r}{hint}.")
    if isinstance(study.seed, bool) or not isinstance(study.seed, int):
        raise TypeError(f"Study: seed needs to be a whole number, got {study.seed!r}.")


def lag_of(lag: Any, places: int, trainer: Any) -> int | None:
    """`lag` as a Study can keep it, or a ValueError."""
    if lag is None:
        return None
    check_whole("Study: lag", lag, otherwise="for none")
    if trainer is None:
        raise ValueError("Study: lag orders what run trains, and without a trainer there is no run; leave it out.")
    if lag < places:
        raise ValueError(
            f"Study: lag={lag} leaves {places - lag} of {places} workers or lanes idle, as at most {lag} are under way;"
            f" use lag={places} or more, or fewer of them."
        )
    return int(lag)


def callbacks_of(callbacks: Any) -> list[Callback]:
    """The callbacks as a list, each of them callable."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"Study: callbacks needs to be a list of functions (study, trial), got {callbacks!r}.")
    made = list(callbacks)
    for callback in made:
        if not callable(callback):
            raise TypeError(f"Study: callbacks need to be callable, as callback(study, trial), got {callback!r}.")
    return made


def check_trainer(trainer: Any) -> None:
    """Raise TypeError for what cannot train."""
    if trainer is not None and not isinstance(trainer, TrainerProtocol):
        raise TypeError(
            f"Study: trainer needs a tn.Trainer, or a function under @tn.loop(epochs=...), got {trainer!r};"
            " tn.minimize(f, space, trials=...) tunes a plain function."
        )


def check_precision_used(trainer: TrainerProtocol | None, runtime: Runtime) -> None:
    """Raise ValueError for a precision or layout that nothing would be trained in."""
    if runtime.label and (trainer is None or not trainer.uses_runtime):
        what = "a plain function" if trainer is not None else "a study without a trainer"
        raise ValueError(f"{what} does not compute in the runtime's {runtime.label}; leave it out of {runtime!r}.")
