"""After: a history whose numbers begin later, for a searcher that stands behind another."""

from typing import Any, cast

from tuneflow.search.searcher import Searcher
from tuneflow.trial import History


class _After:
    def __init__(self, history: History, first: int) -> None:
        self._history, self.number = history, history.number - first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)


def after(history: History, first: int) -> History:
    """`history` for a searcher that counts, as a grid does, where `first` trials were another's."""
    return cast(History, _After(history, first))


def behind(who: str, then: Any) -> Searcher:
    """`then`, or a TypeError where it is no searcher."""
    if not isinstance(then, Searcher):
        hint = " (an instance: add parentheses)" if isinstance(then, type) else ""
        raise TypeError(f"{who}: then needs to be a searcher, got {then!r}{hint}.")
    return then
