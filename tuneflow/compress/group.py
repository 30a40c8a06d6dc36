"""Groups of channels that are kept or dropped together, and their selection."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tuneflow.compress.operations import Select


@dataclass(frozen=True, eq=False)
class Member:
    """One dimension of a layer's tensor that numbers the channels of a group.

    Attributes:
        layer: the submodule's name.
        tensor: the parameter or buffer in it, such as "weight".
        dim: the dimension.
        positions: shape (width, k), int64: the indices of that dimension that belong to each channel; k is 1, or more
            after a flattening (one for each pixel) or a concatenation of the same channels.
        size: of the dimension; it may number channels of other groups as well.
        makes: True if the tensor makes or scales the channels, False if its layer uses them.
    """

    layer: str
    tensor: str
    dim: int
    positions: Tensor
    size: int
    makes: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Channels of several layers that have to be kept or dropped together.

    Attributes:
        name: the first layer that makes the channels, such as "layer1.conv1".
        width: the number of channels.
        members: every tensor that numbers them.
        dropouts: the dropout layers and functions that the channels pass.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    dropouts: tuple[str, ...] = ()

    @property
    def makers(self) -> tuple[Member, ...]:
        """The tensors that make or scale the channels: weights and biases of their layers, norms, depthwise weights."""
        return tuple(member for member in self.members if member.makes)

    @property
    def users(self) -> tuple[Member, ...]:
        """The weights of the layers that use the channels: where these are 0, a channel has no effect."""
        return tuple(member for member in self.members if not member.makes)


@dataclass(frozen=True)
class Kept:
    """A layer whose channels belong to no group.

    Attributes:
        layer: the submodule's name.
        reason: completes "its channels stay because ...".
    """

    layer: str
    reason: str

    def __str__(self) -> str:
        return f'"{self.layer}": {self.reason}'


@dataclass(frozen=True, eq=False)
class Selection:
    """The channels of a group that stay.

    Attributes:
        group: of `groups_of`.
        index: int64, in ascending order; a channel that is repeated becomes as many.
        scale: factor for what the users' weights take from each of these; None for 1.
    """

    group: Group
    index: Tensor
    scale: Tensor | None = None


def select(group: Group, index: Tensor, scale: Tensor | None = None) -> list[Select]:
    """Return the operations that keep some channels of one group; `select_all` takes several.

    Args:
        group: of `groups_of`.
        index: int64, the channels that stay, in ascending order; a channel that is repeated becomes as many.
        scale: factor for what the users' weights take from each of these; None for 1.
    """
    return select_all([Selection(group, index, scale)])


def select_all(choices: Iterable[Selection]) -> list[Select]:
    """Return the operations that keep some channels of each of several groups, one for each tensor and dimension.

    Choices of groups that were found together belong into one call: two groups may number one dimension, and what one
    drops moves the indices of the other.

    Args:
        choices: one for each group that changes.

    Raises:
        ValueError: an index is empty, not ascending, or out of range.
    """
    by_dimension: dict[tuple[str, str, int], list[tuple[Member, Selection]]] = {}
    for choice in choices:
        _check(choice)
        for member in choice.group.members:
            by_dimension.setdefault((member.layer, member.tensor, member.dim), []).append((member, choice))
    return [Select(*key, *_selected(parts)) for key, parts in by_dimension.items()]


def _check(choice: Selection) -> None:
    index, group = choice.index, choice.group
    if not len(index) or index.min() < 0 or index.max() >= group.width or (index.diff() < 0).any():
        raise ValueError(
            f'group "{group.name}" of {group.width} channels: an index has to name at least one of them, in ascending '
            f"order, got {index.tolist()[:12]}"
        )


def _selected(parts: Sequence[tuple[Member, Selection]]) -> tuple[Tensor, Tensor | None]:
    """Return index and scale of one dimension, whose order stays: a repeated run of elements follows itself.

    A run is what lies side by side of one channel, such as its pixels after a flattening.
    """
    size = parts[0][0].size
    counts, owners = torch.ones(size, dtype=torch.int64), torch.full((size,), -1)
    for number, (member, choice) in enumerate(parts):
        copies = torch.bincount(choice.index, minlength=choice.group.width)
        counts[member.positions] = copies[:, None]
        owners[member.positions] = number * size + torch.arange(choice.group.width)[:, None]
    run = torch.cat([torch.zeros(1, dtype=torch.int64), ((owners.diff() != 0) | (owners[1:] < 0)).cumsum(0)])
    elements = torch.arange(size).repeat_interleave(counts)
    copy = torch.arange(len(elements)) - (counts.cumsum(0) - counts)[elements]
    order = torch.argsort(run[elements] * (int(counts.max()) + 1) + copy, stable=True)
    index, copy = elements[order], copy[order]
    return index, _scales(parts, index, copy)


def _scales(parts: Sequence[tuple[Member, Selection]], index: Tensor, copy: Tensor) -> Tensor | None:
    """Return the factor of each element of a new dimension, `copy` numbers the copies; None where all are 1."""
    scaled = [(m, c) for m, c in parts if c.scale is not None and not m.makes]
    if not scaled:
        return None
    result = torch.ones(len(index), dtype=torch.float64)
    for member, choice in scaled:
        assert choice.scale is not None
        channel = torch.full((member.size,), -1)
        channel[member.positions] = torch.arange(choice.group.width)[:, None]
        first = torch.searchsorted(choice.index, torch.arange(choice.group.width))
        own = channel[index] >= 0
        result[own] = choice.scale.double()[first[channel[index[own]]] + copy[own]]
    return result
