"""The optimizers of all lanes as one, with the same parameter groups in each."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tuneflow.fused.adam import StackedAdam
from tuneflow.fused.gradient import Gradient, Groups
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.sgd import StackedSGD

Partition = tuple[tuple[str, ...], ...]


class StackedOptimizer(Protocol):
    """The optimizer of one parameter group, over stacked lanes."""

    def settle(self, groups: Groups) -> None:
        """Read the lanes' settings from torch's parameter groups."""

    def step(self, gradients: Sequence[Gradient], moving: Sequence[bool]) -> None:
        """Move the lanes that are `moving`; of the others nothing is changed. Gradients are used up."""

    def step_lane(self, lane: int, gradients: Sequence[Tensor]) -> None:
        """Move one lane by its own gradients, which are left alone."""

    def load(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        """Copy a lane's state from torch's optimizer of these parameters, if it has any."""

    def unload(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        """Copy a lane's state to torch's optimizer of these parameters."""


class StackedOptimizers:
    """One stacked optimizer for each parameter group that trains something; state is taken over.

    Args:
        modules, optimizers: one for each lane.
        names: of the trained parameters.
        parameters: these, each (K, *shape), contiguous.

    Raises:
        CannotFuse: another class than SGD, Adam and AdamW, groups that hold other parameters than lane 0's, amsgrad, or
            a setting that is a tensor.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[Optimizer],
        names: Sequence[str],
        parameters: Sequence[Tensor],
    ) -> None:
        self._names, self._kind = tuple(names), type(optimizers[0])
        if self._kind not in (SGD, Adam, AdamW):
            raise CannotFuse(f"the optimizer {self._kind.__name__} has no stacked form; SGD, Adam and AdamW have")
        self._partition = partition(modules[0], optimizers[0], names)
        for module, optimizer in zip(modules, optimizers, strict=True):
            self.check(module, optimizer)
        index = {name: n for n, name in enumerate(names)}
        self._movers: list[tuple[int, list[int], StackedOptimizer]] = []
        for group, members in enumerate(self._partition):
            which = [index[name] for name in members]
            if which:
                settings = [optimizer.param_groups[group] for optimizer in optimizers]
                self._movers.append((group, which, self._mover([parameters[n] for n in which], settings)))
        for lane, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            self.load(lane, module, optimizer)

    def _mover(self, parameters: Sequence[Tensor], settings: Groups) -> StackedOptimizer:
        if self._kind is SGD:
            return StackedSGD(parameters, settings)
        return StackedAdam(parameters, settings, decoupled=self._kind is AdamW)

    def check(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Raise CannotFuse unless a lane may have this optimizer."""
        if type(optimizer) is not self._kind:
            kinds = f"{type(optimizer).__name__} and {self._kind.__name__}"
            raise CannotFuse(f"lanes have different optimizers, {kinds}; one class can be stacked")
        found = partition(module, optimizer, self._names)
        if found != self._partition:
            raise CannotFuse(f"lanes differ in their parameter groups: {found} and {self._partition}")
        _check_plain(optimizer.param_groups)
        named = dict(module.named_parameters())
        for members in self._partition:
            counts = {float(optimizer.state.get(named[name], {}).get("step", 0.0)) for name in members}
            if len(counts) > 1:
                raise CannotFuse("the optimizer has taken different numbers of steps for parameters of one group")

    def settle(self, optimizers: Sequence[Optimizer]) -> None:
        """Read the lanes' settings again."""
        for optimizer in optimizers:
            _check_plain(optimizer.param_groups)
        for group, _, mover in self._movers:
            mover.settle([optimizer.param_groups[group] for optimizer in optimizers])

    def step(self, gradients: Sequence[Gradient], moving: Sequence[bool]) -> None:
        """Move the lanes that are `moving` by gradients of the whole stack, which are used up."""
        for _, which, mover in self._movers:
            mover.step([gradients[n] for n in which], moving)

    def step_lane(self, lane: int, gradients: Sequence[Tensor]) -> None:
        """Move one lane by its own gradients."""
        for _, which, mover in self._movers:
            mover.step_lane(lane, [gradients[n] for n in which])

    def load(self, lane: int, module: nn.Module, optimizer: Optimizer) -> None:
        """Copy a lane's state from torch's optimizer."""
        named = dict(module.named_parameters())
        for _, which, mover in self._movers:
            mover.load(lane, optimizer, [named[self._names[n]] for n in which])

    def unload(self, lane: int, module: nn.Module, optimizer: Optimizer) -> None:
        """Copy a lane's state to torch's optimizer."""
        named = dict(module.named_parameters())
        for _, which, mover in self._movers:
            mover.unload(lane, optimizer, [named[self._names[n]] for n in which])


def partition(module: nn.Module, optimizer: Optimizer, trained: Sequence[str]) -> Partition:
    """Return the names of the trained parameters in each of the optimizer's groups, in the order of `trained`.

    Raises:
        CannotFuse: the optimizer leaves one of them out, or has a parameter that is not the module's.
    """
    names = {id(p): name for name, p in module.named_parameters()}
    groups = [{names.get(id(p)) for p in group["params"]} for group in optimizer.param_groups]
    if any(None in group for group in groups):
        raise CannotFuse("the optimizer has a parameter that is not the module's")
    for name in trained:
        if not any(name in group for group in groups):
            raise CannotFuse(
                f'the optimizer leaves out "{name}", which has a gradient; requires_grad_(False) freezes it'
            )
    return tuple(tuple(name for name in trained if name in group) for group in groups)


def _check_plain(groups: Groups) -> None:
    if any(isinstance(value, Tensor) for group in groups for name, value in group.items() if name != "params"):
        raise CannotFuse("a setting of the optimizer is a tensor; plain numbers can be stacked")
    if any(group.get("amsgrad") for group in groups):
        raise CannotFuse("amsgrad has no stacked form; amsgrad=False has")
    if any(group.get("differentiable") for group in groups):
        raise CannotFuse("differentiable=True has no stacked form")
