"""The requirements of the usual losses on outputs and targets, checked as they are called, then for every row."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from tuneflow.check.fold_classes import warn_of_unseen_classes
from tuneflow.check.layer_watch import Rules, Watch, dtype_of
from tuneflow.check.origins import TINY
from tuneflow.check.samples import SampledPart, leaves_of
from tuneflow.heuristics.constant_baseline import CLASSES, NUMBERS, SHARES

INF = float("inf")
ARITHMETIC = ("add", "sub", "rsub", "mul", "add_", "sub_", "mul_", "neg", "__rsub__")


class LossRules(Rules):
    """Checks the calls of torch's functions while a loss is computed; called by `Watch`.

    If the targets of a call are those of the batch, every row of `parts` is checked too.

    Args:
        batch: inputs and targets, as model and loss take them.
        parts: the training and the validation part.
    """

    def __init__(self, batch: tuple[Any, Any], parts: Sequence[SampledPart]) -> None:
        self._leaves, self._parts = leaves_of(batch), parts

    def before(self, watch: Watch, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Raise ValueError or TypeError for arguments that a loss or an embedding cannot take."""
        if function in CLASSES:
            self._classes(watch, function, **_bound(function, args, kwargs))
        elif function in (*SHARES, *NUMBERS):
            self._numbers(function, **_bound(function, args, kwargs))
        elif function is functional.kl_div:
            self._shares(**_bound(function, args, kwargs))
        elif function is functional.embedding:
            self._tokens(watch, **_bound(function, args, kwargs))
        elif getattr(function, "__name__", "") in ARITHMETIC:
            self._bytes(watch, function, args)

    @override
    def after(self, watch: Watch, function: Callable[..., Any], args: Any, result: Any) -> None:
        """Raise ValueError for outputs and targets of different shapes that were broadcast."""
        pair = [arg for arg in args[:2] if isinstance(arg, Tensor)] if isinstance(args, tuple) else []
        if watch.at or len(pair) < 2 or not isinstance(result, Tensor):
            return
        ours = {id(watch.outputs), *(id(t) for path, t in self._leaves.items() if path.startswith("targets"))}
        one, other = pair
        if one is not other and {id(one), id(other)} <= ours and result.numel() > max(one.numel(), other.numel()):
            raise ValueError(
                f"outputs and targets need the same shape, got {tuple(one.shape)} and {tuple(other.shape)}, which the"
                f" loss spreads to {tuple(result.shape)}; {_reshaped(one, other)}."
            )

    # Rules.

    def _classes(
        self, watch: Watch, function: Any, *, input: Tensor, target: Tensor, ignore_index: int = -100, **_: Any
    ) -> None:
        if input.ndim < 2 or not isinstance(target, Tensor) or target.shape[:1] != input.shape[:1]:
            return
        outputs, shape = input.shape[1], (input.shape[0], *input.shape[2:])
        if target.is_floating_point():
            if target.shape != input.shape or function is functional.nll_loss:
                shares = f", or shares of the classes in shape {tuple(input.shape)}"
                raise TypeError(
                    f"{function.__name__} needs class numbers as whole numbers, got {dtype_of(target)} targets;"
                    f" targets.long() makes them so{'' if function is functional.nll_loss else shares}."
                )
            return
        if target.dtype not in (torch.int64, torch.uint8):
            raise TypeError(
                f"{function.__name__} needs class numbers as int64, got {dtype_of(target)}; targets.long()."
            )
        if target.shape != shape:
            way = "targets.argmax(1)" if target.shape == input.shape else "targets.squeeze(1)"
            way = f"; {way} makes them so" if target.shape in (input.shape, (shape[0], 1, *shape[1:])) else ""
            raise ValueError(
                f"{function.__name__} needs class numbers of shape {shape} for outputs of shape {tuple(input.shape)},"
                f" got targets of shape {tuple(target.shape)}{way}."
            )
        maker = f" of {watch.maker}" if watch.maker is not None and watch.outputs is input else ""
        whose = f"class numbers need to be 0 to {outputs - 1} for the {outputs} outputs{maker}"
        self._within(target, (0, outputs - 1), whose, _renumbered, ignored=ignore_index)
        self._in_every_fold(target, ignore_index)

    def _numbers(self, function: Any, *, input: Tensor, target: Tensor, **_: Any) -> None:
        if target.shape != input.shape:
            raise ValueError(
                f"{function.__name__} needs targets of the outputs' shape {tuple(input.shape)}, got"
                f" {tuple(target.shape)}; {_reshaped(input, target)}."
            )
        if function in (*SHARES, functional.huber_loss) and not target.is_floating_point():
            raise TypeError(f"{function.__name__} needs targets as float, got {dtype_of(target)}; targets.float().")
        if function in SHARES:
            self._within(target, (0, 1), f"{function.__name__} needs targets from 0 to 1", lambda *_: "")
            self._in_every_fold(target)

    def _shares(self, *, target: Tensor, log_target: bool = False, **_: Any) -> None:
        if log_target:
            kind, bounds, way = "logarithms of probabilities", (-INF, TINY), "leave out log_target=True"
        else:
            kind, bounds, way = "probabilities", (0.0, INF), "log_target=True takes their logarithms"
        whose = f"kl_div needs targets that are {kind}, from {bounds[0]:g} to {bounds[1]:.0f}"
        self._within(target, bounds, whose, lambda *_: f"; {way}")

    def _tokens(self, watch: Watch, *, input: Tensor, weight: Tensor, **_: Any) -> None:
        if input.dtype in (torch.int32, torch.int64):
            rows = len(weight)
            layer = watch.at[-1] if watch.at else "embedding"
            whose = f"{layer} has {rows} rows and takes numbers from 0 to {rows - 1}"
            self._within(input, (0, rows - 1), whose, _embedded)

    def _bytes(self, watch: Watch, function: Any, args: Any) -> None:
        for arg in args:
            if isinstance(arg, Tensor) and arg.dtype == torch.uint8 and arg is self._leaves.get("inputs"):
                others = [other for other in args if other is not arg]
                if not any(isinstance(o, float) or (isinstance(o, Tensor) and o.is_floating_point()) for o in others):
                    layer = watch.at[-1] if watch.at else "the loss"
                    raise ValueError(  # torch turns a TypeError here into one of its own
                        f"{layer} computes with uint8 inputs, which wrap around at 255 in {function.__name__}; leave"
                        " out normalize=False, or take x.float() first."
                    )

    def _within(
        self,
        values: Tensor,
        bounds: tuple[float, float],
        whose: str,
        way: Callable[[int, int], str],
        ignored: int | None = None,
    ) -> None:
        """Raise ValueError unless values lie within bounds; the batch's inputs or targets stand for all of the data."""
        for part, path, every in self._everywhere(values):
            low, high = (float(v) for v in every.detach().aminmax())
            if bounds[0] <= low and high <= bounds[1]:
                continue
            counted = every != ignored if ignored is not None else torch.ones_like(every, dtype=torch.bool)
            wrong = ((every < bounds[0]) | (every > bounds[1])) & counted
            if wrong.any():
                value = every[wrong][0].item()
                low, high = (v.item() for v in every[counted].detach().aminmax())
                raise ValueError(f"{whose}, got {value} in {part.describe(path, wrong)}{way(int(low), int(high))}.")

    def _in_every_fold(self, target: Tensor, ignored: int | None = None) -> None:
        for part, path, every in self._everywhere(target):
            if part.folds is not None and part.numbers is None:
                warn_of_unseen_classes(part.folds, path, every, ignored)

    def _everywhere(self, values: Tensor) -> list[tuple[SampledPart, str, Tensor]]:
        for path, leaf in self._leaves.items():
            if leaf.shape == values.shape and torch.equal(leaf.to(values.dtype), values):
                return [(part, path, part.leaves[path]) for part in self._parts if path in part.leaves]
        return [(SampledPart("batch", {}, None, len(values)), "targets", values)]


def _bound(function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


def _renumbered(low: int, high: int) -> str:
    if low < 0:
        return f"; number the classes from 0, or leave such rows out with ignore_index={low} in the loss"
    return "; targets - 1 numbers them from 0" if low > 0 else f"; the model needs {high + 1} outputs for them"


def _embedded(low: int, high: int) -> str:
    if low < 0:
        return f"; add {-low}, so that they count from 0, and num_embeddings={high - low + 1} takes them"
    return f"; num_embeddings={high + 1} takes them"


def _reshaped(one: Tensor, other: Tensor) -> str:
    if one.numel() != other.numel():
        return "give the model as many outputs as a row has targets"
    if one.ndim == other.ndim + 1 and one.shape[-1] == 1:
        return "targets.unsqueeze(-1) or outputs.squeeze(-1) makes them so"
    if other.ndim == one.ndim + 1 and other.shape[-1] == 1:
        return "targets.squeeze(-1) or outputs.unsqueeze(-1) makes them so"
    return f"targets.reshape({', '.join(map(str, (-1, *one.shape[1:])))}) makes them so"
