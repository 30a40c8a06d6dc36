"""Removal check: a module without some channels gives what it gives where nothing uses them."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.group import Group, Selection, select_all
from tuneflow.compress.operations import apply_all
from tuneflow.errors import in_one_line
from tuneflow.nested import leaves
from tuneflow.seeds import torch_stream

TOLERANCE = 1e-3  # of the outputs' range
SHARES = 7  # a half, a third and so on


def removal_failures(module: nn.Module, inputs: Any, groups: Sequence[Group]) -> dict[Group, str]:
    """Return the groups that cannot be narrowed, and the reasons.

    From a copy with random weights, as with those that were trained a wrong removal may have effects that are too small
    to be seen, as in an attention that is almost uniform, channels of all groups are removed at once: of each another
    share, so that no two that are wrong make up for each other. Then the same from the module as it is. Where outputs
    differ, half of each group is removed on its own.

    Args:
        module: in evaluation mode, without gradients; not changed.
        inputs: of a few rows, as the module takes them.
        groups: found together.
    """
    random = _with_random_weights(module, inputs)
    every = [2 + number % SHARES for number in range(len(groups))]
    if not any(difference(net, inputs, groups, every) for net in (random, module)):
        return {}
    reasons = {group: difference(random, inputs, [group]) for group in groups}
    right = [group for group, reason in reasons.items() if not reason]
    if difference(module, inputs, right):
        reasons |= {group: difference(module, inputs, [group]) for group in right}
    return {group: reason for group, reason in reasons.items() if reason}


def difference(module: nn.Module, inputs: Any, groups: Sequence[Group], every: Sequence[int] = ()) -> str:
    """Return why groups cannot be narrowed: what a module without a part of them does otherwise; empty for nothing.

    Args:
        module: in evaluation mode, without gradients; not changed.
        inputs: as the module takes them.
        groups: found together. A channel that is alone in its group becomes two.
        every: of each group, one channel in so many is removed; empty for one in two.
    """
    changed = copy.deepcopy(module)
    removed = [torch.arange(1, each.width, n) for each, n in zip(groups, every or [2] * len(groups), strict=True)]
    selections = [_without(group, dropped) for group, dropped in zip(groups, removed, strict=True)]
    for group, dropped in zip(groups, removed, strict=True):
        _silence(changed, group, dropped)
    expected = leaves(changed(inputs))
    try:
        outputs = leaves(apply_all(select_all(selections), changed)(inputs))
    except Exception as error:
        return f"forward fails without some of its channels: {in_one_line(error)[:160]}"
    same = len(outputs) == len(expected) and all(map(_close, outputs, expected))
    return (
        "" if same else "forward gives other outputs than with those of its channels at 0: it depends on their number"
    )


def _without(group: Group, dropped: Tensor) -> Selection:
    if group.width > 1:
        stays = torch.ones(group.width, dtype=torch.bool).index_fill_(0, dropped, False)
        return Selection(group, stays.nonzero()[:, 0])
    return Selection(group, torch.tensor([0, 0]), torch.tensor([0.5, 0.5]))


def _silence(module: nn.Module, group: Group, dropped: Tensor) -> None:
    """Make the layers that use some channels of a group take nothing from them."""
    for member in group.users:
        weight = getattr(module.get_submodule(member.layer), member.tensor)
        weight.index_fill_(member.dim, member.positions[dropped].flatten().to(weight.device), 0)


def _close(outputs: Tensor, expected: Tensor) -> bool:
    if outputs.shape != expected.shape or not outputs.is_floating_point():
        return outputs.shape == expected.shape
    span = float(expected.abs().nan_to_num().max()) if expected.numel() else 0.0
    return torch.allclose(outputs, expected, rtol=0, atol=TOLERANCE * span + 1e-12, equal_nan=True)


def _with_random_weights(module: nn.Module, inputs: Any) -> nn.Module:
    """Return a copy whose weights keep the size of what passes; the module itself where that is not finite."""
    drawn, generator = copy.deepcopy(module), torch_stream("removal check")
    for name, parameter in drawn.named_parameters():
        if parameter.is_floating_point() and parameter.device.type == "cpu":
            _draw(name, parameter, generator)
    outputs = [leaf for leaf in leaves(drawn(inputs)) if leaf.is_floating_point()]
    return drawn if all(bool(leaf.isfinite().all()) for leaf in outputs) else module


def _draw(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if parameter.ndim > 1:
        parameter.normal_(0, math.sqrt(2 / max(1, parameter[0].numel())), generator=generator)
    elif name.endswith("bias"):
        parameter.normal_(0, 0.5, generator=generator)
    elif parameter.ndim == 1:
        parameter.uniform_(0.5, 1.5, generator=generator)
