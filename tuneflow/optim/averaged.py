"""Averaged: an optimizer beside which an average of the weights is kept, which is scored, saved and handed over."""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tuneflow.optim.build import Parameters, build_optimizer, optimizer_name, partial_of, unwrapped
from tuneflow.optim.build import check_settings as check_inner
from tuneflow.optim.build import spans_trial as inner_spans_trial
from tuneflow.signature import name_of, parameters_of

WINDOW = 9  # an exponential average begins with about the last ninth of the steps so far


class Averaged:
    """An optimizer that trains as before, and beside it keeps an average of the weights: EMA, or SWA.

    The average has no part in training. It is what validation scores, what a state is saved as, and what
    `study.best.model()` returns. A Trainer estimates BatchNorm's statistics for it before each evaluation, on up to 32
    training batches. `decay` and `start` can be tuned in the section `optimizer`, beside the optimizer's own settings.

    Args:
        optimizer: a torch optimizer class, tn.optim.Groups(...) or tn.optim.MuonAdamW.
        decay: the share of the average that each step keeps, in [0, 1): 0.999 averages over about the last 1000 steps.
            In the first steps it is (n + 1) / (n + 10) if that is less, so that the first weights are soon forgotten.
            None gives all steps from `start` on the same weight, which is SWA.
        start: the share of the trial's steps, in [0, 1), before the first that counts; until then the weights
            themselves are scored. 0.75 is usual for SWA.

    Called with a module and settings, it returns the optimizer, for a training loop of your own, which calls its
    `eval()` before an evaluation and its `train()` before the next step.

    Raises:
        TypeError: the optimizer averages already.
        ValueError: decay or start is not within [0, 1).

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> optimizer = Averaged(torch.optim.SGD, decay=None)(net, lr=1.0)
        >>> for gradient in (1.0, 1.0, 4.0):
        ...     net.weight.grad = torch.full((1, 1), gradient)
        ...     optimizer.step()
        >>> last = net.weight.item()
        >>> optimizer.eval()
        >>> round(net.weight.item() - last, 3)  # the mean of last + 5, last + 4 and last
        3.0

    Source: Polyak, Juditsky, SIAM J. Control Optim. 30, 1992; Izmailov et al., Averaging Weights Leads to Wider Optima
    and Better Generalization, UAI 2018 (SWA); the first steps of an exponential average: TensorFlow's
    ExponentialMovingAverage.
    """

    def __init__(self, optimizer: Callable[..., Any], /, decay: float | None = 0.999, start: float = 0.0) -> None:
        if not callable(optimizer):
            raise TypeError(f"optim.Averaged: needs an optimizer class such as torch.optim.SGD, got {optimizer!r}.")
        if isinstance(unwrapped(optimizer)[0], Averaged):
            raise TypeError("optim.Averaged: needs an optimizer that does not average already, got Averaged.")
        _check(decay, start)
        self.optimizer, self.decay, self.start = optimizer, decay, start
        own = parameters_of(optimizer) or [Parameter("parameters", Parameter.POSITIONAL_ONLY)]
        self.__signature__ = self._signature([p.replace(annotation=Parameter.empty) for p in own])

    def __repr__(self) -> str:
        return f"Averaged({optimizer_name(self.optimizer)}, decay={self.decay}, start={self.start})"

    def __call__(self, module: nn.Module, /, **settings: Any) -> "AveragedOptimizer":
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        return self.for_module(module, trained, None, **settings)

    def for_module(
        self, module: nn.Module, parameters: Parameters, steps: int | None, **settings: Any
    ) -> "AveragedOptimizer":
        """Return the optimizer of a module; see ForModule."""
        decay, start = settings.pop("decay", self.decay), settings.pop("start", self.start)
        _check(decay, start)
        if start and steps is None:
            raise ValueError("optim.Averaged: start needs the number of steps, which a Trainer knows; got none.")
        inner = build_optimizer(partial_of(self.optimizer, settings), module, parameters, steps)
        if callable(getattr(inner, "eval", None)):
            raise TypeError(f"optim.Averaged: {type(inner).__name__} averages its weights already; take it alone.")
        return AveragedOptimizer(inner, list(parameters.values()), decay, round(start * (steps or 0)))

    def check_settings(self, settings: Mapping[str, Any], where: str) -> None:
        """Raise TypeError unless the settings of the optimizer's groups fit; see ForModule."""
        check_inner(self.optimizer, settings, where)

    def spans_trial(self, settings: Mapping[str, Any]) -> str:
        """Return the setting that depends on the full length of a trial; see `spans_trial` in build.py."""
        start = settings.get("start", self.start)
        own = f"optim.Averaged: start={start:g} is a share of the full length" if start else ""
        return own or inner_spans_trial(self.optimizer)

    def _signature(self, own: list[Parameter]) -> Signature:
        """The optimizer's arguments, and the two of the average."""
        two = [Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(self, name)) for name in ("decay", "start")]
        for name in ("decay", "start"):
            if name in [p.name for p in own]:
                raise TypeError(f'optim.Averaged: {name_of(self.optimizer)} has an argument "{name}" of its own.')
        open_end = [p for p in own if p.kind is p.VAR_KEYWORD]
        return Signature([*(p for p in own if p not in open_end), *two, *open_end])


class AveragedOptimizer(Optimizer):
    """An optimizer with an average of the weights beside it; made by `Averaged`.

    Its groups and its state are those of the optimizer within; the average is in its `state_dict()`.

    Args:
        inner: takes the steps.
        tensors: the parameters, which are averaged.
        decay: see Averaged.
        start: the number of steps before the first that counts.
    """

    def __init__(self, inner: Optimizer, tensors: list[Tensor], decay: float | None, start: int) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self._tensors, self._decay, self._start = inner, tensors, decay, start
        self._average: list[Tensor] = []  # in evaluation: the weights that are trained
        self._taken, self._swapped = 0, False
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = self.inner.param_groups, self.inner.state, self.inner.defaults

    def step(self, closure: Any = None) -> Any:
        """Take a step of the optimizer within, and move the average."""
        if self._swapped:
            raise RuntimeError("a step needs the weights that are trained; call train() on the optimizer before it.")
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self._taken += 1
        counted = self._taken - self._start
        if counted == 1:
            self._average = [tensor.detach().clone() for tensor in self._tensors]
        elif counted > 1:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._tensors, self._weight(counted))
        return loss

    def _weight(self, counted: int) -> float:
        """Return the weight of the newest weights in the average, given how many count."""
        if self._decay is None:
            return 1 / counted
        return max(1 - self._decay, WINDOW / (counted + WINDOW - 1))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.inner.zero_grad(set_to_none)

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average in the place of the weights, if there is one."""
        if not self._swapped and self._average:
            self._swap()

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights that are trained back."""
        if self._swapped:
            self._swap()

    def _swap(self) -> None:
        for tensor, other in zip(self._tensors, self._average, strict=True):
            kept = tensor.clone()
            tensor.copy_(other)
            other.copy_(kept)
        self._swapped = not self._swapped

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer within, and the average."""
        average = {"tensors": self._average, "taken": self._taken, "swapped": self._swapped}
        return {**self.inner.state_dict(), "average": average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the weights are loaded with the module's."""
        average = state_dict["average"]
        self.inner.load_state_dict({name: value for name, value in state_dict.items() if name != "average"})
        self._share()
        self._taken, self._swapped = average["taken"], average["swapped"]
        pairs = zip(average["tensors"], self._tensors, strict=False)  # none before the first that counts
        self._average = [torch.empty_like(tensor).copy_(other) for other, tensor in pairs]


def _check(decay: Any, start: Any) -> None:
    for name, value in (("decay", decay), ("start", start)):
        if name == "decay" and value is None:
            continue
        if not isinstance(value, int | float) or not 0 <= value < 1:
            hint = "; None gives all steps the same weight" if name == "decay" else ""
            raise ValueError(f"optim.Averaged: {name} needs to be within [0, 1), got {value!r}{hint}.")
