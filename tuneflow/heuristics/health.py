"""Health: gradients, update sizes, and saturated or dead units, layer by layer, before training."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.heuristics.lanczos import Closure, gradient
from tuneflow.heuristics.unchanged import unchanged

EDGE = 0.97  # of the range: beyond it a unit counts as saturated, a tanh's slope below 0.06
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardswish)  # exactly 0 on one side
Ranges = Mapping[type[nn.Module], tuple[float, float]]  # lowest and highest output of an activation, by class
RANGES: Ranges = {nn.Tanh: (-1, 1), nn.Softsign: (-1, 1), nn.Sigmoid: (0, 1), nn.Hardsigmoid: (0, 1)}
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer itself, without its children.

    Attributes:
        name: as in `module.named_modules()`; empty for the module itself.
        gradient: Euclidean norm of their gradient.
        weight: Euclidean norm of their values.
        ratio: norm of one SGD step relative to `weight`; inf for weights that are all 0.
    """

    name: str
    gradient: float
    weight: float
    ratio: float


@dataclass(frozen=True)
class Units:
    """The outputs of one call of an activation.

    Attributes:
        name: as in `module.named_modules()`, with "#2" for the second call of the same module.
        units: number of units; a channel is one unit, whatever the number of its pixels.
        saturated: share of units beyond 0.97 of their range on most rows; None where the range has no ends.
        dead: share of units that are 0 on every row; None for activations that are not rectifiers.
    """

    name: str
    units: int
    saturated: float | None
    dead: float | None


@dataclass(frozen=True)
class Health:
    """The result of `health`, on one batch.

    Attributes:
        loss: of the batch.
        prior: the loss of a model that knows only the class frequencies, as the caller gave it.
        weights: for each layer that has parameters of its own, in the module's order.
        units: for each call of a saturating activation or a rectifier, in the order they ran.
    """

    loss: float
    prior: float | None
    weights: tuple[Weights, ...]
    units: tuple[Units, ...]

    @property
    def excess(self) -> float | None:
        """Loss above the prior's, in nats; near 0 for a good initialization, far above it for a too confident one."""
        return None if self.prior is None else self.loss - self.prior


def health(
    module: nn.Module,
    loss_of: Closure,
    batch: Any,
    rate: float,
    prior: float | None = None,
    ranges: Ranges | None = None,
    seed: int = 0,
) -> Health:
    """Inspect one forward and backward pass; module, buffers and `.grad` are restored to the bit.

    Activations are seen where they are modules, not where they are function calls inside a forward. A unit is a channel
    after a convolution or its norm, else an element of the last dimension.

    Args:
        module: the module, in the mode that it should run in.
        loss_of: maps a batch to its scalar loss, by way of `module`.
        batch: one mini-batch.
        rate: learning rate of the step whose relative size is returned.
        prior: loss of the best constant output, such as the entropy of the class frequencies, in nats.
        ranges: lowest and highest output of further activations that saturate, by class.
        seed: of the global generators, that is, of dropout.

    Raises:
        ValueError: no parameter requires a gradient, or the loss is not a scalar with a graph.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
        >>> _ = net[0].weight.data.fill_(1.0), net[0].bias.data.copy_(torch.tensor([0.0, -9.0]))
        >>> seen = health(net, lambda x: net(x).sum(), torch.ones(4, 1), rate=0.1)
        >>> seen.units
        (Units(name='1', units=2, saturated=None, dead=0.5),)

    Source: saturation: Glorot, Bengio, AISTATS 2010; initial loss: Karpathy, A Recipe for Training Neural Networks,
    2019.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("health needs a module with parameters that require gradients, got none.")
    seen: list[Units] = []
    losses: list[Tensor] = []

    def noted(rows: Any) -> Tensor:
        loss = loss_of(rows)
        losses.append(loss.detach())
        return loss

    with unchanged(module), _watched(module, {**RANGES, **(ranges or {})}, seen):
        slopes = gradient(noted, parameters, batch, seed, "health")
    return Health(float(losses[0]), prior, _weights(module, dict(zip(map(id, parameters), slopes)), rate), tuple(seen))


def _weights(module: nn.Module, slopes: Mapping[int, Tensor], rate: float) -> tuple[Weights, ...]:
    weights = []
    for name, layer in module.named_modules():
        own = [p for p in layer.parameters(recurse=False) if id(p) in slopes]
        if own:
            slope, weight = _norm([slopes[id(p)] for p in own]), _norm(own)
            weights.append(Weights(name, slope, weight, rate * slope / weight if weight else math.inf))
    return tuple(weights)


def _norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


@contextmanager
def _watched(module: nn.Module, ranges: Ranges, seen: list[Units]) -> Iterator[None]:
    """A block within which the outputs of activations are recorded in `seen`."""
    names = {layer: name for name, layer in module.named_modules()}
    calls: Counter[nn.Module] = Counter()
    channels = [-1]  # where the units of the latest layer's outputs are

    def note(layer: nn.Module, _: Any, outputs: Any) -> None:
        if isinstance(layer, CHANNELS_FIRST + CHANNELS_LAST):
            channels[0] = 1 if isinstance(layer, CHANNELS_FIRST) else -1
        if isinstance(outputs, Tensor) and (type(layer) in ranges or isinstance(layer, RECTIFIERS)):
            calls[layer] += 1
            name = names[layer] + (f"#{calls[layer]}" if calls[layer] > 1 else "")
            seen.append(_units(name, _by_unit(outputs.detach(), channels[0]), ranges.get(type(layer))))

    with ExitStack() as hooks:
        for layer in names:
            if isinstance(layer, torch.jit.ScriptModule):
                continue  # it takes no hooks
            hooks.enter_context(layer.register_forward_hook(note))
        yield


def _by_unit(outputs: Tensor, dimension: int) -> Tensor:
    """Return outputs as shape (rows and positions, units)."""
    return outputs.reshape(-1, 1) if outputs.ndim < 2 else outputs.movedim(dimension, -1).flatten(0, -2)


def _units(name: str, outputs: Tensor, ends: tuple[float, float] | None) -> Units:
    """Summarize outputs of shape (rows and positions, units)."""
    if ends is None:
        return Units(name, outputs.shape[1], None, float((outputs == 0).all(0).float().mean()))
    low, high = ends
    off = (outputs - (low + high) / 2).abs() / ((high - low) / 2)
    return Units(name, outputs.shape[1], float(((off > EDGE).float().mean(0) > 0.5).float().mean()), None)
