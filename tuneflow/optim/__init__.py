"""Optimizers that torch.optim does not have: groups of parameters by name, and averages of the weights."""

from tuneflow.optim.averaged import Averaged
from tuneflow.optim.groups import Groups

__all__ = ["Averaged", "Groups"]


def __dir__() -> list[str]:
    return __all__
