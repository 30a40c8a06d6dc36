"""Brought weights: those that a model's builder does not draw, such as pretrained ones, as a digest."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.model import Model
from tuneflow.seeds import seeded_globals
from tuneflow.space.search_space import Config, SearchSpace

MOST = 8  # sections `model` that are built


def weights_digest(model: Model, space: SearchSpace, configs: Iterable[Config] | None = None) -> str | None:
    """Return a short hash of the parameters that a builder brings along; None where it draws them all.

    Those are the parameters that two builds under other seeds have in common, apart from constant ones, such as biases
    of 0. Each is hashed once. A builder that seeds torch's generator by itself brings all of them along. A winner has
    a digest of its own.

    Args:
        model: is built twice for each of the first eight different sections `model` in `configs`.
        space: the study's.
        configs: configurations of it; by default its examples.
    """
    sha, brought = hashlib.sha256(), False
    if model.winner is not None:
        return None
    for config in _different(space, space.examples() if configs is None else configs):
        for name, tensor in _in_common(model, config):
            brought = True
            sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(np.ascontiguousarray(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()).data)
    return sha.hexdigest()[:16] if brought else None


def _different(space: SearchSpace, configs: Iterable[Config]) -> list[Config]:
    """Return one resolved configuration for each section `model` among them, as far as it shapes weights."""
    resolved = {repr(config.get("model")): space.resolve(config) for config in configs}
    return list(resolved.values())[:MOST]


def _in_common(model: Model, config: Config) -> Iterator[tuple[str, Tensor]]:
    try:
        one, other = (_built(model, config, seed) for seed in (0, 1))
    except Exception:  # the dry run has the words for it
        return
    drawn = dict(other.named_parameters())
    for name, tensor in one.named_parameters():
        twin = drawn.get(name)
        if twin is None or not _has_values(tensor) or tensor.shape != twin.shape:
            continue
        if torch.equal(tensor, twin) and not bool((tensor == tensor.flatten()[:1]).all()):
            yield name, tensor


def _built(model: Model, config: Config, seed: int) -> nn.Module:
    with seeded_globals(seed, "brought weights"):
        return model.build(config)


def _has_values(tensor: Tensor) -> bool:
    if is_lazy(tensor) or tensor.is_meta or tensor.layout is not torch.strided:
        return False
    return tensor.numel() > 0
