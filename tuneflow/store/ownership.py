"""Ownership: the owners in a store's file, who of them is alive, and how the trials of the dead become free."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakMethod

from tuneflow.errors import StoreError
from tuneflow.store import sightings
from tuneflow.store.heartbeat import OWNERS, Heartbeat
from tuneflow.store.owner import OwnerName, leave, lives, new_owner
from tuneflow.store.rows import kept_row, kept_value
from tuneflow.store.sightings import DEAD, sighting

HOLDER = "holder"  # the key of who runs the study alone
NOBODY = ""  # as the writer, so that it is a change to this process, too
NEXT = "(SELECT coalesce(max(changed), 0) + 1 FROM trial)"
TRIALS = "SELECT owner, number FROM trial INDEXED BY owned WHERE owner IS NOT NULL ORDER BY number"
LET_GO = "DELETE FROM study WHERE key = ? AND value = ?"
FREE = (
    f"UPDATE trial SET owner = NULL, writer = ?, changed = {NEXT}, tries = tries + 1,"
    " status = CASE status WHEN 'RUNNING' THEN 'PAUSED' ELSE status END"
    " WHERE owner = ? RETURNING number, tries"
)

P = ParamSpec("P")
R = TypeVar("R")
Freed = list[tuple[int, int]]  # number and tries of trials; see Store.recover


@dataclass(frozen=True)
class RemoteOwner:
    """An owner on another machine or in another container, which is not known to be dead.

    Attributes:
        owner: its name.
        trials: the numbers of the trials that it has under way.
        holds: True if it runs the study alone.
        silent: seconds for which it has shown no sign of life, as far as this process has watched.
        heard: True if it has shown one while this process watched.
        folder: the study's.
    """

    owner: str
    trials: tuple[int, ...]
    holds: bool
    silent: float
    heard: bool
    folder: Path

    @property
    def beats(self) -> bool:
        """True if it is certainly alive."""
        return self.heard and self.silent <= 2 * sightings.BEAT

    @property
    def way_out(self) -> str:
        """The way to free its trials, and the study."""
        seconds, host = DEAD * sightings.BEAT, OwnerName.of(self.owner).host
        return (
            f"if that is dead, `python -m tuneflow check {self.folder} --free {host}` frees it at once, and a run that"
            f" lasts {seconds:.0f} s does"
        )

    def __str__(self) -> str:
        name = OwnerName.of(self.owner)
        since = f"last heard of {self.silent:.0f} s ago" if self.heard else f"not heard of in {self.silent:.0f} s"
        return f"{name.host} (process {name.pid}, {since})"


class Ownership:
    """The owner of one study object, among the others in the store's file.

    Args:
        path: the file.
        run: runs a statement, and returns its rows.
        transaction: makes a block of statements one.

    Attributes:
        name: this object's owner.
        holds: True while this owner runs the study alone.
    """

    def __init__(
        self,
        path: Path,
        run: Callable[..., list[Any]],
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.name, self.holds = new_owner(), False
        self._path, self._run, self._transaction = path.absolute(), _weak(run), _weak(transaction)
        self._held = _holder(self.name)
        self._heartbeat: Heartbeat | None = None

    def begin(self) -> None:
        """Show from now on that this owner is alive, and watch the others."""
        if self._heartbeat is None:
            self._heartbeat = Heartbeat(self._path, self.name)

    def hold(self) -> bool:
        """Lock the study for this owner, as Store.hold; within a transaction."""
        holder = self._holder()
        self.holds = holder in (None, self.name) or not self._alive(holder, self._beat(holder))
        if self.holds:
            self._run("INSERT OR REPLACE INTO study VALUES (?, ?, ?)", self._held)
        return self.holds

    def let_go(self) -> None:
        """Undo `hold`."""
        self.holds = False
        self._run(LET_GO, self._held[:2])

    def lost_hold(self) -> bool:
        """True, once, where another process has taken over the study that this owner runs alone."""
        lost = self.holds and self._holder() != self.name
        self.holds = self.holds and not lost
        return lost

    def recover(self) -> Freed:
        """Free the trials of owners that died, and the study where they ran it alone."""
        others = [(owner, beat) for owner, beat in self._run(OWNERS) if owner != self.name]
        dead = [(owner, beat) for owner, beat in others if not self._alive(owner, beat)]
        if any(lives(owner) is None for owner, _ in others):
            self.begin()
        if not dead:
            return []
        with self._transaction():
            return [trial for owner, beat in dead if self._beat(owner) == beat for trial in self.free(owner)]

    def free(self, owner: str) -> Freed:
        """Free the trials of an owner, whether it is dead or not; within a transaction."""
        freed = self._run(FREE, (NOBODY, owner))
        self._run("DELETE FROM owner WHERE name = ?", (owner,))
        self._run(LET_GO, _holder(owner)[:2])
        return freed

    @property
    def busy(self) -> bool:
        """True while another owner that is alive has a trial under way."""
        others = [owner for owner, trials in self._at_work().items() if trials and owner != self.name]
        return any(self._alive(owner, self._beat(owner)) for owner in others)

    def waiting(self) -> list[RemoteOwner]:
        """Return the owners elsewhere that have trials under way or hold the study, and may be alive."""
        remote = [self._remote(*each) for each in self._at_work().items() if lives(each[0]) is None]
        return [owner for owner in remote if owner.silent <= DEAD * sightings.BEAT]

    def named(self, name: str) -> list[str]:
        """Return the owners, of trials or of the study, whose host or whole name is `name`."""
        return [owner for owner in self._at_work() if name in (owner, OwnerName.of(owner).host)]

    def _remote(self, owner: str, trials: list[int]) -> RemoteOwner:
        seen = sighting(str(self._path), owner, self._beat(owner))
        return RemoteOwner(owner, tuple(trials), owner == self._holder(), seen.silent, seen.heard, self._path.parent)

    def leave(self, wait: bool = True) -> None:
        """Free this owner's trials, as if its process had died."""
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop(wait)
        leave(self.name)
        if heartbeat is not None and wait:
            with suppress(StoreError):
                self._run("DELETE FROM owner WHERE name = ?", (self.name,))

    def _alive(self, owner: str, beat: int | None) -> bool:
        here = lives(owner)
        return not sighting(str(self._path), owner, beat).dead if here is None else here

    def _beat(self, owner: str) -> int | None:
        rows = self._run("SELECT beat FROM owner WHERE name = ?", (owner,))
        return rows[0][0] if rows else None

    def _at_work(self) -> dict[str, list[int]]:
        """Return the numbers of the trials under way by owner; who holds the study may have none."""
        holder = self._holder()
        trials: dict[str, list[int]] = {} if holder is None else {holder: []}
        for owner, number in self._run(TRIALS):
            trials.setdefault(owner, []).append(number)
        return trials

    def _holder(self) -> str | None:
        rows = self._run("SELECT value, digest FROM study WHERE key = ?", (HOLDER,))
        return str(kept_value(self._path, HOLDER, *rows[0]).get("owner")) if rows else None


def _weak(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that does not keep its object alive: a store is closed when nobody has it any more."""
    reference = WeakMethod(method)

    def call(*args: P.args, **named: P.kwargs) -> R:
        bound = reference()
        if bound is None:
            raise ReferenceError("the store is gone")
        return bound(*args, **named)

    return call


def _holder(owner: str) -> tuple[Any, ...]:
    """Return the row of who runs the study alone."""
    return kept_row(HOLDER, {"owner": str(owner)})
