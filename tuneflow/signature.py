"""Signatures: the keyword arguments that a callable takes, and messages for those that it does not."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from tuneflow.errors import did_you_mean, listed

P = ParamSpec("P")
R = TypeVar("R")


def name_of(function: Callable[..., Any]) -> str:
    """Return a readable name of any callable, partials and instances included."""
    inner = getattr(function, "func", function)
    whole = getattr(inner, "__qualname__", type(inner).__qualname__).replace("<locals>.", "")
    return str(whole).removesuffix(".__init__").split(".")[-1]


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of `function`, or None for a builtin without a signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None


def check_keywords(
    function: Callable[..., Any],
    names: Iterable[str],
    where: str,
    given: int = 0,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise TypeError unless `function` takes every one of `names` by keyword.

    Args:
        function: the callable.
        names: the keywords.
        where: opens the message, such as `space section "model"`.
        given: number of leading positional arguments that the library passes itself, such as an optimizer's
            parameters; those cannot be named.
        elsewhere: names that belong to something else, with what to write there.
    """
    parameters = parameters_of(function)
    if parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    free = [p.name for p in parameters[given:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in names:
        if name not in free:
            near = f" Write {elsewhere[name]}." if name in elsewhere else did_you_mean(name, free)
            raise TypeError(f'{where}: {name_of(function)} takes no argument "{name}".{near} It takes {listed(free)}.')


def check_complete(function: Callable[..., Any], names: Collection[str], where: str, given: int = 0) -> None:
    """Raise TypeError when a call of `function` with `names` would lack a required argument."""
    parameters = parameters_of(function)
    if parameters is None:
        return
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p.name for p in parameters[given:] if p.default is p.empty and p.kind not in variadic]
    missing = [name for name in required if name not in names]
    if missing:
        raise TypeError(
            f"{where}: {name_of(function)} also needs {listed(missing)}; add it to the space, give it a"
            " default, or fix it with functools.partial."
        )


def hinting(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with a hint at its closest parameter when a keyword is unknown."""
    return hinting_at({})(function)


def hinting_at(elsewhere: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator like `hinting`, with hints at what takes the keywords of `elsewhere`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        where = "tn." + function.__qualname__.removesuffix(".__init__")
        first = "self" in inspect.signature(function).parameters

        @wraps(function)
        def checked(*args: P.args, **given: P.kwargs) -> R:
            check_keywords(function, given, where, first, elsewhere)
            return function(*args, **given)

        return checked

    return decorate
