"""Reports of ended trials, which are parsed on first use: a study of 10,000 trials opens without parsing any."""

import json
from collections.abc import Sequence
from typing import overload

from tuneflow.errors import StoreError
from tuneflow.history.trial import Report


def _reports(text: str) -> tuple[Report, ...]:
    return tuple(Report(*row) for row in json.loads(text))


class LazyReports(Sequence[Report]):
    """The reports of an ended trial, parsed on first use from `text`, the JSON that the store keeps."""

    def __init__(self, text: str) -> None:
        self._text: str | None = text
        self._reports: tuple[Report, ...] = ()

    def _parsed(self) -> tuple[Report, ...]:
        if self._text is not None:
            try:
                self._reports = _reports(self._text)
            except (TypeError, ValueError) as error:  # of a changed byte
                raise StoreError(f"its reports cannot be read ({error}), so the study's file is damaged.") from error
            self._text = None
        return self._reports

    @staticmethod
    def text_of(reports: Sequence[Report]) -> str:
        """Return reports as the text that this class reads."""
        return json.dumps([[r.epoch, r.metrics, r.errors, r.seconds, r.at, r.worker] for r in reports])

    def __len__(self) -> int:
        return len(self._parsed())

    @overload
    def __getitem__(self, index: int) -> Report: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, index: int | slice) -> Report | tuple[Report, ...]:
        return self._parsed()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._parsed() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._parsed())
