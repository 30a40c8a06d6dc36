"""The round trip of a state: training that resumes from a saved state has to give the same bits."""

import io
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import torch

from tuneflow.errors import Diverged, ending_where
from tuneflow.nested import Path, paths
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop_state import different_paths
from tuneflow.train.protocol import TrainerProtocol


def check_round_trip(
    trainer: TrainerProtocol,
    job: Job,
    restored: Callable[[TrainState], TrainState] | None = None,
    buffers: Collection[str] = (),
    epochs: int = 2,
) -> None:
    """Raise unless an epoch, a checkpoint and the rest give the same bits as `epochs` epochs without a stop.

    Nothing is raised where training diverges or ends early, nor, on other devices than the CPU, where two runs without
    a stop differ too.

    Args:
        trainer: a cheap one, of few rows; it trains 2 * epochs - 1 epochs and, if something differs, as many again.
        job: the job to train.
        restored: maps a state to the state of a session that it was restored into, to find out what is lost there.
        buffers: names of the module's buffers, to tell them from parameters.
        epochs: the number of epochs, at least 2 for a check.

    Raises:
        TypeError: the state holds an object that a checkpoint cannot hold.
        ValueError: training differs; the message names the first difference.
    """
    start = trainer.init(job)
    states = _trained(trainer, job, start, epochs)
    loaded = through_a_file(states[0] if states else start)
    if len(states) < 2:
        return
    resumed = _trained(trainer, job, loaded, epochs)
    different = _different(states, resumed)
    if not different:
        return
    repeats = not _different(states, _trained(trainer, job, start, epochs))
    if repeats or job.runtime.device.type == "cpu":
        where = named(min(different, key=lambda path: path[:1] != ("module",)), buffers)
        lost = list(different_paths(states[0].values, loaded.values if restored is None else restored(loaded).values))
        raise ValueError(
            f"training does not go on exactly from a saved state: {where} differs after one more epoch."
            f" {_cause(repeats, named(lost[0], buffers) if lost else '', restored is not None)}"
        )


def _different(states: list[TrainState], others: list[TrainState]) -> list[Path]:
    return list(different_paths(states[-1].values, others[-1].values if others else {}))


def _trained(trainer: TrainerProtocol, job: Job, state: TrainState, until: int) -> list[TrainState]:
    """Return the states after each epoch from `state` on."""
    states = []
    with suppress(Diverged):
        for reached, _ in trainer.advance(job, state, until):
            states.append(reached)
    return states


def through_a_file(state: TrainState) -> TrainState:
    """Return `state` as it is read from a checkpoint.

    Raises:
        TypeError: it cannot be written and read; the message names the obstacle.
    """
    try:
        return TrainState(state.epoch, saved_and_loaded(state.values))
    except Exception as error:
        for path, value in paths(state.values).items():
            try:
                saved_and_loaded(value)
            except Exception:
                kind = f"{type(value).__module__}.{type(value).__name__}"
                way = f"; {type(value).__name__} needs to become a plain number or a tensor"
                raise TypeError(
                    f"a checkpoint holds tensors and plain values only, got {kind} as {named(path)} of the state{way}."
                ) from None
        failure = TypeError(f"the state cannot be written: {type(error).__name__}: {error}")
        raise ending_where(error, failure) from None


def saved_and_loaded(value: Any) -> Any:
    """Return a value as torch reads it from a checkpoint, `weights_only`."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


# Messages.


def _cause(repeats: bool, lost: str, restored: bool) -> str:
    if not repeats:
        return (
            "Two runs without a stop differ too, by randomness that no seed reaches, such as np.random.default_rng();"
            " draw from torch's, NumPy's or Python's global generator."
        )
    if lost:
        return f"{lost} of the state does not come back; it needs to be loaded as it was saved."
    whole = "All of the state came back, so" if restored else "The trainer does not take up all of the state, or"
    return (
        f"{whole} something outside it counts, such as an attribute or a counter in forward, or an attribute of the"
        " optimizer, the loss or the data; a buffer (register_buffer) is part of the state."
    )


def named(path: Path, buffers: Collection[str] = ()) -> str:
    """Return a path in words: `buffer "1.running_mean"`, `optimizer state "exp_avg" of parameter 0`, or the keys."""
    if path[:1] == ("module",) and len(path) == 2:
        return f'{"buffer" if path[1] in buffers else "parameter"} "{path[1]}"'
    if path[:2] == ("optimizer", "state") and len(path) > 3:
        return f'optimizer state "{path[3]}" of parameter {path[2]}'
    return f'"{".".join(map(str, path))}"'
