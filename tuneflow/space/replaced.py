"""Replaced parameters: a search space with other parameters in the place of some."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuneflow.errors import listed
from tuneflow.space.nodes import Call, Section
from tuneflow.space.parameters import Choice, Parameter
from tuneflow.space.search_space import SearchSpace


def with_parameters(space: SearchSpace, parameters: Mapping[str, Parameter]) -> SearchSpace:
    """Return a space with other parameters under some of its names; constraints and objects are the same.

    Args:
        space: not changed.
        parameters: dotted name to parameter.

    Raises:
        ValueError: the space has no parameter of such a name.

    Example:
        >>> from tuneflow.space.parameters import Constant, Float
        >>> space = SearchSpace(optimizer={"lr": Float(0.0, 1.0), "momentum": Float(0.0, 0.9)})
        >>> with_parameters(space, {"optimizer.momentum": Constant(0.5)})
        SearchSpace(
          optimizer.lr  Float(0.0, 1.0)
        )
    """
    unknown = [name for name in parameters if name not in space.parameters]
    if unknown:
        raise ValueError(f"the space has no parameter {listed(unknown)}; it has {listed(space.parameters)}.")
    entries = {name: _replaced(entry, name, parameters) for name, entry in space.entries.items()}
    return SearchSpace(where=list(space.where), **entries)


def _replaced(entry: Any, name: str, parameters: Mapping[str, Parameter]) -> Any:
    """Return an entry of a space, with the dotted name `name`, in which the parameters are replaced."""
    if name in parameters:
        return parameters[name]
    if isinstance(entry, Mapping):
        return _within(entry, name, parameters)
    if isinstance(entry, Call):
        return Call(entry.function, _within(entry.arguments, name, parameters))
    if isinstance(entry, Section):
        return Section(_within(entry.entries, name, parameters))
    if isinstance(entry, Choice) and isinstance(entry.options, Mapping):
        return replace(entry, options=_within(entry.options, name, parameters))
    return entry


def _within(entries: Mapping[str, Any], name: str, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    return {key: _replaced(entry, f"{name}.{key}", parameters) for key, entry in entries.items()}
