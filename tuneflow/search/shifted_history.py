"""A history whose numbers start later, for a searcher behind another."""

from typing import Any, cast

from tuneflow.history.history import History


class _ShiftedHistory:
    def __init__(self, history: History, first: int) -> None:
        self._history, self.number = history, history.number - first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)


def shifted(history: History, first: int) -> History:
    """Return `history` with trial numbers counted from `first` on, for searchers that count, as a grid does."""
    return cast(History, _ShiftedHistory(history, first))
