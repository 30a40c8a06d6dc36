"""Sightings: for how long the owners that run elsewhere have shown no sign of life, as this process has seen.

Clocks of other machines have no part in it, nor has this one's time of day: what counts is for how long a number in the
store has not changed while this process looked. So nothing is known of an owner that was not watched.
"""

import time
from dataclasses import dataclass, replace

BEAT = 5.0  # seconds between the beats of an owner
DEAD = 12  # beats without a change after which an owner is taken for dead


@dataclass(frozen=True)
class Sighting:
    """An owner as it was seen last.

    Attributes:
        beat: the number of its beats; None where it had not begun.
        looked: when, on time.monotonic()'s clock.
        silent: seconds for which it has not changed.
        heard: True if it has changed while this process watched.
    """

    beat: int | None
    looked: float
    silent: float = 0.0
    heard: bool = False

    @property
    def dead(self) -> bool:
        """True after so many beats without a change."""
        return self.silent > DEAD * BEAT


_seen: dict[tuple[str, str], Sighting] = {}  # by the path of the store and the owner


def sighting(path: str, owner: str, beat: int | None) -> Sighting:
    """Enter the number of an owner's beats, as it is now in the store at `path`, and return what is known of it.

    A look counts for two beats at most, however long ago the one before was: both machines may have slept.
    """
    now, before = time.monotonic(), _seen.get((path, owner))
    if before is None:
        one = Sighting(beat, now)
    elif before.beat != beat:
        one = Sighting(beat, now, heard=True)
    else:
        one = replace(before, looked=now, silent=before.silent + min(now - before.looked, 2 * BEAT))
    _seen[path, owner] = one
    return one
