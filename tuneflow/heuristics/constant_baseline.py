"""Constant baseline: the best constant outputs, which is all a model can know before it learns from its inputs."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.heuristics.input_scaling import CLOSE, is_standard
from tuneflow.heuristics.target_scaling import DISTANCES, SQUARES

CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, functional.cross_entropy, functional.nll_loss)
LOGITS = (nn.BCEWithLogitsLoss, functional.binary_cross_entropy_with_logits)
SHARES = (*LOGITS, nn.BCELoss, functional.binary_cross_entropy)
NUMBERS = (*SQUARES, *DISTANCES)


@dataclass(frozen=True, eq=False)
class ConstantOutputs:
    """The constant outputs of least loss.

    Args:
        bias: of the output layer, shape (units,): before a final sigmoid, where the loss takes probabilities.
        outputs: the constants as the loss takes them, with the outputs' number of dimensions.
        ends: the activations that may stand between the output layer and the loss.
        sharp: True if the initial loss should be near that of the constants.
    """

    bias: Tensor
    outputs: Tensor
    ends: tuple[str, ...] = ()
    sharp: bool = True


def best_constant(
    loss: Any, outputs: Tensor, targets: Any, units: int, balanced: bool = False
) -> ConstantOutputs | str:
    """Return the constant outputs of least loss, or a sentence with the reason why there are none.

    Classes: the log of their shares, with half an example added to each count, weighted and smoothed as in the loss.
    Binary targets: the logit of their share, likewise. Numbers: their mean, or 0 where they are standardized.

    Args:
        loss: the loss, as the trainer has it.
        outputs: (rows, units, ...), (rows, ..., units), or (rows,) for one unit.
        targets: of these rows, as the loss takes them.
        units: number of units of the output layer.
        balanced: a sampler shows the classes equally often, whatever their shares here.
    """
    kind, settings = _kind(loss)
    if kind is None or not isinstance(targets, Tensor):
        return f"the output bias is left: no prior is known for {getattr(loss, '__name__', type(loss).__name__)}"
    places = [d for d in ((1,) if kind in CLASSES else (1, outputs.ndim - 1)) if d < outputs.ndim]
    place = next((d for d in places if d and outputs.shape[d] == units), None)
    if place is None and (units > 1 or kind in CLASSES):
        return "the output bias is left: the outputs are not one per unit of the last layer"
    if kind in CLASSES:
        bias = _log_shares(outputs, targets, settings, balanced)
    elif targets.shape != outputs.shape:
        return "the output bias is left: outputs and targets differ in shape"
    elif kind in SHARES:
        bias = _logits(_per_unit(targets, place), settings, balanced)
    else:
        bias = _means(_per_unit(targets, place))
    bias = bias.to(outputs)
    shape = [units if d == place else 1 for d in range(outputs.ndim)]
    after_sigmoid = kind in SHARES and kind not in LOGITS
    outputs = bias.sigmoid() if after_sigmoid else bias
    ends = ("log_softmax",) if kind in CLASSES else ("sigmoid",) if after_sigmoid else ()
    return ConstantOutputs(bias, outputs.reshape(shape), ends, kind not in NUMBERS)


def _kind(loss: Any) -> tuple[Any, Callable[[str], Any]]:
    """Return the known loss that this one is, and a function that looks up its settings."""
    if isinstance(loss, functools.partial):
        keywords = loss.keywords
        return _kind(loss.func)[0], lambda name: keywords.get(name)
    for known in (*CLASSES, *SHARES, *NUMBERS):
        if loss is known or (isinstance(known, type) and isinstance(loss, known)):
            return known, lambda name: getattr(loss, name, None)
    return None, lambda _: None


def _log_shares(outputs: Tensor, targets: Tensor, settings: Callable[[str], Any], balanced: bool) -> Tensor:
    classes = outputs.shape[1]
    if targets.is_floating_point():
        counts = targets.detach().double().transpose(0, 1).flatten(1).sum(1)
    else:
        kept = targets[targets != (-100 if settings("ignore_index") is None else settings("ignore_index"))]
        counts = torch.bincount(kept.flatten().long(), minlength=classes)[:classes].double()
    counts = torch.ones_like(counts) if balanced else counts + 0.5
    smoothing = settings("label_smoothing") or 0.0
    counts = (1 - smoothing) * counts + smoothing * counts.mean()
    weight = settings("weight")
    if weight is not None:
        counts = counts * weight.to(counts).clamp(min=1e-8)
    return (counts / counts.sum()).log()


def _logits(targets: Tensor, settings: Callable[[str], Any], balanced: bool) -> Tensor:
    """Return logits of the shares of targets, shape (units, values)."""
    yes = targets.sum(1) + 0.5
    no = targets.shape[1] + 1 - yes
    ratio = torch.ones_like(yes) if balanced else yes / no
    weight = settings("pos_weight")
    return (ratio if weight is None else ratio * weight.to(ratio).flatten()).log()


def _means(targets: Tensor) -> Tensor:
    """Return means of targets, shape (units, values); 0 where a sample of standardized targets may deviate as much."""
    mean, std = targets.mean(1), targets.std(1, correction=0)
    chance = max(CLOSE, 3 / math.sqrt(targets.shape[1]))
    return torch.zeros_like(mean) if is_standard(mean, std, chance) else mean


def _per_unit(targets: Tensor, place: int | None) -> Tensor:
    """Return targets as shape (units, values)."""
    values = targets.detach().double()
    return values.reshape(1, -1) if place is None else values.movedim(place, 0).flatten(1)
