"""Groups by tracing: torch.fx records the forward pass, and the channels are followed through it."""

import inspect
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn.utils.parametrize import is_parametrized

from tuneflow.compress import function_rules, layer_rules
from tuneflow.compress.channel_spaces import ChannelSpaces
from tuneflow.compress.traced_op import Channels, Traced, TracedOp
from tuneflow.errors import in_one_line
from tuneflow.nested import leaves

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class CannotTrace(Exception):
    """torch.fx cannot record this forward pass; the message is its reason."""


def spaces_by_tracing(module: nn.Module, arguments: Arguments, fixed: Mapping[str, str]) -> ChannelSpaces:
    """Return the channels of `module`, followed through one forward pass.

    Args:
        module: in evaluation mode; not changed.
        arguments: positional and keyword arguments of its forward.
        fixed: layers that may not change -> the reason.

    Raises:
        CannotTrace: torch.fx cannot record the forward pass.
    """
    try:
        bound = inspect.signature(module.forward).bind(*arguments[0], **arguments[1])
        parameters = bound.signature.parameters.values()
        missing = {p.name: p.default for p in parameters if p.name not in bound.arguments and p.default is not p.empty}
        graph = _Tracer(bound).trace(module, missing)
        walk = _ChannelWalk(fx.GraphModule(module, graph), fixed)
        walk.run(*_in_order(bound))
    except CannotTrace:
        raise
    except Exception as error:
        raise CannotTrace(in_one_line(error).splitlines()[0][:160]) from None
    return walk.spaces


def _in_order(bound: inspect.BoundArguments) -> list[Any]:
    """Return a value for each placeholder of a graph: the arguments, and the defaults of those that were not passed."""
    return [bound.arguments.get(name, parameter.default) for name, parameter in bound.signature.parameters.items()]


class _SizedProxy(fx.Proxy):
    """A value of a trace whose length, numbers and truth values are those of the inputs' pass."""

    tracer: "_Tracer"

    def __len__(self) -> int:
        return len(self.tracer.value_of(self.node))

    def __index__(self) -> int:
        return operator.index(self.tracer.value_of(self.node))

    def __int__(self) -> int:
        return int(self.tracer.value_of(self.node))

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, number) for number in range(len(self)))

    def __bool__(self) -> bool:
        value = self.tracer.value_of(self.node)
        if isinstance(value, Tensor):
            raise CannotTrace("its forward takes a branch that depends on values of the inputs")
        return bool(value)


class _Tracer(fx.Tracer):
    """Records every layer of torch's own as one operation, subclasses that keep its forward as well.

    Branches and loops over shapes are followed as they run with these arguments.
    """

    def __init__(self, bound: inspect.BoundArguments) -> None:
        super().__init__()
        self._bound, self._runs = bound, False
        self._interpreter: fx.Interpreter | None = None

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _SizedProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        own = "forward" in vars(m)
        return not own and type(m).forward.__module__.startswith("torch.") and not isinstance(m, nn.Sequential)

    def value_of(self, node: fx.Node) -> Any:
        """Return a value of the pass; what has been recorded up to it is run, once."""
        self._runs = True
        try:
            if self._interpreter is None:
                self._interpreter = fx.Interpreter(self.root, garbage_collect_values=False, graph=self.graph)
                self._interpreter.args_iter = iter(_in_order(self._bound))
            for each in self.graph.nodes:
                if each not in self._interpreter.env:
                    self._interpreter.env[each] = self._interpreter.run_node(each)
            return self._interpreter.env[node]
        finally:
            self._runs = False

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self._runs else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._runs else super().getattr(attr, attr_val, parameter_proxy_cache)


class _ChannelWalk(fx.Interpreter):
    """Runs a graph and follows the channels of its values."""

    def __init__(self, module: fx.GraphModule, fixed: Mapping[str, str]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.spaces, self._fixed = ChannelSpaces(), fixed
        self._channels: dict[fx.Node, Channels] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        args, named = (self._traced(part) for part in (n.args, n.kwargs))
        if n.op in ("call_module", "call_function", "call_method"):
            layer = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
            self._channels[n] = self._follow(TracedOp(_name(n), layer, args, named, result))
        elif n.op == "get_attr" and isinstance(result, nn.Parameter):
            self.spaces.keep_layer(str(n.target), "forward uses it directly")
        elif n.op == "output":
            op = TracedOp("output", None, args)
            layer_rules.keep_all(op, self.spaces, "it makes the outputs of the module")
        return result

    def _follow(self, op: TracedOp) -> Channels:
        if op.layer is None and (not op.labels or not leaves(op.result)):
            return {}
        if op.name in self._fixed:
            self.spaces.keep_layer(op.name, self._fixed[op.name])
            return layer_rules.keep_all(op, self.spaces)
        rule = function_rules.rule_of(op.name) if op.layer is None else layer_rules.rule_of(op.layer)
        if rule is not None:
            return rule(op, self.spaces)
        if op.layer is not None and any(True for _ in op.layer.parameters()):
            self.spaces.keep_layer(op.name, f"{type(op.layer).__name__} is not narrowed")
        return layer_rules.keep_all(op, self.spaces)

    def _traced(self, argument: Any) -> Any:
        def one(leaf: Any) -> Any:
            return Traced(self.env[leaf], self._channels.get(leaf, {})) if isinstance(leaf, fx.Node) else leaf

        return map_aggregate(argument, one)


def _name(node: fx.Node) -> str:
    """Return a layer's name, or a function's without underscores at its ends."""
    if node.op == "call_module":
        return str(node.target)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    foreign = callable(node.target) and not _is_known(node.target)
    return f"{node.target.__module__}.{name}" if foreign else name.strip("_")


def _is_known(function: Any) -> bool:
    """True for functions of torch and Python; others may have the same names."""
    return str(getattr(function, "__module__", "") or "torch").split(".")[0] in (
        "torch",
        "_operator",
        "math",
        "builtins",
    )


def fixed_layers(module: nn.Module) -> dict[str, str]:
    """Return the layers whose weights are computed, shared or not there yet, and the reason why they stay."""
    owners: dict[int, list[str]] = {}
    fixed: dict[str, str] = {}
    for name, layer in module.named_modules():
        own = {key: p for key, p in layer._parameters.items() if p is not None}
        for parameter in own.values():
            owners.setdefault(id(parameter), []).append(name)
        if is_parametrized(layer) or any(key in own for key in ("weight_g", "weight_v", "weight_orig")):
            fixed[name] = "its weight is computed from others (weight norm, spectral norm, pruning or the like)"
        elif any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in own.values()):
            fixed[name] = "it is lazy, and has no weights yet"
        elif any(not parameter.is_floating_point() for parameter in own.values()):
            fixed[name] = "its weights are no real numbers in floating point"
    for names in owners.values():
        fixed.update({name: f"its weight is that of {_others(names, name)}, too" for name in names if len(names) > 1})
    return fixed


def _others(names: list[str], name: str) -> str:
    return ", ".join(f'"{other}"' for other in names if other != name)
