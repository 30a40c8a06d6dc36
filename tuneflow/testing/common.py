"""Tools of every check: a condition with a message, and a guard of the global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def untouched(what: str) -> Iterator[None]:
    """A block that raises AssertionError if the global generators changed within it."""

    def states() -> list[Any]:
        legacy = [np.asarray(part).tobytes() for part in np.random.get_state()]  # noqa: NPY002
        return [torch.get_rng_state().numpy().tobytes(), random.getstate(), legacy]

    before = states()
    yield
    for name, one, other in zip(("torch", "random", "numpy.random"), before, states(), strict=True):
        require(one == other, what, f"the global generator of {name} was used or changed")


def require(condition: bool, what: str, message: str) -> None:
    """Raise AssertionError with `what` and `message` unless the condition holds."""
    if not condition:
        raise AssertionError(f"{what}: {message}")
