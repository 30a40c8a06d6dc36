"""Groups of a module: found by tracing, or by the package torch-pruning, and each of them checked by removing half."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from tuneflow.compress.group import Group, Kept
from tuneflow.compress.pruning_groups import spaces_by_pruning
from tuneflow.compress.removal_check import removal_failures
from tuneflow.compress.traced_groups import Arguments, CannotTrace, fixed_layers, spaces_by_tracing
from tuneflow.errors import did_you_mean, in_one_line, listed


class ChannelGroups(NamedTuple):
    """The groups of a module, and the layers that belong to none.

    Attributes:
        groups: what can be narrowed or widened.
        kept: what cannot, with the reasons.
    """

    groups: list[Group]
    kept: list[Kept]


def groups_of(module: nn.Module, inputs: Any) -> ChannelGroups:
    """Return every set of channels of `module` that has to be kept or dropped together.

    The forward pass is recorded by torch.fx, and the channels are followed through chains, additions, products,
    concatenations, BatchNorm, pooling, flattening and depthwise convolutions. Where torch.fx cannot record it, the
    package torch-pruning finds the groups. Then they are checked on `inputs`, with weights of the module's own and
    with random ones: without a part of their channels, the module must give what it gives where the layers that use
    them take nothing from them. A group that fails is kept with the reason, such as a number that stands in forward.

    Args:
        module: in evaluation mode or not; it is not changed.
        inputs: of a few rows, as the module takes them.

    Returns:
        The groups, in the order of their layers, and the layers whose channels stay.

    Raises:
        ValueError: the module is compiled or scripted, or neither way can follow its forward pass.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> groups, kept = groups_of(net, torch.ones(2, 4))
        >>> [(group.name, group.width) for group in groups], str(kept[0])
        ([('0', 8)], '"2": it makes the outputs of the module')
    """
    _check_kind(module)
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        groups, kept = _proposed(module, inputs)
        failed = removal_failures(module, inputs, groups)
    kept += [
        Kept(layer, why) for group, why in failed.items() for layer in dict.fromkeys(m.layer for m in group.makers)
    ]
    return ChannelGroups([group for group in groups if group not in failed], kept)


def _check_kind(module: nn.Module) -> None:
    rule = "groups of channels are found in the module itself"
    if hasattr(module, "_orig_mod"):
        raise ValueError(f"{rule}, got a compiled one; pass module._orig_mod")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"{rule}, got a {type(module).__name__}, whose layers cannot change; pass what was scripted")


def _proposed(module: nn.Module, inputs: Any) -> tuple[list[Group], list[Kept]]:
    arguments, fixed = _arguments(module, inputs), fixed_layers(module)
    try:
        return spaces_by_tracing(module, arguments, fixed).groups()
    except CannotTrace as error:
        return _by_pruning(module, arguments, fixed, error)


def _by_pruning(
    module: nn.Module, arguments: Arguments, fixed: Mapping[str, str], error: CannotTrace
) -> tuple[list[Group], list[Kept]]:
    """Return the groups of a module that torch.fx cannot record."""
    rule = f"the channels of {type(module).__name__} cannot be followed: torch.fx cannot record its forward ({error})"
    try:
        return spaces_by_pruning(copy.deepcopy(module), arguments, fixed).groups()
    except ImportError:
        way = "the package torch-pruning, which might, is not installed: pip install torch-pruning"
        raise ValueError(f"{rule}, and {way}") from None
    except Exception as other:
        raise ValueError(f"{rule}, nor can torch-pruning ({in_one_line(other)})") from None


def named_groups(groups: ChannelGroups, only: Sequence[str] | None) -> list[Group]:
    """Return the groups that some layers make, or all.

    Args:
        groups: of a module.
        only: names of layers that make the channels; None for all groups.

    Raises:
        ValueError: there is no group, or a layer makes none.
    """
    if not groups.groups:
        reasons = listed(str(kept) for kept in groups.kept) if groups.kept else "it has no two layers in a row"
        raise ValueError(f"the module has no channels that could be dropped or added: {reasons}")
    if only is None:
        return groups.groups
    owners = {member.layer: group for group in groups.groups for member in group.makers}
    missing = next((name for name in only if name not in owners), None)
    if missing is not None:
        raise ValueError(f'no channels of "{missing}" can be dropped or added: {_reason(missing, groups, owners)}')
    return list(dict.fromkeys(owners[name] for name in only))


def _reason(layer: str, groups: ChannelGroups, owners: Mapping[str, Group]) -> str:
    reason = next((kept.reason for kept in groups.kept if kept.layer == layer), None)
    return reason or f"no such layer makes any; those of {listed(owners)} can be.{did_you_mean(layer, owners)}"


def _arguments(module: nn.Module, inputs: Any) -> Arguments:
    """Return the arguments that reach forward, after the hooks that spread a dict or tuple of inputs."""
    seen: list[Arguments] = []
    handle = module.register_forward_pre_hook(lambda _, args, named: seen.append((args, named)), with_kwargs=True)
    try:
        module(inputs)
    finally:
        handle.remove()
    return seen[0]
