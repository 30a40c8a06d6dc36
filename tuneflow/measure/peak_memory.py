"""Peak memory: the most bytes that a forward pass holds at once."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.measure.forward_pass import device_of, eagerly, forward_of, inputs_of, measuring
from tuneflow.measure.size import bytes_of, weights_of
from tuneflow.nested import leaves
from tuneflow.validate import check_whole


@dataclass(frozen=True)
class PeakMemory:
    """The most bytes that a forward pass without gradients holds at once: the module, a batch, and what is computed.

    On a GPU it is torch's own peak of allocated bytes. Elsewhere it is the largest sum of the tensors that are alive at
    once, counted at every operation: the same in each run, and without the scratch memory inside of an operation. A
    compiled module is measured as it is without compilation there.

    Args:
        batch: rows of the forward pass.

    Example:
        >>> PeakMemory(batch=2).of_module(nn.Linear(4, 3), torch.ones(2, 4))  # 15 weights, 8 inputs, 6 outputs
        116

    Raises:
        ValueError: batch is not a whole number >= 1.
    """

    batch: int = 1
    once_per_structure: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole("PeakMemory: batch", self.batch)

    def of_module(self, module: nn.Module, data: Any) -> int:
        """Return the number of bytes.

        Args:
            module: takes raw inputs, on any device.
            data: a tn.Data, a pair (inputs, targets), a Dataset or DataLoader, or inputs alone.
        """
        device = device_of(module)
        with measuring(module):
            inputs = inputs_of(data, self.batch, device)
            forward = forward_of(module, inputs)
            held = sum(map(bytes_of, chain(weights_of(module), module.buffers(), leaves(inputs))))
            return held + (_allocated(forward, device) if device.type == "cuda" else _alive(forward))


def _allocated(forward: Callable[[], Any], device: torch.device) -> int:
    """Return the peak of a GPU's allocated bytes beyond those that are allocated now."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    forward()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - int(before)


def _alive(forward: Callable[[], Any]) -> int:
    with eagerly(), LiveTensors() as live:
        forward()
    return int(live.peak)


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block that follows the memory of the tensors that are made in it.

    Attributes:
        now: bytes of those that are alive.
        peak: the largest that `now` was.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()  # addresses of the storages that are alive, those of the operations' inputs too

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors_of((args, kwargs or {})):
            self._follow(tensor, 0)
        outputs = func(*args, **(kwargs or {}))
        for tensor in _tensors_of(outputs):
            self._follow(tensor)
        return outputs

    def _follow(self, tensor: Tensor, size: int | None = None) -> None:
        """Count a storage from here to its end, unless it is counted already."""
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        if storage._cdata in self._seen:
            return
        self._seen.add(storage._cdata)
        size = storage.nbytes() if size is None else size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata, size)

    def _free(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


def _tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of what an operation takes or returns: nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors_of(part)]
