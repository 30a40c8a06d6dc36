"""Lanes: K trials of one structure that take their optimizer steps together."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from tuneflow.data import Batch
from tuneflow.fused.look import Dropout, LossOf, attributes_of, look
from tuneflow.fused.optimizers import clip, restore, stacked
from tuneflow.fused.program import Program, Step, program
from tuneflow.fused.refused import Refused
from tuneflow.seeds import torch_stream

KINDS = ("stacked", "single", "eager")


class Lanes:
    """Trials of one structure, stacked along a first axis of length K, each with weights and settings of its own.

    A step of all lanes is what a step of each alone is, but for rounding: every lane has its own rows, its own
    optimizer settings and counter, its own clipping. A lane that is stopped, or whose loss is not finite, no longer
    moves and disturbs no other. The modules and optimizers are read when lanes are made and written by `unload`.

    Args:
        modules: one for each lane, alike in all but their tensors' values; in the mode they are trained in.
        loss_of: (module, batch) -> scalar.
        optimizers: each one of its module's parameters, as torch.optim.SGD(module.parameters(), lr=0.1); all of one
            class. Their state is taken over.
        kind: "stacked", one trace for all lanes; "single", a trace that is replayed for each; "eager", plain autograd.
        clips: the largest norm of each lane's gradient; None for no limit.
        seeds: of each lane's dropout, whose masks depend on (seed, step, layer) only.
        steps: how many steps each lane has taken, for those masks.

    Raises:
        Refused: modules or optimizers are not alike, or cannot be stacked; the reason is in the message.

    Example:
        >>> nets = [nn.Linear(4, 1) for _ in range(3)]
        >>> sgd = [torch.optim.SGD(net.parameters(), lr=rate) for net, rate in zip(nets, (0.1, 0.01, 0.0))]
        >>> lanes = Lanes(nets, lambda net, batch: (net(batch[0]) - batch[1]).square().mean(), sgd)
        >>> losses = lanes.step((torch.randn(3, 8, 4), torch.randn(3, 8, 1)))  # the same lanes, 8 rows for each
        >>> len(losses)
        3
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        loss_of: LossOf,
        optimizers: Sequence[Optimizer],
        *,
        kind: str = "stacked",
        clips: Sequence[float | None] | None = None,
        seeds: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"Lanes: kind needs to be one of {', '.join(KINDS)}, got {kind!r}.")
        self._modules, self._optimizers = list(modules), list(optimizers)
        self._loss_of, self._kind = loss_of, kind
        self._clips = list(clips or [None] * len(modules))
        self._seeds, self.steps = list(seeds or [0] * len(modules)), list(steps or [0] * len(modules))
        lengths = {len(part) for part in (modules, optimizers, self._clips, self._seeds, self.steps)}
        if lengths != {len(modules)} or not modules:
            raise ValueError(f"Lanes: every argument needs one entry for each lane, got {sorted(lengths)}.")
        self.live = [True] * len(modules)
        _check_alike(self._modules)
        self._stacks: dict[str, Tensor] = {
            name: torch.stack([part.detach() for part in parts])
            for name, *parts in zip(_names(modules[0]), *map(_tensors, modules), strict=True)
        }
        self._programs: dict[Any, tuple[Program, tuple[Dropout, ...]]] = {}
        self._made: Step | None = None

    def step(self, batch: Batch) -> list[float]:
        """One optimizer step of every live lane; returns each lane's loss, of those that do not move too.

        Args:
            batch: as `loss_of` takes it, every tensor with the lanes as a first axis: (K, rows, ...).

        Raises:
            Refused: this shape of batch cannot be traced.
        """
        leaves = [leaf.contiguous() for leaf in self._leaves(batch)]
        key = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in self._programs:
            self._programs[key] = self._trace(batch, leaves)
        replay, dropouts = self._programs[key]
        masks = self._masks(dropouts)
        with torch.inference_mode():
            return self._step(replay, leaves, masks)

    def stop(self, lane: int) -> None:
        """This lane no longer moves."""
        self.live[lane] = False

    def settle(self) -> None:
        """Read the optimizers' settings anew, as after a schedule has set a rate."""
        if self._made is not None:
            self._most = self._limits()
            self._optimizer.settle([optimizer.param_groups[0] for optimizer in self._optimizers])

    def unload(self, lane: int) -> None:
        """Write a lane's parameters, buffers and optimizer state into its own module and optimizer."""
        module = self._modules[lane]
        with torch.no_grad():
            for name, tensor in zip(_names(module), _tensors(module), strict=True):
                tensor.copy_(self._stacks[name][lane])
            if self._made is not None:
                self._optimizer.unload(lane, self._optimizers[lane], self._trained(lane))

    def put(
        self,
        lane: int,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        clip: float | None = None,
        seed: int = 0,
        step: int = 0,
    ) -> None:
        """Give a lane to another trial of the same structure, with its own state, settings and counter."""
        _check_alike([self._modules[lane], module])
        self._modules[lane], self._optimizers[lane] = module, optimizer
        self._clips[lane], self._seeds[lane], self.steps[lane], self.live[lane] = clip, seed, step, True
        with torch.no_grad():
            for name, tensor in zip(_names(module), _tensors(module), strict=True):
                self._stacks[name][lane] = tensor
            if self._made is not None:
                self._optimizer.load(lane, optimizer, self._trained(lane))
        self.settle()

    def keep(self, lanes: Iterable[int]) -> "Lanes":
        """New lanes of these alone, in this order; what they trained is unloaded first."""
        kept = list(lanes)
        for lane in kept:
            self.unload(lane)
        fewer = Lanes(
            [self._modules[lane] for lane in kept],
            self._loss_of,
            [self._optimizers[lane] for lane in kept],
            kind=self._kind,
            clips=[self._clips[lane] for lane in kept],
            seeds=[self._seeds[lane] for lane in kept],
            steps=[self.steps[lane] for lane in kept],
        )
        fewer.live = [self.live[lane] for lane in kept]
        return fewer

    def _step(self, replay: Program, leaves: Sequence[Tensor], masks: Sequence[Tensor]) -> list[float]:
        others = self._others
        before = [] if all(self.live) else [tensor.clone() for tensor in others]
        if self._buffers and not before:
            before = [tensor.clone() for tensor in others]
        losses, gradients = replay(self._parameters, others, leaves, masks)
        values: list[float] = losses.tolist()
        moving = [live and math.isfinite(value) for live, value in zip(self.live, values)]
        self.live = moving
        if not all(moving):
            restore(others, before, moving)
        if self._most is not None:
            clip(gradients, self._most)
        self._optimizer.step(gradients, moving)
        self.steps = [count + moves for count, moves in zip(self.steps, moving)]
        return values

    def _trace(self, batch: Batch, leaves: Sequence[Tensor]) -> tuple[Program, tuple[Dropout, ...]]:
        """The program for this shape of batch; the first one also says which parameters are trained."""
        module = self._modules[0]
        first = pytree.tree_map(lambda leaf: leaf[0].clone(), batch)
        seen = look(module, self._loss_of, first)
        step = Step(module, self._loss_of, seen, first)
        if self._made is None:
            self._begin(step)
        elif self._made.seen.trained != seen.trained:
            raise Refused("which parameters have a gradient depends on the size of the batch")
        masks = self._masks(seen.dropouts)
        made = program(self._kind, step, self._parameters, self._others, leaves, masks)
        return made, seen.dropouts

    def _begin(self, step: Step) -> None:
        self._parameters = [self._stacks[name] for name in step.trained]
        self._others = [self._stacks[name] for name in step.others]
        self._buffers = any(True for _ in self._modules[0].buffers())
        self._optimizer = stacked(self._optimizers, self._parameters)
        self._made = step
        self._most = self._limits()
        for lane, optimizer in enumerate(self._optimizers):
            self._optimizer.load(lane, optimizer, self._trained(lane))

    def _limits(self) -> Tensor | None:
        """The largest norm of each lane's gradient, (K,); None where no lane has a limit."""
        most = [math.inf if limit is None else float(limit) for limit in self._clips]
        return None if all(map(math.isinf, most)) else self._parameters[0].new_tensor(most)

    def _trained(self, lane: int) -> list[Tensor]:
        named = dict(self._modules[lane].named_parameters())
        return [named[name] for name in (self._made.trained if self._made else ())]

    def _leaves(self, batch: Batch) -> list[Tensor]:
        leaves = pytree.tree_leaves(batch)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise Refused(f"a batch holds a {type(leaf).__name__}; tensors can be stacked")
            if leaf.dim() == 0 or len(leaf) != len(self._modules):
                raise ValueError(
                    f"Lanes.step: {len(self._modules)} lanes need a first axis of as many, got {leaf.shape}."
                )
        return leaves

    def _masks(self, dropouts: Sequence[Dropout]) -> list[Tensor]:
        return [self._mask(layer, dropout) for layer, dropout in enumerate(dropouts)]

    def _mask(self, layer: int, dropout: Dropout) -> Tensor:
        """(K, *shape): 0 with probability p, else 1 / (1 - p)."""
        like = next(iter(self._stacks.values()))
        stack = torch.empty(len(self._modules), *dropout.shape, dtype=dropout.dtype, device=like.device)
        for lane, mask in enumerate(stack.unbind()):
            fill(mask, dropout.p, self._seeds[lane], self.steps[lane], layer)
        return stack


def fill(mask: Tensor, p: float, seed: int, step: int, layer: int) -> Tensor:
    """Make `mask` that of dropout number `layer` of forward at a step, counted from 0: 0, or 1 / (1 - p)."""
    if p == 1.0:
        return mask.zero_()
    generator = torch_stream(seed, "dropout", step, layer, device=mask.device)
    return mask.bernoulli_(1 - p, generator=generator).div_(1 - p)


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in [*module.named_parameters(), *module.named_buffers()]]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for _, tensor in [*module.named_parameters(), *module.named_buffers()]]


def _check_alike(modules: Sequence[nn.Module]) -> None:
    """Raise unless the modules differ in nothing but the values of their tensors."""
    facts = [_facts(module) for module in modules]
    for lane, other in enumerate(facts):
        names = [name for name in {**facts[0], **other} if facts[0].get(name) != other.get(name)]
        if names:
            mine, first = other.get(names[0]), facts[0].get(names[0])
            raise Refused(f'lanes differ in "{names[0]}": {mine!r} in lane {lane}, {first!r} in lane 0')


def _facts(module: nn.Module) -> dict[str, Any]:
    kinds = {f"class of {name or 'the module'}": type(inner).__qualname__ for name, inner in module.named_modules()}
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    shapes = {
        name: (tuple(t.shape), t.dtype, t.device, t.requires_grad, first.setdefault(id(t), name)) for name, t in tensors
    }
    return kinds | shapes | attributes_of(module)
