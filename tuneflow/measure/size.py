"""The size of a module: the numbers that it stores, and their bytes."""

from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Parameters:
    """The number of parameters that a module stores, frozen ones too; one that is shared counts once.

    Buffers, such as the statistics of BatchNorm, are none. Of a quantized layer its weights and biases count, but not
    those of the channels of zeros by which `Arithmetic("int8")` pads a layer.

    Example:
        >>> Parameters().of_module(nn.Linear(4, 3), torch.ones(1, 4))
        15
    """

    once_per_structure: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False

    def of_module(self, module: nn.Module, data: Any = None) -> int:  # noqa: ARG002 (as every metric of a module)
        """Return the number of parameters.

        Args:
            module: a module, quantized ones too.
            data: not needed.

        Raises:
            TypeError: its parameters cannot be seen, as those of a frozen TorchScript module.
        """
        return sum(tensor.numel() for tensor in weights_of(module)) - sum(map(padding_of, module.modules()))


@dataclass(frozen=True)
class Bytes:
    """The bytes of a module's parameters and buffers as they are stored; a tensor that is shared counts once.

    A weight counts 4 bytes in float32, 2 in bfloat16 and 1 in int8; scales and zero points of quantized layers are
    included. Code is not.

    Example:
        >>> Bytes().of_module(nn.Linear(4, 3).bfloat16(), torch.ones(1, 4))
        30
    """

    once_per_structure: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False

    def of_module(self, module: nn.Module, data: Any = None) -> int:  # noqa: ARG002 (as every metric of a module)
        """Return the number of bytes.

        Args:
            module: a module, quantized ones too.
            data: not needed.

        Raises:
            TypeError: its tensors cannot be seen, as those of a frozen TorchScript module.
        """
        scales = chain.from_iterable(_output_scale(part) for part in module.modules())
        return sum(map(bytes_of, chain(weights_of(module), module.buffers(), scales)))


def weights_of(module: nn.Module) -> list[Tensor]:
    """Return the parameters of a module, each once, and the weights and biases of its quantized layers.

    Raises:
        TypeError: they cannot be seen.
    """
    packed = [tensor for part in module.modules() for tensor in _packed(part)]
    weights = [*module.parameters(), *packed]
    if not weights and _is_frozen_script(module):
        raise TypeError(
            "the parameters of a frozen TorchScript module are constants of its code, which cannot be counted; measure"
            " the module before torch.jit.freeze."
        )
    return weights


def own_weights_of(module: nn.Module) -> list[Tensor]:
    """Return what `weights_of` returns, of this module without those in it."""
    return [*module.parameters(recurse=False), *_packed(module)]


def padding_of(part: nn.Module) -> int:
    """Return how many of a layer's parameters belong to channels of zeros: those beyond its attribute `unpadded`."""
    shape = getattr(part, "unpadded", None)
    if shape is None:
        return 0
    return sum(tensor.numel() - prod(shape[: tensor.ndim]) for tensor in weights_of(part))


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor as it is stored; of a quantized one with its scales and zero points."""
    size = tensor.numel() * tensor.element_size()
    if not tensor.is_quantized:
        return size
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return size + 16
    return size + tensor.q_per_channel_scales().nbytes + tensor.q_per_channel_zero_points().nbytes


def _packed(part: nn.Module) -> list[Tensor]:
    """Return weights and biases of a quantized layer, which it holds in a form of its own."""
    names = ("_packed_params", "_packed_weight", "param")
    held = (getattr(part, name, None) for name in names)
    return [tensor for value in held if isinstance(value, torch.ScriptObject) for tensor in _unpacked(value)]


def _unpacked(held: Any) -> list[Tensor]:
    """Return weight and bias of a packed layer, or those of the packed layers in the state of a recurrent one."""
    if held._has_method("unpack"):
        return [tensor for tensor in held.unpack() if isinstance(tensor, Tensor)]
    return [tensor for part in _script_objects(held.__getstate__()) for tensor in _unpacked(part)]


def _script_objects(value: Any) -> list[Any]:
    if isinstance(value, torch.ScriptObject):
        return [value]
    return [found for part in value for found in _script_objects(part)] if isinstance(value, tuple | list) else []


def _output_scale(part: nn.Module) -> list[Tensor]:
    """Return scale and zero point of a quantized layer's outputs, as its state_dict has them."""
    if not any(map(_is_packed, (part, *part.children()))):
        return []
    values = (getattr(part, name, None) for name in ("scale", "zero_point"))
    return [torch.as_tensor(value) for value in values if isinstance(value, int | float)]


def _is_packed(part: nn.Module) -> bool:
    return isinstance(getattr(part, "_packed_params", None), torch.ScriptObject)


def _is_frozen_script(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) and not any(True for _ in module.children())
