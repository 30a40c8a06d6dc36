"""Inputs that an augmentation or a loss cuts off inside of their range, as an attack with a wrong box does."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.data import Batch
from tuneflow.nested import leaves
from tuneflow.signature import name_of
from tuneflow.train.loss_object import has_loss_of
from tuneflow.train.session import Session
from tuneflow.train.trainer import Trainer

SHARE = 0.01  # of all values, that are cut off at least
DEPTH = 0.1  # of the inputs' range, that is cut off at least
CLEAR = 2.0  # times the largest change of values that are not cut off
ROWS = 32
WAY = (
    "so the module is trained on rows unlike those that it is scored on, as by an attack that clamps to another box"
    " than the inputs'. Clamp to their range"
)


def cut_inputs(trainer: Trainer, new: Callable[[], Session]) -> str:
    """Return how augmentation or loss cut off a batch before the module gets it, in words; empty where they do not.

    The values beyond a bound are all equal to it, and far from where they were, while the others hardly moved; they
    were different before, or equal ones inside became different. So a normalization, noise, mixed, moved, masked or
    rounded inputs are none of it, nor are those of two values that are dimmed.

    Args:
        trainer: configured for the job.
        new: makes a session of few rows; called only where something of the user's comes before the module.
    """
    if trainer.augment is None and not trainer.own_loss:
        return ""
    run = new()
    with suppress(Exception), run.job.at_work("check", 1):  # what fails, fails in the rest of the dry run
        raw = next(iter(run.train.batches(min(ROWS, len(run.train)))))
        inputs, targets = run.augmentation(run.complete() if run.augmentation.sees_module else None, raw)
        if cut := _cut(inputs, raw[0]):
            return f"augment {_name(run.settings.augment)} returns inputs {cut.format('the raw ones')}; {WAY}."
        return _by_loss(run, (inputs if run.late is None else run.late(inputs), targets))
    return ""


def _by_loss(run: Session, batch: Batch) -> str:
    """Return how an own loss cuts off the inputs of a batch."""
    cuts: list[str] = []

    def look(_: nn.Module, arguments: Any, keywords: Any) -> None:
        cuts.append(_cut((arguments, keywords), batch[0]))

    handle = run.whole.register_forward_pre_hook(look, with_kwargs=True)
    try:
        run.loss_of(run.whole, batch)
    finally:
        handle.remove()
    cut = next(filter(None, cuts), "")
    settings = run.settings
    normalized = run.normalizer is not None and not settings.raw_inputs
    whose = "the normalized ones of the batch" if normalized else "those of the batch"
    way = (
        ", or let the loss be an object with the attribute raw_inputs = True, which gets raw ones" if normalized else ""
    )
    name = f"loss {_name(settings.loss)}" if has_loss_of(settings.loss) else "loss_of"
    return f"{name} feeds the module inputs {cut.format(whose)}; {WAY}{way}." if cut else ""


def _name(part: Any) -> str:
    return name_of(part if inspect.isroutine(part) or isinstance(part, partial) else type(part))


def _cut(fed: Any, inputs: Any) -> str:
    """Return where tensors are cut off that stand for inputs of the same shapes, in words."""
    pairs = zip(leaves(fed), leaves(inputs), strict=False)
    return next((text for pair in pairs for text in _bounds(*pair)), "")


def _bounds(fed: Tensor, inputs: Tensor) -> Iterator[str]:
    """Yield the bounds at which a tensor is cut off, with the range of the inputs, in words."""
    if fed.shape != inputs.shape or not fed.is_floating_point() or not fed.numel():
        return
    fed, inputs = fed.detach().double(), inputs.detach().double()
    (least, most), (low, high) = fed.aminmax(), inputs.aminmax()
    inside = (inputs >= least) & (inputs <= most)
    moved = (fed - inputs)[inside].abs().amax() if inside.any() else inputs.new_zeros(())
    deep = torch.maximum(DEPTH * (high - low), CLEAR * moved)
    below, above = inputs < least - moved, inputs > most + moved
    cuts = [
        f"{side} {bound:g}"
        for side, bound, beyond, depth in (("below", least, below, least - low), ("above", most, above, high - most))
        if depth > deep
        and beyond.double().mean() >= SHARE
        and bool((fed[beyond] == bound).all())
        and (_differ(inputs[beyond]) or _differ(fed[inside & (inputs == inputs[inside][:1])]))
    ]
    if cuts:
        yield f"cut off {' and '.join(cuts)}, and {{}} reach from {low:g} to {high:g}"


def _differ(values: Tensor) -> bool:
    return bool((values != values[:1]).any())
