"""Pickling for Ray: functions and classes by value, large tensors as arrays beside the pickle."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from tuneflow.execute.workers import pickling
from tuneflow.execute.workers.by_value import pickler_by_value
from tuneflow.execute.workers.main_module import is_found_by_name
from tuneflow.execute.workers.sendable import Transport

CloudPickler = pickler_by_value(cloudpickle, partial(is_found_by_name, with_main=False))


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
    CLOUD.way_of_shared(trainer, model)
    return pack((trainer, model), keep_device=True)


CLOUD = Transport(CloudPickler, CloudPickler, by_value=True)
