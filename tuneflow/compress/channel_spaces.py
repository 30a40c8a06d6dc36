"""Channel spaces: the bookkeeping of which dimensions of which tensors number the same channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuneflow.compress.group import Group, Kept, Member

FIXED = -1  # the space of elements that are not channels of a layer


@dataclass(frozen=True, eq=False)
class Labels:
    """The channels that the elements of one dimension belong to.

    Attributes:
        space: shape (size,), int64: the space of each element, FIXED for none.
        channel: shape (size,), int64: its number in the space.
    """

    space: Tensor
    channel: Tensor

    def __len__(self) -> int:
        return len(self.space)

    def repeated(self, before: int, after: int) -> "Labels":
        """Return the labels of a dimension that joins this one with others: `before` elements ahead, `after` behind."""
        space, channel = (part.repeat_interleave(after).repeat(before) for part in (self.space, self.channel))
        return Labels(space, channel)


def unlabeled(size: int) -> Labels:
    """Return labels of elements that are not channels of a layer."""
    return Labels(torch.full((size,), FIXED), torch.zeros(size, dtype=torch.int64))


def joined(parts: Sequence[Labels]) -> Labels:
    """Return the labels of a concatenation."""
    return Labels(torch.cat([part.space for part in parts]), torch.cat([part.channel for part in parts]))


@dataclass
class _Space:
    """Channels that go together: makers, and the reason why they stay, if there is one."""

    width: int
    layers: list[str]
    reason: str = ""
    dropouts: list[str] = field(default_factory=list)


class ChannelSpaces:
    """The spaces of one module; two that turn out to be the same channels are united."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._spaces: list[_Space] = []
        self._made: dict[str, Labels] = {}
        self._members: dict[tuple[str, str, int], tuple[Labels, bool]] = {}
        self._layers_kept: dict[str, str] = {}

    def made_by(self, layer: str, width: int) -> Labels:
        """Return the channels that a layer makes: new ones at its first call, the same ones at every other."""
        if layer not in self._made:
            number = len(self._spaces)
            self._parents.append(number)
            self._spaces.append(_Space(width, [layer]))
            self._made[layer] = Labels(torch.full((width,), number), torch.arange(width))
        return self._made[layer]

    def member(self, layer: str, tensor: str, dim: int, labels: Labels, makes: bool) -> None:
        """Record that a dimension of a layer's tensor numbers these channels; at a second call they are united."""
        key = layer, tensor, dim
        if key in self._members:
            self.unite(self._members[key][0], labels, f'"{layer}" is called twice, for other channels')
        else:
            self._members[key] = labels, makes

    def keep(self, labels: Labels, reason: str) -> None:
        """Leave the spaces of these labels as they are; their first reason counts."""
        for space in set(self._roots(labels).tolist()):
            if space != FIXED and not self._spaces[space].reason:
                self._spaces[space].reason = reason

    def keep_layer(self, layer: str, reason: str) -> None:
        """Name a layer that makes no channels that could be dropped."""
        self._layers_kept.setdefault(layer, reason)

    def drop_out(self, labels: Labels, name: str) -> None:
        """Record a dropout that these channels pass."""
        for space in set(self._roots(labels).tolist()):
            if space != FIXED and name not in self._spaces[space].dropouts:
                self._spaces[space].dropouts.append(name)

    def unite(self, one: Labels, other: Labels, reason: str) -> None:
        """Make the same channels of both, element by element; where they do not match, both stay for this reason."""
        if len(one) != len(other):
            self.keep(joined([one, other]), reason)
            return
        pairs = torch.stack([self._roots(one), self._roots(other)])
        for first, second in sorted(set(zip(*pairs.tolist()))):
            here = (pairs[0] == first) & (pairs[1] == second)
            match = first != FIXED and second != FIXED and bool((one.channel == other.channel)[here].all())
            if match and self._spaces[self._root(first)].width == self._spaces[self._root(second)].width:
                self._merge(self._root(first), self._root(second))
            elif first != FIXED or second != FIXED:
                self.keep(Labels(pairs[:, here].flatten(), torch.zeros(0)), reason)

    def groups(self) -> tuple[list[Group], list[Kept]]:
        """Return what can be narrowed, and what cannot, in the order of the layers."""
        for number in set(map(self._root, range(len(self._spaces)))):
            if not self._spaces[number].reason and not self._is_used(number):
                self._spaces[number].reason = "it makes outputs, or no layer uses its channels"
        roots = [n for n in range(len(self._spaces)) if self._root(n) == n]
        groups = [self._group(number) for number in roots if not self._spaces[number].reason]
        kept = {layer: self._spaces[n].reason for n in roots for layer in self._spaces[n].layers}
        reasons: Mapping[str, str] = self._layers_kept | {layer: reason for layer, reason in kept.items() if reason}
        return groups, [Kept(layer, reason) for layer, reason in reasons.items()]

    def _group(self, number: int) -> Group:
        space = self._spaces[number]
        members = []
        for key, (labels, makes) in self._members.items():
            own = (self._roots(labels) == number).nonzero().flatten()
            if len(own):
                positions = own[labels.channel[own].argsort(stable=True)].reshape(space.width, -1)
                members.append(Member(*key, positions, len(labels), makes))
        return Group(space.layers[0], space.width, tuple(members), tuple(space.dropouts))

    def _is_used(self, number: int) -> bool:
        labels = [labels for labels, makes in self._members.values() if not makes]
        return any(bool((self._roots(each) == number).any()) for each in labels)

    def _merge(self, first: int, second: int) -> None:
        first, second = sorted((first, second))
        if first != second:
            self._parents[second] = first
            one, other = self._spaces[first], self._spaces[second]
            one.layers += other.layers
            one.dropouts += other.dropouts
            one.reason = one.reason or other.reason

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            number = self._parents[number]
        return number

    def _roots(self, labels: Labels) -> Tensor:
        roots = torch.tensor([*map(self._root, range(len(self._parents))), FIXED])
        return roots[labels.space]  # FIXED is the last
