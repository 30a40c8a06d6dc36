"""Narrowing: a module on its way to fewer channels, and the operations that make it of the one it was."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tuneflow.compress.channel_costs import ChannelCosts
from tuneflow.compress.channel_moments import Moments, refit
from tuneflow.compress.group import Group, Member, Selection, select_all
from tuneflow.compress.operations import Assign, Operation, apply_all

TINY = 1e-300


class Narrowing:
    """A module that loses channels, round by round.

    Args:
        module: loses them in place.
        groups: that may lose them, found together in this module.

    Attributes:
        groups: as they are now.
    """

    def __init__(self, module: nn.Module, groups: Sequence[Group]) -> None:
        self.groups = list(groups)
        self._module, self._first = module, list(groups)
        self._refitted = False
        self._kept = [torch.arange(group.width) for group in groups]

    def keep(self, kept: Sequence[Tensor], moments: Moments | None) -> None:
        """Drop all channels but some.

        Args:
            kept: numbers of the channels of each group that stay, in ascending order.
            moments: of the channels, by which the layers that use them are fitted to those that stay; None not to.
        """
        self._refitted |= moments is not None
        for group, index, own in zip(self.groups, kept, moments or (), strict=moments is not None):
            refit(self._module, group, index, own)
        apply_all(select_all(map(Selection, self.groups, kept)), self._module)
        self.groups = narrowed(self.groups, kept)
        self._kept = [before[index] for before, index in zip(self._kept, kept, strict=True)]

    def operations(self) -> list[Operation]:
        """Return the operations that lead from the first module to the present one."""
        changed = [(g, kept) for g, kept in zip(self._first, self._kept, strict=True) if len(kept) < g.width]
        operations: list[Operation] = list(select_all(Selection(*pair) for pair in changed))
        if self._refitted:
            users = dict.fromkeys((member.layer, member.tensor) for group, _ in changed for member in group.users)
            operations += [Assign(*user, self._values(*user)) for user in users]
        return operations

    def _values(self, layer: str, tensor: str) -> Tensor:
        values: Tensor = getattr(self._module.get_submodule(layer), tensor)
        return values.detach().clone()


def kept_channels(scores: Sequence[Tensor], costs: ChannelCosts, macs: float, per_cost: bool = True) -> list[Tensor]:
    """Return the channels of each group that stay where the one with the smallest score goes first, over all groups.

    When enough are gone, those come back that still fit: a channel of one layer can cost many of another.

    Args:
        scores: of each channel of each group.
        costs: of the module.
        macs: operations of a row that may be left; each group keeps a channel even where there are more.
        per_cost: True to divide the scores by what a channel saves.

    Returns:
        Their numbers, in ascending order.
    """
    orders = [score.argsort(stable=True) for score in scores]
    ascending = [score[order].tolist() for score, order in zip(scores, orders, strict=True)]
    kept = [len(score) for score in scores]
    while costs.macs(kept) > macs and max(kept) > 1:
        worth = _worth(ascending, kept, costs, per_cost)
        kept[min((i for i, number in enumerate(kept) if number > 1), key=worth.__getitem__)] -= 1
    while fitting := [i for i in range(len(kept)) if _fits(i, ascending, kept, costs, macs)]:
        worth = _worth(ascending, [min(n + 1, len(s)) for n, s in zip(kept, ascending, strict=True)], costs, per_cost)
        kept[max(fitting, key=worth.__getitem__)] += 1
    return [order[len(order) - number :].sort().values for order, number in zip(orders, kept, strict=True)]


def _worth(ascending: Sequence[list[float]], kept: Sequence[int], costs: ChannelCosts, per_cost: bool) -> list[float]:
    """Return the score of the next channel of each group that would go."""
    savings = costs.savings(kept) if per_cost else [1.0] * len(kept)
    return [ascending[i][-number] / max(savings[i], TINY) for i, number in enumerate(kept)]


def _fits(group: int, ascending: Sequence[list[float]], kept: list[int], costs: ChannelCosts, macs: float) -> bool:
    """True if a group can have one channel more and there are still no more operations."""
    more = [number + (i == group) for i, number in enumerate(kept)]
    return kept[group] < len(ascending[group]) and costs.macs(more) <= macs


def narrowed(groups: Sequence[Group], kept: Sequence[Tensor]) -> list[Group]:
    """Return the groups of the module in which only some channels of each are kept.

    Args:
        groups: found together.
        kept: numbers of the channels that stay, in ascending order, for each group.
    """
    stays: dict[tuple[str, str, int], Tensor] = {}
    for group, index in zip(groups, kept, strict=True):
        dropped = torch.ones(group.width, dtype=torch.bool).index_fill_(0, index, False)
        for member in group.members:
            mask = stays.setdefault(
                (member.layer, member.tensor, member.dim), torch.ones(member.size, dtype=torch.bool)
            )
            mask[member.positions[dropped].flatten()] = False
    return [
        replace(group, width=len(index), members=tuple(_narrowed(member, index, stays) for member in group.members))
        for group, index in zip(groups, kept, strict=True)
    ]


def _narrowed(member: Member, index: Tensor, stays: dict[tuple[str, str, int], Tensor]) -> Member:
    mask = stays[member.layer, member.tensor, member.dim]
    positions = (mask.cumsum(0) - 1)[member.positions[index]]
    return replace(member, positions=positions, size=int(mask.sum()))
