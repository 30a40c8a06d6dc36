"""The batches of lanes that take a step together: each its own rows, one tensor for all."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tuneflow.data.data import Batch
from tuneflow.execute.lanes.lane import Lane
from tuneflow.train.settings import Settings


class LaneBatches:
    """The next batch of each lane, as one with the seats in front.

    Args:
        seats: of all lanes; None where there is none.
        moving: the seats whose lanes take a step.
        rows: of the next batch of each of those.
    """

    def __init__(self, seats: Sequence[Lane | None], moving: Sequence[int], rows: int) -> None:
        first = seats[moving[0]]
        assert first is not None
        self._seats, self._rows, self._run = seats, rows, first.run
        self._data = None if first.run.settings.augment is not None else first.run.train.resident
        self._loaded: dict[int, Any] = {}

    def load(self, seat: int, lane: Lane) -> None:
        self._loaded[seat] = lane.order() if self._data is not None else lane.batch()

    def stacked(self, moving: Sequence[int]) -> Any:
        """The batch, each tensor (K, rows, ...); what stands in the seats that do not move is of no account."""
        parts = [self._loaded[seat if seat in moving else moving[0]] for seat in range(len(self._seats))]
        if self._data is None:
            batch = pytree.tree_map(lambda *leaves: torch.stack(leaves), *parts)
        else:
            numbers = torch.cat(parts).to(self._run.job.runtime.device, non_blocking=True)
            size = (len(parts), self._rows)
            batch = pytree.tree_map(
                lambda leaf: leaf.index_select(0, numbers).view(*size, *leaf.shape[1:]),
                (self._data.inputs, self._data.targets),
            )
        return with_smoothing(batch, self._seats)


def with_smoothing(batch: Batch, seats: Sequence[Lane | None]) -> Any:
    """`batch`, with each lane's label smoothing (K,) beside it where it has one."""
    amounts = [smoothing_of(lane.run.settings) if lane is not None else None for lane in seats]
    given = next((amount for amount in amounts if amount is not None), None)
    if given is None:
        return batch
    like = next(lane for lane in seats if lane is not None).run.parameters[0]
    return batch, like.new_tensor([given if amount is None else amount for amount in amounts])


def smoothing_of(settings: Settings) -> float | None:
    """The label smoothing of a loss that has some, else None: it may differ from lane to lane."""
    if settings.own_loss or type(settings.loss) is not nn.CrossEntropyLoss:
        return None
    return settings.loss.label_smoothing or None
