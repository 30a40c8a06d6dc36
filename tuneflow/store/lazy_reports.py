"""Reports of a trial that ended, as they are stored: unpacked when they are first looked at."""

import json
from collections.abc import Sequence
from typing import overload

from tuneflow.history.trial import Report


class Packed(Sequence[Report]):
    """The reports of a trial that ended, unpacked when they are first looked at."""

    def __init__(self, text: str) -> None:
        self._text: str | None = text
        self._reports: tuple[Report, ...] = ()

    def _unpacked(self) -> tuple[Report, ...]:
        if self._text is not None:
            rows = json.loads(self._text)
            self._reports = tuple(Report(epoch, metrics, errors, seconds) for epoch, metrics, errors, seconds in rows)
            self._text = None
        return self._reports

    def __len__(self) -> int:
        return len(self._unpacked())

    @overload
    def __getitem__(self, place: int) -> Report: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, place: int | slice) -> Report | tuple[Report, ...]:
        return self._unpacked()[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._unpacked() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._unpacked())
