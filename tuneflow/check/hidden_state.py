"""The dry run of a training loop: state that is not named in `run.epochs(...)` is found and named."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneflow.check.round_trip import saved_and_loaded
from tuneflow.check.seeding import seeded_by_loop
from tuneflow.errors import Diverged, ending_where, listed
from tuneflow.history.trial import Report
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop import Loop
from tuneflow.train.loop_passes import Passes
from tuneflow.train.loop_state import differences
from tuneflow.train.loop_warnings import warn_once
from tuneflow.train.protocol import Rehearsal

CLOSE = 1e-3  # how far apart two runs on an accelerator may be, as a share of a tensor's largest value
BRIEF = 4  # batches of `run.batches` in each pass of a check that is shortened


def check_loop(loop: Loop, job: Job, brief: bool = False) -> Rehearsal:
    """Raise unless the second of 2 epochs of `loop` in one run equals that of a run that goes on from a saved state.

    On the CPU the two have to be equal to the last bit. On other devices, where the order of additions varies,
    floating-point values may differ by a thousandth of a tensor's largest value. Three epochs are trained (one twice if
    the loop has one), under the job's randomness. State that has an effect only later is not found by that; so
    variables that the function carries from one pass to the next, and does not name, are warned of in any case.

    Args:
        loop: the loop.
        job: a configuration to train.
        brief: let `run.batches` give a few batches only; if that fails, the passes are trained whole.

    Raises:
        ValueError: they differ, or the state cannot be read back; the message names the state and how to declare it.
        TypeError, ValueError: the loop breaks another of its rules.
    """
    if brief:
        try:
            checked = _checked(loop, job, BRIEF)
        except Exception:  # a loop may need its passes whole, as one that compares outputs with all targets
            checked = _checked(loop, job, None)
    else:
        checked = _checked(loop, job, None)
        _warn_of_seeding(loop, job)
    for text in checked.told:
        warn_once(loop.function, f"loop {loop.name}: {text}")
    metrics = list(checked.epochs[0][1].metrics) if checked.epochs else []
    return Rehearsal(metrics, () if brief or checked.told else checked.epochs)


@dataclass
class _Trained:
    """A loop at work, and the result: state and report after each epoch, and the reason of an early end.

    Attributes:
        passes: the loop's generator.
        epochs: state and report after each epoch.
        told: sentences about variables that are not part of the state.
        end: why it ended early.
    """

    passes: Passes
    told: list[str]
    epochs: list[tuple[TrainState, Report]] = field(default_factory=list)
    end: str = ""

    def train(self, epochs: int) -> None:
        """Train so many epochs, or until it ends."""
        try:
            for _ in range(epochs):
                reached = self.passes.next()
                if isinstance(reached, str):
                    self.end = reached
                    return
                self.epochs.append(reached)
        except Diverged as error:
            self.end = str(error)

    def outcome(self, epoch: int) -> Mapping[str, Any]:
        """Return metrics and state after an epoch, or how it ended."""
        for state, report in self.epochs:
            if report.epoch == epoch:
                return {"metric": dict(report.metrics), **state.values["state"]}
        return {"how it ends": self.end}


def _begun(loop: Loop, job: Job, state: TrainState, most: int | None) -> _Trained:
    told: list[str] = []
    return _Trained(loop.passes(job, state, tell=told.append, most=most), told)


def _checked(loop: Loop, job: Job, most: int | None) -> _Trained:
    """Return two epochs in one run, after the comparison with a run that goes on from a saved state."""
    start, until = loop.init(job), min(2, loop.epochs)
    whole = _begun(loop, job, start, most)
    whole.train(until)
    whole.passes.close()
    before = [start, *(state for state, _ in whole.epochs)][: until + 1]
    resumed = _begun(loop, job, _read_back(loop, before[min(until - 1, len(before) - 1)]), most)
    resumed.train(1)
    resumed.passes.close()
    epoch = min(until, len(whole.epochs) + 1)
    close = 0.0 if job.runtime.device.type == "cpu" else CLOSE
    different = differences(whole.outcome(epoch), resumed.outcome(epoch), close)
    if different:
        different = ["how it ends"] if "how it ends" in different else different
        raise ValueError(_hidden(loop, whole, resumed, epoch, different))
    if whole.passes.watch is not None:
        whole.passes.watch.report(_suspects(whole, resumed, whole.passes.watch.filled))
    return whole


def _suspects(whole: _Trained, resumed: _Trained, among: Container[str] | None = None) -> dict[str, Any]:
    """Return the variables by name that were reported, and those (among some) in which the two runs differ."""
    one, other = whole.passes.watch, resumed.passes.watch
    if one is None or other is None:
        return {}
    differing = one.differing(other).items()
    return {**one.reported, **{name: value for name, value in differing if among is None or name in among}}


def _read_back(loop: Loop, state: TrainState) -> TrainState:
    try:
        return TrainState(state.epoch, saved_and_loaded(state.values))
    except Exception as error:  # pickle's, torch's, or an object's own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        failure = ValueError(f"loop {loop.name}: its state cannot be saved and read back ({reason}).")
        raise ending_where(error, failure) from None


def _warn_of_seeding(loop: Loop, job: Job) -> None:
    """Warn once of a loop that seeds the global generators before it makes what it names."""
    if generators := seeded_by_loop(loop, job):
        warn_once(
            loop.function,
            f"loop {loop.name}: seeds the generator of {generators} by itself, so all replicas and seeds of a study"
            " begin with the same weights, and study.confirm() has no fresh ones; leave that out: a study seeds the"
            " generators before it calls the loop, and at the start of each pass.",
        )


def _hidden(loop: Loop, whole: _Trained, resumed: _Trained, epoch: int, different: list[str]) -> str:
    named, changed = list(whole.passes.named), _suspects(whole, resumed)
    words = [
        f"loop {loop.name} hides state: 2 epochs at once and 1 + 1 through a saved state differ in epoch {epoch},"
        f" in {listed(different)}.",
        *([] if whole.passes.watch is None else whole.passes.watch.ways_out(changed)),
    ]
    if not changed and whole.told:
        words += whole.told
    elif not changed:
        words.append(
            f"What changes from one epoch to the next has to be named in run.epochs({listed(named)}, ...), and live"
            " inside the function; random numbers come from the global generators or run.generator(name)."
        )
    return " ".join(words)
