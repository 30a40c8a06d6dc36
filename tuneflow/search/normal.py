"""Normal and Student's distributions; scipy.special takes a sixth of a second to import, so it waits for first use."""

from typing import Any


def ndtr(at: Any) -> Any:
    """Cumulative distribution function of the standard normal at `at`."""
    from scipy import special

    return special.ndtr(at)


def ndtri(share: Any) -> Any:
    """The inverse of `ndtr`."""
    from scipy import special

    return special.ndtri(share)


def student_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t distribution with so many degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(freedom, share))
