"""The aten graph of a training step, traced and then freed of ops that change nothing."""

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tuneflow.fused.gradient import LARGE

aten = torch.ops.aten

_VIEWS = {
    "view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "t", "detach", "alias", "unsqueeze",
    "squeeze", "select", "slice", "as_strided", "unbind", "split",
}  # fmt: skip
_SHAPE_ONLY = {"ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full"}
_HIDDEN_WRITES = {"native_batch_norm": (3, 4), "cudnn_batch_norm": (3, 4), "miopen_batch_norm": (3, 4)}


@dataclass(frozen=True)
class TensorView:
    """The memory of a value when the graph ran once: two equal views are the same numbers in the same memory."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def like(self, other: "TensorView") -> bool:
        return (self.shape, self.stride, self.dtype) == (other.shape, other.stride, other.dtype)


@dataclass
class TracedGraph:
    """A graph, its constants, and the memory of its values in one run.

    Attributes:
        constants: node to value: computed at the trace, the same at every step.
        views: node to view, for nodes with a single tensor.
        written: memories that some node changes in place.
        given: memories of the inputs and constants.
        changed: indices of the inputs that are changed in place.
    """

    graph: fx.Graph
    constants: dict[fx.Node, Tensor] = field(default_factory=dict)
    views: dict[fx.Node, TensorView] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    given: set[int] = field(default_factory=set)
    changed: list[int] = field(default_factory=list)


def trace(function: Callable[..., Any], inputs: Sequence[Tensor], lasting: int | None = None) -> TracedGraph:
    """Trace `function(*inputs)`, which returns a flat sequence of tensors, and return the cleaned graph.

    Args:
        function: of tensors only; it is called twice.
        inputs: contiguous; a trace leaves them as they are.
        lasting: number of leading inputs that may change between a call and the use of its outputs. An output that is
            a large product of other values is then returned as its two factors. None: every output is a tensor.
    """
    copies = [tensor.clone() for tensor in inputs]
    with tracing(TracingContext(FakeTensorMode())):  # else torch makes such a mode for every value: half of the time
        module = make_fx(function)(*copies)
    traced = TracedGraph(module.graph)
    _observe(traced, module, [tensor.clone() for tensor in inputs])
    _out_of_place_views(traced)
    _drop_repeated_views(traced)
    _drop_copies(traced)
    _drop_repeated_work(traced)
    _join_products(traced)
    _own_outputs(traced)
    _drop_dead(traced)
    if lasting is not None:
        _leave_products(traced, lasting)
        _drop_dead(traced)
    return traced


def name_of(node: fx.Node) -> str:
    """`bmm` for aten.bmm.default; empty for what is not an aten op."""
    return str(node.target.overloadpacket.__name__) if isinstance(node.target, torch._ops.OpOverload) else ""


def returned_by(graph: fx.Graph) -> tuple[fx.Node, list[Any]]:
    """Return the output node, and the list of nodes that it returns."""
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    return output, list(output.args[0])


def writes(node: fx.Node) -> list[fx.Node]:
    """Return the arguments that this node changes in place."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    hidden = _HIDDEN_WRITES.get(name_of(node), ())
    found: list[Any] = [node.args[index] for index in hidden if index < len(node.args)]
    for index, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(node.args[index] if index < len(node.args) else node.kwargs.get(argument.name))
    leaves = [leaf for value in found for leaf in (value if isinstance(value, list | tuple) else [value])]
    return [leaf for leaf in leaves if isinstance(leaf, fx.Node)]


class _ViewRecorder(fx.Interpreter):
    """Runs a graph and records the memory of every value; all are kept alive, so that no memory is reused."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.views: dict[fx.Node, TensorView] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            memory, offset = value.untyped_storage()._cdata, int(value.storage_offset())
            self.views[n] = TensorView(memory, offset, tuple(value.shape), value.stride(), value.dtype, value.device)
        return value


def _observe(traced: TracedGraph, module: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
    """Run the graph once; record memory, in-place changes and constants."""
    runner = _ViewRecorder(module)
    with torch.no_grad():
        runner.run(*inputs)
    traced.views = runner.views
    traced.given = {view.memory for node, view in traced.views.items() if node.op == "placeholder"}
    for node in traced.graph.nodes:
        traced.written.update(traced.views[changed].memory for changed in writes(node) if changed in traced.views)
    inputs_of = [node for node in traced.graph.nodes if node.op == "placeholder"]
    traced.changed = [index for index, node in enumerate(inputs_of) if _touched(traced, node)]
    for node in traced.graph.nodes:
        if _is_fixed(node, traced.constants) and node in traced.views and not _touched(traced, node):
            traced.constants[node] = runner.env[node]
    traced.given.update(traced.views[node].memory for node in traced.constants)


def _is_fixed(node: fx.Node, fixed: Container[fx.Node]) -> bool:
    if node.op == "get_attr":
        return True
    if node.op != "call_function" or _is_random(node) or writes(node):
        return False
    return name_of(node) in _SHAPE_ONLY or (name_of(node) != "empty" and all(a in fixed for a in node.all_input_nodes))


def _is_random(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _touched(traced: TracedGraph, *nodes: fx.Node) -> bool:
    """True if some op changes one of these in place, or their memory is unknown."""
    return any(node not in traced.views or traced.views[node].memory in traced.written for node in nodes)


def _replace(traced: TracedGraph, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    traced.graph.erase_node(node)


def _out_of_place_views(traced: TracedGraph) -> None:
    """Replace `transpose_` by `transpose` where its argument has no other user."""
    for node in traced.graph.nodes:
        if node.target is aten.transpose_.default and set(node.args[0].users) == {node}:
            node.target = aten.transpose.int


def _drop_repeated_views(traced: TracedGraph) -> None:
    """Replace a view of the same numbers in the same memory as an earlier value by that value."""
    first: dict[TensorView, fx.Node] = {}
    for node in list(traced.graph.nodes):
        view = traced.views.get(node)
        if view is None or node in traced.constants:
            continue
        if name_of(node) in _VIEWS and not writes(node) and view in first:
            _replace(traced, node, first[view])
        elif not writes(node):
            first.setdefault(view, node)


def _drop_copies(traced: TracedGraph) -> None:
    """Drop multiplications by 1, clones and conversions to the same type, unless either side changes in place."""
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source not in traced.views or node not in traced.views:
            continue
        name, second = name_of(node), node.args[1] if len(node.args) > 1 else None
        plain = name in ("clone", "_to_copy", "lift_fresh") or (name in ("mul", "div") and second in (1, 1.0))
        if plain and not _touched(traced, node, source) and traced.views[node].like(traced.views[source]):
            traced.views.pop(node)
            _replace(traced, node, source)


def _drop_repeated_work(traced: TracedGraph) -> None:
    """Compute the same op on the same arguments once."""
    first: dict[str, fx.Node] = {}
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node not in traced.views or node in traced.constants:
            continue
        own = _is_random(node) or writes(node) or "empty" in name_of(node)
        if own or _touched(traced, node, *node.all_input_nodes):
            continue
        key = f"{node.target}{node.args}{node.kwargs}"
        if key in first:
            _replace(traced, node, first[key])
        else:
            first[key] = node


def _join_products(traced: TracedGraph) -> None:
    """Join bmm and the addition of a bias into baddbmm."""
    for node in list(traced.graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs or len(node.args) != 2 or node in traced.constants:
            continue
        views = traced.views
        for bias, product in (node.args, node.args[::-1]):
            if not isinstance(bias, fx.Node) or _is_product(bias) or not _is_product(product):
                continue
            fits = len(views[bias].shape) == 3 and views[node].like(views[product]) and len(product.users) == 1
            if not fits or _touched(traced, bias, node, product, *product.all_input_nodes):
                continue
            with traced.graph.inserting_before(node):
                joined = traced.graph.call_function(aten.baddbmm.default, (bias, *product.args))
            views[joined] = views[node]
            _replace(traced, node, joined)
            traced.graph.erase_node(product)
            break


def _is_product(value: Any) -> TypeGuard[fx.Node]:
    return isinstance(value, fx.Node) and value.target is aten.bmm.default


def _own_outputs(traced: TracedGraph) -> None:
    """Give every output contiguous memory of its own, so that it may be changed in place."""
    output, made = returned_by(traced.graph)
    owned, results = set(traced.given), []
    for node in made:
        view = traced.views[node]
        like = torch.empty_strided(view.shape, view.stride, device="meta")
        if view.memory in owned or not like.is_contiguous():
            with traced.graph.inserting_before(output):
                layout: Any = {"memory_format": torch.contiguous_format}
                node = traced.graph.call_function(aten.clone.default, (node,), layout)
        owned.add(view.memory)
        results.append(node)
    output.args = (tuple(results),)


def _leave_products(traced: TracedGraph, lasting: int) -> None:
    """Return the factors of an output that is a large bmm, to be multiplied lane by lane where it is used."""
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    output, made = returned_by(traced.graph)
    moving = {traced.views[node].memory for node in inputs[:lasting]}

    def is_left(node: fx.Node) -> bool:
        if not _is_product(node) or list(node.users) != [output] or made.count(node) > 1:
            return False
        view, factors = traced.views[node], node.all_input_nodes
        lasts = not _touched(traced, *factors) and not any(traced.views[f].memory in moving for f in factors)
        bytes_of_lane = math.prod(view.shape[1:]) * view.dtype.itemsize
        return lasts and view.device.type == "cpu" and bytes_of_lane >= LARGE

    output.args = (tuple(tuple(node.args) if is_left(node) else node for node in made),)


def _drop_dead(traced: TracedGraph) -> None:
    for node in reversed(list(traced.graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users and not writes(node):
            traced.constants.pop(node, None)
            traced.graph.erase_node(node)
        elif node in traced.constants:
            node.args, node.kwargs = (), {}
