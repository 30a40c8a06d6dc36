"""The weights that are scored: those of training, or the ones that an optimizer with train() and eval() shows then."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCHES = 32  # of the training part, that the statistics of BatchNorm are estimated on


class ScoredWeights:
    """Switches an optimizer between the weights that it trains and those that are evaluated, saved and handed over.

    Schedule-free optimizers and averages of weights have two methods for it, train() and eval(); of any other optimizer
    the two are one. A state is saved as it was evaluated, and switched back before the next step.

    Args:
        optimizer: a new one; it is put into training.

    Attributes:
        switches: True if the optimizer has the two methods.
        mode: "train" or "eval".
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer, self.mode = optimizer, "train"
        self.switches = callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))
        if self.switches:
            optimizer.train()

    def to(self, mode: str) -> bool:
        """Switch to a mode, once; True if the mode changed, and with it the weights."""
        if not self.switches or mode == self.mode:
            return False
        getattr(self._optimizer, mode)()
        self.mode = mode
        return True


def estimate_statistics(module: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
    """Set the running statistics of BatchNorm layers to the mean over batches, for weights that were never trained.

    Dropout is off, as it is when these statistics are used. Layers that were in evaluation mode, as frozen ones are,
    keep theirs.

    Args:
        module: has the layers; its modes are left as they were.
        forward: calls the module on a batch.
        batches: at most `BATCHES` of them are used.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018, section 3.2.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    if not layers:
        return
    with _modes_kept(module), torch.no_grad():
        module.eval()
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all
            layer.train()
        for batch in islice(batches, BATCHES):
            forward(batch)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@contextmanager
def _modes_kept(module: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    yield
    for part, mode in modes:
        part.training = mode
