"""Dropout among lanes: each call multiplies by a mask that is drawn outside the program, from the lane's generator."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tuneflow.fused.refusal import CannotFuse, location_below

LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # their p may differ from lane to lane
_PLAIN = (functional.dropout, torch.dropout, torch.dropout_)
_FEATURE = (
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    torch.feature_dropout,
    torch.feature_dropout_,
)
_BATCHED = {functional.dropout1d: 3, functional.dropout3d: 5}  # dimensions of an input that has rows


@dataclass(frozen=True)
class DropoutCall:
    """One call of dropout in forward.

    Attributes:
        shape, stride: of the mask, as torch makes it there.
        p: the probability, where `layer` is None.
        layer: dotted name of the layer that holds the probability.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    p: float
    layer: str | None = None


def draw(mask: Tensor, p: float, generator: torch.Generator) -> None:
    """Fill `mask` with the factors of torch's dropout on a CPU: 0 with probability p, else 1 / (1 - p).

    The same operations as torch's own, so that a generator in the same state gives the same bits, and is left in the
    same state.
    """
    if p == 1.0:
        mask.zero_()
    elif p == 0.0:
        mask.fill_(1.0)
    elif mask.numel():
        mask.bernoulli_(1 - p, generator=generator).div_(1 - p)


class DropoutMasks:
    """A mask (K, *shape) for each call of dropout; each lane's is laid out as torch would."""

    def __init__(self, dropouts: Sequence[DropoutCall], lanes: int, device: torch.device) -> None:
        self._dropouts, self._stacks = dropouts, []
        for dropout in dropouts:
            size = (lanes, *dropout.shape), (math.prod(dropout.shape), *dropout.stride)
            self._stacks.append(torch.empty_strided(*size, dtype=dropout.dtype, device=device).fill_(1.0))
        self._views = [stack.unbind() for stack in self._stacks]

    @property
    def stacks(self) -> list[Tensor]:
        """The masks of all calls, contiguous, as a program takes them."""
        return [stack.contiguous() for stack in self._stacks]

    def draw(
        self, lanes: Iterable[int], rates: Sequence[Mapping[str, float]], generators: Sequence[torch.Generator]
    ) -> None:
        """Draw new masks for some lanes, from each one's generator in the order of forward.

        Args:
            lanes: their indices.
            rates: of each lane's dropout layers, by name.
            generators: of each lane.
        """
        for lane in lanes:
            for dropout, views in zip(self._dropouts, self._views, strict=True):
                p = dropout.p if dropout.layer is None else rates[lane][dropout.layer]
                draw(views[lane], p, generators[lane])


def rates_of(module: nn.Module) -> dict[str, float]:
    """Return the probability of every dropout layer, by dotted name."""
    return {name: float(inner.p) for name, inner in module.named_modules() if isinstance(inner, LAYERS)}


def name_rates(module: nn.Module, active: Mapping[str, float]) -> None:
    """Set every dropout layer's probability to a DropoutRate with its value in `active`, or to 0."""
    for name, inner in module.named_modules():
        if type(inner) in LAYERS:
            inner.p = DropoutRate(active[name], name) if name in active else 0.0


class DropoutRate(float):
    """The probability of a dropout layer, with the layer's name; only dropout may compute with it."""

    layer: str

    def __new__(cls, value: float, layer: str = "") -> "DropoutRate":
        made = super().__new__(cls, value)
        made.layer = layer
        return made

    def _refuse(self, *_: Any) -> NoReturn:
        location = location_below("run_carefully")
        raise CannotFuse(f'forward computes with "{self.layer}.p", which a trace would freeze{location}')

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _refuse
    __neg__ = __abs__ = _refuse


def check_rates(function: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Raise CannotFuse if a function other than dropout gets a layer's probability."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, DropoutRate) and function not in (*_PLAIN, *_FEATURE):
            value._refuse()


class RecordDropout(TorchFunctionMode):
    """Records the calls of dropout and makes them the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[DropoutCall] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = _call(function, args, kwargs)
        if call is not None:
            layer = call.p.layer if isinstance(call.p, DropoutRate) else None
            mask = _mask_of(function, call.input)
            self.calls.append(DropoutCall(tuple(mask.shape), mask.stride(), mask.dtype, float(call.p), layer))
            return call.by(torch.ones((), dtype=call.input.dtype, device=call.input.device))
        return function(*args, **kwargs)


class MaskedDropout(TorchFunctionMode):
    """Makes each call of dropout multiply by the next mask."""

    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self._masks: Iterator[Tensor] = iter(masks)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = _call(function, args, kwargs or {})
        return function(*args, **(kwargs or {})) if call is None else call.by(next(self._masks))


class _DropoutArguments(NamedTuple):
    input: Tensor
    p: float
    inplace: bool

    def by(self, mask: Tensor) -> Tensor:
        return self.input.mul_(mask) if self.inplace else self.input * mask


def _call(function: Any, args: Any, kwargs: dict[str, Any]) -> _DropoutArguments | None:
    """Return the arguments of a call of dropout that drops something; None for any other call."""
    if function not in (*_PLAIN, *_FEATURE):
        return None
    ours = getattr(function, "__module__", "") == functional.__name__
    names = ("input", "p", "training", "inplace") if ours else ("input", "p", "train")
    named = {"p": 0.5, "training": True, "inplace": False} | dict(zip(names, args, strict=False)) | kwargs
    if not named.get("train", named["training"]) or float(named["p"]) == 0.0:
        return None
    return _DropoutArguments(
        named["input"], named["p"], named["inplace"] or function in (torch.dropout_, torch.feature_dropout_)
    )


def _mask_of(function: Any, given: Tensor) -> Tensor:
    """Return a meta tensor with shape and strides of the mask that torch makes for this input."""
    if function in _PLAIN:
        return torch.empty_like(given, device="meta")
    batched = given.dim() == _BATCHED.get(function, given.dim())
    rows, features, *rest = given.shape if batched else (1, *given.shape)
    shape = (rows, features, *[1] * len(rest))
    return torch.empty(shape if batched else shape[1:], dtype=given.dtype, device="meta")
