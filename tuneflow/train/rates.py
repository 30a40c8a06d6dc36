"""Learning-rate schedules (`tn.rates`).

A schedule spans the full number of epochs of a trial, even where the trial is trained in slices or stopped early. Its
unit is the optimizer step, counted from 0 over the whole trial, unless the class says otherwise.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from typing_extensions import override

from tuneflow.errors import plural
from tuneflow.signature import name_of, parameters_of
from tuneflow.train.full_length import bound_to_length
from tuneflow.validate import check_flag, check_positive, check_whole, check_word, is_number, is_whole, shown

__all__ = ["Cosine", "Fixed", "OneCycle", "Plateau", "Schedule", "Step", "Torch", "Warmup"]

Groups = list[dict[str, Any]]


class Schedule:
    """A factor on the configured learning rate, step by step. Subclass it and write `factor`.

    Example:
        >>> class Root(Schedule):
        ...     def factor(self, step, steps):
        ...         return (step + 1) ** -0.5
        >>> Root().factor(3, 100)
        0.5
    """

    def factor(self, step: int, steps: int) -> float:
        """Return the factor for an optimizer step.

        Args:
            step: the step, from 0.
            steps: optimizer steps of the full trial.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method factor(step, steps)")

    def momentum(self, step: int, steps: int) -> float | None:
        """Return the momentum (Adam's first beta) for a step; None, the default, leaves it as configured."""

    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        """Return the schedule at work on an optimizer.

        Args:
            optimizer: its groups' learning rates are set.
            settings: the options that each parameter group was made with, `lr` among them.
            steps_per_epoch: optimizer steps of an epoch.
            epochs: the full length of the trial.
        """
        return _Factor(self.in_steps(steps_per_epoch), optimizer, settings, steps_per_epoch * epochs)

    def in_steps(self, steps_per_epoch: int) -> "Schedule":  # noqa: ARG002
        """Return this schedule with its numbers of epochs as numbers of steps; by default it has none."""
        return self

    def finished(self, steps_per_epoch: int, epochs: int, longer: int) -> str:
        """Return the reason why a trial cannot go on to a new length as if it always had it; empty where it can.

        By default the factors are compared. A subclass with an `attach` of its own needs this method too, to have its
        trials extended.

        Args:
            steps_per_epoch: optimizer steps of an epoch.
            epochs: the full length that the trial was trained to.
            longer: the new full length.
        """
        if type(self).attach is not Schedule.attach:
            kind = type(self).__name__
            return f"rates.{kind} has no method finished() to say that it does not depend on the full length"
        return bound_to_length(self.in_steps(steps_per_epoch), repr(self), steps_per_epoch, epochs, longer)


@dataclass(frozen=True)
class Fixed(Schedule):
    """The configured learning rate throughout. It has no arguments."""

    @override
    def factor(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Multiplies the learning rate by a factor at given shares of the trial, or after given epochs.

    Args:
        at: shares of the trial's steps, floats from 0 to 1, at each of which the rate changes; or whole numbers of
            epochs, as in `at=(30, 60)`, which do not depend on the trial's length.
        by: the factor, > 0.

    Raises:
        ValueError: one of `at` is neither a share nor a whole number >= 1.
    """

    at: tuple[float, ...] = (0.5, 0.75)
    by: float = 0.1

    def __post_init__(self) -> None:
        check_positive("rates.Step: by", self.by)
        for at in self.at if isinstance(self.at, tuple | list) else [self.at]:
            if not is_whole(at, 1) and not (isinstance(at, float) and 0 <= at <= 1):
                raise ValueError(
                    f"rates.Step: at needs shares of the trial's steps, floats within [0, 1], or whole numbers of"
                    f" epochs >= 1, got {at!r}."
                )

    def in_steps(self, steps_per_epoch: int) -> Schedule:
        return _StepInSteps(self.at, self.by, steps_per_epoch)

    def factor(self, step: int, steps: int) -> float:
        return self.in_steps(1).factor(step, steps)


@dataclass(frozen=True)
class _StepInSteps(Schedule):
    """A Step whose epochs have so many steps."""

    at: tuple[float, ...]
    by: float
    steps_per_epoch: int

    def factor(self, step: int, steps: int) -> float:
        places = (at * (steps if isinstance(at, float) else self.steps_per_epoch) for at in self.at)
        return float(self.by ** sum(step >= place for place in places))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the configured learning rate down to a share of it.

    Args:
        final: the last rate, as a share of the configured one.

    Source: Loshchilov, Hutter, SGDR, ICLR 2017, without restarts.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        _check_least("rates.Cosine: final", self.final)

    def factor(self, step: int, steps: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / steps)) / 2


@dataclass(frozen=True)
class Warmup(Schedule):
    """Raises the learning rate linearly from near 0, then follows another schedule.

    Args:
        share: share of the trial's steps, from 0 to 1, that the rise takes.
        then: the schedule over the remaining steps; by default the configured rate.
        epochs: number of epochs that the rise takes, in place of a share.

    Raises:
        ValueError: share is not within [0, 1], or epochs is negative.
    """

    share: float = 0.05
    then: Schedule = field(default_factory=Fixed)
    epochs: float | None = None

    def __post_init__(self) -> None:
        _check_share("rates.Warmup: share", self.share)
        if not isinstance(self.then, Schedule):
            raise TypeError(f"rates.Warmup: then needs to be a schedule such as Cosine(), got {shown(self.then)}.")
        if self.epochs is not None and not (is_number(self.epochs) and self.epochs >= 0):
            raise ValueError(f"rates.Warmup: epochs needs to be a number >= 0, got {self.epochs!r}.")

    def in_steps(self, steps_per_epoch: int) -> Schedule:
        epochs = None if self.epochs is None else self.epochs * steps_per_epoch
        return Warmup(self.share, self.then.in_steps(steps_per_epoch), epochs)

    def factor(self, step: int, steps: int) -> float:
        rising = round(self.share * steps if self.epochs is None else self.epochs)
        if step < rising:
            return (step + 1) / (rising + 1) * self.then.factor(0, max(1, steps - rising))
        return self.then.factor(step - rising, max(1, steps - rising))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Raises the learning rate to the configured one and lowers it again; momentum moves the other way.

    Args:
        peak: share of the trial's steps, from 0 to 1, at which the rate is highest.
        start, final: the first and the last rate, as shares of the configured one.
        low, high: momentum (Adam's first beta) at the peak and at the ends; None leaves it as configured.

    Raises:
        ValueError: peak is not within [0, 1].

    Source: Smith, Topin, Super-convergence, 2018; torch's OneCycleLR with cosine annealing.
    """

    peak: float = 0.3
    start: float = 1 / 25
    final: float = 1e-4 / 25
    low: float | None = 0.85
    high: float | None = 0.95

    def __post_init__(self) -> None:
        _check_share("rates.OneCycle: peak", self.peak)
        _check_least("rates.OneCycle: start", self.start)
        _check_least("rates.OneCycle: final", self.final)
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None:
                _check_least(f"rates.OneCycle: {name}", value)

    def factor(self, step: int, steps: int) -> float:
        return self._between(step, steps, self.start, 1.0, self.final)

    def momentum(self, step: int, steps: int) -> float | None:
        if self.low is None or self.high is None:
            return None
        return self._between(step, steps, self.high, self.low, self.high)

    def _between(self, step: int, steps: int, first: float, middle: float, last: float) -> float:
        top = self.peak * steps - 1
        if step <= top:
            return _anneal(first, middle, step / top if top > 0 else 1.0)
        return _anneal(middle, last, (step - top) / max(1e-12, steps - 1 - top))


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiplies the learning rate by a factor when a metric has not improved for some epochs; its unit is the epoch.

    Args:
        patience: epochs without an improvement that the rate is kept for.
        by: the factor, > 0.
        metric: name of a reported metric.
        maximize: True if larger is better.
        threshold: the smallest improvement that counts, as a share of the best value.
    """

    patience: int = 3
    by: float = 0.1
    metric: str = "loss"
    maximize: bool = False
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        check_whole("rates.Plateau: patience", self.patience, 0)
        check_positive("rates.Plateau: by", self.by)
        check_flag("rates.Plateau: maximize", self.maximize)
        check_metric("rates.Plateau", self.metric)
        _check_least("rates.Plateau: threshold", self.threshold)

    @override
    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        return _Plateau(self, optimizer, settings)

    @override
    def finished(self, steps_per_epoch: int, epochs: int, longer: int) -> str:
        return ""


@dataclass(frozen=True)
class Torch(Schedule):
    """Wraps a scheduler of `torch.optim.lr_scheduler`.

    Args:
        factory: makes the LRScheduler of the optimizer; if it has a parameter `steps`, it also gets the number of units
            in the full trial.
        unit: "epoch" or "step": the scheduler is stepped after each of these.
        metric: name of the reported metric that a ReduceLROnPlateau watches.

    Raises:
        ValueError: unit is neither of the two.

    Example:
        >>> Torch(lambda optimizer, steps: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps), "step").unit
        'step'
    """

    factory: Callable[..., Any]
    unit: str = "epoch"
    metric: str = "loss"

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise TypeError(f"rates.Torch: factory needs to make an LRScheduler, got {shown(self.factory)}.")
        check_word("rates.Torch: unit", self.unit, ("epoch", "step"))
        check_metric("rates.Torch", self.metric)

    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        return _Torch(self, optimizer, settings, epochs if self.unit == "epoch" else steps_per_epoch * epochs)

    @override
    def finished(self, steps_per_epoch: int, epochs: int, longer: int) -> str:
        spans = f"rates.Torch({name_of(self.factory)}) spans the full {plural(epochs, 'epoch')}"
        return spans if self.takes_steps else ""

    @property
    def takes_steps(self) -> bool:
        """True if the factory gets the number of units in the full trial."""
        return any(parameter.name == "steps" for parameter in parameters_of(self.factory) or [])


def check_metric(where: str, value: Any) -> None:
    """Raise TypeError, opening with `where`, unless `value` can be the name of a metric."""
    if not isinstance(value, str):
        raise TypeError(f"{where}: metric needs to be the name of a metric, got {shown(value)}.")


def _check_least(name: str, value: Any) -> None:
    if not is_number(value) or value < 0:
        raise ValueError(f"{name} needs to be a number >= 0, got {shown(value)}.")


def _check_share(name: str, value: Any) -> None:
    if not (is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name} is a share of the trial's steps and needs to be within [0, 1], got {value!r}.")


class Live:
    """A schedule at work in a training loop."""

    def before(self, step: int) -> None:
        """Set the optimizer's groups for a step, counted from 0 over the trial."""

    def after_step(self) -> None:
        """Note that an optimizer step was taken."""

    def after_epoch(self, metrics: Mapping[str, float], lacking: Collection[str] = ()) -> None:
        """Note the metrics of an epoch that was trained and evaluated; `lacking` are those that others only report."""

    def state(self) -> dict[str, Any]:
        """Return the state to save: plain numbers."""
        return {}

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        """Restore `state`; `before` are the options of the parameter groups that it was reached with."""


class _Factor(Live):
    """A schedule in closed form: a function of the step, without a state."""

    def __init__(self, schedule: Schedule, optimizer: Optimizer, settings: Groups, steps: int) -> None:
        self._schedule, self._optimizer, self._settings, self._steps = schedule, optimizer, settings, steps
        self._still = isinstance(schedule, Fixed)

    def before(self, step: int) -> None:
        if self._still:
            return
        factor, momentum = self._schedule.factor(step, self._steps), self._schedule.momentum(step, self._steps)
        for group, options in zip(self._optimizer.param_groups, self._settings, strict=True):
            set_rate(group, options["lr"] * factor)
            if momentum is not None and "momentum" in group:
                group["momentum"] = momentum
            elif momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])

    @override
    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        for group, options, was in zip(self._optimizer.param_groups, self._settings, before, strict=True):
            if options.get("lr") != was.get("lr"):
                set_rate(group, options["lr"])


class _Plateau(Live):
    """The state of a Plateau: the factor so far, the best value, and the epochs since."""

    def __init__(self, schedule: Plateau, optimizer: Optimizer, settings: Groups) -> None:
        self._schedule, self._optimizer, self._settings = schedule, optimizer, settings
        self._factor, self._best, self._bad = 1.0, math.inf, 0
        self._unseen = 0  # epochs without the metric, since the last one with it

    @override
    def before(self, step: int) -> None:
        for group, options in zip(self._optimizer.param_groups, self._settings, strict=True):
            set_rate(group, options["lr"] * self._factor)

    @override
    def after_epoch(self, metrics: Mapping[str, float], lacking: Collection[str] = ()) -> None:
        schedule = self._schedule
        if schedule.metric in lacking:
            self._unseen += 1
            return
        since, self._unseen = self._unseen + 1, 0
        value = watched(metrics, schedule.metric)
        cost = -value if schedule.maximize else value
        better = self._best == math.inf or cost < self._best - schedule.threshold * abs(self._best)
        if better and math.isfinite(cost):
            self._best, self._bad = cost, 0
            return
        self._bad += since
        if self._bad > schedule.patience:
            self._factor, self._bad = self._factor * schedule.by, 0

    def state(self) -> dict[str, Any]:
        unseen = {"unseen": self._unseen} if self._unseen else {}
        return {"factor": self._factor, "best": self._best, "bad": self._bad, **unseen}

    @override
    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        self._factor, self._best, self._bad = state["factor"], state["best"], state["bad"]
        self._unseen = state.get("unseen", 0)


class _Torch(Live):
    """A torch scheduler, built after the optimizer and before either is loaded: its constructor changes the groups."""

    def __init__(self, schedule: Torch, optimizer: Optimizer, settings: Groups, units: int) -> None:
        self._schedule, self._optimizer, self._settings = schedule, optimizer, settings
        extra = {"steps": units} if schedule.takes_steps else {}
        self._scheduler = schedule.factory(optimizer, **extra)
        if not isinstance(self._scheduler, torch.optim.lr_scheduler.LRScheduler):
            kind = type(self._scheduler).__name__
            raise TypeError(f"rates.Torch: the factory needs to return a torch LRScheduler, got {kind}.")

    def after_step(self) -> None:
        if self._schedule.unit == "step":
            self._scheduler.step()

    @override
    def after_epoch(self, metrics: Mapping[str, float], lacking: Collection[str] = ()) -> None:
        if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if self._schedule.metric not in lacking:
                self._scheduler.step(watched(metrics, self._schedule.metric))
        elif self._schedule.unit == "epoch":
            self._scheduler.step()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = plain(self._scheduler.state_dict())
        return state

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        self._scheduler.load_state_dict(dict(state))
        for index, (group, options, was) in enumerate(
            zip(self._optimizer.param_groups, self._settings, before, strict=True)
        ):
            if options["lr"] != was["lr"]:
                ratio = float(options["lr"]) / float(was["lr"]) if was["lr"] else 1.0
                set_rate(group, group["lr"] * ratio)
                group["initial_lr"] = options["lr"]
                self._scheduler.base_lrs[index] = options["lr"]


def set_rate(group: dict[str, Any], rate: Any) -> None:
    """Set the learning rate of a parameter group; in place if it is a tensor."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def watched(metrics: Mapping[str, float], name: str) -> float:
    """Return the metric `name` of a report.

    Raises:
        ValueError: it was not reported; the message names the reported ones.
    """
    if name not in metrics:
        raise ValueError(f'metric "{name}" is not reported; reported are {", ".join(metrics)}.')
    return metrics[name]


def plain(value: Any) -> Any:
    """Return nested values with NumPy scalars as Python's, which a checkpoint can hold."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(inner) for inner in value)
    return value.item() if type(value).__module__ == "numpy" else value


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
