"""Compression: steps that make a trained module smaller or faster, for `tn.Model(winner, steps=...)`."""

from tuneflow.compress.low_rank import LowRank
from tuneflow.compress.operations import Convert, Factorize, Operation, Select
from tuneflow.compress.step import ModelStep, StepRows

__all__ = ["Convert", "Factorize", "LowRank", "ModelStep", "Operation", "Select", "StepRows"]
