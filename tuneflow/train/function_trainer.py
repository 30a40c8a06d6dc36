"""A plain function as a trainer, for `tn.minimize` and `tn.maximize`."""

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from typing_extensions import override

from tuneflow.errors import StudyError
from tuneflow.history.trial import Report
from tuneflow.nested import copied
from tuneflow.signature import name_of
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Epochs, TrainerProtocol
from tuneflow.train.reported_metrics import ReportedMetrics, described, is_pair, number_of, numbers_of


class Function(TrainerProtocol):
    """Calls `f` with a configuration's values as keyword arguments: one epoch, without a state.

    The global generators of torch, NumPy and Python are seeded from the job before the call, and put back after it.

    Args:
        f: returns a number, reported as "value", or a dict of numbers; in place of a number also a pair (value,
            standard error). NaN and infinity are passed on.

    Attributes:
        exit: the first SystemExit or the like that `f` raised in this process; None without.

    Raises:
        TypeError: `f` cannot be called, or is a generator function.

    Example:
        >>> Function(lambda x: (x - 1) ** 2).describe()
        {'function': '<lambda>', 'epochs': 1}
    """

    has_model = uses_runtime = False

    def __init__(self, f: Callable[..., Any]) -> None:
        if inspect.isgeneratorfunction(f):
            raise TypeError(
                f"{name_of(f)} yields; a training loop becomes a trainer by @tn.loop(epochs=...), for a tn.Study."
            )
        if not callable(f):
            raise TypeError(f"a function to tune needs to be callable, got {described(f)}.")
        self.f = f
        self.exit: BaseException | None = None

    def __repr__(self) -> str:
        return f"Function({name_of(self.f)})"

    def describe(self) -> dict[str, Any]:
        """Return the function's name; its code is not compared."""
        return {"function": name_of(self.f), "epochs": self.epochs}

    @override
    def finished(self, job: Job, state: TrainState, longer: int) -> str:
        return f"{name_of(self.f)} is a plain function, which has no epochs"

    @override
    def init(self, job: Job) -> TrainState:
        """Return the state before the call, which is empty."""
        return TrainState(0, {})

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        """Call the function, once.

        Raises:
            TypeError: it returned neither a number nor a dict of numbers.
            ValueError: a standard error is negative or not finite.
        """
        if state.epoch < min(until, self.epochs):
            started = time.perf_counter()
            with job.at_work("epoch", 1):
                metrics, errors = self._reported(self._called(job))
            yield TrainState(1, {}), Report(1, metrics, errors, time.perf_counter() - started)
        return ""

    @override
    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Raise StudyError: a plain function has no model."""
        raise StudyError(
            f"{name_of(self.f)} is a plain function, so there is no model; its best arguments are in `config`."
        )

    def _called(self, job: Job) -> Any:
        try:
            return self.f(**copied(job.config))
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.exit = self.exit or error
            raise

    def _reported(self, result: Any) -> ReportedMetrics:
        if not isinstance(result, Mapping) and not is_pair(result) and number_of(result) is None:
            pair = ", or a pair (value, standard error)" if isinstance(result, tuple) else ""
            raise TypeError(
                f"{name_of(self.f)} returned {described(result)}; it needs to return a number,"
                f' or a dict of numbers such as {{"loss": 0.3}}{pair}.'
            )
        return numbers_of(result if isinstance(result, Mapping) else {"value": result}, name_of(self.f))
