"""Files of tensors and plain values, in torch's format: read so that nothing in them runs, nor takes more memory."""

import io
import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuneflow.errors import CheckpointError
from tuneflow.nested import parts_of

BEGINS = b"PK\x03\x04"  # torch's older format has no sizes that could be checked before it is read
FILLED = (b"cbuiltins\nbytearray\n", b"c__builtin__\nbytearray\n")  # torch makes one of any length that is asked for
REPEATED = 2**26  # bytes that tensors may have beyond those of the file, by repeating rows with a stride of 0
DEEP = 200  # levels of nesting; a state has about ten
SHARED = 10_000  # parts that a value may have beyond its bytes, as something that is in it several times


def content_of(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file; a pipe is not waited for, and what does not fit into memory not begun.

    Raises:
        OSError: it cannot be read.
        CheckpointError: it is no file, or larger than the machine's memory.
    """
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind):
        raise CheckpointError(f"{path}: is {_kind_of(kind)}; give the name of a file that tuneflow saved.")
    with Path(path).open("rb") as file:
        size, memory = os.fstat(file.fileno()).st_size, _memory()
        if size > memory:
            raise CheckpointError(f"{path}: has {size:,} bytes, more than this machine's memory ({memory:,.0f}).")
        return file.read(size)


def values_in(content: bytes | memoryview, path: str | os.PathLike[str]) -> Any:
    """Return the value in a file's content, as torch.save wrote it: tensors, on the CPU, and plain values.

    What a program, another library or a stranger has written is refused: anything but tensors and plain values before
    a part of it runs, and members and tensors that are larger than the file.

    Args:
        content: of the file.
        path: the file's, which opens messages.

    Raises:
        CheckpointError: it is no such content.
    """
    try:
        file = io.BytesIO(content)
        pickled = _checked_members(file, len(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's, on what it reads; the error says it
            value = torch.load(file, weights_only=True, map_location="cpu")
        _check_sizes(value, len(content), pickled)
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise CheckpointError(f"{path}: not a file that tuneflow saved, or damaged{_reason(error)}.") from None
    return value


def _checked_members(file: io.BytesIO, size: int) -> int:
    """Return the size of the pickle in a zip file of `size` bytes.

    Raises:
        ValueError: it is none, or has members that would take more memory than the file.
    """
    if file.read(len(BEGINS)) != BEGINS:
        raise ValueError("it is not in torch's format")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        packed = next((member for member in members if member.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None or sum(member.file_size for member in members) > size:
            raise ValueError("it has members that are larger than the file")
        pickles = [archive.read(member) for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it is not in torch's format")
    if any(call in pickles[0] for call in FILLED):
        raise ValueError("it holds a bytearray")
    file.seek(0)
    return len(pickles[0])


def _check_sizes(value: Any, size: int, pickled: int) -> None:
    """Raise ValueError where tensors are larger than a file of `size` bytes, or containers than their `pickled` bytes.

    Tensors that share their elements, and containers that are in several places, count as often as they are there.
    """
    stack, room, parts = [(value, 0)], size + REPEATED, SHARED + pickled
    while stack:
        one, depth = stack.pop()
        parts -= 1
        if isinstance(one, Tensor):
            room -= one.numel() * one.element_size()
        else:
            stack += [(part, depth + 1) for part in (parts_of(one) or {}).values()]
        if room < 0:
            raise ValueError("it holds tensors that are larger than the file")
        if parts < 0 or depth > DEEP:
            raise ValueError("it holds a value that is larger than the file")


def _reason(error: Exception) -> str:
    """Return an error's reason in parentheses; without torch's advice to run what a file holds."""
    text = str(error)
    if "weights_only" in text or "WeightsUnpickler" in text:
        return " (it holds more than tensors and plain values; none of it was run)"
    told = isinstance(error, RuntimeError | ValueError | zipfile.BadZipFile) and text
    return f" ({text.splitlines()[0].rstrip('.') if told else type(error).__name__})"


def _kind_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def _memory() -> float:
    """Return the bytes of memory of this machine; inf where the system does not show them."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")
