"""Wrapper: a searcher in front of another."""

from typing import Any

from tuneflow.history.history import History
from tuneflow.search.searcher import Searcher
from tuneflow.space.search_space import SearchSpace


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
    def repeats(self) -> bool:  # type: ignore[override]
        return self.then.repeats

    @property
    def notice(self) -> str:
        return self.then.notice

    def ranked(self, space: SearchSpace, history: History) -> list[int]:
        return self.then.ranked(space, history)
