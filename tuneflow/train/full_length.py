"""The full length of a trial: the parts of a training that depend on it, and so end with it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from tuneflow.errors import plural

SAMPLES = 4096  # steps of a schedule that are compared, evenly; and as many at either end


class ClosedForm(Protocol):
    """A learning-rate schedule that is a function of the step and the number of steps."""

    def factor(self, step: int, steps: int) -> float: ...
    def momentum(self, step: int, steps: int) -> float | None: ...


def bound_to_length(schedule: ClosedForm, name: str, steps_per_epoch: int, epochs: int, longer: int) -> str:
    """Return why a schedule cannot go on from `epochs` to `longer` as if it had been so long; empty where it can.

    Args:
        schedule: the schedule, in steps.
        name: its name, for the reason.
        steps_per_epoch: optimizer steps of an epoch.
        epochs: the full length of the trial so far.
        longer: the new one.
    """
    before, after = steps_per_epoch * epochs, steps_per_epoch * longer
    for step in _samples(0, before):
        if (schedule.factor(step, before), schedule.momentum(step, before)) != (
            schedule.factor(step, after),
            schedule.momentum(step, after),
        ):
            return f"{name} spans the full {plural(epochs, 'epoch')}"
    if all(schedule.factor(step, after) == 0 for step in _samples(before, after)):
        return f"{name} has come to a rate of 0"
    return ""


def _samples(start: int, end: int) -> Iterator[int]:
    """Yield steps of a range: some evenly spread, and all at either end."""
    yield from range(start, end, max(1, (end - start) // SAMPLES))
    yield from range(start, min(end, start + SAMPLES))
    yield from range(max(start, end - SAMPLES), end)


def ended_scheduler(values: Any, epoch: int, epochs: int, longer: int) -> str:
    """Return the reason why a torch learning-rate scheduler in a state cannot go on; empty where it can, or none is.

    Args:
        values: the state's, after `epoch` epochs.
        epoch: the epoch after which it was taken.
        epochs: the full length of the trial so far.
        longer: the new one.
    """
    for name, state in _schedulers(values, ""):
        taken = round(state["last_epoch"] * epochs / epoch)
        if state.get("T_max") == taken:
            return f"the scheduler {name} has come to its end (T_max={taken})"
        total = state.get("total_steps")
        if total is not None and total < round(taken * longer / epochs):
            return f"the scheduler {name} has total_steps={total}"
        if epoch == epochs and not any(state.get("_last_lr", [1.0])):
            return f"the scheduler {name} has come to a rate of 0"
    return ""


def _schedulers(values: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the saved state of each torch scheduler within nested values."""
    if isinstance(values, Mapping):
        if isinstance(values.get("last_epoch"), int):
            yield path or "of rates.Torch", values
        for name, inner in values.items():
            yield from _schedulers(inner, path if str(name).startswith("_") else str(name))
    elif isinstance(values, list | tuple):
        for inner in values:
            yield from _schedulers(inner, path)
