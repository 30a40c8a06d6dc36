"""An aten graph of one training step: traced, then cleaned of what costs time and changes nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
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
    """Where a value lay when the graph ran once: two equal seats are the same numbers in the same memory."""

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
    """A graph, its constants, and what a run of it showed.

    Attributes:
        constants: node to value: computed at the trace, the same at every step.
        seats: node to seat, for nodes that are one tensor.
        written: memories that some node changes in place.
        given: memories of the inputs and constants.
        changed: places of the inputs that are changed in place.
    """

    graph: fx.Graph
    constants: dict[fx.Node, Tensor] = field(default_factory=dict)
    seats: dict[fx.Node, TensorView] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    given: set[int] = field(default_factory=set)
    changed: list[int] = field(default_factory=list)


def trace(function: Callable[..., Any], inputs: Sequence[Tensor], lasting: int | None = None) -> TracedGraph:
    """The cleaned graph of `function(*inputs)`, which returns a flat sequence of tensors.

    Args:
        inputs: contiguous; a trace leaves them as they are.
        lasting: how many of the first inputs may change between a call and the use of what it returned. Then an output
            that is a large product of what does not is returned as its two factors. None: every output is a tensor.
    """
    copies = [tensor.clone() for tensor in inputs]
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
    """The node that says what is returned, and what that is."""
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    return output, list(output.args[0])


def writes(node: fx.Node) -> list[fx.Node]:
    """The arguments that this node changes in place."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    hidden = _HIDDEN_WRITES.get(name_of(node), ())
    found: list[Any] = [node.args[place] for place in hidden if place < len(node.args)]
    for place, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(node.args[place] if place < len(node.args) else node.kwargs.get(argument.name))
    leaves = [leaf for value in found for leaf in (value if isinstance(value, list | tuple) else [value])]
    return [leaf for leaf in leaves if isinstance(leaf, fx.Node)]


class _ViewRecorder(fx.Interpreter):
    """Runs a graph, keeps every value alive, so that memory tells what is a view of what, and notes where each lay."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.seats: dict[fx.Node, TensorView] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            memory, offset = value.untyped_storage()._cdata, int(value.storage_offset())
            self.seats[n] = TensorView(
                memory, offset, tuple(value.shape), tuple(value.stride()), value.dtype, value.device
            )
        return value


def _observe(traced: TracedGraph, module: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
    """Note where values lie, what is changed in place, and what is the same at every step."""
    runner = _ViewRecorder(module)
    with torch.no_grad():
        runner.run(*inputs)
    traced.seats = runner.seats
    traced.given = {seat.memory for node, seat in traced.seats.items() if node.op == "placeholder"}
    fixed: set[fx.Node] = set()
    for node in traced.graph.nodes:
        traced.written.update(traced.seats[changed].memory for changed in writes(node) if changed in traced.seats)
    inputs_of = [node for node in traced.graph.nodes if node.op == "placeholder"]
    traced.changed = [place for place, node in enumerate(inputs_of) if _touched(traced, node)]
    for node in traced.graph.nodes:
        if _is_fixed(traced, node, fixed) and node in traced.seats and not _touched(traced, node):
            fixed.add(node)
            traced.constants[node] = runner.env[node]
    traced.given.update(traced.seats[node].memory for node in fixed)


def _is_fixed(traced: TracedGraph, node: fx.Node, fixed: set[fx.Node]) -> bool:
    if node.op == "get_attr":
        return True
    if node.op != "call_function" or _is_random(node) or writes(node):
        return False
    return name_of(node) in _SHAPE_ONLY or (name_of(node) != "empty" and all(a in fixed for a in node.all_input_nodes))


def _is_random(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _touched(traced: TracedGraph, *nodes: fx.Node) -> bool:
    """Whether something changes one of these in place, or cannot be seen."""
    return any(node not in traced.seats or traced.seats[node].memory in traced.written for node in nodes)


def _replace(traced: TracedGraph, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    traced.graph.erase_node(node)


def _out_of_place_views(traced: TracedGraph) -> None:
    """`transpose_` of what nobody else sees is `transpose`."""
    for node in traced.graph.nodes:
        if node.target is aten.transpose_.default and set(node.args[0].users) == {node}:
            node.target = aten.transpose.int


def _drop_repeated_views(traced: TracedGraph) -> None:
    """A view that is the same numbers in the same memory as an earlier value is that value."""
    first: dict[TensorView, fx.Node] = {}
    for node in list(traced.graph.nodes):
        seat = traced.seats.get(node)
        if seat is None or node in traced.constants:
            continue
        if name_of(node) in _VIEWS and not writes(node) and seat in first:
            _replace(traced, node, first[seat])
        elif not writes(node):
            first.setdefault(seat, node)


def _drop_copies(traced: TracedGraph) -> None:
    """Multiplying by 1, cloning or converting x to what it is: x itself, unless either is changed in place later."""
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source not in traced.seats or node not in traced.seats:
            continue
        name, second = name_of(node), node.args[1] if len(node.args) > 1 else None
        plain = name in ("clone", "_to_copy", "lift_fresh") or (name in ("mul", "div") and second in (1, 1.0))
        if plain and not _touched(traced, node, source) and traced.seats[node].like(traced.seats[source]):
            traced.seats.pop(node)
            _replace(traced, node, source)


def _drop_repeated_work(traced: TracedGraph) -> None:
    """The same op on the same arguments is done once."""
    first: dict[str, fx.Node] = {}
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node not in traced.seats or node in traced.constants:
            continue
        if _is_random(node) or writes(node) or _touched(traced, node, *node.all_input_nodes):
            continue
        if "empty" in name_of(node):
            continue
        key = f"{node.target}{node.args}{node.kwargs}"
        if key in first:
            _replace(traced, node, first[key])
        else:
            first[key] = node


def _join_products(traced: TracedGraph) -> None:
    """bmm, then + bias: one baddbmm."""
    for node in list(traced.graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs or len(node.args) != 2 or node in traced.constants:
            continue
        for bias, product in (node.args, node.args[::-1]):
            if (
                not isinstance(bias, fx.Node)
                or not isinstance(product, fx.Node)
                or product.target is not aten.bmm.default
            ):
                continue
            seats = traced.seats
            fits = (
                len(seats[bias].shape) == 3 and seats[node].like(seats[product]) and bias.target is not aten.bmm.default
            )
            if not fits or len(product.users) != 1 or _touched(traced, bias, node, product, *product.all_input_nodes):
                continue
            with traced.graph.inserting_before(node):
                joined = traced.graph.call_function(aten.baddbmm.default, (bias, *product.args))
            seats[joined] = seats[node]
            _replace(traced, node, joined)
            traced.graph.erase_node(product)
            break


def _own_outputs(traced: TracedGraph) -> None:
    """Every output is contiguous memory of its own, so that it may be changed in place."""
    output, made = returned_by(traced.graph)
    owned, results = set(traced.given), []
    for node in made:
        seat = traced.seats[node]
        like = torch.empty_strided(seat.shape, seat.stride, device="meta")
        if seat.memory in owned or not like.is_contiguous():
            with traced.graph.inserting_before(output):
                node = traced.graph.call_function(
                    aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
                )
        owned.add(seat.memory)
        results.append(node)
    output.args = (tuple(results),)


def _leave_products(traced: TracedGraph, lasting: int) -> None:
    """An output that is a large bmm is left to be multiplied out, lane by lane, by whoever needs it."""
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    output, made = returned_by(traced.graph)
    moving = {traced.seats[node].memory for node in inputs[:lasting]}

    def is_left(node: fx.Node) -> bool:
        if node.target is not aten.bmm.default or list(node.users) != [output] or made.count(node) > 1:
            return False
        seat, factors = traced.seats[node], node.all_input_nodes
        lasts = not _touched(traced, *factors) and not any(traced.seats[f].memory in moving for f in factors)
        return lasts and seat.device.type == "cpu" and _bytes_of_lane(seat) >= LARGE

    output.args = (tuple(tuple(node.args) if is_left(node) else node for node in made),)


def _bytes_of_lane(seat: TensorView) -> int:
    return math.prod(seat.shape[1:]) * seat.dtype.itemsize


def _drop_dead(traced: TracedGraph) -> None:
    for node in reversed(list(traced.graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users and not writes(node):
            traced.constants.pop(node, None)
            traced.graph.erase_node(node)
        elif node in traced.constants:
            node.args, node.kwargs = (), {}
