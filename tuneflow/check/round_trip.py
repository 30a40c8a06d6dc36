"""Whether training goes on exactly from a state that was written and read: tried on a few rows, and explained."""

import io
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from tuneflow.errors import Diverged
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

Path = tuple[Any, ...]


def check_round_trip(
    trainer: TrainerProtocol,
    job: Job,
    restored: Callable[[TrainState], TrainState] | None = None,
    buffers: Collection[str] = (),
    epochs: int = 2,
) -> None:
    """Raise unless an epoch, a checkpoint and the rest give the same bits as `epochs` epochs without a stop.

    Nothing is said where training diverges or ends before. On other devices than the CPU nothing is said either
    where two runs without a stop differ too.

    Args:
        trainer, job: of small cost; they train 2 * epochs - 1 epochs and, where something differs, as many again.
        restored: gives the state of a run that a state was put into, to find out what is lost there.
        buffers: names of the module's buffers, to tell them from parameters.

    Raises:
        TypeError: the state holds something that a checkpoint cannot.
        ValueError: training differs; the message names what.
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
        lost = list(differences(states[0].values, loaded.values if restored is None else restored(loaded).values))
        raise ValueError(
            f"training does not go on exactly from a saved state: {where} differs after one more epoch."
            f" {_cause(repeats, named(lost[0], buffers) if lost else '', restored is not None)}"
        )


def _different(states: list[TrainState], others: list[TrainState]) -> list[Path]:
    return list(differences(states[-1].values, others[-1].values if others else {}))


def _trained(trainer: TrainerProtocol, job: Job, state: TrainState, until: int) -> list[TrainState]:
    """The states after each epoch from `state` on."""
    states = []
    try:
        for reached, _ in trainer.advance(job, state, until):
            states.append(reached)
    except Diverged:
        pass
    return states


def through_a_file(state: TrainState) -> TrainState:
    """`state` as it comes back from a checkpoint.

    Raises:
        TypeError: it does not come back; the message names what is in the way.
    """
    try:
        return TrainState(state.epoch, _through(state.values))
    except Exception as error:
        for path, value in leaves(state.values):
            try:
                _through(value)
            except Exception:
                kind = f"{type(value).__module__}.{type(value).__name__}"
                way = f"; {type(value).__name__} needs to become a plain number or a tensor"
                raise TypeError(
                    f"a checkpoint holds tensors and plain values only, got {kind} as {named(path)} of the state{way}."
                ) from error
        raise TypeError(f"the state cannot be written: {type(error).__name__}: {error}") from error


def _through(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def leaves(values: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in nested dicts and lists, with the way to it."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from leaves(value, (*path, place))
    else:
        yield path, values


def differences(one: Any, other: Any) -> Iterator[Path]:
    """The ways to values of two nested structures that differ, by a bit or by being there."""
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    for path in {**ours, **theirs}:
        if path not in ours or path not in theirs or not _same(ours[path], theirs[path]):
            yield path


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
    return type(one) is type(other) and (one == other or (one != one and other != other))


# Words.


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
    """`parameter "0.weight"`, `buffer "1.running_mean"`, `optimizer state "exp_avg" of parameter 0`, or the keys."""
    if path[:1] == ("module",) and len(path) == 2:
        return f'{"buffer" if path[1] in buffers else "parameter"} "{path[1]}"'
    if path[:2] == ("optimizer", "state") and len(path) > 3:
        return f'optimizer state "{path[3]}" of parameter {path[2]}'
    return f'"{".".join(map(str, path))}"'
