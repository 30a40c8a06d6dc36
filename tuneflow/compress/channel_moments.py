"""Second moments of a group's channels, and what follows from them: what others can stand in for, and new weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.group import Group, Member
from tuneflow.compress.scores import run_hooked
from tuneflow.compress.step import StepRows

RIDGE = 1e-3  # of the mean second moment, so that channels which are copies of each other do not matter

Moments = list[list[Tensor]]  # for each group, for each of its users: E[x x^T] over rows and positions, (width, width)


def channel_moments(module: nn.Module, groups: Sequence[Group], rows: StepRows, count: int) -> Moments:
    """Return the second moments of the channels, as each layer that uses them gets them.

    Args:
        module: in evaluation mode.
        groups: of this module.
        rows: of the training part.
        count: rows to take.
    """
    sums = [[_Sum(member) for member in group.users] for group in groups]
    hooks = [(each.layer, each) for own in sums for each in own]
    handles = [module.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True) for name, hook in hooks]
    run_hooked(module, handles, rows, count)
    return [[each.mean for each in own] for own in sums]


def unexplained(moments: Moments) -> list[Tensor]:
    """Return the share of each channel's second moment that no linear map of the group's others gives: (width,)."""
    shares = []
    for own in moments:
        total = _with_ridge(torch.stack(own).sum(0))
        shares.append(1 / (torch.linalg.inv(total).diagonal() * total.diagonal()))
    return shares


def refit(module: nn.Module, group: Group, kept: Tensor, moments: Sequence[Tensor]) -> None:
    """Give the layers that use a group's channels, in place, the weights that fit them best without some channels.

    A dropped channel is replaced by the linear map of the kept ones with the smallest mean squared error, at each
    position; what the layer takes from it is added to what it takes from these.

    Args:
        module: with all channels of the group.
        group: of this module.
        kept: numbers of the channels that stay.
        moments: of this group, for each of its users.

    Source: He, Zhang, Sun, Channel pruning for accelerating very deep neural networks, ICCV 2017; here by one channel
    map for all positions of a kernel.
    """
    dropped = torch.ones(group.width, dtype=torch.bool).index_fill_(0, kept, False).nonzero()[:, 0]
    if not len(dropped):
        return
    for member, own in zip(group.users, moments, strict=True):
        stand_in = torch.linalg.solve(_with_ridge(own[kept][:, kept]), own[kept][:, dropped])
        _add_dropped(_weight(module, member), member, kept, dropped, stand_in)


def _add_dropped(weight: Tensor, member: Member, kept: Tensor, dropped: Tensor, stand_in: Tensor) -> None:
    """Add what a weight takes from the dropped channels to its kept ones, through a map (kept, dropped)."""
    by_channel = weight.movedim(member.dim, 0)  # a view
    taken = by_channel[member.positions[dropped].to(weight.device)].double()
    added = torch.tensordot(stand_in.to(taken), taken, dims=1)
    by_channel[member.positions[kept].to(weight.device)] += added.to(weight)


def _weight(module: nn.Module, member: Member) -> Tensor:
    weight: Tensor = getattr(module.get_submodule(member.layer), member.tensor)
    return weight.detach()


def _with_ridge(moments: Tensor) -> Tensor:
    scale = moments.diagonal().mean().clamp(min=1e-100)  # all channels may be dead
    return moments + RIDGE * scale * torch.eye(len(moments), dtype=moments.dtype)


class _Sum:
    """A hook that adds up the second moments of the channels that a layer gets."""

    def __init__(self, member: Member) -> None:
        self.layer = member.layer
        self._positions = member.positions
        self._total = torch.zeros(len(member.positions), len(member.positions), dtype=torch.float64)
        self._number = 0

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs = (args[0] if args else named["input"]).detach()
        last = inputs if isinstance(layer, nn.Linear) else inputs.movedim(1, -1)
        channels = last[..., self._positions.to(inputs.device)].movedim(-2, -1).flatten(0, -2).float()
        self._total += (channels.T @ channels).double().cpu()
        self._number += len(channels)

    @property
    def mean(self) -> Tensor:
        return self._total / max(1, self._number)
