"""The dry run of builders that seed the global generators, so that every seed of a study gives the same weights."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tuneflow.train.job import Job

GENERATORS = ("torch", "NumPy", "Python")


def seeded_by_builder(build: Callable[[], nn.Module], job: Job) -> str:
    """Return the name of the generators that a builder seeds by itself; empty if it seeds none of any effect.

    It is called under two seeds. A builder that seeds leaves a generator in the same state after both, and the same
    weights; one that makes constant or trained weights leaves it as it was, or further on.

    Args:
        build: makes a new module.
        job: gives the two seeds.
    """
    (one, first), (other, second) = (_built(build, job, purpose) for purpose in ("seeds", "other seeds"))
    same = [name for name, a, b in zip(GENERATORS, first, second, strict=True) if a == b]
    return " and ".join(same) if same and _alike(one, other) else ""


def _built(build: Callable[[], nn.Module], job: Job, purpose: str) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
    with job.at_work(purpose, 0):
        module = build()
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        states = torch.get_rng_state().tolist(), (numpy_state[1].tolist(), numpy_state[2:]), random.getstate()
    return [p.detach() for p in module.parameters() if not is_lazy(p)], states


def _alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    varied = any(p.numel() > 1 and bool((p != p.flatten()[0]).any()) for p in one)
    return varied and len(one) == len(other) and all(map(torch.equal, one, other))
