"""The check of a trainer: training in pieces equals training at once."""

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import torch

from tuneflow.testing.common import require, untouched
from tuneflow.train.checked_epochs import checked_epochs, checked_start
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

T = TypeVar("T")


def check_trainer(trainer: TrainerProtocol, job: Job, epochs: int = 3) -> None:
    """Check that a trainer's state is a value: training in pieces, through a saved state, equals training at once.

    Compares states and metrics to the last bit; checks that training leaves the state that it starts from unchanged,
    that a state holds only what `torch.load(weights_only=True)` accepts, that every epoch yields a state and a report
    once and in order, up to `until` and no further, that the seed is obeyed, and that the global generators do not
    change.

    Args:
        trainer: the trainer.
        job: the job to train; on the CPU.
        epochs: number of epochs to train.

    Raises:
        AssertionError: a rule is broken; the message names it.
    """
    with untouched("trainer"):
        start = _kept(lambda: checked_start(trainer, job))
        require(_flat(start.values) == _flat(trainer.init(job).values), "trainer", "init gave another state again")
        before = _flat(start.values)
        whole = _kept(lambda: list(checked_epochs(trainer, job, start, epochs)))
        require(before == _flat(start.values), "trainer", "training on changed the state that it started from")
    count = len(list(islice(trainer.advance(job, start, 1), 2)))
    require(len(whole) == epochs, "trainer", f"it trained {len(whole)} of {epochs} epochs")
    require(count == 1, "trainer", "advance trains beyond `until`")
    state, pieces = start, []
    for until in range(1, epochs + 1):
        ((state, report),) = trainer.advance(job, _through_a_file(state), until)
        pieces.append(report.metrics)
    require(pieces == [r.metrics for _, r in whole], "trainer", f"in pieces it reports {pieces}, at once {whole}")
    require(_flat(state.values) == _flat(whole[-1][0].values), "trainer", "in pieces it comes to another state")
    other = replace(job, seed=job.seed + 1)
    *_, (state, report) = trainer.advance(other, trainer.init(other), epochs)
    same = _flat(state.values) == _flat(whole[-1][0].values) and report.metrics == whole[-1][1].metrics
    require(not same, "trainer", "another seed gave the same: the job's seed is not used")


def _kept(training: Callable[[], T]) -> T:
    """Return what a training returns; raise AssertionError where it breaks the protocol."""
    try:
        return training()
    except (TypeError, ValueError) as error:
        raise AssertionError(f"trainer: {error}") from error


def _through_a_file(state: TrainState) -> TrainState:
    buffer = io.BytesIO()
    torch.save({"epoch": state.epoch, "values": state.values}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    return TrainState(saved["epoch"], saved["values"])


def _flat(value: Any) -> list[Any]:
    """Return nested tensors and numbers as a list that `==` compares to the last bit, NaN equal to NaN."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *_flat(value[key]))]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in _flat(inner)]
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return [str(value.dtype), tuple(value.shape), raw.tolist()]
    return [repr(value)]
