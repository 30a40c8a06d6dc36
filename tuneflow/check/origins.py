"""The origin of tensors: scores, probabilities or log-probabilities, followed through calls that keep their numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuneflow.nested import leaves

SCORES, PROBABILITIES, LOGS = "scores", "probabilities", "log-probabilities"
ORIGINS = {
    **dict.fromkeys(("softmax", "softmin", "gumbel_softmax"), (PROBABILITIES, "softmax")),
    **dict.fromkeys(("sigmoid", "sigmoid_", "expit", "hardsigmoid"), (PROBABILITIES, "sigmoid")),
    **dict.fromkeys(("log_softmax", "logsigmoid"), (LOGS, "")),
    **dict.fromkeys(("linear", "bilinear", "matmul", "__matmul__", "mm", "bmm", "addmm"), (SCORES, "")),
    **dict.fromkeys((f"conv{t}{d}d" for t in ("", "_transpose") for d in "123"), (SCORES, "")),
}
KEEPS = (
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze", "squeeze_"),
    *("unsqueeze_", "permute", "transpose", "t", "T", "mT", "swapaxes", "swapdims", "movedim", "moveaxis"),
    *("contiguous", "clone", "detach", "float", "double", "half", "bfloat16", "to", "type", "type_as", "cpu", "cuda"),
    *("__getitem__", "select", "narrow", "index_select", "masked_select", "expand", "expand_as", "repeat", "chunk"),
    *("split", "tensor_split", "unbind", "clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_max", "nan_to_num"),
    *("cat", "concat", "stack", "hstack", "vstack", "requires_grad_"),
)
ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")
TINY = 1e-3  # a number that is added to probabilities before their logarithm, at most


@dataclass(frozen=True)
class Origin:
    """The call that gave a tensor its numbers.

    Attributes:
        kind: scores, probabilities or log-probabilities.
        name: "softmax" or "sigmoid" for probabilities; else empty.
        where: the layer in words.
    """

    kind: str
    name: str
    where: str


class Origins:
    """The origins of all tensors of a forward pass and its loss, as far as they are of the three kinds."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[Tensor, Origin]] = {}  # with the tensor, so that its identity stays its own

    def of(self, tensor: Tensor) -> Origin | None:
        """Return the origin of a tensor; None if it is of no kind that is followed."""
        return self._of[id(tensor)][1] if id(tensor) in self._of else None

    def note(self, function: Callable[..., Any], args: Any, result: Any, where: str) -> None:
        """Note the origin of a call's results.

        Args:
            function: of torch.
            args: its positional arguments.
            result: what it returned.
            where: the layer of the call, in words.
        """
        origin = self._made_by(_name(function), args, where)
        for tensor in leaves(result):
            if origin is None:
                self._of.pop(id(tensor), None)
            else:
                self._of[id(tensor)] = tensor, origin

    def _made_by(self, name: str, args: Any, where: str) -> Origin | None:
        if name in ORIGINS:
            return Origin(*ORIGINS[name], where)
        origins = [self.of(tensor) for tensor in leaves(list(args)) if tensor.is_floating_point()]
        first = origins[0] if origins else None
        if first is None:
            return None
        alike = all(origin is not None and origin.kind == first.kind for origin in origins)
        if (name in KEEPS and alike) or _adds_little(name, args):
            return first
        if name in ("log", "log_") and first.kind == PROBABILITIES:
            return Origin(LOGS, "", first.where)
        return Origin(PROBABILITIES, "softmax", first.where) if name in ("exp", "exp_") and first.kind == LOGS else None


def _name(function: Callable[..., Any]) -> str:
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":  # of an attribute, such as x.T
        return str(getattr(getattr(function, "__self__", None), "__name__", ""))
    return name


def _adds_little(name: str, args: Any) -> bool:
    return name in ADDITIONS and any(isinstance(arg, int | float) and abs(arg) <= TINY for arg in args)
