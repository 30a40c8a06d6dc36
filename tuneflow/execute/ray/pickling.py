"""What goes through Ray: pickles that carry functions and classes by value, their tensors as arrays beside them."""

import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from tuneflow.execute.workers.pickling import SMALL, loaded, reduced
from tuneflow.execute.workers.sendable import Transport, check
from tuneflow.train.job import Job
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
            Unreadable: it cannot be unpickled here; the cause says why.
        """
        return loaded(self.body, [_own(raw) for raw in self.large])


def _own(raw: Any) -> Any:
    """A copy, aligned as torch does it; what Ray gives is shared, and may not be written."""
    own = torch.empty(raw.nbytes, dtype=torch.uint8).numpy()
    own[:] = raw
    return own


class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """As wire.Packer, with functions and classes by value where a module that is imported does not have them."""

    def __init__(
        self, file: io.BytesIO, apart: Callable[[pickle.PickleBuffer], Any] | None = None, keep_device: bool = False
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=apart)
        self._keep_device = keep_device

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Loop) and not _is_found_by_name(thing):
            return Loop, (thing.function, thing.epochs)
        found = reduced(thing, self._keep_device)
        return super().reducer_override(thing) if found is NotImplemented else found


def _is_found_by_name(loop: Loop) -> bool:
    """Whether a worker that imports its module finds it there."""
    module = getattr(loop, "__module__", "__main__")
    return module != "__main__" and getattr(sys.modules.get(module), loop.name, None) is loop


def pack(value: Any, keep_device: bool = False) -> CloudPickled:
    """`value`, pickled; its tensors come out on the CPU, or on their device."""
    file, large = io.BytesIO(), list[Any]()

    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes > SMALL:
            large.append(np.frombuffer(raw, np.uint8))
        return raw.nbytes <= SMALL

    CloudPickler(file, apart, keep_device).dump(value)
    return CloudPickled(file.getvalue(), large)


def parcel(trainer: Any, model: Any) -> CloudPickled:
    """Trainer and model, to be sent to every worker.

    Raises:
        TypeError: something in them cannot be sent; the message names the attribute.
    """
    for what, value in ((type(trainer).__name__, trainer), (type(model).__name__, model)):
        check(value, what, CLOUD)
    return pack((trainer, model), keep_device=True)


def given(job: Job) -> bytes:
    """As sendable.packed."""
    check(job.config, "configuration", CLOUD)
    file = io.BytesIO()
    CloudPickler(file, keep_device=True).dump((job.config, job.seed, job.replica, job.trial))
    return file.getvalue()


def _obstacle(value: Any) -> Exception | None:
    try:
        CloudPickler(io.BytesIO(), lambda buffer: None).dump(value)
    except Exception as error:
        return error
    return None


CLOUD = Transport(_obstacle, by_value=True)
