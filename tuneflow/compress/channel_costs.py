"""Multiplications of a module, and their time, as a function of how many channels its groups keep."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from tuneflow.compress.channel_times import Rates
from tuneflow.compress.group import Group, Member
from tuneflow.measure.forward_pass import measuring
from tuneflow.measure.macs import counting
from tuneflow.measure.own_amounts import OwnAmounts
from tuneflow.nested import row_count

Left = Mapping[tuple[str, int], float]  # share that is left, by layer and dimension of its weight


class _Use(NamedTuple):
    """One dimension of a layer's weight that numbers channels of a group: `share` of it is one channel."""

    layer: str
    dim: int
    share: float
    outputs: int  # of the layer that one channel is; 0 where the layer uses it


class ChannelCosts:
    """The multiply-accumulate operations of one row, while channels are dropped.

    Those of a layer are in proportion to each dimension of its weight. What belongs to no layer with channels, such as
    attention, stays. A layer that runs over the channels one by one, as a mixer's over its pixels, has fewer operations
    than this says once channels are gone.

    Args:
        module: the module with all its channels, in evaluation mode.
        groups: its groups.
        inputs: of some rows, as the module takes them.
        rates: for savings in milliseconds; None for savings in operations.

    Attributes:
        full: multiply-accumulate operations of a row with all channels.
        layers: those of each layer with channels.
        widths: number of channels that a layer makes.
    """

    def __init__(self, module: nn.Module, groups: Sequence[Group], inputs: Any, rates: Rates | None = None) -> None:
        self._rates = rates
        self._uses = [_uses_of(module, group) for group in groups]
        self.widths = {m.layer: m.size for group in groups for m in _matrices(module, group) if m.makes}
        self._widths = [group.width for group in groups]
        names = {use.layer for uses in self._uses for use in uses}
        rows = max(1, row_count(inputs))
        total, layers = _counted(module, names, inputs)
        self.full = total / rows
        self.layers = {name: macs / rows for name, macs in layers.items()}
        self._other = self.full - sum(self.layers.values())

    def macs(self, kept: Sequence[int]) -> float:
        """Return the operations of a row where each group keeps so many of its channels."""
        return self._other + sum(self._of_layers(self._left(kept)).values())

    def savings(self, kept: Sequence[int]) -> list[float]:
        """Return what one channel less of each group saves, where they keep so many: operations or milliseconds."""
        left = self._left(kept)
        layers = self._of_layers(left)
        return [self._saving(uses, left, layers) for uses in self._uses]

    def _saving(self, uses: Sequence[_Use], left: Left, layers: Mapping[str, float]) -> float:
        rest = dict.fromkeys((use.layer for use in uses), 1.0)
        for use in uses:
            rest[use.layer] *= 1 - use.share / left[use.layer, use.dim]
        saved = {name: layers[name] * (1 - share) for name, share in rest.items()}
        if self._rates is None:
            return sum(saved.values())
        behind = sum(use.outputs * self._rates.channel[use.layer] for use in uses if use.outputs)
        return behind + sum(self._rates.operation[name] * macs for name, macs in saved.items())

    def _of_layers(self, left: Left) -> dict[str, float]:
        shares = {name: left.get((name, 0), 1.0) * left.get((name, 1), 1.0) for name in self.layers}
        return {name: macs * shares[name] for name, macs in self.layers.items()}

    def _left(self, kept: Sequence[int]) -> Left:
        """Return the share of each dimension of each layer's weight that is left."""
        left: dict[tuple[str, int], float] = {}
        for uses, now, width in zip(self._uses, kept, self._widths, strict=True):
            for layer, dim, share, _ in uses:
                left[layer, dim] = left.get((layer, dim), 1.0) - share * (width - now)
        return left


def _uses_of(module: nn.Module, group: Group) -> list[_Use]:
    uses = []
    for member in _matrices(module, group):
        count = member.positions.shape[1]
        uses.append(_Use(member.layer, member.dim, count / member.size, count if member.makes else 0))
    return uses


def _matrices(module: nn.Module, group: Group) -> list[Member]:
    """Return the members whose operations are counted."""
    weights = [member for member in group.members if member.tensor == "weight"]
    return [member for member in weights if _is_matrix(module.get_submodule(member.layer).weight)]


def _is_matrix(weight: Any) -> bool:
    """True unless it is a factor or shift for each channel, whose operations are not counted."""
    return isinstance(weight, Tensor) and weight.ndim > 1


def _counted(module: nn.Module, names: set[str], inputs: Any) -> tuple[int, dict[str, float]]:
    """Return the operations of a forward pass: all of them, and those of each layer in `names`."""
    with measuring(module), counting() as counter, OwnAmounts(module, lambda: counter.macs) as amounts:
        module(inputs)
    return counter.macs, {name: amounts.own.get(module.get_submodule(name), 0.0) for name in names}
