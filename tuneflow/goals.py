"""Goals: what a user says of objectives and scores, checked and in the library's own terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuneflow.errors import did_you_mean, listed
from tuneflow.trial import Objective


def objective_of(maximize: Any, minimize: Any, at: Any, trainer: Any) -> Objective:
    """What a Study was told with maximize=, minimize= and at=, checked against what its trainer reports.

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
    known = getattr(getattr(trainer, "trainer", trainer), "reports", None)
    if known is not None:
        for name, up in goals:
            check_known(name, up, known)
    return Objective(tuple(goals), at or ("last" if len(goals) > 1 else "best"))


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
