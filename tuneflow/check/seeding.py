"""The dry run of builders and loops that seed the global generators, so that every seed gives the same weights."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tuneflow.nested import leaves
from tuneflow.train.job import Job
from tuneflow.train.loop import Loop
from tuneflow.train.loop_run import Built

GENERATORS = ("torch", "NumPy", "Python")


def seeded_by_builder(build: Callable[[], nn.Module], job: Job) -> str:
    """Return the name of the generators that a builder seeds by itself; empty if it seeds none of any effect.

    It is called under two seeds. A builder that seeds leaves a generator in the same state after both, and the same
    weights; one that makes constant or trained weights leaves it as it was, or further on.

    Args:
        build: makes a new module.
        job: gives the two seeds.
    """
    return _same_generators(*(_built(build, job, purpose) for purpose in ("seeds", "other seeds")))


def seeded_by_loop(loop: Loop, job: Job) -> str:
    """Return the name of the generators that a loop seeds before its first pass, as `seeded_by_builder` does."""
    return _same_generators(*(_built_by_loop(loop, replace(job, seed=job.seed + more)) for more in (0, 1)))


Made = tuple[list[torch.Tensor], tuple[Any, ...]]  # what was built, and the states of the generators after that


def _same_generators(one: Made, other: Made) -> str:
    same = [name for name, a, b in zip(GENERATORS, one[1], other[1], strict=True) if a == b]
    return " and ".join(same) if same and _alike(one[0], other[0]) else ""


def _built(build: Callable[[], nn.Module], job: Job, purpose: str) -> Made:
    with job.at_work(purpose, 0):
        module = build()
        states = _comparable(torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    return [p.detach() for p in module.parameters() if not is_lazy(p)], states


def _built_by_loop(loop: Loop, job: Job) -> Made:
    passes = loop.passes(job, None, only_build=True)
    try:
        passes.next()
    except Built as built:
        return leaves(built.named.values()["state"]), _comparable(*built.generators)
    finally:
        passes.close()
    return [], (0, 0, 0)


def _comparable(torchs: torch.Tensor, numpys: Any, pythons: Any) -> tuple[Any, ...]:
    return torchs.tolist(), (numpys[1].tolist(), numpys[2:]), pythons


def _alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    varied = any(p.numel() > 1 and p.is_floating_point() and bool((p != p.flatten()[0]).any()) for p in one)
    return varied and len(one) == len(other) and all(map(torch.equal, one, other))
