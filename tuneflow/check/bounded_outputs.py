"""Outputs that stay between 0 and 1 whatever the weights: probabilities, however they are computed."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from tuneflow.check.layer_watch import Rules, Watch
from tuneflow.check.output_kinds import TAKE_LOGITS
from tuneflow.heuristics.unchanged import unchanged

SCALES = (1, 3, 10)  # standard deviations of all weights
SPREAD = 0.01  # of outputs, below which they say nothing: a layer may be 0 as yet


class OutputRange(Rules):
    """Notes the least and the largest output that losses which take logits get."""

    def __init__(self) -> None:
        self.low, self.high, self.name = float("inf"), float("-inf"), ""

    @property
    def bounded(self) -> bool:
        """True if there were outputs, all from 0 to 1."""
        return bool(self.name) and self.low >= 0 and self.high <= 1

    @override
    def before(self, watch: Watch, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Note the range of a loss's outputs; those that are no numbers, as inf / inf, are left out."""
        if function not in TAKE_LOGITS:
            return
        outputs = inspect.signature(function).bind(*args, **kwargs).arguments["input"].detach()
        outputs = outputs[~outputs.isnan()]
        if outputs.numel():
            low, high = (float(value) for value in outputs.aminmax())
            self.name = function.__name__
            self.low, self.high = min(self.low, low), max(self.high, high)

    @override
    def after(self, watch: Watch, function: Callable[..., Any], args: Any, result: Any) -> None:
        """Do nothing."""


def check_bounded(module: nn.Module, loss_of: Callable[[], Any]) -> None:
    """Raise ValueError if a loss that takes logits gets outputs from 0 to 1 whatever the weights are.

    Args:
        module: its weights are drawn anew some times, then put back; in evaluation mode.
        loss_of: computes the loss of a few rows.
    """
    for scale in SCALES:
        seen = OutputRange()
        with suppress(Exception), torch.no_grad(), unchanged(module), _other_weights(module, scale):
            module.eval()
            with Watch(module, 0, seen):
                loss_of()
        if not seen.bounded:
            return
    if seen.high - seen.low > SPREAD:
        raise ValueError(
            f"{seen.name} takes logits, but gets outputs that stay between 0 and 1 whatever the weights are, as"
            " probabilities do: its gradient is much too small, and training is slow or stalls. Leave out what keeps"
            " them there, or take nn.BCELoss of probabilities, or nn.NLLLoss of their logarithm."
        )


@contextmanager
def _other_weights(module: nn.Module, scale: float) -> Iterator[None]:
    """A block in which all trained weights are normal numbers of this scale, then put back."""
    generator = torch.Generator().manual_seed(0)
    trained = [p for p in module.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    try:
        for p in trained:
            p.copy_(scale * torch.randn(p.shape, generator=generator))
        yield
    finally:
        for p, value in zip(trained, before, strict=True):
            p.copy_(value)
