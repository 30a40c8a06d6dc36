"""Optimizers that torch.optim does not have: groups of parameters by name, averages of weights, Muon with AdamW."""

from tuneflow.optim.averaged import Averaged
from tuneflow.optim.groups import Groups
from tuneflow.optim.muon import MuonAdamW

__all__ = ["Averaged", "Groups", "MuonAdamW"]


def __dir__() -> list[str]:
    return __all__
