"""Digests of tensors, by which one trained module is told from another."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def tensor_digest(named: Iterable[tuple[str, Tensor]], facts: str = "") -> str:
    """Return a short hash of names, dtypes, shapes and values, and of `facts` before them."""
    sha = hashlib.sha256(facts.encode())
    for name, tensor in named:
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(np.ascontiguousarray(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()).data)
    return sha.hexdigest()[:16]
