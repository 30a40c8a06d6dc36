"""Widen: more channels for a trained module, which gives the same outputs as before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.channel_groups import groups_of, named_groups
from tuneflow.compress.group import Group, Selection, select_all
from tuneflow.compress.layer_names import check_names
from tuneflow.compress.operations import Operation, apply_all
from tuneflow.compress.step import StepRows
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves
from tuneflow.validate import is_number

TOLERANCE = 1e-4  # of the outputs' range


@dataclass(frozen=True)
class Widen:
    """A step that gives a module more channels without changing what it computes.

    Channels are copied with everything that makes them, and the weights of the layers that use a channel are divided
    among its copies, in evaluation mode and under BatchNorm in training mode, too. The shares are unequal, from half
    to one and a half times the mean: copies with equal shares would get equal gradients and stay copies for ever.

    A dropout behind the channels is refused, since it would drop the copies one by one. Channels that meet GroupNorm
    or LayerNorm stay as they are, and so does all else that `groups_of` names.

    Args:
        factor: new channels for each old one, at least 1; every width is rounded.
        only: the layers whose channels become more, such as `["conv1"]`; None for all that can.

    Source: T. Chen, I. Goodfellow, J. Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016.
    """

    factor: float = 2.0
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_names("Widen", self.only)
        if not is_number(self.factor) or self.factor < 1:
            raise ValueError(
                f"Widen: factor needs to be a number >= 1, got {self.factor!r}; Narrow makes a module smaller."
            )

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:
        """Return the selections that widen `module`, which is widened on return.

        Args:
            module: in evaluation mode.
            rows: of the training part; two of them are used to check that the outputs stay.

        Raises:
            ValueError: there is nothing to widen, a dropout lies behind the channels, or the outputs change.
        """
        choices = [self._copies(group) for group in self._groups(module, rows.inputs)]
        operations: list[Operation] = [*select_all(choices)]
        before = _outputs(module, rows.inputs)
        apply_all(operations, module)
        _check(before, _outputs(module, rows.inputs))
        return operations

    def _groups(self, module: nn.Module, inputs: Any) -> list[Group]:
        groups = groups_of(module, inputs)
        chosen = named_groups(groups, self.only)
        for group in chosen:
            if group.dropouts:
                free = [other.name for other in groups.groups if not other.dropouts]
                way = f"name others by only={free}" if free else "set its rate to 0 in the builder"
                raise ValueError(
                    f'Widen: the channels of "{group.name}" pass {group.dropouts[0]}, which would drop the copies of a '
                    f"channel one by one and change the training; {way}"
                )
        return chosen

    def _copies(self, group: Group) -> Selection:
        width = max(group.width, round(group.width * self.factor))
        index = torch.arange(width) * group.width // width
        return Selection(group, index, _shares(index))


def _shares(index: Tensor) -> Tensor:
    """Return the share of each copy in its channel, in equal distances from half to one and a half times the mean."""
    copies = torch.bincount(index)
    number = torch.arange(len(index)) - (copies.cumsum(0) - copies)[index]
    count = copies[index].double()
    return torch.where(count > 1, 0.5 + number / (count - 1).clamp(min=1), 1.0) / count


def _outputs(module: nn.Module, inputs: Any) -> list[Tensor]:
    with looked_at(module):
        return [leaf for leaf in leaves(module(inputs)) if leaf.is_floating_point()]


def _check(before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    for old, new in zip(before, after, strict=True):
        span, change = float(old.abs().max()), float((new - old).abs().max())
        if change > TOLERANCE * span:
            raise ValueError(
                f"Widen: the outputs would change by {change / span:.1%} of their range, at most 0.01 % is allowed"
            )
