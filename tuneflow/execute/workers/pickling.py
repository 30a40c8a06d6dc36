"""Pickling between processes: large tensors and arrays travel as raw bytes beside the pickle."""

import io
import math
import mmap
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SMALL = 2**16  # bytes up to which a tensor travels inside the pickle
ALIGNED = 64  # bytes, as torch's own allocator does

Pipe = Connection  # one end of it


class Unreadable(Exception):
    """A value arrived whole and cannot be unpickled here; the cause is the error."""


class TensorPickler(pickle.Pickler):
    """Pickles every plain tensor as a buffer: its bytes, in the order of its memory.

    Args:
        file: where the pickle is written.
        apart: called with each buffer; one for which it returns something false is left out of the pickle.
        keep_device: tensors come out on the kind of device they are on, the one that is current there, else on the CPU.
    """

    def __init__(
        self, file: io.BytesIO, apart: Callable[[pickle.PickleBuffer], Any] | None = None, keep_device: bool = False
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=apart)
        self._keep_device = keep_device

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not Tensor or not _is_plain(thing):
            return NotImplemented
        dense = (thing if thing.is_contiguous() else thing.clone()).cpu()
        raw = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy()
        device = thing.device.type if self._keep_device and thing.device.type != "cpu" else ""
        return _tensor, (pickle.PickleBuffer(raw.data), thing.dtype, tuple(dense.shape), dense.stride(), device)


def _is_plain(tensor: Tensor) -> bool:
    """True if bytes, dtype, shape and strides say it all; other tensors are pickled by torch, which is slower."""
    dense = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type != "meta"
    lazy = tensor.is_conj() or tensor.is_neg()
    return dense and not lazy and not tensor.requires_grad and tensor.numel() > 0 and not vars(tensor)


def _tensor(buffer: Any, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...], device: str) -> Tensor:
    flat = torch.frombuffer(buffer, dtype=torch.uint8)
    if isinstance(buffer, bytearray):  # it came inside the pickle, aligned by chance only
        flat = flat.clone()
    tensor = flat.view(dtype).as_strided(shape, stride)
    return tensor.to(device) if device else tensor


class Pickled(NamedTuple):
    """A pickle, and the larger tensors and arrays beside it."""

    body: bytes
    large: list[memoryview]


def pack(
    value: Any, keep_device: bool = False, small: float = SMALL, pickler: Callable[..., Any] = TensorPickler
) -> Pickled:
    """Pickle `value` for sending; its tensors arrive as copies.

    Args:
        value: anything.
        keep_device: tensors are loaded on their device, else on the CPU.
        small: bytes up to which a tensor or an array travels inside the pickle.
        pickler: the class that pickles; its arguments are those of TensorPickler.
    """
    file, large = io.BytesIO(), list[memoryview]()

    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes > small:
            large.append(raw)
        return raw.nbytes <= small

    pickler(file, apart, keep_device).dump(value)
    return Pickled(file.getvalue(), large)


def send(pipe: Pipe, value: Any) -> None:
    """Send `value`, pickled or not. An error in pickling is raised before anything is sent."""
    body, large = value if isinstance(value, Pickled) else pack(value)
    pipe.send(([raw.nbytes for raw in large], body))
    for raw in large:
        pipe.send_bytes(raw)


def receive(pipe: Pipe) -> Any:
    """Receive the value that `send` sent.

    Raises:
        EOFError, OSError: the other side is gone.
        Unreadable: the value cannot be unpickled; the pipe stays usable.
    """
    sizes, body = pipe.recv()
    buffers = [torch.empty(size, dtype=torch.uint8).numpy() for size in sizes]
    for buffer in buffers:
        pipe.recv_bytes_into(buffer.data)
    return loaded(body, buffers)


def loaded(body: bytes, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle a value; raise Unreadable if that fails."""
    try:
        return pickle.loads(body, buffers=buffers)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what it imports may exit
        raise Unreadable from error


class SharedObject:
    """A value for several processes, pickled once; its tensors and arrays are in a file they all map.

    The file has no name, so nothing is left of it when the processes are gone, however they ended. A process
    that writes into its tensors changes its own copy only.

    Args:
        value: anything.
        pickler: the class that pickles; its arguments are those of TensorPickler.
    """

    def __init__(self, value: Any, pickler: Callable[..., Any] = TensorPickler) -> None:
        self.body, large = pack(value, keep_device=True, small=SMALL if SHARES else math.inf, pickler=pickler)
        self.spans = _spans(large)
        self._file = _nameless() if large else None
        if self._file is not None:
            for (start, _), raw in zip(self.spans, large, strict=True):
                self._file.seek(start)
                self._file.write(raw)
            self._file.flush()

    def send(self, pipe: Pipe, process: int) -> None:
        """Send it to the process with this id."""
        send(pipe, (self.body, self.spans))
        if self._file is not None:
            reduction.send_handle(pipe, self._file.fileno(), process)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def receive_shared(pipe: Pipe) -> Any:
    """Receive the value of a SharedObject; errors as in `receive`."""
    body, spans = receive(pipe)
    if not spans:
        return loaded(body)
    handle = reduction.recv_handle(pipe)
    try:
        mapped = memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_COPY))
    finally:
        os.close(handle)
    return loaded(body, [np.frombuffer(mapped[start : start + size], np.uint8) for start, size in spans])


SHARES = os.name == "posix"  # elsewhere each process gets a copy of its own through its pipe


def _spans(buffers: Sequence[memoryview]) -> list[tuple[int, int]]:
    """(start, size) of each buffer in the file."""
    spans, end = [], 0
    for raw in buffers:
        spans.append((end, raw.nbytes))
        end += -(-raw.nbytes // ALIGNED) * ALIGNED
    return spans


def _nameless() -> Any:
    """Open a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("tuneflow"), "wb")
    return tempfile.TemporaryFile("wb")
