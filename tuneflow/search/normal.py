"""The normal distribution for arrays; scipy.special takes a sixth of a second to import, so it is when it is used."""

from typing import Any


def ndtr(at: Any) -> Any:
    """The share of a standard normal variable that lies below `at`."""
    from scipy import special

    return special.ndtr(at)


def ndtri(share: Any) -> Any:
    """The inverse of `ndtr`."""
    from scipy import special

    return special.ndtri(share)
