"""A training loop's generator at work: one pass is one epoch and ends with one yield."""

import math
from collections.abc import Callable
from types import FrameType, GeneratorType
from typing import Any, cast

from tuneflow.errors import Diverged, listed
from tuneflow.history.trial import Report
from tuneflow.nested import copied
from tuneflow.train.job import TrainState
from tuneflow.train.loop_run import LoopFunction, LoopRun
from tuneflow.train.loop_state import LoopState
from tuneflow.train.loop_warnings import warn_once
from tuneflow.train.loop_watch import LoopWatch
from tuneflow.train.reported_metrics import described, numbers_of

WRAPPED = (
    "zip, enumerate or another iterator of run.epochs(...) begins anew when a trial goes on from a saved state. Write"
    " `for epoch in run.epochs(...):`, and take what belongs to an epoch by its number, such as rates[epoch - 1]."
)
MOVED = (
    "{variable} is bound to another object in a pass, and run.epochs({name}=...) has the first one, which is saved,"
    " restored and handed over. Change that one in place, as load_state_dict does, or make both before the loop and"
    " name both."
)


class Passes:
    """A loop's generator, advanced epoch by epoch; the caller's global generators are put back in between.

    Args:
        function: the generator function of `(config, run)`.
        run: a new one, for one job and the state to go on from.
        tell: called with sentences about what is not part of the state; by default they are warnings, each issued once.
    """

    def __init__(self, function: LoopFunction, run: LoopRun, tell: Callable[[str], None] | None = None) -> None:
        self.run, self._where, self._function = run, run._where, function
        self.generator = cast("GeneratorType[Any, None, Any]", function(copied(run._job.config), run))
        self._tell, run._generator = tell or self._warn, self.generator
        self._told: set[str] = set()
        if run._until > 1:  # else there is no pass to go on with
            run._watch = LoopWatch(self.generator.gi_code, self._tell)
        self._last: dict[str, float] = run._start.values["metrics"] if run._start is not None else {}

    @property
    def named(self) -> dict[str, Any]:
        """Objects that the loop has named so far."""
        return {} if self.run._named is None else self.run._named.things

    @property
    def watch(self) -> LoopWatch | None:
        """The watch over the loop's variables; None in a loop of one epoch."""
        return self.run._watch

    def next(self) -> tuple[TrainState, Report] | str:
        """Train one epoch; return the state and report after it, or the reason why the loop ended without one."""
        run = self.run
        run._enter("after" if run._epoch else "init", run._epoch)
        try:
            return self._reached(next(self.generator))
        except StopIteration as end:
            return self._reason(end.value)
        finally:
            run._seeded.close()

    def close(self) -> None:
        """Leave the loop where it stands; its `finally` blocks run."""
        self.run._enter("after", self.run._epoch)
        try:
            self.generator.close()
        finally:
            self.run._seeded.close()

    def _reached(self, yielded: Any) -> tuple[TrainState, Report]:
        run, epoch = self.run, self.run._epoch
        if run._named is None or epoch == 0:
            raise ValueError(f"{self._where}: yields before the first pass of `for epoch in run.epochs(...):`.")
        where = f"{self._where}, epoch {epoch}"
        if run._reached is not None:
            raise ValueError(f"{where}: yields a second time; one pass is one epoch and yields once, at its end.")
        if run._job.runtime.precision != "fp32" and not run.lowered:
            raise ValueError(
                f"{where}: the runtime's precision is {run._job.runtime.precision}, and the loop never takes it up;"
                " put forward pass and loss into `with run.autocast():`, or leave out precision."
            )
        metrics, errors = numbers_of(yielded, where)
        for name in sorted(self._last.keys() ^ metrics.keys()) if self._last else ():
            does = "stopped yielding" if name in self._last else "began to yield"
            raise TypeError(f'{where}: {does} "{name}"; every epoch yields the same names.')
        trained = "train_loss" if "train_loss" in metrics else "loss"
        if not math.isfinite(metrics.get(trained, 0.0)):
            raise Diverged(epoch, 0, self._last.get(trained))
        self._last = metrics
        self._warn_of_choice(run._named)
        self._warn_of_seeds()
        self._watch_variables()
        run._reached = TrainState(epoch, {**run._named.values(), "metrics": dict(metrics)})
        return run._reached, Report(epoch, metrics, errors, run.seconds)

    def _watch_variables(self) -> None:
        """Tell of what the pass has changed and no state holds."""
        run, frame = self.run, cast("FrameType", self.generator.gi_frame)
        if run._numbers is not None and run._numbers.wrapped:
            self._tell_once("wrapped", WRAPPED)
        moved = {} if run._bindings is None else run._bindings.moved(frame)
        for name, variables in moved.items():
            self._tell_once(name, MOVED.format(variable=variables[0], name=name))
        if run._watch is not None:
            run._watch.after_pass(frame, {variable for variables in moved.values() for variable in variables})

    def _tell_once(self, about: str, text: str) -> None:
        if about not in self._told:
            self._told.add(about)
            self._tell(text)

    def _warn_of_choice(self, named: LoopState) -> None:
        """Warn once of a loop that names several modules and not which of them is handed over."""
        if names := named.undecided:
            call = ", ".join(f"{name}={name}" for name in named.things)
            self._warn(
                f"names {len(names)} modules in run.epochs(...), {listed(names)}, and not which of them is the result;"
                f" study.best.model() gives {names[0]}, the first. Name the one that was scored, as in"
                f" run.epochs({call}, result={names[0]})."
            )

    def _warn_of_seeds(self) -> None:
        """Warn once of a loop that seeds the global generators in its passes."""
        if generators := self.run._reseeded():
            self._warn(
                f"seeds the generator of {' and '.join(generators)} by itself in each pass, so all seeds and replicas"
                " of a study draw the same; leave that out, for a study seeds the generators at the start of each pass,"
                " or take run.epoch_seed."
            )

    def _warn(self, text: str) -> None:
        warn_once(self._function, f"{self._where}: {text}")

    def _reason(self, returned: Any) -> str:
        run = self.run
        if returned is not None and not isinstance(returned, str):
            raise TypeError(f"{self._where}: returned {described(returned)}; return a string that says why it ends.")
        if run._named is None:
            raise ValueError(f"{self._where}: never calls run.epochs(...); it needs `for epoch in run.epochs(...):`.")
        if not returned:
            raise ValueError(
                f"{self._where}: ended in epoch {run._epoch} of {run._until} without a reason;"
                ' return a string that says why, such as return "no better for 5 epochs".'
            )
        if run._reached is not None:
            raise ValueError(
                f"{self._where}: returned {returned!r} after the yield of epoch {run._epoch}, where a trial that is"
                " paused there would go on; return before the yield, or at the start of the next pass by what"
                " run.epochs(...) names."
            )
        return returned
