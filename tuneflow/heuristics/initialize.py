"""Initialize weights so that signals and gradients pass: drawn by rule, then corrected on a batch."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.heuristics.constant_baseline import ConstantOutputs, best_constant
from tuneflow.heuristics.forward_trace import Adjust, Trace, spread
from tuneflow.heuristics.initialization_record import Initialized, LayerRecord
from tuneflow.heuristics.input_scaling import NORMS
from tuneflow.heuristics.layers import WeightLayer, find
from tuneflow.heuristics.schemes import SCHEMES, draw, draw_embedding, gain
from tuneflow.heuristics.unchanged import unchanged
from tuneflow.nested import leaves, mapped
from tuneflow.seeds import seeded_globals

ROUNDS, TOLERANCE = 3, 0.05  # of the data-driven pass
OUTPUT_STD = 0.1
TIED_STD = 0.02
HALVINGS = 6
NEAR = 0.02  # how far the initial loss may be from that of the best constant outputs
FEW = 8  # values per unit; fewer say nothing about its mean


def initialize(
    module: nn.Module,
    inputs: Any,
    *,
    scheme: str,
    loss: Any = None,
    targets: Any = None,
    data_driven: bool = True,
    balanced: bool = False,
) -> Initialized:
    """Draw the weights of `module` in place, for the activations that follow, and correct them on one batch.

    The rule keeps the variance of signals where inputs are independent; the data-driven pass makes it so for these
    inputs: in the order of execution each layer's output gets mean 0 (per unit, where there is a bias) and standard
    deviation 1, unless a norm layer does that next. The output layer gets 0.1, or less until the initial loss is within
    0.02 of the best constant outputs', and their values as its bias. N residual branches end at 1 / sqrt(N), so that
    the stream's variance at most doubles. Embeddings stay as they are, but tied ones get N(0, 0.02).

    Only the weights are drawn from torch's global generator: forward passes run under seeds of their own, without
    gradients, in evaluation mode but for norm layers, and with dropout off. Buffers and modes are restored.

    Args:
        module: the module; its weights change in place.
        inputs: one batch as `module` takes it, already normalized; some 256 rows. Not modified.
        scheme: "default" (as the builder drew), "lecun", "kaiming", "xavier" or "orthogonal".
        loss: as the trainer calls it, `loss(outputs, targets)`; sets the output bias, which is 0 without it.
        targets: of these rows.
        data_driven: run the pass. With scheme="default" and without it, nothing changes.
        balanced: the sampler shows classes equally often, so that the output bias stays 0.

    Returns:
        A record. Where the module fails or a value is not finite, every weight is as before and `failed` says why.

    Raises:
        ValueError: no such scheme.

    Example:
        >>> module = nn.Sequential(nn.Linear(9, 64), nn.Tanh(), nn.Linear(64, 3))
        >>> made = initialize(module, torch.randn(256, 9), scheme="lecun")
        >>> made.layers["0"].follows, round(made.layers["0"].after, 2), round(made.layers["2"].after, 2)
        ('tanh', 1.0, 0.1)

    Source: LeCun et al., Efficient BackProp, 1998; Mishkin and Matas, All you need is a good init, ICLR 2016.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"initialize: scheme needs to be one of {', '.join(SCHEMES)}, got {scheme!r}.")
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return Initialized(scheme, data_driven, failed="the module is lazy: it has no shapes before its first batch")
    weights = [(p, p.detach().clone()) for p in module.parameters()]
    with unchanged(module), torch.no_grad():
        for part in module.modules():
            part.training = isinstance(part, NORMS)
        try:
            return _Attempt(module, inputs, scheme, loss, targets, data_driven, balanced).run()
        except Exception as error:
            for weight, before in weights:
                weight.copy_(before)
            return Initialized(scheme, data_driven, failed=f"{type(error).__name__}: {error}")


class _Attempt:
    """One initialization of one module; its attributes become the record."""

    def __init__(
        self, module: nn.Module, inputs: Any, scheme: str, loss: Any, targets: Any, data_driven: bool, balanced: bool
    ) -> None:
        self.module, self.inputs, self.scheme, self.data_driven = module, inputs, scheme, data_driven
        self.loss, self.targets, self.balanced = loss, targets, balanced
        self.layers, self.left = find(module)
        self.drawn: dict[str, tuple[str, float | None, str]] = {}
        self.want: dict[WeightLayer, float] = {}  # standard deviation of a layer's output
        self.ends: set[WeightLayer] = set()  # the last layers of residual branches
        self.prior: float | None = None
        self.notes: list[str] = []

    def run(self) -> Initialized:
        first = last = self.trace()
        before = self.loss_of(first.outputs)
        if self.scheme != "default" or self.data_driven:
            active = self.active(first)
            self.draw(first, active)
            self.calm(first, active)
            if self.data_driven:
                self.correct(first, active)
            last = self.trace()
            if self.data_driven:
                last = self.set_prior(last)
        self.check(last)
        layers = {
            name: LayerRecord(*how, _number(first.std.get(name)), _number(last.std.get(name)))
            for name, how in self.drawn.items()
        }
        after = self.loss_of(last.outputs)
        notes = tuple(dict.fromkeys(self.notes))
        return Initialized(self.scheme, self.data_driven, layers, self.left, notes, before, after, self.prior)

    def trace(self, adjust: Adjust | None = None) -> Trace:
        device = next((t.device for t in self.module.parameters()), None)
        with seeded_globals("initialize", device=device):
            return Trace(self.module, mapped(Tensor.clone, self.inputs), self.layers, adjust)

    def active(self, first: Trace) -> list[WeightLayer]:
        """Return the layers to draw: each runs once and shares no weight. Draws tied embeddings itself."""
        owners: dict[int, list[WeightLayer]] = {}
        for layer in self.layers:
            owners.setdefault(id(layer.weight), []).append(layer)
        active = []
        for weight, group in owners.items():
            uses = first.uses[weight]
            if len(group) == uses == 1:
                active += group
            elif uses - first.lookups[weight] == 1 and any(layer.kind == "embedding" for layer in group):
                self.tie(sorted(group, key=lambda layer: layer.kind != "embedding"))
            else:
                shared = f"shares its weight: {', '.join(layer.name for layer in group)}"
                runs = f"runs {uses} times in a forward pass" if uses else "does not run in a forward pass"
                self.left.update({layer.name: shared if len(group) > 1 else runs for layer in group})
        return active

    def tie(self, group: list[WeightLayer]) -> None:
        draw_embedding(group[0], TIED_STD)
        self.drawn.update({layer.name: ("tied", TIED_STD, "linear") for layer in group})
        for layer in group:
            if layer.bias is not None:
                layer.bias.zero_()
        self.notes.append(f"{group[0].name} is tied to the output layer: both are drawn from N(0, {TIED_STD}^2).")

    def draw(self, first: Trace, active: list[WeightLayer]) -> None:
        for layer in active:
            if layer.kind == "embedding":  # N(0, 1) in torch: trained better than 0.1 and 0.02 where it is not tied
                self.left[layer.name] = "an embedding of its own stays as its builder drew it"
            if layer.kind not in ("linear", "projection"):
                continue
            at = first.of(layer) if layer.kind == "linear" else None
            call = None if at is None else first.activation_after(at)
            follows, slope = ("linear", 0.0) if call is None else (call.name, call.slope)
            g = None if self.scheme == "default" else gain(self.scheme, follows, slope)
            if g is not None:
                draw(layer, self.scheme, g)
            self.drawn[layer.name] = (self.scheme, g, follows)

    def calm(self, first: Trace, active: list[WeightLayer]) -> None:
        """Shrink the last layer of each residual branch."""
        branches = first.residuals.values()
        last = {first.calls[at].layer for branch in branches for at in first.last_layers(branch.branch)}
        ends = [layer for layer in active if layer in last]
        self.ends = set(ends)
        scale = 1 / math.sqrt(max(1, len(branches)))
        for layer in ends:
            layer.weight.mul_(scale)
            if layer.bias is not None:
                layer.bias.mul_(scale)
            scheme, g, follows = self.drawn.get(layer.name, ("norm", 1.0, "linear"))
            self.drawn[layer.name] = (scheme, None if g is None else g * scale, follows)
            self.want[layer] = scale
        if len(branches) > 1:
            self.notes.append(
                f"{len(branches)} residual branches: the last layer of each ({len(self.ends)} found) is scaled by"
                f" 1 / sqrt({len(branches)}) = {scale:.3g}, so that the stream does not grow with depth."
            )

    def correct(self, first: Trace, active: list[WeightLayer]) -> None:
        """Run the data-driven pass: each round is one forward pass that corrects every layer when it runs."""
        outputs = {first.calls[at].layer for end in first.ends if (at := first.output_layer(end)[0]) is not None}
        for layer in active:
            at = first.of(layer)
            if layer.kind != "linear" or at is None or first.normed(at):
                self.want.pop(layer, None)
            elif layer in outputs:
                self.want[layer] = OUTPUT_STD
                self.ends.discard(layer)
            else:
                self.want.setdefault(layer, 1.0)
        for _ in range(ROUNDS):
            self.trace(self.adjust)
            std = self.trace().std
            off = [std.get(layer.name, want) / want - 1 for layer, want in self.want.items() if layer not in self.ends]
            if all(abs(share) <= TOLERANCE for share in off):
                break

    def adjust(self, layer: WeightLayer, result: Any, again: Any) -> Any:
        if layer not in self.want:
            return result
        values = leaves(result)[0]
        mean, std = spread(values, layer)
        if values.numel() < FEW * len(mean) or not std > 1e-5 * float(values.float().square().mean().sqrt()):
            self.notes.append(f"{layer.name} hardly varies over the batch: not centered or scaled.")
            return result
        factor = self.want[layer] / std
        if layer in self.ends:  # never more: an attention that averages would be blown up
            factor = min(1.0, factor)
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.sub_(mean).mul_(factor)
        return again()

    def set_prior(self, last: Trace) -> Trace:
        """Set the output bias, and shrink the output where the loss is not yet that of constants."""
        if self.loss_of(last.outputs) is None:
            return last
        at, between = last.output_layer(last.ends[0]) if len(last.ends) == 1 else (None, [])
        layer = None if at is None else last.calls[at].layer
        if at is None or layer is None or not isinstance(last.outputs, Tensor):
            self.notes.append("The output bias is left: the outputs are not one layer's.")
            return last
        units = last.calls[at].shape[layer.unit]
        constant = best_constant(self.loss, last.outputs, self.targets, units, self.balanced)
        if isinstance(constant, str):
            self.notes.append(constant)
            return last
        self.prior = self.loss_of(constant.outputs.expand_as(last.outputs))
        bias = layer.bias
        if bias is None or not (set(between) <= set(constant.ends)) or layer.name in self.left:
            why = "has no bias" if bias is None else self.left.get(layer.name, f"is followed by {', '.join(between)}")
            self.notes.append(f"The prior is not in the outputs: the output layer {layer.name} {why}.")
            return last
        return self.settle(last, layer, bias, constant)

    def settle(self, last: Trace, layer: WeightLayer, bias: Tensor, constant: ConstantOutputs) -> Trace:
        """Set the bias, then halve the input-dependent part until the loss is near that of the constants."""
        prior, before = self.prior or 0.0, self.loss_of(last.outputs) or 0.0
        weight_was, bias_was = layer.weight.clone(), bias.clone()
        base = torch.zeros_like(bias) if self.balanced else constant.bias.to(bias)
        bias.add_(base)
        last, loss = self.looked()
        near = NEAR * (len(self.targets) if getattr(self.loss, "reduction", "mean") == "sum" else 1)
        halvings = HALVINGS if constant.sharp and layer in self.want else 0
        while halvings and abs(loss - prior) > near:
            halvings -= 1
            layer.weight.mul_(0.5)
            bias.copy_(base + (bias - base) / 2)
            last, loss = self.looked()
        if not abs(loss - prior) <= max(near, abs(before - prior)):
            layer.weight.copy_(weight_was)
            bias.copy_(bias_was)
            self.notes.append(f"{layer.name} keeps the bias 0: with the prior in it the loss was {loss}, not {before}.")
            last = self.trace()
        return last

    def looked(self) -> tuple[Trace, float]:
        trace = self.trace()
        loss = self.loss_of(trace.outputs)
        return trace, math.nan if loss is None else loss

    def check(self, last: Trace) -> None:
        for name, std in last.std.items():
            if not math.isfinite(std):
                raise ArithmeticError(f"the output of {name} is not finite")
        if not all(bool(t.isfinite().all()) for t in leaves(last.outputs)):
            raise ArithmeticError("the outputs are not finite")

    def loss_of(self, outputs: Any) -> float | None:
        if self.loss is None or self.targets is None:
            return None
        try:
            return _number(float(self.loss(outputs, self.targets).mean()))
        except Exception as error:
            self.notes.append(f"The loss could not be computed: {type(error).__name__}: {error}")
            return None


def _number(value: float | None) -> float | None:
    """Finite, or None: what JSON can hold."""
    return value if value is not None and math.isfinite(value) else None
