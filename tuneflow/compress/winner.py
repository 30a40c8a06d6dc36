"""Winners: trained modules that a Model makes copies of."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Operation
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.target_scaling import RescaledModule, Scale, brought_scale, completed


@dataclass(frozen=True, eq=False)
class Winner:
    """A trained module in its parts.

    Attributes:
        module: in float, without normalizer and scale, on the CPU, in evaluation mode.
        normalizer: stands before its inputs; None for raw inputs.
        scale: of its targets; None where it gives the targets' units.
        config: the configuration of its builder; empty where that is not known.
        labels: names in it that stand for objects.
        operations: steps that its builder's module has behind it.
        words: description for messages and repr.
    """

    module: nn.Module
    normalizer: nn.Module | None = None
    scale: Scale | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    operations: Sequence[Operation] = ()
    words: str = ""

    def copy(self) -> nn.Module:
        """Return a copy of the module, in training mode."""
        return copy.deepcopy(self.module).train()

    @property
    def complete(self) -> nn.Module:
        """The module with raw inputs, and outputs in the targets' units."""
        return completed(self.module, self.normalizer, self.scale)

    @property
    def digest(self) -> str:
        """Hash of names, shapes and values of all its tensors, normalizer and scale included."""
        sha, module = hashlib.sha256(), self.complete
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(_bytes_of(tensor))
        return sha.hexdigest()[:16]


def winner_of(module: nn.Module) -> Winner:
    """Return a trained module as a winner; a normalizer and a scale around it become parts of their own."""
    words, scale = type(module).__name__, brought_scale(module)
    normalizer: nn.Module | None = None
    if isinstance(module, RescaledModule):
        module = module.module
    if isinstance(module, NormalizedModule):
        normalizer, module = module.normalizer, module.module
    return Winner(module, normalizer, scale, words=words)


def _bytes_of(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()).data
