"""The masks of all lanes' dropout, in memory that is written again at every step."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from tuneflow.fused.dropout import DropoutCall, draw


class DropoutMasks:
    """A mask (K, *shape) for each call of dropout; each lane's is laid out as torch would."""

    def __init__(self, dropouts: Sequence[DropoutCall], lanes: int, device: torch.device) -> None:
        self._dropouts, self._stacks = dropouts, []
        for dropout in dropouts:
            size = (lanes, *dropout.shape), (math.prod(dropout.shape), *dropout.stride)
            self._stacks.append(torch.empty_strided(*size, dtype=dropout.dtype, device=device).fill_(1.0))
        self._views = [stack.unbind() for stack in self._stacks]

    @property
    def stacks(self) -> list[Tensor]:
        """The masks of all calls, contiguous, as a program takes them."""
        return [stack.contiguous() for stack in self._stacks]

    def draw(
        self, lanes: Iterable[int], rates: Sequence[Mapping[str, float]], generators: Sequence[torch.Generator]
    ) -> None:
        """Draw new masks for some lanes, from each one's generator in the order of forward.

        Args:
            lanes: their indices.
            rates: of each lane's dropout layers, by name.
            generators: of each lane.
        """
        for lane in lanes:
            for dropout, views in zip(self._dropouts, self._views, strict=True):
                p = dropout.p if dropout.layer is None else rates[lane][dropout.layer]
                draw(views[lane], p, generators[lane])
