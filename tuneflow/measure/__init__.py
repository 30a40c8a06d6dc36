"""Metrics of a module itself: its size, its multiplications, its memory, its speed.

A metric of a module is an object with `of_module(module, data)`, and stands in a Trainer's `metrics=` beside those of
outputs. The module takes raw inputs and gives outputs in the targets' units, in the form in which it is handed over, so
normalizer and scale are part of what is measured. Those of this page are taken once for each structure of a study.
"""

from tuneflow.measure.latency import Latency
from tuneflow.measure.layer_profile import LayerProfile, Profile, profile
from tuneflow.measure.macs import MACs
from tuneflow.measure.peak_memory import PeakMemory
from tuneflow.measure.size import Bytes, Parameters

__all__ = ["Bytes", "Latency", "LayerProfile", "MACs", "Parameters", "PeakMemory", "Profile", "profile"]


def __dir__() -> list[str]:
    return __all__
