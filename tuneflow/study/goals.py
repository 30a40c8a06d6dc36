"""Goals: what a user says of objectives and scores, checked and in the library's own terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuneflow.errors import did_you_mean, listed
from tuneflow.history.objective import Limit, Objective
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.validate import is_number


def objective_of(maximize: Any, minimize: Any, at: Any, limits: Any, trainer: TrainerProtocol | None) -> Objective:
    """What a Study was told with maximize=, minimize=, at= and limits=, checked against what its trainer reports.

    Raises:
        ValueError, TypeError: a name is not one, is given twice, or is not reported.
    """
    goals = [(name, True) for name in _names("maximize", maximize)] + [(n, False) for n in _names("minimize", minimize)]
    goals = goals or [("loss", False)]
    names = [name for name, _ in goals]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'Study: "{name}" is given twice in maximize and minimize; drop one.')
    if at not in ("best", "last", None):
        raise ValueError(f'Study: at needs to be "best" or "last", got {at!r}.')
    if at == "best" and len(goals) > 1:
        raise ValueError('Study: at="best" needs one objective, since several have no best epoch; use at="last".')
    known = None if trainer is None else trainer.reports
    if known is not None:
        for name, up in goals:
            check_known(name, up, known)
    objective = Objective(tuple(goals), at or ("last" if len(goals) > 1 else "best"), _limits(limits))
    if known is not None:
        check_limits(objective, known)
    return objective


def check_limits(objective: Objective, known: Sequence[str]) -> None:
    """Raise ValueError unless every metric that has limits is among the `known` ones."""
    for limit in objective.limits:
        if limit.metric not in known:
            near = did_you_mean(limit.metric, known)
            raise ValueError(
                f'Study: limits names "{limit.metric}", which is not reported.{near} The trainer reports'
                f" {listed(known)}."
            )


def check_known(metric: str, maximize: bool, known: Sequence[str]) -> None:
    """Raise ValueError unless the metric is among the `known` ones."""
    if metric not in known:
        word, near = "maximize" if maximize else "minimize", did_you_mean(metric, known)
        raise ValueError(f'Study: {word}="{metric}" is not reported.{near} The trainer reports {listed(known)}.')


def _names(word: str, given: Any) -> list[str]:
    if given is None:
        return []
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"Study: {word} needs the name of a metric, or a list of names, got {given!r}.")
    return names


def _limits(given: Any) -> tuple[Limit, ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise TypeError(f"Study: limits needs a dict of metric to bound, such as {{'size': 2.0}}, got {given!r}.")
    return tuple(Limit(name, *_ends(name, value)) for name, value in given.items())


def _ends(name: str, value: Any) -> tuple[float | None, float | None]:
    """The least and the most that a metric may be."""
    ends = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (None, value)
    numbers = [end for end in ends if end is not None]
    if (
        len(ends) != 2
        or not numbers
        or not all(map(is_number, numbers))
        or (len(numbers) == 2 and numbers[0] > numbers[1])
    ):
        raise ValueError(
            f"Study: limits[{name!r}] needs to be the most that it may be, or (least, most) of which one may be None,"
            f" got {value!r}."
        )
    least, most = (None if end is None else float(end) for end in ends)
    return least, most


def numbers_told(metrics: Mapping[str, float] | float, objective: Objective) -> dict[str, float]:
    """What was told, by name and as plain floats."""
    if not isinstance(metrics, Mapping):
        if objective.several:
            names = listed(metric for metric, _ in objective.goals)
            raise TypeError(f"tell: several objectives need a dict of {names}, got {metrics!r}.")
        metrics = {objective.metric: metrics}
    try:
        return {name: float(value) for name, value in metrics.items()}
    except (TypeError, ValueError):
        raise TypeError(f"tell: metrics need to be numbers, got {dict(metrics)!r}.") from None
