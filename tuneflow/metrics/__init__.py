"""Metrics, and their uncertainty.

A metric is any callable `(outputs, targets) -> number`, or `-> one number per example`, shape (n,): then the mean is
reported together with its standard error. An object with `update`, `compute` and `reset`, as torchmetrics has them, is
a metric too, and so is a function of sklearn.metrics.
"""

from tuneflow.metrics.calibration import ece
from tuneflow.metrics.classes import accuracy, f1, top_k
from tuneflow.metrics.measured import Estimate, Measured
from tuneflow.metrics.measured import estimate as estimate
from tuneflow.metrics.measured import measure as measure
from tuneflow.metrics.ranking import auc, average_precision
from tuneflow.metrics.regression import mae, r2, rmse

__all__ = ["Estimate", "Measured", "accuracy", "auc", "average_precision", "ece", "f1", "mae", "r2", "rmse", "top_k"]
