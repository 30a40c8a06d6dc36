"""The batches of lanes that take a step together, stacked into one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tuneflow.data.data import Batch
from tuneflow.execute.lanes.lane import Lane
from tuneflow.train.settings import Settings


class LaneBatches:
    """The next batch of each lane, stacked along a first axis of slots.

    Args:
        slots: every lane by its slot; None where a slot is empty.
        moving: the slots whose lanes take a step.
        rows: number of rows in the next batch of each of those.
    """

    def __init__(self, slots: Sequence[Lane | None], moving: Sequence[int], rows: int) -> None:
        first = slots[moving[0]]
        assert first is not None
        self._seats, self._rows, self._run = slots, rows, first.run
        self._data = None if first.run.settings.augment is not None else first.run.train.resident
        self._loaded: dict[int, Any] = {}

    def load(self, slot: int, lane: Lane) -> None:
        self._loaded[slot] = lane.order() if self._data is not None else lane.batch()

    def stacked(self, moving: Sequence[int]) -> Any:
        """The batch, each tensor (K, rows, ...); the rows of slots that do not move are arbitrary."""
        parts = [self._loaded[slot if slot in moving else moving[0]] for slot in range(len(self._seats))]
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


def with_smoothing(batch: Batch, slots: Sequence[Lane | None]) -> Any:
    """Return `batch`, paired with the label smoothing of each lane, shape (K,), where there is any."""
    amounts = [smoothing_of(lane.run.settings) if lane is not None else None for lane in slots]
    given = next((amount for amount in amounts if amount is not None), None)
    if given is None:
        return batch
    like = next(lane for lane in slots if lane is not None).run.parameters[0]
    return batch, like.new_tensor([given if amount is None else amount for amount in amounts])


def smoothing_of(settings: Settings) -> float | None:
    """The label smoothing of the loss, which may differ between lanes; None where there is none."""
    if settings.own_loss or type(settings.loss) is not nn.CrossEntropyLoss:
        return None
    return settings.loss.label_smoothing or None
