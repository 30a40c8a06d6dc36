"""The changes of a search space since its study was made, in words: `optimizer.lr: low was 0.001, now 0.0001`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuneflow.errors import listed
from tuneflow.space.stored_space import entries_from_json

LONG = 400  # characters of two values, from which on only their differences are shown
PARTS = {"space": "entries", "call": "arguments", "choice": "labels"}  # kind to the key of its inner nodes


def space_changes(name: str, before: Any, now: Any) -> Iterator[str]:
    """Yield the changes between two spaces, or parts of spaces, parameter by parameter.

    Args:
        name: the dotted name of the part; empty for a whole space.
        before: as `SearchSpace.to_json` returned it.
        now: the same of today.
    """
    kinds = {part["kind"] for part in (before, now)}
    if len(kinds) > 1:
        yield f"{name} was {in_words(before)}, now {in_words(now)}"
        return
    inner = PARTS.get(kinds.pop(), "")
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if key == inner and isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _inner_changes(name, old, new)
        elif old != new:
            yield f"{f'{name}: ' if name else ''}{key} {_change(old, new)}"


def in_words(part: Mapping[str, Any]) -> str:
    """Return a part of a space as it is written: `Float(0.0, 1.0)`; a section by the names in it."""
    if part["kind"] == "space":
        return f"a section of {listed(part['entries'])}"
    return repr(entries_from_json({"part": part})["part"])


def list_change(before: list[Any], now: list[Any]) -> str:
    """Return the elements that a list lost and those that it got, in words."""
    old, new = ({json.dumps(value): repr(value) for value in values} for values in (before, now))
    gone, come = listed(old[key] for key in old if key not in new), listed(new[key] for key in new if key not in old)
    return f"without {gone}, with {come}"


def _inner_changes(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in {**before, **now}:
        dotted = f"{name}.{key}" if name else key
        if key not in now:
            yield f"{dotted} is gone, was {in_words(before[key])}"
        elif key not in before:
            yield f"{dotted} is new, {in_words(now[key])}"
        elif before[key] != now[key]:
            yield from space_changes(dotted, before[key], now[key])


def _change(before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list) and len(repr((before, now))) > LONG:
        return f"is another list: {list_change(before, now)}"
    return f"was {before!r}, now {now!r}"
