"""A cleaned graph as a Python function: one line per op, called without autograd, functorch or fx."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tuneflow.fused.graph import TracedGraph, aten, name_of, returned_by

# Ops whose torch.* function takes the same arguments in the same positions, at less cost than the op's own object.
_DIRECT = {
    "_log_softmax", "_softmax", "abs", "add", "addcmul", "baddbmm", "bmm", "cat", "cos", "div", "eq", "erf", "exp",
    "gather", "ge", "gt", "le", "log", "log1p", "lt", "maximum", "minimum", "mul", "ne", "neg", "permute", "reciprocal",
    "relu", "rsqrt", "select", "sigmoid", "sin", "sqrt", "squeeze", "stack", "sub", "tanh", "transpose", "unsqueeze",
    "where",
}  # fmt: skip

_LARGE = 1 << 16  # bytes, from which memory is reused
_INTO: dict[Any, tuple[str, Any]] = {  # op to the name of the argument that takes its result, and what takes it
    aten.bmm.default: ("out", torch.bmm),
    aten.baddbmm.default: ("out", torch.baddbmm),
    aten.mm.default: ("out", torch.mm),
    aten.addmm.default: ("out", torch.addmm),
    aten.threshold_backward.default: ("grad_input", aten.threshold_backward.grad_input),
}


def compiled(traced: TracedGraph, *, fresh: bool = False) -> Callable[..., Sequence[Any]]:
    """Return the graph as a function of its placeholders; values are dropped after their last use.

    Large products lie in memory that is kept and written again by the next call, outputs too: fresh memory would have
    to be mapped by the kernel at every step, which costs as much as the arithmetic.

    Args:
        traced: the graph; not modified.
        fresh: return outputs in new memory at every call all the same.
    """
    names: dict[fx.Node, str] = {}
    scope: dict[str, Any] = {}
    lines: list[str] = []
    last = _last_uses(traced.graph)
    arguments = []
    made = returned_by(traced.graph)[0].all_input_nodes
    returned = {traced.views[node].memory for node in made if node in traced.views}

    def spelled(value: Any) -> str:
        if isinstance(value, fx.Node):
            return names[value]
        if isinstance(value, list | tuple):
            inner = ", ".join(spelled(part) for part in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if value else "()"
        if value is None or isinstance(value, bool | int):
            return repr(value)
        scope[f"c{len(scope)}"] = value
        return f"c{len(scope) - 1}"

    for index, node in enumerate(traced.graph.nodes):
        names[node] = f"n{index}"
        if node.op == "placeholder":
            arguments.append(names[node])
        elif node in traced.constants:
            scope[names[node]] = traced.constants[node]
        elif node.op == "output":
            lines.append(f"return {spelled(node.args[0])}")
        elif node.op == "call_function":
            given = [spelled(value) for value in node.args]
            given += [f"{name}={spelled(value)}" for name, value in node.kwargs.items()]
            if _is_kept(traced, node) and not (fresh and traced.views[node].memory in returned):
                view = traced.views[node]
                scope[f"kept{index}"] = torch.empty(view.shape, dtype=view.dtype, device=view.device)
                given.append(f"{_INTO[node.target][0]}=kept{index}")
            lines.append(f"{names[node]} = {_called(traced, node, given, scope)}")
            done = [names[gone] for gone in last.get(node, []) if gone not in traced.constants]
            if done:
                lines.append(f"del {', '.join(done)}")
        else:
            raise NotImplementedError(f"a graph's {node.op}")
    body = "\n    ".join(lines)
    exec(f"def replay({', '.join(arguments)}):\n    {body}\n", scope)
    function: Callable[..., Sequence[Any]] = scope["replay"]
    return function


def _called(traced: TracedGraph, node: fx.Node, given: list[str], scope: dict[str, Any]) -> str:
    """The call of one op as Python source."""
    if node.target is operator.getitem:
        return f"{given[0]}[{given[1]}]"
    if name_of(node) in ("view", "_unsafe_view"):
        return f"{given[0]}.view({given[1]})"
    direct = getattr(torch, name_of(node)) if name_of(node) in _DIRECT else node.target
    if any("=kept" in argument for argument in given):
        direct = _INTO[node.target][1]
    elif node.target in _SHORT and _is_short(traced, node):
        direct = _SHORT[node.target]
    elif node.target is aten.relu.default and _is_only_use(node):
        direct = torch.relu_
    key = f"{node.target}_{getattr(direct, '__name__', '')}".replace(".", "_")
    scope[key] = direct
    return f"{key}({', '.join(given)})"


def _is_short(traced: TracedGraph, node: fx.Node) -> bool:
    """True for an op along a short last axis, of few classes, on a CPU, where torch's kernel is slow."""
    view = traced.views[node]
    last, along = len(view.shape) - 1, next(value for value in node.args if type(value) is int)
    return last > 0 and along in (last, -1) and view.shape[-1] <= 16 and view.device.type == "cpu"


def _short_log_softmax(x: Tensor, _along: int, half: bool) -> Tensor:
    """`_log_softmax` along a short last axis, the long one innermost: the same numbers, 4 to 6 times faster."""
    turned = x.transpose(-1, -2).contiguous()
    return torch._log_softmax(turned, x.dim() - 2, half).transpose(-1, -2).contiguous()


def _short_log_softmax_backward(grad: Tensor, output: Tensor, _along: int, dtype: torch.dtype) -> Tensor:
    """`_log_softmax_backward_data`, in the same way."""
    turned = [x.transpose(-1, -2).contiguous() for x in (grad, output)]
    made: Tensor = aten._log_softmax_backward_data.default(*turned, grad.dim() - 2, dtype)
    return made.transpose(-1, -2).contiguous()


_SHORT: dict[Any, Any] = {
    aten._log_softmax.default: _short_log_softmax,
    aten._log_softmax_backward_data.default: _short_log_softmax_backward,
}


def _is_kept(traced: TracedGraph, node: fx.Node) -> bool:
    """True if the result of this op is large enough to reuse its memory between calls, and contiguous."""
    if node.target not in _INTO or node not in traced.views:
        return False
    view = traced.views[node]
    plain = torch.empty(view.shape, device="meta").stride() == view.stride
    return plain and math.prod(view.shape) * view.dtype.itemsize >= _LARGE


def _is_only_use(node: fx.Node) -> bool:
    """True if this op is the only user of its argument, and that is a product."""
    made = node.args[0]
    return isinstance(made, fx.Node) and made.target in _INTO and list(made.users) == [node]


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Node to the values that are not needed after it; placeholders are the caller's."""
    seen: set[fx.Node] = set()
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(list(graph.nodes)):
        for used in [*node.all_input_nodes, node]:
            if used not in seen and node.op not in ("output", "placeholder") and used.op == "call_function":
                last.setdefault(node, []).append(used)
            seen.add(used)
    return last
