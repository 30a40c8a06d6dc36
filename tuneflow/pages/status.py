"""Status: one line on a run under way, as long as there is room for."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tuneflow.analysis.score_text import printable
from tuneflow.errors import plural
from tuneflow.pages.times import rounded_duration

SOON = 1.0  # seconds of a run from which on the rest is estimated
SLOW = 60.0  # seconds per epoch from which on times of the clock are shown, as the line may be old when it is read


@dataclass(frozen=True)
class Status:
    """The parts of a status line, the first ones first; each may be empty.

    Attributes:
        done: trials that ended, of how many: `12/32`.
        best: the best score so far: `best 0.956 +- 0.011`.
        holder: whose it is: `(trial 9)`.
        training: what is under way: `training 12: epoch 7/10`.
        score: its last score: `accuracy 0.93`.
        epochs: epochs trained, of how many: `41 of 320 epochs`.
        left: the time to come: `about 2 min left`.
        share: how much of the run is done, from 0 to 1; 0 where that is not known.
    """

    done: str
    best: str = ""
    holder: str = ""
    training: str = ""
    score: str = ""
    epochs: str = ""
    left: str = ""
    share: float = 0.0

    def __str__(self) -> str:
        best = " ".join(filter(None, [self.best, self.holder]))
        training = ", ".join(filter(None, [self.training, self.score]))
        return printable("  ".join(filter(None, [self.done, best, training, self.epochs, self.left])))

    def fitted(self, width: int) -> str:
        """Return the line in at most `width` characters: without what matters least, and cut where that is too long."""
        lines = (str(status) for status in self._shorter())
        line = next((line for line in lines if len(line) <= width), f"{self.done}  {self.left}".rstrip())
        return line[: max(0, width)]

    def _shorter(self) -> Iterator["Status"]:
        """Yield the status as it is, and with ever less in it."""
        yield self
        yield (shorter := replace(self, epochs=""))
        yield (shorter := replace(shorter, holder=""))
        yield (shorter := replace(shorter, score=""))
        yield replace(shorter, training="")


class Followed(Protocol):
    """Something under way whose status can be shown."""

    def status(self) -> Status:
        """Return the status as it is now."""

    def outcome(self) -> Any:
        """Return something that a notebook can show, once it is over."""


@dataclass(frozen=True)
class TimeLeft:
    """The epochs that were trained, and the time that the others will take.

    Attributes:
        trained: number of epochs since the start.
        left: number of epochs to come; NaN where it is not known.
        seconds: wall-clock time of these epochs.
        budget: seconds until the end in any case; inf for no limit.
        earlier: True if the end may come before all that.
    """

    trained: int
    left: float
    seconds: float
    budget: float = math.inf
    earlier: bool = False

    @property
    def slow(self) -> bool:
        """True if an epoch takes so long, or may do so, that the line is old when it is read."""
        return self.trained == 0 or self.seconds > SLOW * self.trained

    @property
    def words(self) -> str:
        """The time to come; empty before it can be estimated, or where nothing limits the run."""
        estimated = self.trained > 0 and self.left == self.left and self.seconds >= SOON
        seconds = min(self.left * self.seconds / self.trained if estimated else math.inf, self.budget)
        if not math.isfinite(seconds):
            return ""
        exact = seconds == self.budget
        if self.slow:
            return f"ends {'by' if self.earlier else 'at' if exact else 'about'} {_clock(seconds)}"
        return f"{'at most ' if self.earlier else '' if exact else 'about '}{rounded_duration(seconds)} left"


def epochs_text(trained: int, left: float, estimated: bool = False) -> str:
    """Return the number of epochs that were trained, of how many; empty without any."""
    if not math.isfinite(left):
        return plural(trained, "epoch") if trained else ""
    whole = trained + left
    if not whole:
        return ""
    return f"{trained} of {'about ' if estimated else ''}{plural(round(whole), 'epoch')}"


def _clock(seconds: float) -> str:
    at = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if seconds < 12 * 3600 else "%a %H:%M", at)
