"""The status of trainings under fresh seeds, which are no trials of the study."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tuneflow.errors import plural
from tuneflow.execute.executor import Event, Reported
from tuneflow.markup.fragment import fragment
from tuneflow.pages.status import Status, TimeLeft, epochs_text


@dataclass
class TrainingsStatus:
    """The trainings that are over, and the epochs so far.

    Attributes:
        total: number of trainings.
        epochs: number of epochs of all of them.
    """

    total: int
    epochs: int
    ended: int = 0
    trained: int = 0
    began: float = field(default_factory=time.monotonic)  # the first epoch did

    def count(self, events: Iterable[Event]) -> None:
        """Take in what an executor reports."""
        for event in events:
            if isinstance(event, Reported) and not self.trained:
                self.began = time.monotonic() - event.report.seconds
            self.trained += isinstance(event, Reported)
            self.ended += not isinstance(event, Reported)

    def status(self) -> Status:
        """Return the status as it is now."""
        left = max(0, self.epochs - self.trained)
        time_left = TimeLeft(self.trained, left, time.monotonic() - self.began).words
        done, share = f"{self.ended}/{self.total} trainings", self.trained / max(1, self.epochs)
        return Status(done, epochs=epochs_text(self.trained, left), left=time_left, share=share)

    def outcome(self) -> "TrainingsStatus":
        """Return itself, which a notebook shows as a line."""
        return self

    def __repr__(self) -> str:
        return f"{self.ended} of {plural(self.total, 'training')}"

    def _repr_html_(self) -> str:
        return fragment(repr(self))
