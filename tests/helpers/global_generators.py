"""What a test asks of code that may not draw from the global generators."""

import random
from contextlib import contextmanager

import numpy as np
import torch


def drawn_next():
    """What the three global generators would give next; drawing leaves them as they were."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    drawn = torch.rand(3).tolist(), random.random(), np.random.random(3).tolist()  # noqa: NPY002
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002
    return drawn


@contextmanager
def generators_untouched():
    """Fails unless torch's, Python's and NumPy's global generators are left as they were."""
    before = drawn_next()
    yield
    assert drawn_next() == before
