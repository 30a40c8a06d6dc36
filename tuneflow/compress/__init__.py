"""Compression: steps that make a trained module smaller or faster, for `tn.Model(winner, steps=...)`."""

from tuneflow.compress.arithmetic import Arithmetic
from tuneflow.compress.channel_groups import groups_of
from tuneflow.compress.distill import Distill
from tuneflow.compress.group import Selection, select_all
from tuneflow.compress.low_rank import LowRank
from tuneflow.compress.narrow import Narrow
from tuneflow.compress.operations import Assign, Factorize, Remove, Select
from tuneflow.compress.step import StepRows
from tuneflow.compress.widen import Widen

__all__ = [
    "Arithmetic",
    "Assign",
    "Distill",
    "Factorize",
    "LowRank",
    "Narrow",
    "Remove",
    "Select",
    "Selection",
    "StepRows",
    "Widen",
    "groups_of",
    "select_all",
]


def __dir__() -> list[str]:
    return __all__
