"""Winners: trained modules that a Model makes copies of, and the records by which they are made again."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Operation
from tuneflow.compress.tensor_digest import tensor_digest
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.lazy_layers import lazy_tensors
from tuneflow.heuristics.sanitizing import SanitizerModule
from tuneflow.heuristics.target_scaling import RescaledModule, Scale, brought_scale, completed

RECORD = "tuneflow_record"  # the attribute of a trained module
NOT_TRAINED = {"torch.jit.": "scripted", "torch.export.": "exported", "torch.ao.nn.quantized.": "quantized"}


@dataclass(frozen=True, eq=False)
class BuildRecord:
    """The facts by which a trained module is made again: an attribute of those that tuneflow hands over.

    Attributes:
        config: the configuration that its builder was called for, as the study stored it.
        labels: names in it that stand for objects.
        normalize: the kind of normalization, by which a normalizer of the user's is made again.
        operations: those of all steps since, in their order.
        wrapped: number of normalizers and scales that the builder itself has put around its module.
        rows: digests of the rows that it was trained on, as far as they are known.
        trained: the module in float, complete, where the one that is handed over computes otherwise.
        box: the lowest and the highest value in the inputs of those rows, where something has asked for it.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    normalize: Any = True
    operations: Sequence[Operation] = ()
    wrapped: int = 0
    rows: Sequence[str] = ()
    trained: nn.Module | None = None
    box: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Winner:
    """A trained module in its parts.

    Attributes:
        module: in float, without normalizer and scale, on the CPU, in evaluation mode.
        normalizer: stands before its inputs; None for raw inputs.
        scale: of its targets; None where it gives the targets' units.
        record: the facts by which it is made again, as far as they are known.
    """

    module: nn.Module
    normalizer: nn.Module | None = None
    scale: Scale | None = None
    record: BuildRecord = BuildRecord()

    def __repr__(self) -> str:
        return f"trained {type(self.module).__name__} {self.digest}"

    def copy(self) -> nn.Module:
        """Return a copy of the module, in training mode."""
        plain = copy.deepcopy(self.module).train()
        vars(plain).pop(RECORD, None)
        return plain

    @property
    def complete(self) -> nn.Module:
        """The module with raw inputs, and outputs in the targets' units."""
        return completed(self.module, self.normalizer, self.scale)

    @cached_property
    def digest(self) -> str:
        """Hash of its layers' classes, of sanitizers' settings, and of all tensors, normalizer and scale included."""
        module = self.complete
        kinds = repr([(name, type(each).__qualname__, *_plain_settings(each)) for name, each in module.named_modules()])
        return tensor_digest((*module.named_parameters(), *module.named_buffers()), kinds)


def _plain_settings(part: nn.Module) -> list[Any]:
    """Return the settings of a sanitizer, which are no tensors; nothing of another part."""
    return [part.settings] if isinstance(part, SanitizerModule) else []


def recorded(module: nn.Module, record: BuildRecord) -> nn.Module:
    """Attach its record to a trained module, and return it."""
    vars(module)[RECORD] = record  # no submodule of it, as `record.trained` would be by setattr
    return module


def record_of(module: nn.Module) -> BuildRecord:
    """Return the record of a trained module; an empty one where it has none."""
    record = vars(module).get(RECORD)
    return record if isinstance(record, BuildRecord) else BuildRecord()


def winner_of(module: nn.Module) -> Winner:
    """Return a copy of a trained module as a winner, in its parts: later changes of the module leave it as it is.

    Args:
        module: as a study or `tn.load` hands it over, or any other, which takes raw inputs.

    Raises:
        TypeError: it cannot be copied or trained, or a parameter has no values yet.
    """
    record = record_of(module)
    return parts_of(recorded(_copy(in_float(module)), replace(record, trained=None)))


def in_float(module: nn.Module) -> nn.Module:
    """Return the trained module behind one that is handed over in another arithmetic, with its record; else itself."""
    record = record_of(module)
    return module if record.trained is None else recorded(record.trained, replace(record, trained=None))


def parts_of(module: nn.Module) -> Winner:
    """Return the parts of a trained module, not copied."""
    record, normalizer, scale = record_of(module), None, None
    around = wrappers(module)
    for wrapper in around[: len(around) - record.wrapped]:
        if normalizer is not None or (scale is not None and isinstance(wrapper, RescaledModule)):
            break  # there is one of each at most; others are the module's own
        if isinstance(wrapper, NormalizedModule):
            normalizer = wrapper.normalizer
        else:
            scale = brought_scale(wrapper)
        module = wrapper.module
    return Winner(module, normalizer, scale, record)


def _copy(module: nn.Module) -> nn.Module:
    if lazy := lazy_tensors(module):
        raise TypeError(
            f'Model: "{lazy[0]}" has no values yet, and a trained module has; to train it from its start, pass a'
            " function that makes it."
        )
    for kind in filter(None, map(_untrainable, module.modules())):
        raise TypeError(
            f"Model: every trial trains a copy of the module, and copies of {kind} modules cannot be trained; pass the"
            f" module in Python and in float that the {kind} one was made of."
        )
    try:
        plain = _laid_out(copied_module(module).cpu().eval())
    except Exception as error:
        raise TypeError(
            f"Model: every trial starts from a copy of the trained {type(module).__name__}, which cannot be copied"
            f" ({error})."
        ) from None
    plain.zero_grad()  # what its last step left
    return plain


def _untrainable(part: nn.Module) -> str:
    """Return the kind of a part that cannot be trained; empty for others, also for scripts without parameters."""
    if isinstance(part, torch.jit.ScriptModule) and not any(True for _ in part.parameters()):
        return ""
    homes = [kind.__module__ for kind in type(part).__mro__]
    return next((word for start, word in NOT_TRAINED.items() if any(home.startswith(start) for home in homes)), "")


def copied_module(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module; torch does not copy attributes that a forward pass has computed, this does."""
    return copy.deepcopy(module, _computed(module))


def _laid_out(module: nn.Module) -> nn.Module:
    """Give every tensor torch's own layout, in place: that of a fork is its runtime's, or chosen by its steps."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4 and tensor.layout is torch.strided:
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return module


def _computed(module: nn.Module) -> dict[int, Any]:
    """Return detached copies of the attributes that a forward pass has computed, which torch does not copy, by id."""
    values = (value for inner in module.modules() for value in vars(inner).values())
    return {id(value): value.detach().clone() for value in values if isinstance(value, Tensor) and not value.is_leaf}


def wrappers(module: nn.Module) -> list[NormalizedModule | RescaledModule]:
    """Return the normalizers and scales around a module, from the outside."""
    around = []
    while isinstance(module, NormalizedModule | RescaledModule):
        around.append(module)
        module = module.module
    return around
