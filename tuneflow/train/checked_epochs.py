"""The epochs of a trainer, checked: what a trainer of the user's yields and returns keeps the protocol."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from tuneflow.errors import listed
from tuneflow.history.trial import Report
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Epochs, TrainerProtocol
from tuneflow.train.reported_metrics import described, numbers_of

PLAIN = (int, float, bool, str, bytes, complex, type(None), torch.Size, torch.dtype, torch.device)
SEQUENCES = (list, tuple, set, frozenset)
MAPPINGS = (dict, OrderedDict, Counter)


def checked_epochs(trainer: TrainerProtocol, job: Job, state: TrainState | None, until: int) -> Epochs:
    """Train from `state` to epoch `until` at most, as `trainer.advance` does; from `trainer.init(job)` for None.

    Raises:
        TypeError, ValueError: the trainer breaks the protocol: an epoch out of order or twice, no report, a state that
            holds more than tensors and plain values; the message names it.
    """
    what = type(trainer).__name__
    state = checked_start(trainer, job) if state is None else state
    training, names = _iterator(trainer.advance(job, state, until), what), set[str]()
    for epoch in range(state.epoch + 1, until + 1):
        try:
            yielded = next(training)
        except StopIteration as end:
            return _reason(end.value, what)
        reached, report = _checked(yielded, epoch, f"{what}.advance, epoch {epoch}")
        if not names:
            names |= report.metrics.keys()
            if trainer.alone():  # the states of a tn.Trainer are the library's
                _check_values(reached.values, f"{what}.advance, epoch {epoch}: the state's values")
        elif changes := (names ^ report.metrics.keys()) - trainer.sparse.keys():
            changed = listed(sorted(changes))
            raise ValueError(f"{what}.advance, epoch {epoch}: {changed} changed; every epoch reports the same names.")
        yield reached, report
    return ""


def checked_start(trainer: TrainerProtocol, job: Job) -> TrainState:
    """Return the state before the first epoch, as `trainer.init` does.

    Raises:
        TypeError, ValueError: it is none.
    """
    state = trainer.init(job)
    _check_state(state, 0, f"{type(trainer).__name__}.init")
    return state


def _iterator(training: Any, what: str) -> Iterator[Any]:
    try:
        return iter(training)
    except TypeError:
        raise TypeError(
            f"{what}.advance needs to be a generator that yields (TrainState, Report) after every epoch, and returned"
            f" {described(training)}."
        ) from None


def _checked(yielded: Any, epoch: int, what: str) -> tuple[TrainState, Report]:
    """Return the state and the report of an epoch, with metrics as floats."""
    if not isinstance(yielded, tuple) or len(yielded) != 2 or not isinstance(yielded[1], Report):
        raise TypeError(f"{what}: yield (TrainState, Report), got {described(yielded)}.")
    state, report = yielded
    _check_state(state, epoch, what)
    if type(report.epoch) is not int or report.epoch != epoch:
        raise ValueError(
            f"{what}: got the report of epoch {report.epoch}; epochs come one by one, each once, counted from 1."
        )
    if not report.metrics or any(type(value) is not float for value in report.metrics.values()):
        metrics, errors = numbers_of(report.metrics, what)
        report = replace(report, metrics=metrics, errors={**errors, **report.errors})
    return state, report


def _check_state(state: Any, epoch: int, what: str) -> None:
    if not isinstance(state, TrainState) or not isinstance(state.values, Mapping):
        raise TypeError(f"{what}: needs a TrainState of an epoch and a dict of values, got {described(state)}.")
    if type(state.epoch) is not int or state.epoch != epoch:
        raise ValueError(f"{what}: got the state of epoch {state.epoch}; needs TrainState({epoch}, ...).")


def _check_values(value: Any, path: str) -> None:
    """Raise TypeError for what a saved state cannot hold."""
    if type(value) in PLAIN or isinstance(value, torch.Tensor):
        return
    if type(value) in MAPPINGS:
        inside = value.items()
    elif type(value) in SEQUENCES:
        inside = enumerate(value)
    else:
        raise TypeError(
            f"{path} holds {described(value)}; a state is tensors, numbers, strings, and lists and dicts of these."
        )
    for key, inner in inside:
        _check_values(inner, f"{path}[{key!r}]")


def _reason(returned: Any, what: str) -> str:
    if returned is not None and not isinstance(returned, str):
        raise TypeError(
            f"{what}.advance returned {described(returned)}; return a string that says why the trial is done."
        )
    return returned or ""
