"""The uses that a module makes of its inputs before any layer with weights: by value, scaled by itself, or neither."""

import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.heuristics.input_scaling import NORMS, NormalizedModule
from tuneflow.heuristics.lazy_layers import copy_of, lazy_tensors
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves

TORCH = str(Path(torch.__file__).parent)
OPERATORS = ("_tensor.py", "_ops.py", "_python_dispatch.py")  # of torch, between a line of user code and the call

# Functions whose result means something else once their argument is shifted and scaled, though it is a float.
VALUES = (
    *("round", "floor", "ceil", "trunc", "fix", "frac", "sign", "sgn", "heaviside", "threshold", "_threshold"),
    *("floor_divide", "__floordiv__", "__rfloordiv__", "remainder", "__mod__", "__rmod__", "fmod"),
    *("log", "log2", "log10", "log1p", "logit", "sqrt", "rsqrt", "reciprocal", "acos", "asin", "atanh", "acosh"),
    *("arccos", "arcsin", "arctanh", "arccosh", "__rdiv__", "__rtruediv__", "entr", "xlogy", "xlog1py", "lgamma"),
    *("gammaln", "mvlgamma", "multigammaln", "digamma", "psi", "polygamma", "erfinv", "ndtri", "log_ndtr", "zeta"),
    *("sin", "cos", "tan", "sinc", "polar", "atan2", "arctan2"),
    *("bernoulli", "poisson", "binomial", "multinomial", "unique", "unique_consecutive", "histc", "grid_sample"),
    *("item", "tolist", "numpy", "equal", "allclose", "__contains__", "_local_scalar_dense"),
    *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"),
)
# Functions whose whole numbers or booleans stay the same: of order, or of what is no number.
ORDERS = (
    *("argmax", "argmin", "argsort", "sort", "msort", "topk", "max", "min", "median", "nanmedian", "kthvalue"),
    *("cummax", "cummin", "isnan", "isinf", "isfinite", "isposinf", "isneginf", "isreal", "is_floating_point"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices"),
    *("max_pool3d_with_indices", "pack_padded_sequence", "_pack_padded_sequence", "pad_packed_sequence"),
)
COMPARISONS = (
    *("eq", "ne", "lt", "le", "gt", "ge", "isclose"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
)
SCALES = ("sub", "subtract", "rsub", "div", "divide", "true_divide", "__sub__", "__rsub__", "__truediv__")
FACTORS = ("mul", "multiply", "__mul__", "__rmul__")
PRODUCTS = (*FACTORS, "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "einsum", "dot", "addcmul")
QUOTIENTS = ("div", "divide", "true_divide", "__truediv__", "__div__")
UNIT_LENGTH = ("normalize", "renorm", "cosine_similarity")  # divide by a norm of their argument
POWERS = ("pow", "__pow__", "float_power")
ELEMENTWISE = (
    *("to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda", "nan_to_num", "clamp", "abs"),
    *("neg", "add", "__add__", "__radd__", *SCALES, *FACTORS, *VALUES),
)
NORM_CALLS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")  # end the search as weights do
FRESH = ("_like", "new_")  # functions that take only shape and dtype have one of these in their name
# Functions that move numbers and compute nothing: applied to column numbers, they tell where each column went.
MOVES = (
    *("__getitem__", "__iter__", "__get__", "select", "narrow", "split", "split_with_sizes", "tensor_split", "chunk"),
    *("unbind", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t"),
    *("movedim", "contiguous", "clone", "detach", "index_select", "flip", "expand", "moveaxis", "swapaxes", "hsplit"),
    *("view_as", "slice", "_unsafe_view"),
)


@dataclass(frozen=True)
class ValueLook:
    """A call that looks at inputs by value.

    Attributes:
        call: the function, as `long()`.
        where: ` (net.py, line 12)`, the line of user code; empty where a layer of torch made the call.
        columns: those it looks at, of the last dimension; None if they are not known.
    """

    call: str
    where: str
    columns: frozenset[int] | None


@dataclass
class InputUses:
    """The uses that a module makes of its inputs before any layer with weights.

    Attributes:
        scales: True if it normalizes them by itself.
        brings: True if it begins with a normalizer of ours, as the trained module of another study does.
        looks: the calls that look at them by value.
    """

    scales: bool = False
    brings: bool = False
    looks: list[ValueLook] = field(default_factory=list)

    def columns(self, width: int) -> list[int]:
        """Return the columns of `width` that are looked at by value."""
        looked = [range(width) if look.columns is None else look.columns for look in self.looks]
        return sorted({column for columns in looked for column in columns})


def uses_of(module: nn.Module, inputs: Any, parts: Collection[Any] = ()) -> InputUses:
    """Follow `inputs` through `module` to the first layers with weights, and return the uses that are made of them.

    A module normalizes by itself if the first layer that it runs is one of torch's norm layers, a module whose class is
    called Normalize or Normalise, or a NormalizedModule, or if it subtracts or divides by numbers or constant tensors,
    or divides by something that it computes from all columns, such as their sum. It looks at inputs by value where it
    casts them to whole numbers, compares them with a constant, rounds them, takes their logarithm or sine, divides by
    them, multiplies by zeros and ones among them, and so on; order, what is NaN, and activations do not count. Calls
    inside scripted code and torch.vmap count too. Runs one forward pass without gradient in evaluation mode; the module
    is restored. What the module raises ends the pass, and is left to training.

    Args:
        module: may be compiled or scripted.
        inputs: as the module takes them without a normalizer.
        parts: the keys or indices of the entries to follow; not used where the inputs are one tensor.
    """
    module = getattr(module, "_orig_mod", module)  # what was compiled
    module = copy_of(module) if lazy_tensors(module) else module  # lazy layers take no shapes from this
    follow = _Follow(module, [inputs] if isinstance(inputs, Tensor) else [inputs[part] for part in parts])
    with ExitStack() as hooks, looked_at(module):
        for layer in module.modules():
            if not isinstance(layer, torch.jit.ScriptModule):
                hooks.enter_context(layer.register_forward_pre_hook(follow.enter))
        with suppress(Exception), _Everywhere(follow), follow:  # training will say what is wrong
            module(inputs)
    return follow.uses


class _Everywhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has a follower see the calls that pass Python by, as those inside scripted code and torch.vmap do."""

    def __init__(self, follow: "_Follow") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._follow = follow

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._follow.__torch_function__(func, types, args, kwargs)


class _Follow(TorchFunctionMode):
    """Follows tensors that come from the inputs until a parameter of the module is involved."""

    def __init__(self, module: nn.Module, tensors: list[Tensor]) -> None:
        super().__init__()
        self.uses, self._entered, self._busy = InputUses(), False, False
        self._kept: list[Tensor] = list(module.parameters())  # an id stays a tensor's own while the tensor lives
        self._parameters = {id(p) for p in self._kept}
        self._weights = set(self._parameters)
        self._columns: dict[int, Tensor | frozenset[int]] = {}  # by the id of a tensor that comes from the inputs
        for tensor in tensors:
            width = tensor.shape[-1] if tensor.ndim > 1 else 1
            self._note(tensor, torch.arange(width, device=tensor.device).expand(*tensor.shape[:-1], -1))
        self._all = self._union([t for t in tensors if id(t) in self._columns])

    def enter(self, layer: nn.Module, _: Any) -> None:
        """Note whether the first layer normalizes; a hook before each module's forward pass."""
        leaf = not list(layer.children())
        norm = isinstance(layer, NORMS) or type(layer).__name__.lower() in ("normalize", "normalise")
        if not self._entered and (isinstance(layer, NormalizedModule) or norm):
            self.uses.scales = True
            self.uses.brings = self.uses.brings or isinstance(layer, NormalizedModule)
        self._entered = self._entered or leaf

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._busy:  # inside a call that is followed as a whole
            return func(*args, **kwargs)
        tensors = leaves((args, kwargs))
        derived = [t for t in tensors if id(t) in self._columns]
        others = [t for t in tensors if id(t) not in self._columns]
        self._busy = bool(derived)
        try:
            return self._call(func, args, kwargs, derived, others)
        finally:
            self._busy = False

    def _call(
        self, func: Callable[..., Any], args: Any, kwargs: Any, derived: list[Tensor], others: list[Tensor]
    ) -> Any:
        """Make a call, note the use that it makes of the inputs, and follow its results."""
        name, values = _name(func), [*args, *kwargs.values()]
        if derived:
            self._find_look(name, values, derived, others)
        result = func(*args, **kwargs)
        if name == "__iter__" and derived:
            result = list(result)
        changed = args[0] if name == "__setitem__" else result
        if any(id(t) in self._weights for t in others) or any(call in name for call in NORM_CALLS):
            self._weigh(changed)
        elif derived and name in COMPARISONS:
            if others or len(derived) < 2 or self._union(derived[:1]) != self._union(derived[1:]):
                self._look(name, derived)
        elif derived and not any(word in name for word in FRESH):
            self._find_scale(name, args, others)
            self._follow(name, derived, leaves(changed), lambda numbers: func(numbers, *args[1:], **kwargs))
        return iter(result) if name == "__iter__" else result

    def _find_look(self, name: str, values: list[Any], derived: list[Tensor], others: list[Tensor]) -> None:
        """Note that a call looks at inputs by value, where its name and arguments tell it before it is made."""
        if name in VALUES or (name in POWERS and not _is_whole(values[1])):
            self._look(name, derived)
        elif name in UNIT_LENGTH or (name in QUOTIENTS and any(values[1] is t for t in derived)):
            divisors = derived if name in UNIT_LENGTH else [values[1]]
            self.uses.scales = self.uses.scales or self._union(divisors) == self._all
            self._look(name, derived)
        elif name in PRODUCTS and any(isinstance(value, complex) for value in values):
            self._look(name, derived)
        elif name in PRODUCTS:
            hidden = [t for t in others if id(t) in self._weights - self._parameters]
            masks = [t for t in derived if _is_mask(t)]
            if masks and (hidden or len(masks) < len(derived)):
                self._look(name, masks)

    def _find_scale(self, name: str, args: Any, others: list[Tensor]) -> None:
        """Note that the module scales its inputs, unless it has looked at them before."""
        if (name in SCALES and (others or _number(args))) or (name in FACTORS and _number(args)):
            self.uses.scales = self.uses.scales or not self.uses.looks

    def _follow(self, name: str, derived: list[Tensor], results: list[Tensor], move: Callable[[Tensor], Any]) -> None:
        """Note the results of a call as derived, with the columns that each comes from."""
        whole = [t for t in results if not t.is_floating_point() and not t.is_complex()]
        if whole and name not in ORDERS and name not in VALUES:
            self._look(name, derived)
        numbers, moved = self._columns[id(derived[0])], None
        if isinstance(numbers, Tensor) and len(derived) == 1:
            if name in MOVES:
                with suppress(Exception):  # without it the call counts as one of all columns
                    moved = leaves(list(move(numbers)) if name == "__iter__" else move(numbers))
            elif name in ELEMENTWISE:
                moved = [numbers]
        if moved is None or [t.shape for t in moved] != [t.shape for t in results]:
            union = self._union(derived)
            for tensor in results:
                self._note(tensor, union)
            return
        for tensor, columns in zip(results, moved, strict=True):
            self._note(tensor, columns)

    def _note(self, tensor: Tensor, columns: Tensor | frozenset[int]) -> None:
        if tensor.is_floating_point():
            self._columns[id(tensor)] = columns
            self._kept.append(tensor)

    def _weigh(self, result: Any) -> None:
        for tensor in leaves(result):
            self._weights.add(id(tensor))
            self._kept.append(tensor)

    def _union(self, tensors: list[Tensor]) -> frozenset[int]:
        sets = (self._columns[id(t)] for t in tensors)
        return frozenset(n for s in sets for n in (s.flatten().tolist() if isinstance(s, Tensor) else s))

    def _look(self, name: str, derived: list[Tensor]) -> None:
        self.uses.looks.append(ValueLook(_words(name), _caller(), self._union(derived)))


def _name(func: Callable[..., Any]) -> str:
    """Return a function's name, without underscores for in-place, and without overload and module."""
    name = getattr(func, "__name__", "?").split(".")[0].removeprefix("special_")
    return name if name.startswith("__") else name.rstrip("_")


def _words(name: str) -> str:
    signs = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "mod": "%", "floordiv": "//"}
    signs |= {"div": "/", "truediv": "/", "rdiv": "/", "rtruediv": "/", "mul": "*", "matmul": "@", "pow": "**"}
    bare = name.strip("_")
    return signs.get(bare, {"to_copy": "to()", "local_scalar_dense": "item()"}.get(bare, f"{bare}()"))


def _is_whole(exponent: Any) -> bool:
    """True if a power with this exponent is one of all numbers: 0, 1, 2 and so on."""
    values = torch.as_tensor(exponent).double()
    return bool(((values >= 0) & (values == values.floor())).all())


def _is_mask(tensor: Tensor) -> bool:
    """True if a tensor holds only zeros and ones."""
    return bool(((tensor == 0) | (tensor == 1)).all())


def _number(args: Any) -> bool:
    """True if an argument is a plain number."""
    return any(isinstance(arg, int | float) and not isinstance(arg, bool) for arg in args[:2])


def _caller() -> str:
    """Return ` (net.py, line 12)`, the line of user code under way; empty if a layer of torch is."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and _is_between(frame.f_code.co_filename):
        frame = frame.f_back
    path = frame.f_code.co_filename
    return "" if path.startswith(TORCH) else f" ({Path(path).name}, line {frame.f_lineno})"


def _is_between(path: str) -> bool:
    return path == __file__ or (path.startswith(TORCH) and path.endswith(OPERATORS))
