"""Groups of a module: found by tracing, or by the package torch-pruning, and each of them checked by removing half."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuneflow.compress.group import Group, Kept, Selection, select_all
from tuneflow.compress.operations import apply_all
from tuneflow.compress.pruning_groups import spaces_by_pruning
from tuneflow.compress.traced_groups import Arguments, CannotTrace, fixed_layers, spaces_by_tracing
from tuneflow.errors import did_you_mean, in_one_line, listed
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves

TOLERANCE = 1e-3  # of the outputs' range


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
    package torch-pruning finds the groups. Then each group is checked on `inputs`: without half of its channels, the
    module must give what it gives where the layers that use them take nothing from them. A group that does not is
    kept with the reason, such as a number of channels that stands in the forward.

    Args:
        module: in evaluation mode or not; it is not changed.
        inputs: of a few rows, as the module takes them.

    Returns:
        The groups, in the order of their layers, and the layers whose channels stay.

    Raises:
        ValueError: the module is compiled, or neither way can follow its forward pass.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> groups, kept = groups_of(net, torch.ones(2, 4))
        >>> [(group.name, group.width) for group in groups], str(kept[0])
        ([('0', 8)], '"2": it makes the outputs of the module')
    """
    if hasattr(module, "_orig_mod"):
        raise ValueError(
            "groups of channels are found in the module itself, not in a compiled one; pass module._orig_mod"
        )
    module = copy.deepcopy(module).eval()
    with looked_at(module):
        groups, kept = _proposed(module, inputs)
        checked = [(group, difference(module, inputs, group)) for group in groups]
    failed = [Kept(member.layer, why) for group, why in checked if why for member in group.makers]
    return ChannelGroups([group for group, why in checked if not why], kept + list(dict.fromkeys(failed)))


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
        way = "the package torch-pruning, which might, is not installed: pip install 'tuneflow-torch[compress]'"
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


def difference(module: nn.Module, inputs: Any, group: Group) -> str:
    """Return why a group cannot be narrowed: what a module without half of it does otherwise; empty for nothing.

    Args:
        module: in evaluation mode, without gradients; not changed.
        inputs: as the module takes them.
        group: of at least two channels; of one channel, two copies are compared with it.
    """
    changed = copy.deepcopy(module)
    if group.width > 1:
        choice = Selection(group, torch.arange(0, group.width, 2))
        _silence(changed, group, torch.arange(1, group.width, 2))
    else:
        choice = Selection(group, torch.tensor([0, 0]), torch.tensor([0.5, 0.5]))
    expected = leaves(changed(inputs))
    try:
        outputs = leaves(apply_all(select_all([choice]), changed)(inputs))
    except Exception as error:
        return f"forward fails without some of its channels: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    same = len(outputs) == len(expected) and all(map(_close, outputs, expected))
    return "" if same else "forward gives other outputs than those of its channels being 0: it depends on their number"


def _silence(module: nn.Module, group: Group, dropped: Tensor) -> None:
    """Make the layers that use some channels of a group take nothing from them."""
    for member in group.users:
        weight = getattr(module.get_submodule(member.layer), member.tensor)
        weight.index_fill_(member.dim, member.positions[dropped].flatten(), 0)


def _close(outputs: Tensor, expected: Tensor) -> bool:
    if outputs.shape != expected.shape or not outputs.is_floating_point():
        return outputs.shape == expected.shape
    span = float(expected.abs().nan_to_num().max()) if expected.numel() else 0.0
    return torch.allclose(outputs, expected, rtol=0, atol=TOLERANCE * span + 1e-12, equal_nan=True)
