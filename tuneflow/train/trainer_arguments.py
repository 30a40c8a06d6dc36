"""Arguments of a Trainer, checked before anything is trained: callables and metrics."""

from collections.abc import Mapping
from typing import Any

import torch

from tuneflow.metrics.adapters import as_metric
from tuneflow.metrics.calibration import ece
from tuneflow.metrics.classes import accuracy, f1, top_k
from tuneflow.metrics.ranking import auc, average_precision
from tuneflow.metrics.regression import mae, r2, rmse
from tuneflow.signature import name_of
from tuneflow.train.augmentation import sees_module
from tuneflow.train.loss_object import has_loss_of, is_loss
from tuneflow.train.module_metrics import is_of_module, other_form
from tuneflow.train.reported_metrics import described
from tuneflow.validate import check_whole

ELSEWHERE = {  # arguments that a Trainer does not take, and what does
    **{
        name: f'optimizer={{"{name}": ...}} in the tn.SearchSpace, or functools.partial(torch.optim.SGD, {name}=...),'
        for name in ("lr", "momentum", "weight_decay", "betas")
    },
    "seed": "tn.Study(seed=...)",
    "device": "tn.Study(runtime=tn.Runtime(device=...))",
    "model": "tn.Study(model=tn.Model(builder))",
    "normalize": "tn.Model(builder, normalize=...)",
    "scheduler": "schedule=tn.rates.Cosine()",
    "lr_scheduler": "schedule=tn.rates.Cosine()",
}
OURS = [metric.__name__ for metric in (accuracy, auc, average_precision, ece, f1, mae, r2, rmse, top_k)]
EXAMPLES = {"loss": "torch.nn.CrossEntropyLoss()", "optimizer": "torch.optim.SGD"}


def check_callables(loss: Any, optimizer: Any, augment: Any) -> None:
    """Raise TypeError unless these can be called, each as what it is, and the optimizer does not exist already."""
    if isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise TypeError(
            f"Trainer: optimizer needs a class such as torch.optim.{kind}, got a ready {kind}; its arguments are"
            ' tuned, or fixed, in the section "optimizer" of the space.'
        )
    if not is_loss(loss):
        way = f"; try {EXAMPLES['loss']}, or an object with a method loss_of(module, batch)."
        raise TypeError(f"Trainer: loss needs to be callable, got {described(loss)}{way}")
    if not callable(optimizer):
        raise TypeError(
            f"Trainer: optimizer needs to be callable, got {described(optimizer)}; try {EXAMPLES['optimizer']}."
        )
    if getattr(loss, "uses_box", False) and not has_loss_of(loss) and sees_module(loss):  # an attack
        kinds = "a function of outputs and targets"
        raise TypeError(f"Trainer: loss needs {kinds}, got a {type(loss).__name__}; pass this one as augment.")
    if augment is not None:
        _check_augment(augment)


def _check_augment(augment: Any) -> None:
    """Raise TypeError unless this can augment; a loss, a metric and several at once have a place of their own."""
    if has_loss_of(augment) and not sees_module(augment):
        way = "pass this one as loss"
    elif callable(augment):
        return
    elif is_of_module(augment):
        way = "pass this one in metrics"
    else:
        way = 'several in turn are one function that calls them, a choice among them is tn.Choice in section "augment"'
    kinds = "a function of inputs, or of module, inputs and targets"
    raise TypeError(f"Trainer: augment needs {kinds}, got {described(augment)}; {way}.")


def metrics_of(metrics: Any) -> dict[str, Any]:
    """Return what a Trainer got as `metrics`, by name: callables, and objects with `of_module` as they are.

    Raises:
        TypeError: it is no mapping, a name is taken, or a metric is none.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"Trainer: metrics needs a dict of name to metric, got a {type(metrics).__name__}; write {_named(metrics)}."
        )
    return {_name(name): _metric(name, metric) for name, metric in metrics.items()}


def _named(metrics: Any) -> str:
    """Return the dict to write in the place of these metrics: `metrics={"accuracy": accuracy}`."""
    several = list(metrics) if isinstance(metrics, list | tuple | set | frozenset) else [metrics]
    words = [_entry(metric) for metric in several] or ['"accuracy": tn.metrics.accuracy']
    return f"metrics={{{', '.join(words)}}}"


def _entry(metric: Any) -> str:
    name = metric if isinstance(metric, str) else name_of(metric).strip("<>")
    if name in OURS:
        return f'"{name}": tn.metrics.{name}'
    return f'"{name.lower()}": {"..." if isinstance(metric, str) or name == "lambda" else name}'


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"Trainer: the name of a metric needs to be a string, got {name!r}.")
    if name in ("loss", "train_loss"):
        raise TypeError(f'Trainer: metric "{name}" has the name of one that is always reported; give it another.')
    return name


def _metric(name: str, metric: Any) -> Any:
    if is_of_module(metric):
        if isinstance(metric, type):
            raise TypeError(
                f'Trainer: metric "{name}" needs an instance, got the class {metric.__name__}; add parentheses.'
            )
        every = check_whole(f'Trainer: metric "{name}": every', getattr(metric, "every", 1))
        if every > 1 and getattr(metric, "once_per_structure", False):
            raise ValueError(
                f'Trainer: metric "{name}" is taken once for each structure and stands in every report, got'
                f" every={every}; drop one of the two."
            )
        for method in ("brief", "for_test"):
            other_form(name, metric, method)
        return metric
    try:
        return as_metric(metric)
    except TypeError as error:
        raise TypeError(f'Trainer: metric "{name}" {error}') from None
