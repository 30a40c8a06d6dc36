"""Forward trace: the calls of torch functions in one forward pass, and their data flow."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tuneflow.heuristics.layers import WeightLayer
from tuneflow.heuristics.schemes import ACTIVATIONS
from tuneflow.nested import leaves

ADDS = ("add", "__add__", "__iadd__", "__radd__")
JOINS = ("cat", "concat", "concatenate", "stack")
SUMS = ("softmax", "log_softmax")
PRODUCTS = ("linear", "bilinear", "matmul", "__matmul__", "mm", "bmm", "addmm", "einsum")
RECURRENT = ("gru", "lstm", "rnn_tanh", "rnn_relu", "gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
LOOKUPS = ("embedding", "embedding_bag")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")

Adjust = Callable[[WeightLayer, Any, Callable[[], Any]], Any]


@dataclass(frozen=True, eq=False)
class TracedCall:
    """One call of a torch function.

    Args:
        name: of the function, without underscores for in-place.
        takes: the earlier calls whose results it takes, by number; inputs of the module are calls too.
        shape: of its first result.
        layer: the layer whose weight it uses, the last where there are several.
        slope: of an activation for negative inputs.
        before: bit i is set where the result depends on that of call i.
    """

    name: str
    takes: tuple[int, ...]
    shape: tuple[int, ...]
    layer: WeightLayer | None = None
    slope: float = 0.0
    before: int = 0

    @property
    def weighted(self) -> bool:
        return self.layer is not None or self.name in (*PRODUCTS, *RECURRENT) or self.name.startswith("conv")

    @property
    def passes(self) -> bool:
        """True if it only reshapes, pools or scales one tensor."""
        mixes = self.weighted or self.name in ACTIVATIONS or self.name in NORMS or self.name in SUMS
        return len(self.takes) == 1 and not mixes


@dataclass(frozen=True, eq=False)
class Residual:
    """A sum of a stream and of a branch that was computed from it."""

    stream: int
    branch: int


class Trace:
    """One traced forward pass. It changes nothing except through `adjust`.

    Args:
        module: the module to run.
        inputs: one batch, as it takes them.
        layers: those to recognize by their weights.
        adjust: takes a layer, its result and a function that computes that again; returns the result to continue with.
    """

    def __init__(self, module: nn.Module, inputs: Any, layers: list[WeightLayer], adjust: Adjust | None = None) -> None:
        self.calls: list[TracedCall] = []
        self.uses: Counter[int] = Counter()  # id of a weight -> how many calls took it
        self.lookups: Counter[int] = Counter()  # and how many of them looked rows up
        self.std: dict[str, float] = {}
        watch = _CallRecorder(self, layers, adjust)
        for leaf in leaves(inputs):
            watch.note("input", (), [leaf])
        with watch:
            self.outputs = module(inputs)
        self._taken: dict[int, list[int]] = {}
        for number, call in enumerate(self.calls):
            for earlier in call.takes:
                self._taken.setdefault(earlier, []).append(number)
        self.ends = [number for number in watch.makers(self.outputs) if number not in self._taken]
        self.residuals = self._find_residuals()

    def of(self, layer: WeightLayer) -> int | None:
        """Return the number of the first call that uses `layer` last."""
        return next((number for number, call in enumerate(self.calls) if call.layer is layer), None)

    def activation_after(self, number: int) -> TracedCall | None:
        """Return the activation that a call's result goes to, across calls that only reshape, normalize or sum."""
        waiting, seen = [number], {number}
        while waiting:
            for later in self._taken.get(waiting.pop(), ()):
                call = self.calls[later]
                if call.name in ACTIVATIONS:
                    return call
                sums = call.name in (*ADDS, *JOINS) and later not in self.residuals
                if later not in seen and (call.passes or call.name in NORMS or sums):
                    seen.add(later)
                    waiting.append(later)
        return None

    def normed(self, number: int) -> bool:
        """True if a call's result goes to norm layers only."""
        later = self._taken.get(number, [])
        return bool(later) and all(
            self.calls[i].name in NORMS or (self.calls[i].passes and self.normed(i)) for i in later
        )

    def last_layers(self, number: int) -> list[int]:
        """Return the calls of layers, norms among them, that a result comes from last."""
        call = self.calls[number]
        if call.weighted or not call.takes:
            return [number] if call.layer is not None and call.layer.kind != "embedding" else []
        through = call.takes if call.name in ADDS and number not in self.residuals else call.takes[:1]
        return [last for earlier in through for last in self.last_layers(earlier)]

    def output_layer(self, number: int) -> tuple[int | None, list[str]]:
        """Return the call of the layer that a result comes from, and the activations between them."""
        between: list[str] = []
        while True:
            call = self.calls[number]
            if call.name in NORMS or call.name in LOOKUPS:
                return None, between
            if call.layer is not None:
                return number, between
            if len(call.takes) != 1 or call.weighted:
                return None, between
            between += [] if call.passes else [call.name]
            number = call.takes[0]

    def _find_residuals(self) -> dict[int, Residual]:
        residuals: dict[int, Residual] = {}
        for number, call in enumerate(self.calls):
            if call.name not in ADDS or len(call.takes) != 2:
                continue
            one, other = call.takes
            if self.calls[one].shape != self.calls[other].shape:
                continue
            for stream, branch in ((one, other), (other, one)):
                if any(self._leads(start, branch) for start in self._upstream(stream, residuals)):
                    residuals[number] = Residual(stream, branch)
                    break
        return residuals

    def _upstream(self, number: int, residuals: Mapping[int, Residual]) -> Iterator[int]:
        """Yield a stream's result, and its values before reshaping and before earlier branches were added."""
        yield number
        while True:
            if number in residuals:
                number = residuals[number].stream
            elif self.calls[number].passes:
                number = self.calls[number].takes[0]
            else:
                return
            yield number

    def _leads(self, start: int, end: int) -> bool:
        """True if a layer lies between a result and another that depends on it."""
        before = self.calls[end].before | 1 << end
        return any(
            call.weighted and before >> number & 1 and call.before >> start & 1
            for number, call in enumerate(self.calls[start : end + 1], start)
        )


class _CallRecorder(TorchFunctionMode):
    """Records every call of a torch function; dropout is off meanwhile."""

    def __init__(self, trace: Trace, layers: list[WeightLayer], adjust: Adjust | None) -> None:
        super().__init__()
        self.trace, self.adjust = trace, adjust
        self.layers: dict[int, dict[bool, WeightLayer]] = {}  # id of a weight -> is it looked up -> layer
        for layer in layers:
            self.layers.setdefault(id(layer.weight), {})[layer.kind == "embedding"] = layer
        self.made: dict[int, int] = {}  # id of a tensor -> number of the call that made it
        self.same: dict[int, int] = {}  # id of a transposed or scaled weight -> id of the weight
        self.kept: list[Tensor] = []  # an id stays a tensor's own while the tensor lives

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "?")
        name = name if name.startswith("__") else name.rstrip("_")
        if name in DROPOUTS:
            return args[0] if args else kwargs["input"]
        args, kwargs = _without_dropout(name, args, dict(kwargs or {}))
        result = func(*args, **kwargs)
        results = leaves(result)
        if not results:
            return result
        takes = self.makers((args, kwargs))
        weights = [at for t in leaves((args, kwargs)) if (at := self.same.get(id(t), id(t))) in self.layers]
        if not weights:
            self.note(name, takes, results, None, _slope(name, args, kwargs))
        elif not takes and name not in LOOKUPS:
            self.same.update({id(t): weights[-1] for t in results})
            self.kept += results
        else:
            owners = self.layers[weights[-1]]
            layer = owners.get(name in LOOKUPS) or next(iter(owners.values()))
            self.trace.uses.update(set(weights))
            self.trace.lookups.update(set(weights) if name in LOOKUPS else ())
            if self.adjust is not None:
                result = self.adjust(layer, result, lambda: func(*args, **kwargs))
                results = leaves(result)
            self._measure(layer, results[0])
            self.note(name, takes, results, layer)
        return result

    def makers(self, values: Any) -> tuple[int, ...]:
        """Return the numbers of the calls that made these tensors, each once."""
        return tuple(dict.fromkeys(self.made[id(t)] for t in leaves(values) if id(t) in self.made))

    def note(
        self,
        name: str,
        takes: tuple[int, ...],
        results: list[Tensor],
        layer: WeightLayer | None = None,
        slope: float = 0.0,
    ) -> None:
        before = 0
        for earlier in takes:
            before |= self.trace.calls[earlier].before | 1 << earlier
        number = len(self.trace.calls)
        self.trace.calls.append(TracedCall(name, takes, tuple(results[0].shape), layer, slope, before))
        self.made.update({id(t): number for t in results})
        self.kept += results

    def _measure(self, layer: WeightLayer, result: Tensor) -> None:
        if layer.name not in self.trace.std and result.is_floating_point():
            self.trace.std[layer.name] = spread(result, layer)[1]


def spread(result: Tensor, layer: WeightLayer) -> tuple[Tensor, float]:
    """Return each unit's mean over the batch, shape (units,), and the standard deviation around them.

    Around the mean of all units, where the layer has no bias that could move each.
    """
    values = result.detach().float()
    over = [d for d in range(values.ndim) if d != values.ndim + layer.unit]
    mean = values.mean(over, keepdim=True)
    centered = values - mean if layer.bias is not None else values - values.mean()
    return mean.flatten(), float(centered.square().mean().sqrt())


def _without_dropout(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of an attention as they are in evaluation mode."""
    if name == "multi_head_attention_forward":
        kwargs["training"] = False
    if name == "scaled_dot_product_attention" and len(args) > 4:
        args = (*args[:4], 0.0, *args[5:])
    elif name == "scaled_dot_product_attention":
        kwargs["dropout_p"] = 0.0
    return args, kwargs


def _slope(name: str, args: Any, kwargs: Any) -> float:
    """Return an activation's slope for negative inputs."""
    if name == "leaky_relu":
        return float(kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01))
    if name == "prelu":
        return float(kwargs.get("weight", args[-1]).detach().mean())
    if name == "rrelu":
        low = kwargs.get("lower", args[1] if len(args) > 1 else 1 / 8)
        high = kwargs.get("upper", args[2] if len(args) > 2 else 1 / 3)
        return float(low + high) / 2
    return 0.0
