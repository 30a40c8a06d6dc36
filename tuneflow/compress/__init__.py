"""Compression: steps that make a trained module smaller or faster, for `tn.Model(winner, steps=...)`."""

from tuneflow.compress.arithmetic import Arithmetic
from tuneflow.compress.channel_groups import ChannelGroups, groups_of
from tuneflow.compress.distill import Distill
from tuneflow.compress.group import Group, Kept, Member, Selection, select, select_all
from tuneflow.compress.low_rank import LowRank
from tuneflow.compress.narrow import Narrow
from tuneflow.compress.operations import Assign, Convert, Factorize, Operation, Select
from tuneflow.compress.step import ModelStep, StepRows
from tuneflow.compress.widen import Widen

__all__ = [
    "Arithmetic",
    "Assign",
    "ChannelGroups",
    "Convert",
    "Distill",
    "Factorize",
    "Group",
    "Kept",
    "LowRank",
    "Member",
    "ModelStep",
    "Narrow",
    "Operation",
    "Select",
    "Selection",
    "StepRows",
    "Widen",
    "groups_of",
    "select",
    "select_all",
]
