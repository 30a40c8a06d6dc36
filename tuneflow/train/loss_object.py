"""The loss of a job: a function of outputs and targets, or an object with `loss_of`, made and placed for the job."""

import copy
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import seeded_globals
from tuneflow.signature import parameters_of
from tuneflow.train.joined_outputs import Unjoined, joined

INTERNAL = {*vars(nn.Module())} - {"training"}  # attributes of every module
CHUNK = 1024  # rows of a Dataset whose targets are loaded at once
NUMBER = re.compile(r"\b(float|int|bool)\b")  # in the annotation of an argument that takes a number as it is


def is_loss(value: Any) -> bool:
    """True for a callable, and for an object or class with a method `loss_of(module, batch)`."""
    return callable(value) or has_loss_of(value)


def has_loss_of(loss: Any) -> bool:
    """True for an object, a class, or a partial of one, that computes a training loss by `loss_of(module, batch)`."""
    inner = loss.func if isinstance(loss, partial) else loss
    kind = inner if isinstance(inner, type) else type(inner)
    return callable(getattr(kind, "loss_of", None)) or "loss_of" in getattr(inner, "__dict__", ())


def takes_raw_inputs(loss: Any) -> bool:
    """True for an object, a class, or a partial of one, whose `loss_of` gets raw inputs and the complete module.

    Complete is a module with its normalizer in front, and its outputs in the targets' units.
    """
    inner = loss.func if isinstance(loss, partial) else loss
    return has_loss_of(loss) and getattr(inner, "raw_inputs", False) is True


def is_class(loss: Any) -> bool:
    """True for a class, and for a partial of one."""
    return isinstance(loss.func if isinstance(loss, partial) else loss, type)


def takes_outputs(loss: Any) -> bool:
    """True if `loss` can be called with (outputs, targets)."""
    kind = loss if isinstance(loss, type) else type(loss)
    return callable(loss) and not (issubclass(kind, nn.Module) and kind.forward is nn.Module.forward)


def instance_of(loss: Any) -> Any:
    """Return `loss`, or where it is a class, or a partial of one, a new instance; draws as its constructor does.

    Numbers for arguments that are tensors by their annotation, such as `pos_weight`, become tensors.
    """
    kind = loss.func if isinstance(loss, partial) else loss
    if isinstance(loss, partial):
        loss = partial(kind, *loss.args, **_with_tensors(kind, loss.keywords))
    return loss() if isinstance(kind, type) else loss


def placed(loss: Any, runtime: Runtime) -> Any:
    """Return a copy of `loss` on the device of `runtime`; a function as it is.

    Modules are copied whole. Of a partial and of another object the modules and tensors that it holds itself, also in a
    tuple, list or dict, are placed, and copied where they are on another device; the rest is shared.
    """
    if isinstance(loss, partial):
        return partial(loss.func, *loss.args, **{k: _part_on(v, runtime) for k, v in loss.keywords.items()})
    if inspect.isroutine(loss) or not hasattr(loss, "__dict__"):
        return loss
    own = runtime.place(copy.deepcopy(loss)) if isinstance(loss, nn.Module) else copy.copy(loss)
    for name, value in list(vars(own).items()):
        if not (isinstance(own, nn.Module) and name in INTERNAL):
            setattr(own, name, _part_on(value, runtime))
    return own


def fit_to_targets(loss: Any, source: Source, runtime: Runtime, cache: dict[Any, Any]) -> None:
    """Call the method `fit(targets)` of a loss that has one with the targets of all training rows.

    Args:
        loss: a job's own; it is changed.
        source: the training rows.
        runtime: a module is placed on its device once more.
        cache: the targets are kept here.

    Raises:
        ValueError: the targets of batches cannot be joined.
    """
    if callable(getattr(loss, "fit", None)):
        if ("targets", id(source)) not in cache:
            cache["targets", id(source)] = _targets_of(source)
        loss.fit(cache["targets", id(source)])
        if isinstance(loss, nn.Module):
            runtime.place(loss)


def _targets_of(source: Source) -> Any:
    if isinstance(source, Data):
        return source.targets
    with seeded_globals(0, "targets"):  # a dataset may draw
        parts = [targets for _, targets in source.batches(CHUNK)]
    targets = joined(parts, [min(CHUNK, len(source) - i * CHUNK) for i in range(len(parts))], "targets")
    if isinstance(targets, Unjoined):
        raise ValueError(f"the loss has a method fit, which needs the targets of all rows at once: {targets.reason}.")
    return targets


def _with_tensors(function: Callable[..., Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return `keywords` with the numbers, and lists of numbers, as tensors whose arguments need to be tensors."""
    tensors = {p.name for p in parameters_of(function) or () if _is_tensor(p.annotation)}
    return {name: _as_tensor(value) if name in tensors else value for name, value in keywords.items()}


def _is_tensor(annotation: Any) -> bool:
    return "Tensor" in str(annotation) and not NUMBER.search(str(annotation))


def _as_tensor(value: Any) -> Any:
    numbers = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return value
    return torch.tensor(value, dtype=torch.get_default_dtype())


def _part_on(value: Any, runtime: Runtime) -> Any:
    """Return a part of a loss on the device of `runtime`; the same object if it is there, or holds no tensors."""
    if isinstance(value, nn.Module):
        here = next((t.device for t in (*value.parameters(), *value.buffers())), runtime.device)
        return value if here == runtime.device else runtime.place(copy.deepcopy(value))
    if isinstance(value, Tensor):
        return value.to(runtime.device)
    if type(value) is dict:
        parts = {key: _part_on(inner, runtime) for key, inner in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if type(value) in (list, tuple):
        items = [_part_on(inner, runtime) for inner in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value
