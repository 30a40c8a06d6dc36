"""Groups by the package torch-pruning, for forward passes that torch.fx cannot record."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tuneflow.compress.channel_spaces import FIXED, ChannelSpaces, Labels, joined
from tuneflow.compress.function_rules import DROPOUTS
from tuneflow.compress.layer_rules import CONVOLUTIONS, NORMS, TRANSPOSED
from tuneflow.compress.traced_groups import Arguments
from tuneflow.nested import leaves

PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")
Key = tuple[str, str, int]


def spaces_by_pruning(module: nn.Module, arguments: Arguments, fixed: Mapping[str, str]) -> ChannelSpaces:
    """Return the channels of `module` as torch-pruning's dependency graph has them.

    Args:
        module: in evaluation mode; its parameters get gradients switched on.
        arguments: positional and keyword arguments of its forward.
        fixed: layers that may not change -> the reason.

    Raises:
        ImportError: the package is not installed.
    """
    import torch_pruning

    module.requires_grad_()
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            module,
            example_inputs=arguments,
            forward_fn=lambda net, given: net(*given[0], **given[1]),
            output_transform=lambda outputs: [leaf for leaf in leaves(outputs) if leaf.requires_grad],
            verbose=False,
        )
    return _Conversion(module, graph, fixed).spaces(_dropouts(module, arguments))


class _Conversion:
    """Turns the groups of a dependency graph into channel spaces."""

    def __init__(self, module: nn.Module, graph: Any, fixed: Mapping[str, str]) -> None:
        self._names = {layer: name for name, layer in module.named_modules()}
        self._graph, self._fixed = graph, fixed
        self._spaces = ChannelSpaces()
        self._labels: dict[Key, tuple[Labels, bool]] = {}

    def spaces(self, dropouts: Iterable[str]) -> ChannelSpaces:
        """Return the spaces of every layer that the graph can narrow; any of them may pass the dropouts."""
        for layer, name in self._names.items():
            root = isinstance(layer, (nn.Linear, *CONVOLUTIONS)) and layer in self._graph.module2node
            if root and not _is_depthwise(layer) and (name, "weight", _made_dim(layer)) not in self._labels:
                self._add(layer, name)
        for key, (labels, makes) in self._labels.items():
            self._spaces.member(*key, labels, makes)
            for name in dropouts:
                self._spaces.drop_out(labels, name)
        return self._spaces

    def _add(self, layer: Any, name: str) -> None:
        width = layer.weight.shape[_made_dim(layer)]
        channels = self._spaces.made_by(name, width)
        handler = self._graph.get_pruner_of_module(layer).prune_out_channels
        for item in self._graph.get_pruning_group(layer, handler, list(range(width))):
            reason = self._refusal(item.dep.target.module)
            if reason:
                self._spaces.keep(channels, reason)
                return
            self._record(item, channels)

    def _refusal(self, part: Any) -> str:
        """Return why channels that reach this stay; empty where they need not."""
        if isinstance(part, nn.Parameter):
            return "its channels meet a parameter that is used directly in forward"
        name = self._names.get(part, "")
        if name in self._fixed and any(True for _ in part.parameters(recurse=False)):
            return self._fixed[name]
        plain = not any(True for _ in part.parameters()) or isinstance(part, (nn.Linear, nn.PReLU, *NORMS))
        if plain or (isinstance(part, CONVOLUTIONS) and (part.groups == 1 or _is_depthwise(part))):
            return ""
        return f'its channels go into "{name}" ({type(part).__name__})'

    def _record(self, item: Any, channels: Labels) -> None:
        layer = item.dep.target.module
        if layer not in self._names:
            return
        name = self._names[layer]
        positions, chosen = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
        per_channel = isinstance(layer, (nn.PReLU, *NORMS)) or _is_depthwise(layer)
        if per_channel or self._graph.is_out_channel_pruning_fn(item.dep.handler):
            dims = dict.fromkeys(PER_CHANNEL, 0) | ({} if per_channel else {"weight": _made_dim(layer)})
            for tensor, dim in dims.items():
                self._label((name, tensor, dim), getattr(layer, tensor, None), positions, chosen, channels, True)
        else:
            self._label((name, "weight", 1 - _made_dim(layer)), layer.weight, positions, chosen, channels, False)

    def _label(self, key: Key, tensor: Any, positions: Tensor, chosen: Tensor, channels: Labels, makes: bool) -> None:
        if not isinstance(tensor, Tensor):
            return
        size = tensor.shape[key[2]]
        labels, _ = self._labels.setdefault(
            key, (joined([Labels(torch.full((size,), FIXED), torch.zeros(size).long())]), makes)
        )
        labels.space[positions], labels.channel[positions] = channels.space[chosen], chosen


class _DropoutWatch(TorchFunctionMode):
    """Records the dropouts of a forward pass, in evaluation mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, named = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if name in DROPOUTS.split() and named.get("p", args[1] if len(args) > 1 else 0.5):
            self.names[f"{name}()"] = None
        return func(*args, **named)


def _dropouts(module: nn.Module, arguments: Arguments) -> list[str]:
    with _DropoutWatch() as watch:
        module(*arguments[0], **arguments[1])
    return list(watch.names)


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, CONVOLUTIONS) and 1 < layer.groups == layer.in_channels == layer.out_channels


def _made_dim(layer: Any) -> int:
    """Return the dimension of a weight that numbers the channels that a layer makes."""
    return 1 if isinstance(layer, TRANSPOSED) and layer.groups == 1 else 0
