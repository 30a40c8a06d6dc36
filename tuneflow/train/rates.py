"""How the learning rate moves over a trial.

A schedule spans the full number of epochs of a trial, however far it is trained at a time. The unit is the optimizer
step, counted from 0 over the whole trial, unless the class says otherwise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from tuneflow.signature import parameters_of

__all__ = ["Cosine", "Fixed", "OneCycle", "Plateau", "Schedule", "Step", "Torch", "Warmup"]

Groups = list[dict[str, Any]]


class Schedule:
    """A factor on the configured learning rate. Subclass it and write `factor`."""

    def factor(self, step: int, steps: int) -> float:
        """The factor for optimizer step `step` (from 0) of `steps`, those of the full trial."""
        raise NotImplementedError(f"{type(self).__name__} needs a method factor(step, steps)")

    def momentum(self, step: int, steps: int) -> float | None:
        """The momentum (Adam's first beta) for this step; None leaves it as configured."""
        return None

    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        """The schedule at work on an optimizer whose groups were made with `settings`."""
        return _Factor(self, optimizer, settings, steps_per_epoch * epochs)


@dataclass(frozen=True)
class Fixed(Schedule):
    """The configured rate throughout."""

    def factor(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Multiplies the rate by `by` at each of the shares `at` of the trial."""

    at: tuple[float, ...] = (0.5, 0.75)
    by: float = 0.1

    def factor(self, step: int, steps: int) -> float:
        return float(self.by ** sum(step >= share * steps for share in self.at))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the configured rate down to `final` times it.

    Source: Loshchilov, Hutter, SGDR, ICLR 2017, without restarts.
    """

    final: float = 0.0

    def factor(self, step: int, steps: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / steps)) / 2


@dataclass(frozen=True)
class Warmup(Schedule):
    """Rises linearly over the first `share` of the trial's steps; then `then` over the rest of them."""

    share: float = 0.05
    then: Schedule = field(default_factory=Fixed)

    def factor(self, step: int, steps: int) -> float:
        rising = round(self.share * steps)
        if step < rising:
            return (step + 1) / (rising + 1) * self.then.factor(0, max(1, steps - rising))
        return self.then.factor(step - rising, max(1, steps - rising))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to the configured rate and down again, momentum the other way round.

    Args:
        peak: share of the trial's steps at which the rate is highest.
        start, final: the first and the last rate, as shares of the configured one.
        low, high: momentum at the peak and at the ends; None leaves it alone.

    Source: Smith, Topin, Super-convergence, 2018; torch's OneCycleLR with cosine annealing.
    """

    peak: float = 0.3
    start: float = 1 / 25
    final: float = 1e-4 / 25
    low: float | None = 0.85
    high: float | None = 0.95

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
    """Multiplies the rate by `by` when a metric has not improved for `patience` epochs; its unit is the epoch.

    Args:
        metric: a reported name.
        maximize: whether larger is better.
        threshold: an improvement counts from this share of the best value on.
    """

    patience: int = 3
    by: float = 0.1
    metric: str = "loss"
    maximize: bool = False
    threshold: float = 1e-4

    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        return _Plateau(self, optimizer, settings)


@dataclass(frozen=True)
class Torch(Schedule):
    """A scheduler of torch's own.

    Args:
        factory: takes the optimizer, and `steps=` where it has such a parameter (how many units the full trial has);
            returns a `torch.optim.lr_scheduler.LRScheduler`.
        unit: "epoch" or "step": after which of them it is stepped.
        metric: what a ReduceLROnPlateau is given.
    """

    factory: Callable[..., Any]
    unit: str = "epoch"
    metric: str = "loss"

    def __post_init__(self) -> None:
        if self.unit not in ("epoch", "step"):
            raise ValueError(f'rates.Torch: unit needs to be "epoch" or "step", got {self.unit!r}.')

    def attach(self, optimizer: Optimizer, settings: Groups, steps_per_epoch: int, epochs: int) -> "Live":
        return _Torch(self, optimizer, settings, epochs if self.unit == "epoch" else steps_per_epoch * epochs)


class Live(Protocol):
    """A schedule at work in a training loop."""

    def before(self, step: int) -> None:
        """Set the optimizer's groups for optimizer step `step`, counted from 0 over the trial."""

    def after_step(self) -> None:
        """An optimizer step was taken."""

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """An epoch was trained and evaluated."""

    def state(self) -> dict[str, Any]:
        """What it has to remember: plain numbers."""

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        """Go on from `state`, which groups made with `before` led to."""


class _Factor:
    """A closed form: all it knows is the step."""

    def __init__(self, schedule: Schedule, optimizer: Optimizer, settings: Groups, steps: int) -> None:
        self._schedule, self._optimizer, self._settings, self._steps = schedule, optimizer, settings, steps
        self._still = isinstance(schedule, Fixed)

    def before(self, step: int) -> None:
        if self._still:
            return
        factor, momentum = self._schedule.factor(step, self._steps), self._schedule.momentum(step, self._steps)
        for group, made in zip(self._optimizer.param_groups, self._settings, strict=True):
            set_rate(group, made["lr"] * factor)
            if momentum is not None and "momentum" in group:
                group["momentum"] = momentum
            elif momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])

    def after_step(self) -> None:
        pass

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        for group, made, was in zip(self._optimizer.param_groups, self._settings, before, strict=True):
            if made.get("lr") != was.get("lr"):
                set_rate(group, made["lr"])


class _Plateau:
    def __init__(self, schedule: Plateau, optimizer: Optimizer, settings: Groups) -> None:
        self._schedule, self._optimizer, self._settings = schedule, optimizer, settings
        self._factor, self._best, self._bad = 1.0, math.inf, 0

    def before(self, step: int) -> None:
        for group, made in zip(self._optimizer.param_groups, self._settings, strict=True):
            set_rate(group, made["lr"] * self._factor)

    def after_step(self) -> None:
        pass

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        schedule = self._schedule
        value = watched(metrics, schedule.metric)
        cost = -value if schedule.maximize else value
        if self._best == math.inf or cost < self._best - schedule.threshold * abs(self._best):
            self._best, self._bad = cost, 0
            return
        self._bad += 1
        if self._bad > schedule.patience:
            self._factor, self._bad = self._factor * schedule.by, 0

    def state(self) -> dict[str, Any]:
        return {"factor": self._factor, "best": self._best, "bad": self._bad}

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        self._factor, self._best, self._bad = state["factor"], state["best"], state["bad"]


class _Torch:
    """Built after the optimizer and before either is loaded: a scheduler's constructor changes the groups."""

    def __init__(self, schedule: Torch, optimizer: Optimizer, settings: Groups, units: int) -> None:
        self._schedule, self._optimizer, self._settings = schedule, optimizer, settings
        known = parameters_of(schedule.factory) or []
        extra = {"steps": units} if any(p.name == "steps" for p in known) else {}
        self._scheduler = schedule.factory(optimizer, **extra)
        if not isinstance(self._scheduler, torch.optim.lr_scheduler.LRScheduler):
            kind = type(self._scheduler).__name__
            raise TypeError(f"rates.Torch: the factory needs to return a torch LRScheduler, got {kind}.")

    def before(self, step: int) -> None:
        pass

    def after_step(self) -> None:
        if self._schedule.unit == "step":
            self._scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(watched(metrics, self._schedule.metric))
        elif self._schedule.unit == "epoch":
            self._scheduler.step()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = plain(self._scheduler.state_dict())
        return state

    def load(self, state: Mapping[str, Any], before: Groups) -> None:
        self._scheduler.load_state_dict(dict(state))
        for place, (group, made, was) in enumerate(
            zip(self._optimizer.param_groups, self._settings, before, strict=True)
        ):
            if made["lr"] != was["lr"]:
                ratio = float(made["lr"]) / float(was["lr"]) if was["lr"] else 1.0
                set_rate(group, group["lr"] * ratio)
                group["initial_lr"] = made["lr"]
                self._scheduler.base_lrs[place] = made["lr"]


def set_rate(group: dict[str, Any], rate: Any) -> None:
    """Set a group's learning rate; in place where it is a tensor."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def watched(metrics: Mapping[str, float], name: str) -> float:
    """The metric `name` of a report.

    Raises:
        ValueError: it was not reported; those that were are named.
    """
    if name not in metrics:
        raise ValueError(f'metric "{name}" is not reported; reported are {", ".join(metrics)}.')
    return metrics[name]


def plain(value: Any) -> Any:
    """Nested values with NumPy's scalars as Python's, as a checkpoint may hold them."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(inner) for inner in value)
    return value.item() if type(value).__module__ == "numpy" else value


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
