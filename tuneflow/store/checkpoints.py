"""Checkpoints: training states by (trial, epoch), in memory and as files."""

import hashlib
import io
import re
import shutil
import weakref
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from tuneflow.errors import CheckpointError
from tuneflow.store.atomic_file import remove_leftovers, write_bytes
from tuneflow.store.torch_file import content_of, values_in
from tuneflow.train.job import TrainState
from tuneflow.validate import is_whole


class States:
    """The training states that a study needs, addressed by (trial, epoch).

    They are held in memory up to `memory` bytes; beyond it the least recently used are in files only. `flush` writes
    those that are not in the folder yet. A file is written under a temporary name, synced and renamed, and its SHA-256
    stands in front of it, so that a torn or altered file is noticed.

    Args:
        folder: the files' folder; None makes a temporary one once memory is full, removed with this object.
        memory: bytes of tensors to hold at most; the state that was put last is held in any case.
    """

    def __init__(self, folder: Path | None, memory: float = float("inf")) -> None:
        self._folder, self._budget = folder, memory
        self._temporary: Path | None = None
        self._memory: dict[int, dict[int, TrainState]] = {}
        self._written: dict[int, set[int]] = {}
        self._needed: dict[int, set[int]] = {}  # by trial, the files that `sweep` leaves
        self._sizes: dict[tuple[int, int], int] = {}  # bytes of what is in memory, the least recently used first
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._list("*")

    def epochs(self, trial: int) -> set[int]:
        """Return the epochs after which a state of this trial is kept, by another process too."""
        if self._folder is not None:
            self._written.pop(trial, None)  # another process removes files, too
            self._list(f"{trial:06d}")
        return self._memory.get(trial, {}).keys() | self._written.get(trial, set())

    def trials(self) -> set[int]:
        """Return the numbers of the trials of which a state is kept, as far as this object has seen."""
        return self._memory.keys() | self._written.keys()

    def hold_values(self, trial: int) -> bool:
        """True if any state of this trial holds more than its epoch."""
        return trial in self._written or any(state.values for state in self._memory.get(trial, {}).values())

    def put(self, trial: int, state: TrainState) -> None:
        """Hold a state, which must not be changed afterwards."""
        self._memory.setdefault(trial, {})[state.epoch] = state
        self._sizes.pop((trial, state.epoch), None)
        self._sizes[trial, state.epoch] = state.size
        self._spill()

    def get(self, trial: int, epoch: int) -> TrainState:
        """Return the state of a trial after an epoch.

        Raises:
            CheckpointError: it is not kept, or its file is damaged.
        """
        if epoch in (inside := self._memory.get(trial, {})):
            self._sizes[trial, epoch] = self._sizes.pop((trial, epoch))
            return inside[epoch]
        if epoch not in self.epochs(trial):
            raise CheckpointError(f"the state of trial {trial} after epoch {epoch} is not kept.")
        state = read(path := self._path(trial, epoch))
        if state.epoch != epoch:
            raise CheckpointError(f"{path}: holds a state after epoch {state.epoch}, so it was renamed. Remove it.")
        return state

    def flush(self, trial: int) -> None:
        """Write the trial's states that are in memory only, the earliest first."""
        if self._folder is None:
            return
        for epoch in sorted(self._memory.get(trial, {})):
            self._write(trial, epoch)

    def keep(self, trial: int, epochs: Iterable[int]) -> None:
        """Forget the trial's states but those after `epochs`; their files stay until `sweep`."""
        if trial not in self._memory and trial not in self._written:
            return
        needed = self._needed[trial] = set(epochs)
        for epoch in self._memory.get(trial, {}).keys() - needed:
            self._let_go(trial, epoch)
        if not needed:
            self._memory.pop(trial, None)
        if self._folder is None:
            self.sweep()

    def sweep(self) -> None:
        """Remove files that are not needed any more, once those needed in their stead are written."""
        for trial, needed in list(self._needed.items()):
            written = self._written.get(trial, set())
            if self._folder is not None and not self._memory.get(trial, {}).keys() <= written:
                continue
            for epoch in written - needed:
                self._path(trial, epoch).unlink(missing_ok=True)
                written.discard(epoch)
            if not needed:
                self._written.pop(trial, None)
            del self._needed[trial]

    def leave(self, trial: int) -> None:
        """Forget a trial that another process has taken over; its files are that one's."""
        for epoch in self._memory.pop(trial, {}):
            del self._sizes[trial, epoch]
        self._written.pop(trial, None)
        self._needed.pop(trial, None)

    def clean(self, trial: int) -> None:
        """Remove half-written files that dead processes left of a trial; called by the trial's new owner."""
        if self._folder is not None:
            remove_leftovers(self._folder, f"{trial:06d}-")

    def _write(self, trial: int, epoch: int) -> None:
        written = self._written.setdefault(trial, set())
        if epoch not in written:
            write(self._path(trial, epoch), self._memory[trial][epoch])
            written.add(epoch)

    def _spill(self) -> None:
        """Move states from memory to files until the budget holds, the least recently used first."""
        total = sum(self._sizes.values())
        while total > self._budget and len(self._sizes) > 1:
            (trial, epoch), size = next(iter(self._sizes.items()))
            self._write(trial, epoch)
            self._let_go(trial, epoch)
            total -= size

    def _let_go(self, trial: int, epoch: int) -> None:
        del self._memory[trial][epoch], self._sizes[trial, epoch]

    def _list(self, trials: str) -> None:
        """List the files of the trials whose number matches; other processes write them too."""
        for file in self._folder.glob(f"{trials}-*.state") if self._folder is not None else ():
            named = re.fullmatch(r"([0-9]{6,18})-([0-9]{6,18})", file.stem)
            if named and _name(int(named[1]), int(named[2])) == file.name:
                self._written.setdefault(int(named[1]), set()).add(int(named[2]))

    def _path(self, trial: int, epoch: int) -> Path:
        folder = self._folder or self._temporary
        if folder is None:
            folder = self._temporary = Path(mkdtemp(prefix="tuneflow-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder / _name(trial, epoch)


def _name(trial: int, epoch: int) -> str:
    return f"{trial:06d}-{epoch:06d}.state"


def write(path: Path, state: TrainState) -> None:
    """Write `state` as a file: the SHA-256 of what follows (32 bytes), then torch's format.

    Raises:
        StoreError: it cannot be written; what was there before stays.
    """
    buffer = io.BytesIO()
    torch.save({"epoch": state.epoch, "values": state.values}, buffer)
    content = buffer.getbuffer()
    write_bytes(path, hashlib.sha256(content).digest(), content)


def read(path: Path) -> TrainState:
    """Return the state in a file that `write` wrote, its tensors on the CPU.

    Raises:
        CheckpointError: the file cannot be read, or its bytes are not those that were written.
    """
    try:
        content = memoryview(content_of(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}).") from None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise CheckpointError(
            f"{path}: its SHA-256 differs from the one it was written with; the file is damaged. Remove it: a trial"
            " that has not ended is trained again."
        )
    return _state_of(values_in(content[32:], path), path)


def _state_of(saved: Any, path: Path) -> TrainState:
    """Return the state that a file holds, which may have the right digest and be a stranger's."""
    if isinstance(saved, dict) and is_whole(saved.get("epoch"), 0) and isinstance(saved.get("values"), dict):
        return TrainState(saved["epoch"], saved["values"])
    raise CheckpointError(f"{path}: holds no state of a trial, so tuneflow did not write it. Remove it.")
