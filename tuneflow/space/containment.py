"""Containment: whether a parameter still has every value of an earlier one, with the same meaning."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tuneflow.space.parameters import Choice, Constant, Parameter, Range, Value
from tuneflow.space.values import key_of, stepped


def contains(now: Parameter, before: Parameter) -> bool:
    """True if every value of `before` is one of `now`, and what is passed on for it is the same.

    The objects behind the labels of a Choice are not compared.

    Args:
        now: a parameter.
        before: an earlier one of the same name.
    """
    if now.to_json() == before.to_json():
        return True
    if isinstance(before, Constant):
        return _plain(now) and _takes(now, [before.value])
    if isinstance(before, Choice):
        return _contains_options(now, before)
    return isinstance(before, Range) and isinstance(now, Range) and _contains_range(now, before)


def _plain(parameter: Parameter) -> bool:
    """True if what is stored is what is passed on."""
    return isinstance(parameter, Range) or (
        isinstance(parameter, Choice) and not isinstance(parameter.options, Mapping)
    )


def _contains_options(now: Parameter, before: Choice) -> bool:
    if isinstance(now, Range):
        return _plain(before) and _takes(now, before.values)
    if not isinstance(now, Choice) or _plain(now) != _plain(before):
        return False
    keys = list(map(key_of, before.values)), list(map(key_of, now.values))
    return set(keys[0]) <= set(keys[1]) if not _plain(now) else _in_order(*keys)


def _in_order(keys: Sequence[str], among: Iterable[str]) -> bool:
    """True if all `keys` are among others, in their order."""
    rest = iter(among)
    return all(key in rest for key in keys)


def _contains_range(now: Range, before: Range) -> bool:
    if type(now) is not type(before):
        return False
    if math.isinf(before.levels):
        return now.step is None and now.low <= before.low and before.high <= now.high
    second = [stepped(before.low, 1, before.step or 1)] if before.levels > 1 else []
    return _takes(now, [before.low, *second, before.high])  # a lattice lies in another where its first two points do


def _takes(parameter: Parameter, values: Iterable[Value]) -> bool:
    try:
        return all(key_of(parameter.cast(value)) == key_of(value) for value in values)
    except ValueError:
        return False
