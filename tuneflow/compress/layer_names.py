"""Names of layers, as the argument `only` of a step takes them."""

from collections.abc import Sequence
from typing import Any


def check_names(step: str, only: Any) -> None:
    """Raise TypeError unless `only` is a sequence of names, or None; ValueError if it is empty.

    Args:
        step: the step's name, for the message.
        only: its argument.
    """
    names = isinstance(only, Sequence) and not isinstance(only, str) and all(isinstance(name, str) for name in only)
    if only is not None and not names:
        raise TypeError(
            f'{step}: only needs to be a list of names of layers, such as ["0", "conv.3"], got {only!r};'
            ' in a space, tn.Choice([["0"]]) is one that holds such a list.'
        )
    if only is not None and not only:
        raise ValueError(f"{step}: only needs at least one name; None is for all layers that can be changed.")
