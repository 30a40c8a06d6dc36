"""Operations: the plain changes of a module's structure that a recipe consists of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import skip_init

from tuneflow.errors import printable
from tuneflow.heuristics.sanitizing import SanitizerModule, sanitizer_of
from tuneflow.runtime.precision import label

Values = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Operation:
    """A change of a module that needs neither data nor the weights that it had: those are loaded afterwards.

    Attributes:
        kind: its name among plain values.
        converts: True if it changes the module that is scored and handed over, not the one that is trained.
        sanitizes: True if it changes what stands before the module's inputs, and the module not at all.
    """

    kind: ClassVar[str] = ""
    converts: ClassVar[bool] = False
    sanitizes: ClassVar[bool] = False

    def apply(self, module: nn.Module) -> None:
        """Change `module` in place: its structure, and what is known of its weights.

        Raises:
            ValueError: the module has no such layer or tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(module)")

    def to_values(self) -> Values:
        """Return the operation as tensors and plain values."""
        return {"kind": self.kind} | {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class Select(Operation):
    """Keeps some elements of one dimension of a tensor; indices that repeat widen it.

    Attributes:
        layer: the submodule's name; "" for the module itself.
        tensor: the name of a parameter or buffer in it, such as "weight".
        dim: the dimension.
        index: the elements that stay, int64, in their new order.
        scale: a factor for each element that stays; None for none.
    """

    layer: str
    tensor: str
    dim: int
    index: Tensor
    scale: Tensor | None = None

    kind: ClassVar[str] = "select"

    def apply(self, module: nn.Module) -> None:
        layer = layer_of(module, self.layer)
        old = getattr(layer, self.tensor, None)
        if not isinstance(old, Tensor):
            raise ValueError(f'"{self.layer}" has no tensor "{self.tensor}"')
        if is_lazy(old):
            return  # it takes its shape from the tensors that are loaded
        new = self.selected(old.detach())
        if isinstance(old, nn.Parameter):
            setattr(layer, self.tensor, nn.Parameter(new, old.requires_grad))
        else:
            setattr(layer, self.tensor, new)
        fit_attributes(layer)

    def selected(self, tensor: Tensor) -> Tensor:
        """Return the elements that stay, times their scale; also of an optimizer's buffer of that tensor."""
        kept = tensor.index_select(self.dim, self.index.to(tensor.device))
        if self.scale is None:
            return kept
        shape = [1] * tensor.ndim
        shape[self.dim] = -1
        return kept * self.scale.to(kept).reshape(shape)


@dataclass(frozen=True, eq=False)
class Factorize(Operation):
    """Makes two layers of one Linear or Conv2d, by truncated singular value decomposition.

    The layer `name` becomes a Sequential: first to `rank` channels, then from there.

    Attributes:
        layer: the submodule's name.
        rank: the number of channels between the two.
        decompose: False for weights of 0, where others are assigned or loaded after it; so it is in a recipe.
    """

    layer: str
    rank: int
    decompose: bool = True

    kind: ClassVar[str] = "factorize"

    def apply(self, module: nn.Module) -> None:
        layer = layer_of(module, self.layer)
        if isinstance(layer, nn.Conv2d):
            pair = _factored_convolution(layer, self._factors(layer.weight.flatten(1)))
        elif isinstance(layer, nn.Linear):
            pair = _factored_linear(layer, self._factors(layer.weight))
        else:
            raise ValueError(f'"{self.layer}" is a {type(layer).__name__}, and only Linear and Conv2d are factored')
        for new in pair.parameters():
            new.requires_grad_(layer.weight.requires_grad)
        if layer.bias is not None:
            pair[1].bias.requires_grad_(layer.bias.requires_grad)
        set_layer(module, self.layer, pair.train(layer.training))

    def to_values(self) -> Values:
        return {**super().to_values(), "decompose": False}

    def _factors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return two matrices, (rank, columns) and (rows, rank), whose product is nearest to `matrix`."""
        if not self.decompose:
            rows, columns = matrix.shape
            return matrix.new_zeros(self.rank, columns), matrix.new_zeros(rows, self.rank)
        u, s, v = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
        root = s[: self.rank].sqrt()
        return (root[:, None] * v[: self.rank]).to(matrix), (u[:, : self.rank] * root).to(matrix)


@dataclass(frozen=True, eq=False)
class Convert(Operation):
    """The arithmetic of the module that is scored and handed over; the one that is trained stays as it is.

    Attributes:
        precision: "fp32", "bf16" or "int8".
        channels_last: True for weights and images in the layout of channels last.
    """

    precision: str = "fp32"
    channels_last: bool = False

    kind: ClassVar[str] = "convert"
    converts: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The arithmetic in words, such as `bf16 with channels_last`; empty for float32 as torch lays it out."""
        return label(self.precision, self.channels_last)

    @property
    def needs_ranges(self) -> bool:
        """True if the module is converted with ranges that were measured on data."""
        return self.precision == "int8"

    def apply(self, module: nn.Module) -> None:
        """Leave the trained module as it is."""


@dataclass(frozen=True, eq=False)
class Assign(Operation):
    """Gives a parameter other values, in the shape that the operations before leave it.

    A recipe does not hold them: a state or file has the weights, which are loaded after it.

    Attributes:
        layer: the submodule's name.
        tensor: the parameter's name in it.
        values: of its shape; None in an operation that was read from a recipe, and changes nothing.
    """

    layer: str
    tensor: str
    values: Tensor | None = None

    kind: ClassVar[str] = "assign"

    def apply(self, module: nn.Module) -> None:
        if self.values is not None:
            getattr(layer_of(module, self.layer), self.tensor).copy_(self.values)

    def to_values(self) -> Values:
        return {"kind": self.kind, "layer": self.layer, "tensor": self.tensor}


@dataclass(frozen=True, eq=False)
class Remove(Operation):
    """Takes a layer or a block out: what it got goes on as it is, so it needs outputs of its input's shape.

    Attributes:
        layer: the submodule's name.
    """

    layer: str

    kind: ClassVar[str] = "remove"

    def apply(self, module: nn.Module) -> None:
        layer_of(module, self.layer)
        set_layer(module, self.layer, nn.Identity())


@dataclass(frozen=True, eq=False)
class Sanitize(Operation):
    """Puts a sanitizer before the normalizer; it takes the place of one of the same kind.

    Attributes:
        sanitizer: its kind, "rounding" or "median".
        settings: its arguments, plain values.
    """

    sanitizer: str
    settings: Mapping[str, Any]

    kind: ClassVar[str] = "sanitize"
    sanitizes: ClassVar[bool] = True

    def apply(self, module: nn.Module) -> None:  # noqa: ARG002
        """Leave the module itself as it is; a sanitizer that cannot be made is named."""
        self.module()

    def module(self) -> SanitizerModule:
        """Return the sanitizer."""
        return sanitizer_of(self.sanitizer, self.settings)


KINDS = {kind.kind: kind for kind in (Select, Factorize, Remove, Assign, Convert, Sanitize)}


def operations_of(recipe: Iterable[Mapping[str, Any]]) -> list[Operation]:
    """Return the operations of a recipe, as a state or file holds it.

    Raises:
        ValueError: an operation of a kind that is not known here.
    """
    operations: list[Operation] = []
    for values in recipe:
        if values["kind"] not in KINDS:
            raise ValueError(
                f'the recipe has an operation "{printable(values["kind"])}", which this tuneflow does not have.'
            )
        operations.append(KINDS[values["kind"]](**{name: value for name, value in values.items() if name != "kind"}))
    return operations


def apply_all(operations: Iterable[Operation], module: nn.Module) -> nn.Module:
    """Apply operations to a module in place, in their order, and return it."""
    with torch.no_grad():
        for operation in operations:
            operation.apply(module)
    return module


def layer_of(module: nn.Module, name: str) -> nn.Module:
    """Return the submodule of this name.

    Raises:
        ValueError: there is none.
    """
    try:
        return module.get_submodule(name)
    except AttributeError:
        raise ValueError(f'the module has no layer "{name}"') from None


def set_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another submodule in the place of the one of this name."""
    owner, _, own = name.rpartition(".")
    setattr(layer_of(module, owner), own, layer)


def fit_attributes(layer: nn.Module) -> None:
    """Set the sizes that a layer keeps beside its tensors to the shapes of these."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or is_lazy(weight):
        return
    if isinstance(layer, nn.modules.conv._ConvNd):
        _fit_convolution(layer, *weight.shape[:2])
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = len(weight)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(weight)


def _fit_convolution(layer: nn.modules.conv._ConvNd, first: int, second: int) -> None:
    """Set the sizes of a convolution to those of the first two dimensions of its weight."""
    before = layer.in_channels if layer.transposed else layer.out_channels
    if layer.groups > 1 and layer.groups == layer.in_channels:  # depthwise: one input channel to each group
        layer.groups = first * layer.groups // before
    grouped = second * layer.groups
    layer.in_channels, layer.out_channels = (first, grouped) if layer.transposed else (grouped, first)


def _factored_linear(layer: nn.Linear, factors: tuple[Tensor, Tensor]) -> nn.Sequential:
    first, second = factors
    kind: Any = {"device": first.device, "dtype": first.dtype}
    into = _undrawn(nn.Linear, layer.in_features, len(first), bias=False, **kind)
    out = _undrawn(nn.Linear, len(first), layer.out_features, bias=layer.bias is not None, **kind)
    into.weight.copy_(first)
    out.weight.copy_(second)
    if layer.bias is not None:
        out.bias.copy_(layer.bias)
    return nn.Sequential(into, out)


def _factored_convolution(layer: nn.Conv2d, factors: tuple[Tensor, Tensor]) -> nn.Sequential:
    """Return a convolution of the same kernel to `rank` channels, and one of kernel 1 from there."""
    if layer.groups > 1:
        raise ValueError("a grouped convolution is not factored")
    first, second = factors
    kind: Any = {"device": first.device, "dtype": first.dtype}
    geometry: Any = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}
    into = _undrawn(nn.Conv2d, layer.in_channels, len(first), layer.kernel_size, bias=False, **geometry, **kind)
    out = _undrawn(nn.Conv2d, len(first), layer.out_channels, 1, bias=layer.bias is not None, **kind)
    into.weight.copy_(first.reshape(into.weight.shape))
    out.weight.copy_(second[:, :, None, None])
    if layer.bias is not None:
        out.bias.copy_(layer.bias)
    return nn.Sequential(into, out)


def _undrawn(kind: type[nn.Module], *arguments: Any, **named: Any) -> Any:
    """Return a layer whose weights are yet to be set: the global generators stay where they are."""
    return skip_init(kind, *arguments, **named)  # type: ignore[no-untyped-call]
