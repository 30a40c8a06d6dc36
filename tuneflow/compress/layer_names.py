"""Names of layers, as the argument `only` of a step takes them."""

from collections.abc import Sequence
from typing import Any


def names_of(step: str, only: Any) -> tuple[str, ...]:
    """Return the names in `only`.

    Args:
        step: the step's name, for the message.
        only: a sequence of names.

    Raises:
        TypeError: it is none.
    """
    if isinstance(only, str) or not isinstance(only, Sequence) or not all(isinstance(name, str) for name in only):
        raise TypeError(
            f'{step}: only needs to be a list of names of layers, such as ["0", "features.3"], got {only!r}.'
        )
    return tuple(only)
