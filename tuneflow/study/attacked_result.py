"""The settings of attacks on a result, as far as its study's metric of robustness has them."""

from collections.abc import Iterable
from typing import Any

from tuneflow.train.module_metrics import of_module


def settings_of_attack(metrics: Any, **said: Any) -> dict[str, Any]:
    """Return eps, norm and box: those that were said, else those of the metrics of robustness where they agree.

    Args:
        metrics: of the trainer, by name.
        said: the arguments of `Result.attack`.

    Raises:
        ValueError: eps was not said, and there is no such metric, or there are several that differ in it.
    """
    measured = [metric for metric in of_module(metrics).values() if hasattr(metric, "eps")]
    settings = {name: value if value is not None else _agreed(measured, name) for name, value in said.items()}
    if settings["eps"] is None:
        got = "several that differ" if measured else "none"
        raise ValueError(
            "attack: eps needs to be said, as in attack(data, eps=0.1), where the trainer has not one metric of"
            f" robustness, such as tn.harden.Robust(eps=0.1), got {got}."
        )
    return {**settings, "norm": settings["norm"] or "linf"}


def _agreed(metrics: Iterable[Any], name: str) -> Any:
    """Return the setting of that name that all metrics have; None where they differ, or there are none."""
    values = [getattr(metric, name, None) for metric in metrics]
    return values[0] if values and all(value == values[0] for value in values) else None
