"""The dry run of a training loop: state that is not named in `run.epochs(...)` is found and named."""

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneflow.check.round_trip import saved_and_loaded
from tuneflow.errors import Diverged, ending_where, listed
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop import Loop
from tuneflow.train.loop_run import Built
from tuneflow.train.loop_state import PLAIN, contents_of, differences, restorable

CLOSE = 1e-3  # how far apart two runs on an accelerator may be, as a share of a tensor's largest value


def check_loop(loop: Loop, job: Job) -> list[str]:
    """Raise unless 2 epochs of `loop` in one run equal 1 + 1 through a saved state.

    On the CPU the two have to be equal to the last bit. On other devices, where the order of additions varies,
    floating-point values may differ by a thousandth of a tensor's largest value. Hidden state that has an effect only
    after the second epoch is not found. Four epochs are trained (two if the loop has one), under the job's randomness.

    Returns:
        The names of the metrics that the loop reports; empty if it diverges or ends before its first report.

    Raises:
        ValueError: they differ, or the state cannot be read back; the message names the state and how to declare it.
        TypeError, ValueError: the loop breaks another of its rules.
    """
    until = min(2, loop.epochs)
    start = loop.init(job)
    whole, pieces = _Trained(start), _Trained(start)
    whole.on(loop, job, until)
    for epoch in range(1, until + 1):
        pieces.state = _read_back(loop, pieces.state)
        pieces.on(loop, job, epoch)
    close = 0.0 if job.runtime.device.type == "cpu" else CLOSE
    for epoch, (one, other) in enumerate(zip(whole.epochs, pieces.epochs, strict=False), 1):
        different = differences(one, other, close)
        if different:
            raise ValueError(_hidden(loop, job, epoch, different))
    if len(whole.epochs) != len(pieces.epochs) or whole.end != pieces.end:
        raise ValueError(_hidden(loop, job, min(len(whole.epochs), len(pieces.epochs)) + 1, ["how it ends"]))
    return list(whole.epochs[0]["metric"]) if whole.epochs else []


@dataclass
class _Trained:
    """The result of training: metrics and state after each epoch, and the reason of an early end."""

    state: TrainState
    epochs: list[dict[str, Any]] = field(default_factory=list)
    end: str = ""

    def on(self, loop: Loop, job: Job, until: int) -> None:
        if self.end:
            return
        training = loop.advance(job, self.state, until)
        try:
            while True:
                self.state, report = next(training)
                self.epochs.append({"metric": dict(report.metrics), **self.state.values["state"]})
        except StopIteration as stopped:
            self.end = stopped.value
        except Diverged as error:
            self.end = str(error)


def _read_back(loop: Loop, state: TrainState) -> TrainState:
    try:
        return TrainState(state.epoch, saved_and_loaded(state.values))
    except Exception as error:  # pickle's, torch's, or an object's own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        failure = ValueError(f"loop {loop.name}: its state cannot be saved and read back ({reason}).")
        raise ending_where(error, failure) from None


def _hidden(loop: Loop, job: Job, epoch: int, different: list[str]) -> str:
    named, changed = _variables(loop, job)
    objects = [name for name, value in changed.items() if restorable(value)]
    generators = [name for name, value in changed.items() if isinstance(value, torch.Generator | np.random.Generator)]
    numbers = [name for name in changed if name not in objects + generators]
    words = [
        f"loop {loop.name} hides state: 2 epochs at once and 1 + 1 through a saved state differ in epoch {epoch},"
        f" in {listed(different)}."
    ]
    if objects:
        call = ", ".join(f"{name}={name}" for name in (*named, *objects))
        words.append(f"Not named is {listed(objects)}: write run.epochs({call}).")
    words += [
        f'Not named is {name}: keep it in a dict, numbers = {{"{name}": ...}}, and name that.' for name in numbers
    ]
    words += [
        f'{name} draws on from epoch to epoch: make it in each pass, {name} = run.generator("{name}").'
        for name in generators
    ]
    if not changed:
        words.append(
            f"What changes from one epoch to the next has to be named in run.epochs({listed(named)}, ...), and live"
            " inside the function; random numbers come from the global generators or run.generator(name)."
        )
    return " ".join(words)


def _variables(loop: Loop, job: Job) -> tuple[list[str], dict[str, Any]]:
    """Return the names in `run.epochs(...)`, and the other variables of the function that an epoch changes.

    The variables are read from the function's frame, once before its first pass and once at its first yield.
    """
    passes = loop.passes(job, None)
    before, after = {}, {}
    with suppress(Exception):  # a hint for a message; a failure here has been reported already
        before = _before(loop, job)
        passes.next()
        after = dict(getattr(passes.generator.gi_frame, "f_locals", {}))
        passes.close()
    named = passes.named
    changed = {
        name: value
        for name, value in after.items()
        if name in before
        and not any(value is thing for thing in named.values())
        and differences(_comparable(before[name]), _comparable(value))
    }
    return list(named), changed


def _before(loop: Loop, job: Job) -> dict[str, Any]:
    passes = loop.passes(job, None, only_build=True)
    try:
        passes.next()
    except Built as built:
        frames = (frame for frame, _ in traceback.walk_tb(built.__traceback__))
        return next(dict(frame.f_locals) for frame in frames if frame.f_code is passes.generator.gi_code)
    return {}


def _comparable(value: Any) -> Any:
    """Return the state of a variable, by which its values in two runs of the function can be compared."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    return _plain(contents_of(value) if restorable(value) else value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (Tensor, *PLAIN)) else None
