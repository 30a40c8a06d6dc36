"""Parts of a trainer in words that tell apart what scores depend on: names, plain settings, and digests of tensors."""

import hashlib
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.signature import name_of

DEEPEST = 4  # parts within parts that are looked at
LONGEST = 300  # characters; what is longer is told apart by a digest


def description_of(part: Any) -> str:
    """Return a loss, metric or augmentation in words, the same in every process.

    Functions and classes are told apart by their names, objects by their class and public plain settings, modules by
    their tensors too.
    """
    text = _words(part, 0)
    return text if len(text) <= LONGEST else f"{name_of(part)}(digest {_digest(text.encode())})"


def _words(value: Any, depth: int) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Tensor | np.ndarray):
        return _tensor_words(torch.as_tensor(value))
    if isinstance(value, partial):
        inner = ", ".join([*(_words(part, depth + 1) for part in value.args), *_settings(value.keywords, depth)])
        return f"{_words(value.func, depth + 1)}({inner})"
    if inspect.isroutine(value) or inspect.isclass(value):
        return name_of(value)
    if depth == DEEPEST:
        return type(value).__name__
    if isinstance(value, Mapping):
        return f"{{{', '.join(_settings(value, depth))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_words(part, depth + 1) for part in value)}]"
    return f"{type(value).__name__}({', '.join(_settings(_facts_of(value), depth))})"


def _settings(settings: Mapping[Any, Any], depth: int) -> list[str]:
    return [f"{name}={_words(value, depth + 1)}" for name, value in settings.items()]


def _facts_of(value: Any) -> dict[str, Any]:
    """Return the public attributes of an object; of a module also its own tensors and the modules in it."""
    facts = {name: fact for name, fact in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    if isinstance(value, nn.Module):
        del facts["training"]
        tensors = [*value.named_parameters(recurse=False), *value.named_buffers(recurse=False)]
        facts |= {**dict(tensors), **dict(value.named_children())}
    return facts


def _tensor_words(tensor: Tensor) -> str:
    plain = tensor.detach().cpu()
    if plain.numel() <= 4:
        return str(plain.tolist())
    shape = "x".join(map(str, plain.shape))
    return f"{shape} {_digest(np.ascontiguousarray(plain.reshape(-1).view(torch.uint8).numpy()).data)}"


def _digest(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
