"""Pickling for Ray: functions and classes by value, large tensors as arrays beside the pickle."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from tuneflow.execute.workers import pickling
from tuneflow.execute.workers.sendable import Transport
from tuneflow.train.loop import Loop


@dataclass(frozen=True)
class CloudPickled:
    """A pickled value.

    Attributes:
        body: the pickle.
        large: the bytes of its larger tensors and arrays, as arrays: Ray sends them without another copy.
    """

    body: bytes
    large: list[Any]

    def value(self) -> Any:
        """The value, its tensors copies of its own.

        Raises:
            Unreadable: it cannot be unpickled here; the cause is the error.
        """
        return pickling.loaded(self.body, [_own(raw) for raw in self.large])


def _own(raw: Any) -> Any:
    """Return an aligned copy; the arrays that Ray returns are shared and read-only."""
    own = torch.empty(raw.nbytes, dtype=torch.uint8).numpy()
    own[:] = raw
    return own


class CloudPickler(pickling.TensorPickler, cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles tensors as TensorPickler does, and functions and classes by value unless an import finds them."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Loop) and not _is_found_by_name(thing):
            return Loop, (thing.function, thing.epochs)
        reduced = super().reducer_override(thing)
        return cloudpickle.Pickler.reducer_override(self, thing) if reduced is NotImplemented else reduced


def _is_found_by_name(loop: Loop) -> bool:
    """True if a worker that imports its module finds it there."""
    module = getattr(loop, "__module__", "__main__")
    return module != "__main__" and getattr(sys.modules.get(module), loop.name, None) is loop


def pack(value: Any, keep_device: bool = False) -> CloudPickled:
    """Pickle `value`.

    Args:
        value: anything.
        keep_device: tensors are loaded on their device, else on the CPU.
    """
    body, large = pickling.pack(value, keep_device, pickler=CloudPickler)
    return CloudPickled(body, [np.frombuffer(raw, np.uint8) for raw in large])


def share(trainer: Any, model: Any) -> CloudPickled:
    """Pickle trainer and model for every worker.

    Raises:
        TypeError: something in them cannot be sent; the message names the attribute.
    """
    CLOUD.check_shared(trainer, model)
    return pack((trainer, model), keep_device=True)


CLOUD = Transport(CloudPickler, CloudPickler, by_value=True)
