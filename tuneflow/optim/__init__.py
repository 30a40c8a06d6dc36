"""Optimizers that torch.optim does not have: groups of parameters by name."""

from tuneflow.optim.groups import Groups

__all__ = ["Groups"]


def __dir__() -> list[str]:
    return __all__
