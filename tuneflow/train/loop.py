"""tn.loop: your own training loop as a trainer, one that stops after any epoch and resumes exactly."""

import inspect
import pickle
from collections.abc import Callable
from contextlib import closing
from functools import update_wrapper
from typing import Any, Literal

from torch import nn

from tuneflow.errors import StudyError, plural
from tuneflow.metrics.measured import Measured
from tuneflow.signature import name_of
from tuneflow.train.full_length import ended_scheduler
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop_passes import Passes
from tuneflow.train.loop_run import Built, LoopFunction, LoopRun
from tuneflow.train.loop_scores import TestFunction, scores_of
from tuneflow.train.loop_state import LoopState
from tuneflow.train.protocol import DryRun, Epochs, Rehearsal, TrainerProtocol
from tuneflow.validate import check_whole, is_flag, is_word

Check = Literal[True, False, "first"]


def loop(epochs: int, check: Check = True, test: TestFunction | None = None) -> Callable[[LoopFunction], "Loop"]:
    """Make a trainer of a generator function `(config, run)` that yields its metrics once per epoch.

    The function builds its objects, names in `run.epochs(...)` everything that changes from one epoch to the next, and
    ends each pass with a yield. So a trial can stop after any epoch and resume exactly, in another process too:
    everything is built again, and the named objects are restored before the first pass.

    `config` is the configuration, a dict that the function may change. `run` is a `LoopRun`: device, epochs, batches
    and randomness. If the metric "train_loss" is not finite, or "loss" where there is no "train_loss", the trial has
    diverged. `return "reason"` before a yield ends the trial early, with the epochs that were yielded. Code after the
    yield is no part of an epoch, and code after the loop never runs.

    Args:
        epochs: the full length of a trial.
        check: before the first trial of a study, two epochs in one run are compared with the second of them in a run
            that goes on from a saved state: True in each branch of the space, "first" in that of trial 0 only, False in
            none. The epochs of trial 0's own configuration count for trial 0. A warning of variables that a loop
            carries over and does not name is issued in any case.
        test: for `study.test(data)`: a function of (model, data) that returns a dict of name to number, to a pair
            (value, standard error), or to one number per example, a tensor of shape (n,). It runs without gradients.

    Raises:
        TypeError: the decorated object is not a generator function of `(config, run)`, or test is no function of
            (model, data).
        ValueError: epochs is not a whole number >= 1, or check is none of the three.

    Example:
        >>> import torch
        >>> @loop(epochs=3)
        ... def fit(config, run):
        ...     weight = run.place(torch.zeros(2)).requires_grad_()
        ...     optimizer = torch.optim.SGD([weight], **config["optimizer"])
        ...     for epoch in run.epochs(weight=weight, optimizer=optimizer):
        ...         optimizer.zero_grad()
        ...         loss = (weight - 1).square().sum()
        ...         loss.backward()
        ...         optimizer.step()
        ...         yield {"loss": loss}
        >>> fit
        loop fit, 3 epochs
    """
    if callable(epochs):
        raise TypeError(f"loop needs the number of epochs: write @tn.loop(epochs=10) above {name_of(epochs)}.")
    epochs = check_whole("loop: epochs", epochs)
    if not (is_flag(check) or is_word(check, ("first",))):
        raise ValueError(f'loop: check needs to be True, "first" or False, got {check!r}.')
    if test is not None:
        _check_takes(test, "loop: test", "(model, data)")

    def decorate(function: LoopFunction) -> Loop:
        return Loop(function, epochs, check if isinstance(check, str) else bool(check), test)

    return decorate


class Loop(TrainerProtocol):
    """The trainer that `loop` makes of a generator function. It holds nothing that changes."""

    def __init__(
        self, function: LoopFunction, epochs: int, check: Check = True, test: TestFunction | None = None
    ) -> None:
        if not inspect.isgeneratorfunction(function):
            raise TypeError(
                f"loop needs a generator function, one that yields a dict of metrics per epoch, got {function!r}."
            )
        _check_takes(function, f"loop {name_of(function)}", "(config, run)")
        update_wrapper(self, function)  # type: ignore[arg-type]
        self.function, self.epochs, self.name = function, epochs, name_of(function)
        self.checks, self._test = check, test
        self._original: Loop | None = None  # the decorated one, where this one has another length

    def __repr__(self) -> str:
        return f"loop {self.name}, {plural(self.epochs, 'epoch')}"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, as functions are: the decorated name stands for the Loop."""
        if self._original is not None:
            return Loop.with_epochs, (self._original, self.epochs)
        place: str = getattr(self, "__qualname__", "<partial>")
        if "<" in place:
            raise pickle.PicklingError(
                f"loop {self.name} cannot go to another process, which finds it by its name: define it with"
                " @tn.loop at the top of a module, not inside a function."
            )
        return place

    def describe(self) -> dict[str, Any]:
        """Return the loop's name and epochs; its code is not compared."""
        return {"loop": self.name, "epochs": self.epochs}

    def rehearsal(self, branches: int) -> str:
        where = f" in each of {branches} branches" if branches > 1 else ""
        return f"checking that {self.name} resumes exactly: {1 + min(2, self.epochs)} epochs{where}"

    def rehearse(self, job: Job, dry_run: DryRun) -> Rehearsal:
        """Train two epochs in one run, and the second once more from a saved state; they have to be equal."""
        return dry_run.check_loop(self, job)

    def init(self, job: Job) -> TrainState:
        """Return the state before the first epoch: the objects built before the loop, drawn from the job's seed."""
        return TrainState(0, {**self._built(job, None).values(), "metrics": {}})

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        with closing(self.passes(job, state)) as passes:
            for _ in range(state.epoch, min(until, self.epochs)):
                reached = passes.next()
                if isinstance(reached, str):
                    return reached
                yield reached
        return ""

    def with_epochs(self, epochs: int) -> "Loop":
        """Return this loop with another full length; `run.epochs(...)` then counts so far."""
        loop = Loop(self.function, epochs)
        loop.__dict__ |= {**self.__dict__, "epochs": epochs, "_original": self._original or self}
        return loop

    def finished(self, job: Job, state: TrainState, longer: int) -> str:  # noqa: ARG002
        """Return the torch scheduler named in `run.epochs(...)` that has come to its end; nothing else is known."""
        return ended_scheduler(state.values, state.epoch, self.epochs, longer)

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Return the module that the function names as `result` in `run.epochs(...)`, or first, in evaluation mode.

        Raises:
            StudyError: it names no module.
        """
        module = self._built(job, state).module
        if module is None:
            raise StudyError(f"loop {self.name} names no nn.Module in run.epochs(...), so it has no model to give.")
        return module.eval()

    def test(self, job: Job, module: nn.Module, data: Any) -> dict[str, Measured]:
        """Return the scores that the function given as `test=` finds for a trained module.

        Raises:
            StudyError: there is none.
        """
        if self._test is None:
            raise StudyError(
                f"loop {self.name} has no test: write @tn.loop(epochs={self.epochs}, test=function), a function of"
                " (model, data) that returns its metrics, or use model() and your own."
            )
        return scores_of(self._test, job, module, data)

    def passes(
        self,
        job: Job,
        start: TrainState | None,
        only_build: bool = False,
        tell: Callable[[str], None] | None = None,
        most: int | None = None,
    ) -> Passes:
        """Return the loop's generator at work on a job, from a state on.

        Args:
            job: what is trained.
            start: where to start; None for a new trial.
            only_build: leave the function by Built before its first pass.
            tell: called with sentences about variables that are not part of the state, in the place of warnings.
            most: batches that `run.batches` gives at most.
        """
        run = LoopRun(f"loop {self.name}", self.epochs, job, start, only_build)
        run._most = most
        return Passes(self.function, run, tell)

    def _built(self, job: Job, state: TrainState | None) -> LoopState:
        """Run the function up to its first pass and return the objects that it named, restored."""
        with closing(self.passes(job, state, only_build=True)) as passes:
            try:
                passes.next()
            except Built as built:
                return built.named
        raise ValueError(f"loop {self.name}: ended before its first pass; it needs `for epoch in run.epochs(...):`.")


def _check_takes(function: Any, what: str, arguments: Literal["(config, run)", "(model, data)"]) -> None:
    """Raise TypeError unless `function` can be called with two positional arguments."""
    if not callable(function):
        raise TypeError(f"{what} needs to be a function of {arguments}, got {function!r}.")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise TypeError(
            f"{what} needs to be a function of {arguments}, it takes {inspect.signature(function)}."
        ) from None
