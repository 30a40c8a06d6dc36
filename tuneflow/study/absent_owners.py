"""Absent owners: what a study waits for while a process on another machine may be alive, and the way out."""

import time
from collections.abc import Iterator

from tuneflow.errors import StudyError, listed, warn
from tuneflow.store import sightings
from tuneflow.store.ownership import RemoteOwner
from tuneflow.store.store import Store

LOOK = 0.1  # beats between two looks at who runs a study alone
ALONE = "with lag= only one may at a time, and only one may extend it"


def waiting_lines(store: Store) -> Iterator[str]:
    """Yield a line for each owner elsewhere that has trials under way."""
    yield from (waiting_line(owner) for owner in store.waiting() if owner.trials)


def waiting_line(owner: RemoteOwner) -> str:
    """Return which trials wait for whom, and the way out."""
    several = len(owner.trials) > 1
    trials = f"trial{'s' if several else ''} {listed(map(str, owner.trials))} wait{'' if several else 's'}"
    return f"{trials} for {owner}; {owner.way_out}"


def wait_for_hold(store: Store) -> None:
    """Lock a study for this process; its owner is waited for while that may be dead.

    Raises:
        StudyError: another process runs the study.
    """
    warned = False
    while not store.hold():
        holder = next((owner for owner in store.waiting() if owner.holds), None)
        if holder is None or holder.beats:
            raise StudyError(_refusal(holder))
        if not warned:
            warn(f"this study waits for {holder}, as {ALONE}; {holder.way_out}.")
            warned = True
        time.sleep(LOOK * sightings.BEAT)


def _refusal(holder: RemoteOwner | None) -> str:
    """Return why a study cannot be run, with the way out if its owner is elsewhere."""
    if holder is None:
        return f"another process runs this study; {ALONE}."
    return f"another process runs this study; {ALONE}. It waits for {holder}; {holder.way_out}."
