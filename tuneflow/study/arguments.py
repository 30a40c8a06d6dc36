"""Arguments of a Study, checked, and brought into the library's own terms: kinds, objective, limits, lag."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tuneflow.errors import did_you_mean, listed, warn
from tuneflow.history.objective import Limit, Objective
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.searcher import Searcher
from tuneflow.signature import name_of
from tuneflow.space.search_space import SearchSpace
from tuneflow.study.within import Within, more_is_better
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.reported_metrics import described
from tuneflow.validate import check_whole, is_int, is_number, is_word, shown

ELSEWHERE = {  # arguments that a Study does not take, and what does
    **{name: f"folder=tn.Folder(path, {name}=...)" for name in ("keep", "checkpoint", "memory", "durable")},
    **{name: f"trainer=tn.Trainer(..., {name}=...)" for name in ("batch_size", "loss", "metrics", "folds")},
    **{
        name: f"runtime=tn.Runtime({name}=...)"
        for name in ("device", "devices", "workers", "lanes", "threads", "precision")
    },
    **{name: f"study.run({name}=...)" for name in ("trials", "seconds", "target", "plateau")},
    "n_trials": "study.run(trials=...)",
    "timeout": "study.run(seconds=...)",
    "direction": 'maximize="accuracy", or minimize="loss",',
    "storage": 'folder="runs/first"',
    "sampler": "searcher=tn.TPE()",
    "pruner": "scheduler=tn.Hyperband()",
}
INSTANCE = " (an instance: add parentheses, with the arguments in them)"


def check_kinds(space: Any, searcher: Any, scheduler: Any, runtime: Any, model: Any, trainer: Any, seed: Any) -> None:
    """Raise TypeError unless the parts of a study are of their kinds."""
    for name, value, kind in (
        ("space", space, SearchSpace),
        ("searcher", searcher, Searcher),
        ("scheduler", scheduler, Scheduler),
        ("runtime", runtime, Runtime),
        ("model", model, Model),
    ):
        if not (value is None and name == "model"):
            check_kind(name, value, kind)
    if not is_int(seed):
        raise TypeError(f"Study: seed needs to be a whole number, got {shown(seed)}.")
    if trainer is not None and not isinstance(trainer, TrainerProtocol):
        hint = INSTANCE if isinstance(trainer, type) else ""
        raise TypeError(
            f"Study: trainer needs a tn.Trainer, or a function under @tn.loop(epochs=...), got {shown(trainer)}{hint};"
            " tn.minimize(f, space, trials=...) tunes a plain function."
        )
    if trainer is not None:
        check_whole(f"Study: {type(trainer).__name__}.epochs", trainer.epochs)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise TypeError unless a part of a study is of its kind."""
    if not isinstance(value, kind):
        hint = INSTANCE if isinstance(value, type) and issubclass(value, kind) else ""
        if name == "model" and callable(value):
            way = "a function that makes such a module" if isinstance(value, nn.Module) else name_of(value)
            hint = f"; write tn.Model({way})"
        elif name == "space" and isinstance(value, Mapping):
            hint = "; write tn.SearchSpace(**space)"
        elif name == "runtime" and isinstance(value, str):
            hint = f'; write tn.Runtime("{value}")'
        raise TypeError(f"Study: {name} needs a tn.{kind.__name__}, got {described(value)}{hint}.")


def check_precision_used(trainer: TrainerProtocol | None, runtime: Runtime) -> None:
    """Raise ValueError for a precision or layout that nothing would be trained in."""
    if runtime.label and (trainer is None or not trainer.uses_runtime):
        what = "a plain function" if trainer is not None else "a study without a trainer"
        raise ValueError(f"{what} does not compute in the runtime's {runtime.label}; leave it out of {runtime!r}.")


def lag_of(lag: Any, runtime: Runtime, trainer: Any) -> int | None:
    """Return `lag` if it is None, or enough to keep the runtime's workers and lanes busy.

    Raises:
        ValueError: it is neither.
    """
    if lag is None:
        return None
    number = check_whole("Study: lag", lag, otherwise="for none")
    if trainer is None:
        raise ValueError("Study: lag orders what run trains, and without a trainer there is no run; leave it out.")
    slots = (runtime.workers or 1) * runtime.slots
    if lag < slots:
        raise ValueError(
            f"Study: lag={lag} leaves {slots - lag} of {slots} workers or lanes idle, as at most {lag} are under way;"
            f" use lag={slots} or more, or fewer of them."
        )
    return number


def replicas_of(replicas: Any, trainer: TrainerProtocol | None) -> int:
    """Return `replicas` if it is a whole number >= 1, and there is a trainer for more than one.

    Raises:
        ValueError: it is not.
    """
    number = check_whole("Study: replicas", replicas)
    if number > 1 and trainer is None:
        raise ValueError(
            f"Study: replicas={number} trains under as many seeds, and without a trainer nothing is trained here; tell"
            " the mean of yours, with its standard error as errors=."
        )
    return number


def full_length(epochs: Any, trainer: TrainerProtocol | None) -> int | None:
    """Return the full length of trials; None for the open end of trials that are asked for.

    Raises:
        TypeError: it is given, and there is a trainer, which has its own.
        ValueError: it is not a whole number >= 1.
    """
    if trainer is None:
        return None if epochs is None else check_whole("Study: epochs", epochs, otherwise="for an open end")
    if epochs is not None:
        raise TypeError(
            "Study: epochs is for trials that ask gives, and a trainer has its own. Write trainer=tn.Trainer(...,"
            " epochs=...)."
        )
    return trainer.epochs


def objective_of(maximize: Any, minimize: Any, at: Any, limits: Any, trainer: TrainerProtocol | None) -> Objective:
    """Return the Objective of a Study's arguments, checked against the metrics that its trainer reports.

    Raises:
        ValueError, TypeError: a name is not one, is given twice, or is not reported.
    """
    goals = [(name, True) for name in _names("maximize", maximize)] + [(n, False) for n in _names("minimize", minimize)]
    goals = goals or [("loss", False)]
    names = [name for name, _ in goals]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'Study: "{name}" is given twice in maximize and minimize; drop one.')
    if not (at is None or is_word(at, ("best", "last"))):
        raise ValueError(f'Study: at needs to be "best" or "last", got {shown(at)}.')
    if at == "best" and len(goals) > 1:
        raise ValueError('Study: at="best" needs one objective, since several have no best epoch; use at="last".')
    for name, up in goals:
        _warn_of_direction(name, up)
    at = at or ("last" if len(goals) > 1 else "best")
    sparse = () if trainer is None else tuple(trainer.sparse.items())
    objective = Objective(tuple(goals), at, _limits(limits, dict(goals), trainer), sparse)
    if trainer is not None and trainer.reports is not None:
        check_reported(objective, trainer.reports)
    return objective


def _warn_of_direction(name: str, maximize: bool) -> None:
    """Warn where a loss is to be large, or a score to be small."""
    if more_is_better(name, {}) in (maximize, None):
        return
    given, other = ("maximize", "minimize") if maximize else ("minimize", "maximize")
    end = "largest" if maximize else "smallest"
    warn(f'Study: {given}="{name}" looks for the {end} {name}; {other}="{name}" looks for the best.')


def check_reported(objective: Objective, metrics: Sequence[str]) -> None:
    """Raise ValueError unless every objective, and every metric with limits, is among the reported `metrics`."""
    uses = [(name, f'{"maximize" if up else "minimize"}="{name}" is') for name, up in objective.goals]
    uses += [(limit.metric, f'limits names "{limit.metric}", which is') for limit in objective.limits]
    for name, use in uses:
        if name not in metrics:
            near = did_you_mean(name, metrics)
            raise ValueError(f"Study: {use} not reported.{near} The trainer reports {listed(metrics)}.")


def _names(argument: str, value: Any) -> list[str]:
    if value is None:
        return []
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"Study: {argument} needs the name of a metric, or a list of names, got {shown(value)}.")
    return names


def _limits(limits: Any, goals: Mapping[str, bool], trainer: TrainerProtocol | None) -> tuple[Limit, ...]:
    if limits is None:
        return ()
    if not isinstance(limits, Mapping) or not all(isinstance(name, str) and name for name in limits):
        raise TypeError(f"Study: limits needs a dict of metric to bound, such as {{'size': 2.0}}, got {shown(limits)}.")
    metrics = {} if trainer is None else getattr(trainer.single, "metrics", {})
    return tuple(
        Limit(name, *_bounds(name, value, more_is_better(name, goals, metrics.get(name))))
        for name, value in limits.items()
    )


def _bounds(name: str, value: Any, more: bool | None) -> tuple[float | None, float | None]:
    """Return the lower and the upper bound of a metric, of which more is better or not; None where there is none."""
    if isinstance(value, Within):
        return value.bounds(name, more)
    if more and is_number(value):
        raise ValueError(
            f'Study: limits[{name!r}]={value!r} is the most that it may be, and of "{name}" more is better; write'
            f" ({value!r}, None) for at least {value!r}, or (None, {value!r}) if you mean at most."
        )
    bounds = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (None, value)
    numbers = [bound for bound in bounds if bound is not None]
    if len(bounds) != 2 or not numbers or not all(map(is_number, numbers)) or numbers != sorted(numbers):
        raise ValueError(
            f"Study: limits[{name!r}] needs to be the most that it may be, (least, most) of which one may be None, or"
            f" tn.within(margin, of=result), got {shown(value)}."
        )
    least, most = (None if bound is None else float(bound) for bound in bounds)
    return least, most
