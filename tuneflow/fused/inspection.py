"""Inspection of a step in one eager run: finds what a trace would freeze or lose, before anything is traced."""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.data.data import Batch
from tuneflow.fused.dropout import DropoutCall, RecordDropout, check_rates, name_rates
from tuneflow.fused.module_facts import attributes_of
from tuneflow.fused.refusal import CannotFuse, because, location_below
from tuneflow.seeds import seeded_globals

LossOf = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Inspection:
    """Facts about a step, from one eager run.

    Attributes:
        trained: names of the parameters that have a gradient; the others are left alone, as torch does.
        dropouts: the calls of dropout, in their order.
    """

    trained: tuple[str, ...]
    dropouts: tuple[DropoutCall, ...]


def skeleton_of(module: nn.Module, rates: Mapping[str, float]) -> nn.Module:
    """Return a copy of `module`, to be run with other tensors than its own and with these dropout rates.

    Raises:
        CannotFuse: it cannot be copied.
    """
    try:
        skeleton = copy.deepcopy(module)
    except Exception as error:
        raise CannotFuse(f"the module cannot be copied: {type(error).__name__}: {error}") from error
    name_rates(skeleton, rates)
    return skeleton


def inspect_step(skeleton: nn.Module, loss_of: LossOf, batch: Batch) -> Inspection:
    """Compute one loss and its gradient; the global generators are left as they are.

    Raises:
        CannotFuse: forward branches on data, draws random numbers other than dropout's, or keeps state outside buffers.
    """
    with torch.enable_grad(), RecordDropout() as recording:
        loss = run_carefully(skeleton, lambda: loss_of(skeleton, batch))
    if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.requires_grad:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise CannotFuse(f"the loss needs to be a single number with a gradient, got {shape}")
    named = [(name, p) for name, p in skeleton.named_parameters() if p.requires_grad]
    try:
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    except Exception as error:
        raise because(error) from error
    trained = tuple(name for (name, _), g in zip(named, gradients, strict=True) if g is not None)
    return Inspection(trained, tuple(recording.calls))


def run_carefully(module: nn.Module, forward: Callable[[], Any]) -> Any:
    """Run `forward` and return its result; the global generators are left as they are.

    Raises:
        CannotFuse: a trace would not repeat what it does.
    """
    buffers, plain = dict(module.named_buffers()), attributes_of(module)
    shapes = {name: buffer.shape for name, buffer in buffers.items()}
    versions = {name: p._version for name, p in module.named_parameters()}
    with seeded_globals("fused", "inspect_step"):
        before = _generators()
        try:
            with _RefuseUnstackable(), _RefuseDataDependence():  # type: ignore[no-untyped-call]
                made = forward()
        except Exception as error:
            raise because(error) from error
        _check_generators(before)
    for name, buffer in module.named_buffers():
        if buffers.get(name) is not buffer:
            raise CannotFuse(f'forward assigns the buffer "{name}" anew; change it in place: self.{name}.copy_(...)')
        if buffer.shape != shapes[name]:
            raise CannotFuse(f'forward changes the shape of the buffer "{name}" to {tuple(buffer.shape)}')
    for name, parameter in module.named_parameters():
        if versions.get(name) != parameter._version:
            raise CannotFuse(f'forward changes the parameter "{name}" in place, as Embedding(max_norm=...) does')
    after = attributes_of(module)
    for name in {**after, **plain}:
        if name not in plain or name not in after or plain[name] != after[name]:
            raise CannotFuse(
                f'forward changes the attribute "{name}", which a traced program would not; make it a buffer'
            )
    return made


class _RefuseUnstackable(TorchFunctionMode):
    """Raises where a gradient would be sparse, or a dropout probability enters a computation."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("sparse") is True:
            raise CannotFuse(f"a gradient is sparse, sparse=False gives a dense one; in forward{_here()}")
        check_rates(function, args, kwargs or {})
        return function(*args, **(kwargs or {}))


class _RefuseDataDependence(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where control flow or shapes depend on values, or random numbers are drawn."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tags = function.tags
        if torch.Tag.data_dependent_output in tags:
            where = _here()
            what = "a number taken out of a tensor" if ".item(" in where else "data-dependent branch"
            raise CannotFuse(f"{what} in forward{where}")
        if torch.Tag.dynamic_output_shape in tags and not _fixed(function, args):
            raise CannotFuse(f"boolean mask, or another shape that depends on data, in forward{_here()}")
        if torch.Tag.nondeterministic_seeded not in tags:
            return function(*args, **(kwargs or {}))
        before = torch.default_generator.get_state()
        made = function(*args, **(kwargs or {}))
        if (kwargs or {}).get("generator") is not None or not torch.equal(before, torch.default_generator.get_state()):
            raise CannotFuse(
                f"random numbers, which a trace would repeat and only dropout may draw, in forward{_here()}"
            )
        return made


def _here() -> str:
    return location_below(run_carefully.__name__)


def _fixed(function: Any, args: Any) -> bool:
    """True if an op whose shape may depend on data has a fixed shape here, as indexing by numbers has."""
    masks = (torch.bool, torch.uint8)
    if not str(function).startswith("aten.index."):
        return False
    return not any(isinstance(index, Tensor) and index.dtype in masks for index in pytree.tree_leaves(args[1]))


def _generators() -> tuple[Any, ...]:
    drawn: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (drawn[1].tobytes(), drawn[2:]), torch.default_generator.get_state().tolist()


def _check_generators(before: tuple[Any, ...]) -> None:
    names = ("Python's random", "numpy.random", "torch's global generator")
    for name, was, now in zip(names, before, _generators(), strict=True):
        if was != now:
            raise CannotFuse(f"forward draws from {name}, and a traced program would repeat the draw; only dropout may")
