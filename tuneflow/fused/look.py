"""One careful eager step: what a trace would freeze or lose is found here, before anything is traced."""

import copy
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.data import Batch
from tuneflow.fused.refused import Refused, because, place_of
from tuneflow.seeds import seeded_globals

LossOf = Callable[[nn.Module, Batch], Tensor]


class Whole(nn.Module):
    """The module and its loss as one: a batch and dropout's masks in, the loss out."""

    def __init__(self, module: nn.Module, loss_of: LossOf) -> None:
        super().__init__()
        self.module = module
        self.loss_of = loss_of

    def forward(self, batch: Batch, masks: Sequence[Tensor]) -> Tensor:
        with _Masked(masks):
            return self.loss_of(self.module, batch)


@dataclass(frozen=True)
class Dropout:
    """One call of dropout in forward: the shape of what it is given, and its probability."""

    shape: tuple[int, ...]
    p: float
    dtype: torch.dtype


@dataclass(frozen=True)
class Seen:
    """What the eager step showed.

    Attributes:
        trained: names of the parameters that a gradient reaches; torch leaves the others alone, and so do we.
        dropouts: the calls of dropout, in their order.
    """

    trained: tuple[str, ...]
    dropouts: tuple[Dropout, ...]


def look(module: nn.Module, loss_of: LossOf, batch: Batch) -> Seen:
    """Take one step on a copy of `module`, which is left as it is, as are the global generators.

    Raises:
        Refused: forward branches on data, draws random numbers other than dropout's, or keeps state outside buffers.
    """
    try:
        module = copy.deepcopy(module)
    except Exception as error:
        raise Refused(f"the module cannot be copied: {type(error).__name__}: {error}") from error
    buffers, plain = dict(module.named_buffers()), attributes_of(module)
    with seeded_globals("fused", "look"):
        before = _generators()
        try:
            with torch.enable_grad(), _Recording() as recording, _Static():  # type: ignore[no-untyped-call]
                loss = loss_of(module, batch)
        except Exception as error:
            raise because(error) from error
        _check_generators(before)
    for name, buffer in module.named_buffers():
        if buffers.get(name) is not buffer:
            raise Refused(f'forward assigns the buffer "{name}" anew; change it in place: self.{name}.copy_(...)')
    for name, value in attributes_of(module).items():
        if name not in plain or plain[name] != value:
            raise Refused(f'forward changes the attribute "{name}", which a traced program would not; make it a buffer')
    if loss.dim() != 0 or not loss.requires_grad:
        raise Refused(f"the loss needs to be a single number with a gradient, got shape {tuple(loss.shape)}")
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    if any(g is not None and g.layout is not torch.strided for g in gradients):
        raise Refused("a gradient is sparse; Embedding(sparse=False) gives a dense one")
    trained = tuple(name for (name, _), g in zip(named, gradients, strict=True) if g is not None)
    return Seen(trained, tuple(recording.calls))


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """Every plain number, string or tuple that a submodule holds, by its dotted name."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, inner in module.named_modules()
        for name, value in vars(inner).items()
        if isinstance(value, int | float | str | tuple | None) and _plain(value)
    }


def _plain(value: Any) -> bool:
    return all(map(_plain, value)) if isinstance(value, tuple) else isinstance(value, int | float | str | None)


class _Recording(TorchFunctionMode):
    """Notes the calls of dropout and makes them the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Dropout] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = _dropout(function, args, kwargs or {})
        if call is None:
            return function(*args, **(kwargs or {}))
        inputs, p = call
        self.calls.append(Dropout(tuple(inputs.shape), p, inputs.dtype))
        return inputs * 1.0


class _Masked(TorchFunctionMode):
    """Has each call of dropout multiply by the next mask."""

    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self._masks: Iterator[Tensor] = iter(masks)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = _dropout(function, args, kwargs or {})
        return function(*args, **(kwargs or {})) if call is None else call[0] * next(self._masks)


def _dropout(function: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, float] | None:
    """(input, p) where this is a call of dropout that drops something and is not in place."""
    if function is not F.dropout:
        return None
    named = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
    p = float(named.get("p", 0.5))
    if not named.get("training", True) or p == 0.0 or named.get("inplace", False):
        return None
    return named["input"], p


class _Static(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where what is computed next depends on values, not only on shapes."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tags = function.tags
        if torch.Tag.data_dependent_output in tags:
            where, line = place_of(traceback.extract_stack())
            what = "a number taken out of a tensor" if ".item(" in line else "data-dependent branch"
            raise Refused(f"{what} in forward{where}: {line}")
        if torch.Tag.dynamic_output_shape in tags and not _fixed(function, args):
            where, line = place_of(traceback.extract_stack())
            raise Refused(f"boolean mask, or another shape that depends on data, in forward{where}: {line}")
        return function(*args, **(kwargs or {}))


def _fixed(function: Any, args: Any) -> bool:
    """Whether an op whose shape may depend on data has a fixed one here, as indexing by numbers has."""
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
            raise Refused(f"forward draws from {name}, and a traced program would repeat the draw; only F.dropout may")


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Within the block the global generators may be drawn from; they are put back."""
    with seeded_globals("fused", "trace"):
        yield
