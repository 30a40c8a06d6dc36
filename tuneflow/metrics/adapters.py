"""Metrics of other libraries, called as ours are: objects that are updated, and functions that take targets first."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

Metric = Callable[[Any, Any], Any]
OF_PROBABILITIES = ("log_loss", "brier_score_loss", "d2_log_loss_score", "d2_brier_score")


def as_metric(metric: Any) -> Metric:
    """Return `metric` as a callable `(outputs, targets)`; see `Accumulated` for objects that are updated.

    Raises:
        TypeError: it is neither, or a class where an instance is needed.
    """
    if all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset")):
        if isinstance(metric, type):
            raise TypeError(f"needs an instance, got the class {metric.__name__}; add parentheses.")
        return metric if isinstance(metric, Accumulated) else Accumulated(metric)
    if not callable(metric):
        raise TypeError(f"needs to be callable, or to have update, compute and reset, got {metric!r}.")
    return TargetsFirst(metric) if is_of_sklearn(metric) else metric


@dataclass(frozen=True)
class Accumulated:
    """A metric from an object with `update(outputs, targets)`, `compute()` and `reset()`.

    Each use works on a fresh copy, on the outputs' device; the object itself never changes.
    """

    metric: Any

    def __call__(self, outputs: Any, targets: Any) -> Any:
        fresh = self.fresh(outputs)
        fresh.update(outputs, targets)
        return self.result_of(fresh)

    def fresh(self, outputs: Any) -> Any:
        """Return a copy that has counted nothing, on the device of `outputs` where these are a tensor."""
        fresh = copy.deepcopy(self.metric)
        fresh.reset()
        return fresh.to(outputs.device) if hasattr(fresh, "to") and isinstance(outputs, Tensor) else fresh

    @staticmethod
    def result_of(fresh: Any) -> Any:
        """Return what a copy has computed of everything it was updated with.

        Raises:
            TypeError: it is not one number.
        """
        result = fresh.compute()
        if isinstance(result, Tensor) and result.numel() != 1:
            raise TypeError(f"compute() needs to return one number, got shape {tuple(result.shape)}")
        return result


@dataclass(frozen=True)
class TargetsFirst:
    """A function of sklearn.metrics, called with arrays in its own order: targets, then what it takes of the outputs.

    Outputs are taken for logits. A function of decisions, as accuracy_score, gets class numbers; one of probabilities
    or scores, as log_loss or roc_auc_score, gets softmax or sigmoid, for two classes that of class 1; a function of
    numbers, as r2_score, gets the outputs as they are. Targets of the outputs' shape are several labels in {0, 1}.
    """

    metric: Any

    def __call__(self, outputs: Any, targets: Any) -> Any:
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            raise TypeError("a function of sklearn needs outputs and targets as tensors; wrap it in a lambda")
        return self.metric(*self._arrays(outputs.detach().cpu(), targets.detach().cpu()))

    def _arrays(self, outputs: Tensor, targets: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        kind, name = _function_of(self.metric).__module__, _function_of(self.metric).__name__
        if outputs.ndim == 2 and outputs.shape[1] == 1:
            outputs, targets = outputs[:, 0], targets.reshape(len(targets), -1).squeeze(1)
        if "_classification" not in kind and "_ranking" not in kind:
            return targets.numpy(), outputs.numpy()
        classes = (targets > 0.5).long() if targets.is_floating_point() else targets
        several = outputs.ndim > 1 and classes.shape != outputs.shape
        if "_ranking" in kind or name in OF_PROBABILITIES:
            return classes.numpy(), (_shares(outputs) if several else outputs.double().sigmoid()).numpy()
        return classes.numpy(), (outputs.argmax(1) if several else (outputs > 0).long()).numpy()


def is_of_sklearn(metric: Any) -> bool:
    """True for a function of sklearn.metrics, also under functools.partial."""
    return (getattr(_function_of(metric), "__module__", None) or "").startswith("sklearn.")


def _function_of(metric: Any) -> Any:
    return _function_of(metric.func) if isinstance(metric, partial) else metric


def _shares(outputs: Tensor) -> Tensor:
    shares = outputs.double().softmax(1)
    return shares[:, 1] if shares.shape[1] == 2 else shares
