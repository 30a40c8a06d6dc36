"""The rows that attacks and margins are measured on: those chosen of the data, what they may be replaced by, chunks."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.data.input_range import extremes_of, range_of
from tuneflow.data.sources import Source
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.threat import Box, Threat, checked_threat
from tuneflow.measure.forward_pass import device_of
from tuneflow.seeds import torch_stream
from tuneflow.validate import check_whole

CHUNK = 256  # rows that are attacked at once


def chosen_rows(count: int, rows: int | None) -> Tensor:
    """Return the numbers of the rows to attack, in rising order: always the same ones, drawn evenly; None for all."""
    if rows is None or rows >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch_stream("attacked rows"))[:rows].sort().values


def check_arguments(what: str, module: Any, eps: Any, norm: Any, box: Any, rows: Any, way: str = "") -> None:
    """Raise unless these are arguments of what is measured on rows; a message begins with `what`, such as "attack".

    Args:
        what: the function's name.
        module: needs to be a torch module.
        eps: a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high), or None.
        rows: a number of rows, or None for all.
        way: the way out for a result of a study, which ends the message.
    """
    check_module(what, module, way)
    checked_threat(what, eps, norm, box)
    if rows is not None:
        check_whole(f"{what}: rows", rows, otherwise="for all")


def check_module(what: str, module: Any, way: str) -> None:
    """Raise unless this is a torch module that gradients go through; `way` ends the message for a result of a study."""
    if not isinstance(module, nn.Module):
        way = f"; {way}" if hasattr(module, "model") else ""
        raise TypeError(f"{what}: module needs to be a torch module, got a {type(module).__name__}{way}.")
    tensors = chain(module.parameters(), module.buffers())
    if any(tensor.is_inference() for tensor in tensors if not is_lazy(tensor)):
        raise ValueError(
            f"{what}: module was made within torch.inference_mode(), so no gradient can be taken through it; make it"
            " outside, or take copy.deepcopy(module)."
        )


def threat_of(
    attacked: AttackedModule, source: Source, eps: float, norm: str, box: Box | None
) -> tuple[Threat, list[str]]:
    """Return what is allowed, and remarks on it."""
    batches = (inputs for inputs, _ in source.batches(CHUNK))
    low, high = range_of(batches) if box is attacked.box is None else extremes_of(batches)
    if box is not None:
        threat = Threat(eps, norm, box)
        share = (high - low) / threat.width
        filled = f"the data fill {100 * share:.2g} % of the box: eps is a share of the box's width, not of theirs."
        return threat, [filled] if share < 0.5 else []
    if attacked.box is None:
        return Threat(eps, norm, (low, high)), []
    trained = Threat(eps, norm, attacked.box)
    wider = min(low, trained.box[0]), max(high, trained.box[1])
    if wider == trained.box:
        return trained, []
    note = (
        f"values from {low:g} to {high:g} lie outside of the range of the training rows, {trained.box[0]:g} to"
        f" {trained.box[1]:g}; the box was widened to hold them, and the largest change is a share of the latter."
    )
    return Threat(trained.radius / (wider[1] - wider[0]), norm, wider), [note]


def chunks(attacked: AttackedModule, source: Source, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and their classes on the module's device."""
    device = device_of(attacked.module)
    for inputs, targets in source.batches(CHUNK, order):
        rows = attacked.rows(inputs).to(device)
        targets = targets.to(device) if isinstance(targets, Tensor) else targets
        classes = attacked.classes(targets, attacked.logits(rows))
        yield rows, classes.argmax(1) if classes.ndim == 2 else classes
