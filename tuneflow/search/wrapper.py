"""Wrapper: a searcher in front of another, and a history whose numbers start later for the other."""

from typing import Any, cast

from tuneflow.history.history import History
from tuneflow.search.searcher import Searcher
from tuneflow.space.search_space import SearchSpace


class _ShiftedHistory:
    def __init__(self, history: History, first: int) -> None:
        self._history, self.number = history, history.number - first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)


def shifted(history: History, first: int) -> History:
    """Return `history` with trial numbers counted from `first` on, for searchers that count, as a grid does."""
    return cast(History, _ShiftedHistory(history, first))


class Wrapper(Searcher):
    """A searcher in front of another, which proposes every trial that this one leaves to it.

    Args:
        then: the searcher behind.

    Raises:
        TypeError: `then` is not a searcher.
    """

    def __init__(self, then: Any) -> None:
        if not isinstance(then, Searcher):
            hint = " (an instance: add parentheses)" if isinstance(then, type) else ""
            raise TypeError(f"{type(self).__name__}: then needs to be a searcher, got {then!r}{hint}.")
        self.then: Searcher = then

    @property
    def ends(self) -> bool:  # type: ignore[override]
        return self.then.ends

    @property
    def notice(self) -> str:
        return self.then.notice

    def ranked(self, space: SearchSpace, history: History) -> list[int]:
        return self.then.ranked(space, history)
