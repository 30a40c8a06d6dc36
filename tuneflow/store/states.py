"""States: training states by (trial, epoch), in memory, and as files in a folder where there is one."""

import hashlib
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from typing_extensions import Buffer

from tuneflow.errors import CheckpointError, StoreError
from tuneflow.train.job import TrainState


class States:
    """Keeps states that were put, until they are no longer needed.

    In memory first; `flush` writes those that are not in the folder yet. A file is written under a temporary
    name, synced and renamed, and its SHA-256 stands in front of it, so that a torn or altered file is noticed.

    Args:
        folder: where the files go; None keeps everything in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[int, dict[int, TrainState]] = {}
        self._written: dict[int, set[int]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._look("*")

    def epochs(self, trial: int) -> set[int]:
        """The epochs after which a state of this trial is kept, by another process too."""
        self._look(f"{trial:06d}")
        return self._memory.get(trial, {}).keys() | self._written.get(trial, set())

    def hold_values(self, trial: int) -> bool:
        """Whether any state of this trial holds more than its epoch."""
        return trial in self._written or any(state.values for state in self._memory.get(trial, {}).values())

    def put(self, trial: int, state: TrainState) -> None:
        self._memory.setdefault(trial, {})[state.epoch] = state

    def get(self, trial: int, epoch: int) -> TrainState:
        """The state of a trial after an epoch.

        Raises:
            CheckpointError: it is not kept, or its file is damaged.
        """
        if epoch in (inside := self._memory.get(trial, {})):
            return inside[epoch]
        if epoch not in self.epochs(trial):
            raise CheckpointError(f"the state of trial {trial} after epoch {epoch} is not kept.")
        return read(self._path(trial, epoch))

    def flush(self, trial: int) -> None:
        """Write those of the trial's states that are in memory only, the earliest first."""
        if self._folder is None:
            return
        written = self._written.setdefault(trial, set())
        for epoch, state in sorted(self._memory.get(trial, {}).items()):
            if epoch not in written:
                write(self._path(trial, epoch), state)
                written.add(epoch)

    def keep(self, trial: int, epochs: Iterable[int]) -> None:
        """Forget the trial's states but those after `epochs`, and remove their files."""
        if trial not in self._memory and trial not in self._written:
            return
        needed = set(epochs)
        inside, written = self._memory.get(trial, {}), self._written.get(trial, set())
        for epoch in inside.keys() - needed:
            del inside[epoch]
        for epoch in written - needed:
            self._path(trial, epoch).unlink(missing_ok=True)
            written.discard(epoch)
        if not needed:
            self._memory.pop(trial, None)
            self._written.pop(trial, None)

    def _look(self, trials: str) -> None:
        """Note the files that are there of the trials whose number matches; other processes write them too."""
        for file in self._folder.glob(f"{trials}-*.state") if self._folder is not None else ():
            trial, epoch = map(int, file.stem.split("-"))
            self._written.setdefault(trial, set()).add(epoch)

    def _path(self, trial: int, epoch: int) -> Path:
        return (self._folder or Path()) / f"{trial:06d}-{epoch:06d}.state"


def write(path: Path, state: TrainState) -> None:
    """`state` as a file: the SHA-256 of what follows (32 bytes), then torch's format."""
    buffer = io.BytesIO()
    torch.save({"epoch": state.epoch, "values": state.values}, buffer)
    content = buffer.getbuffer()
    write_bytes(path, hashlib.sha256(content).digest(), content)


def write_bytes(path: Path, *parts: Buffer) -> None:
    """A file that is there whole or not at all: written under a temporary name, synced, renamed.

    Raises:
        StoreError: it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error}).") from None


def read(path: Path) -> TrainState:
    """The state in a file that `write` wrote, its tensors on the CPU.

    Raises:
        CheckpointError: the file cannot be read, or its bytes are not those that were written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}).") from None
    if hashlib.sha256(memoryview(content)[32:]).digest() != content[:32]:
        raise CheckpointError(f"{path}: its SHA-256 differs from the one it was written with; the file is damaged.")
    saved = torch.load(io.BytesIO(memoryview(content)[32:]), weights_only=True, map_location="cpu")
    return TrainState(saved["epoch"], saved["values"])
