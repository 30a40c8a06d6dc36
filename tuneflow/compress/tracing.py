"""Tracing: a module as a graph of its layers, as it computes in evaluation mode."""

import copy
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

CALLS = ("call_module", "call_function", "call_method")
WEIGHTED = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d, torch.conv2d)
WAY_OUT = 'choose "fp32" or "bf16", which need no trace'


def traced(module: nn.Module) -> fx.GraphModule:
    """Return a copy of a module as a graph, in evaluation mode.

    Dropout is gone, and a layer that is called several times stands there once for each call.

    Args:
        module: on the CPU.

    Raises:
        ValueError: it cannot be traced, is not on the CPU, or has hooks in it that a graph would leave out.
    """
    _check(module)
    root = copy.deepcopy(module).eval()
    root = nn.Sequential(root) if fx.Tracer().is_leaf_module(root, "") else root
    try:
        graph = fx.GraphModule(root, fx.Tracer().trace(root), type(module).__name__)
    except Exception as error:
        raise ValueError(
            f"int8 needs a module whose forward can be traced, got {type(module).__name__}"
            f" ({type(error).__name__}: {error}); {WAY_OUT}."
        ) from None
    _simplify(graph)
    return with_hooks(graph.eval(), hooks_of(module))


def hooks_of(module: nn.Module) -> tuple[Any, Any]:
    """Return the hooks that a module has before its forward."""
    return module._forward_pre_hooks.copy(), module._forward_pre_hooks_with_kwargs.copy()


def with_hooks(graph: fx.GraphModule, hooks: tuple[Any, Any]) -> fx.GraphModule:
    """Return `graph` with the hooks of another module, as `hooks_of` returned them: a trace leaves them out."""
    graph._forward_pre_hooks, graph._forward_pre_hooks_with_kwargs = hooks
    return graph


def _check(module: nn.Module) -> None:
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    if device.type != "cpu":
        raise ValueError(
            f'int8 needs a module on the CPU, got one on "{device}", for which torch has no int8 kernels; choose'
            ' "bf16", or Runtime("cpu").'
        )
    if other := [name for name, tensor in module.named_parameters() if tensor.dtype is not torch.float32]:
        raise ValueError(
            f'int8 needs parameters in float32, got "{other[0]}" in {module.get_parameter(other[0]).dtype};'
            ' choose "fp32", or module.float().'
        )
    for name, part in module.named_modules():
        if part._forward_hooks or (part._forward_pre_hooks and part is not module):
            raise ValueError(
                f'int8 needs a module without hooks, which a trace leaves out, got some on "{name}"; remove them, or'
                f" {WAY_OUT}."
            )


def _simplify(graph: fx.GraphModule) -> None:
    """Take out what does nothing in evaluation mode, and give every call of a layer a layer of its own."""
    called: set[str] = set()
    for node in list(graph.graph.nodes):
        layer = graph.get_submodule(node.target) if node.op == "call_module" else None
        _normalize(node)
        if _is_in_place(node, layer):
            _pass_on(node)
        if isinstance(layer, _DropoutNd | nn.Identity) or _is_idle(node):
            node.replace_all_uses_with(_input_of(node))
            graph.graph.erase_node(node)
        elif isinstance(layer, nn.Flatten):
            _replace(graph, node, torch.flatten, layer.start_dim, layer.end_dim)
        elif layer is not None and node.target in called:
            _repeat(graph, node, layer)
        called.add(str(node.target))
    for part in graph.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment]
        if isinstance(part, nn.modules.conv._ConvNd) and isinstance(part.padding, str):
            _pad_by_numbers(part)
    graph.graph.eliminate_dead_code()  # as a conversion does
    graph.delete_all_unused_submodules()
    graph.recompile()


def _normalize(node: fx.Node) -> None:
    """Write a call in the form that torch converts: a layer's input by position, reshape where view needs a layout."""
    if node.op == "call_module" and not node.args and "input" in node.kwargs:
        node.args, node.kwargs = (node.kwargs["input"],), {k: v for k, v in node.kwargs.items() if k != "input"}
    if node.op == "call_method" and node.target == "view" and not isinstance(node.args[1], torch.dtype):
        node.target = "reshape"


def _pad_by_numbers(layer: Any) -> None:
    """Replace the padding "same" or "valid" by its numbers, where they are the same on both sides."""
    before, after = (layer._reversed_padding_repeated_twice[side::2][::-1] for side in (0, 1))
    if before == after:
        layer.padding = tuple(before)


def _is_in_place(node: fx.Node, layer: nn.Module | None) -> bool:
    """True for a call that changes a value it gets, such as `y.add_(z)`, `y += z` or `relu(y, inplace=True)`."""
    if layer is not None:
        return getattr(layer, "inplace", False) is True
    if node.kwargs.get("inplace") is True or "out" in node.kwargs:
        return True
    name = str(getattr(node.target, "__name__", node.target))
    if getattr(node.target, "__module__", "") == "_operator":
        return name.startswith("i") and hasattr(operator, f"__{name[1:]}__")
    return node.op in CALLS and name.endswith("_") and not name.endswith("__")


def _pass_on(node: fx.Node) -> None:
    """Let later uses of the value that a call changes take the call's result, without which it would be dead code."""
    changed = node.kwargs.get("out", _input_of(node))
    if isinstance(changed, fx.Node):
        changed.replace_all_uses_with(node, lambda user: user > node)
    node.kwargs = {k: False if k == "inplace" else v for k, v in node.kwargs.items() if k != "out"}
    node.target = _out_of_place(node)


def _out_of_place(node: fx.Node) -> Any:
    """Return the function or method that makes a new value, where there is one."""
    if node.op == "call_method":
        name = str(node.target).removesuffix("_")
        return name if callable(getattr(torch.Tensor, name, None)) else node.target
    name = getattr(node.target, "__name__", "")
    if getattr(node.target, "__module__", "") == "_operator":
        return getattr(operator, f"__{name[1:]}__")
    own = getattr(torch, name, None) is node.target
    return getattr(torch, name.removesuffix("_"), node.target) if own else node.target


class InFloat(nn.Module):
    """A layer, or a function of tensors, that stays in float32: torch's conversion looks into no such module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)


def keep_in_float(graph: fx.GraphModule, kinds: tuple[Any, ...]) -> None:
    """Put what has no int8 form into modules of their own, in place: calls of these, and others by their settings."""
    read = {str(node.target).rpartition(".")[0] for node in graph.graph.nodes if node.op == "get_attr"}
    for node in list(graph.graph.nodes):
        layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        kind = node.target if layer is None else type(layer)
        looked_into = layer is not None and node.target in read
        if node.op not in CALLS or not (kind in kinds or looked_into or _has_float_settings(node, layer)):
            continue
        function = CallsMethod(str(node.target)) if node.op == "call_method" else layer or node.target
        name = f"in_float_{node.name}"
        graph.add_submodule(name, InFloat(function))
        with graph.graph.inserting_after(node):
            new = graph.graph.call_module(name, node.args, node.kwargs)
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _has_float_settings(node: fx.Node, layer: nn.Module | None) -> bool:
    """True for a layer or function that has an int8 form, but not with these settings or with a computed weight."""
    if layer is None:
        weight = _argument(node, 1, "weight") if node.target in WEIGHTED else None
        return isinstance(weight, fx.Node) and weight.op != "get_attr"
    without_statistics = isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None
    padding = getattr(layer, "padding", 0), getattr(layer, "padding_mode", "zeros")
    return without_statistics or isinstance(padding[0], str) or padding[1] != "zeros"


class CallsMethod(nn.Module):
    """A module that calls a method of its first input."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, tensor: Any, *inputs: Any, **named: Any) -> Any:
        return getattr(tensor, self.name)(*inputs, **named)


def _is_idle(node: fx.Node) -> bool:
    """True for a call of functional.dropout, which tracing has fixed to evaluation mode."""
    return node.op == "call_function" and node.target is functional.dropout and _argument(node, 2, "training") is False


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _input_of(node: fx.Node) -> Any:
    return _argument(node, 0, "input")


def _replace(graph: fx.GraphModule, node: fx.Node, function: Any, *settings: Any) -> None:
    with graph.graph.inserting_after(node):
        new = graph.graph.call_function(function, (_input_of(node), *settings))
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _repeat(graph: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    name = f"{str(node.target).replace('.', '_')}_again_{node.name}"
    graph.add_submodule(name, copy.deepcopy(layer))
    node.target = name
