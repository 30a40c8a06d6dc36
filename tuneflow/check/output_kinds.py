"""The kind of outputs that each loss of torch takes: logits, probabilities or log-probabilities."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from tuneflow.check.layer_watch import Rules, Watch
from tuneflow.check.origins import LOGS, PROBABILITIES, SCORES, TINY, Origin, Origins
from tuneflow.errors import warn

SLACK = 0.05  # of a sum of probabilities, in the arithmetic of 16 bits
FEW = 3  # rows that tell a softmax over them from others
SQUASHING = ("sigmoid", "sigmoid_", "expit", "logsigmoid", "softmax", "log_softmax")  # which a loss applies to logits
Check = Callable[[str, Tensor, Origin | None], str]


class OutputKinds(Rules):
    """Refuses outputs that a loss of torch would take for something else, such as probabilities for logits.

    Args:
        evaluation: the module is in evaluation mode, which messages then say; nothing is warned of.
    """

    def __init__(self, evaluation: bool = False) -> None:
        self._evaluation, self._origins = evaluation, Origins()

    @override
    def before(self, watch: Watch, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Raise ValueError for outputs of another kind than a loss takes; warn of a layer that does nothing."""
        if not watch.at and getattr(function, "__name__", "") in SQUASHING:
            self._squashed_twice(function.__name__, args)
        if function not in CHECKS:
            return
        outputs = inspect.signature(function).bind(*args, **kwargs).arguments["input"]
        origin = self._origins.of(outputs)
        across = origin is not None and _across_rows(function.__name__, outputs, origin)
        if message := across or CHECKS[function](function.__name__, outputs, origin):
            raise ValueError(f"{'in evaluation mode, ' if self._evaluation else ''}{message}")
        if function is functional.cross_entropy and origin is not None and origin.kind == LOGS and not self._evaluation:
            warn(
                f"cross_entropy applies log_softmax itself, which leaves log-probabilities, those of {origin.where}, as"
                " they are: harmless, but the layer can be left out."
            )

    @override
    def after(self, watch: Watch, function: Callable[..., Any], args: Any, result: Any) -> None:
        """Note of which kind the result of a call is."""
        self._origins.note(function, args, result, str(watch.at[-1]) if watch.at else "the loss")

    def _squashed_twice(self, name: str, args: Any) -> None:
        origin = self._origins.of(args[0]) if args else None
        if origin is not None and origin.kind == PROBABILITIES and not self._evaluation:
            raise ValueError(
                f"the loss takes the {name} of probabilities, those after the {origin.name} of {origin.where}, which"
                f" leaves little of them; leave the {origin.name} out, or the {name} in the loss."
            )


# What each loss takes. A check returns a message, empty where nothing is wrong.


def _across_rows(name: str, outputs: Tensor, origin: Origin) -> str:
    """Return a message about a softmax, or its logarithm, whose sum over the rows of a batch is 1; else nothing."""
    if outputs.ndim < 2 or len(outputs) < FEW or origin.kind == SCORES or origin.name == "sigmoid":
        return ""
    shares = outputs.detach().float()
    shares = shares.exp() if origin.kind == LOGS else shares
    over_rows, over_classes = (bool(((shares.sum(d) - 1).abs() < SLACK).all()) for d in (0, 1))
    if not over_rows or over_classes:
        return ""
    return (
        f"{name} takes the classes of a row apart, but the softmax of {origin.where} is over dimension 0, the rows of a"
        " batch: their outputs add up to 1 in every class. Take dim=1."
    )


def _takes_logits_of_classes(name: str, outputs: Tensor, origin: Origin | None) -> str:
    if origin is not None and origin.kind == PROBABILITIES:
        made, where = origin.name, origin.where
    elif _adds_up_to_1(outputs):
        made, where = "softmax", "the model, whose outputs add up to 1 in every row"
    else:
        return ""
    kept = (
        "nn.BCELoss, for targets of 0 and 1 each"
        if made == "sigmoid"
        else "nn.NLLLoss of their logarithm: lambda outputs, targets: nn.functional.nll_loss(outputs.log(), targets)"
    )
    return _logits(name, "softmax", made, where, kept)


def _takes_logits(name: str, outputs: Tensor, origin: Origin | None) -> str:
    del outputs
    if origin is None or origin.kind not in (PROBABILITIES, LOGS):
        return ""
    return _logits(name, "sigmoid", origin.name or "logarithm", origin.where, "nn.BCELoss of probabilities")


def _logits(name: str, own: str, made: str, where: str, kept: str) -> str:
    return (
        f"{name} takes logits and applies a {own} itself, but gets them after the {made} of {where}: its"
        f" gradient is much too small, and training is slow or stalls. Leave the {made} out, or keep it and take"
        f" {kept}."
    )


def _takes_logs(name: str, outputs: Tensor, origin: Origin | None) -> str:
    if origin is not None and origin.kind == LOGS:
        return ""
    if origin is None and not _too_large(outputs, normalized=name == "nll_loss"):
        return ""
    got = "outputs that are not" if origin is None else f"the {origin.name or origin.kind} of {origin.where}"
    other = ", or take nn.CrossEntropyLoss, which takes logits" if name == "nll_loss" else ""
    return (
        f"{name} takes log-probabilities, but gets {got}: it would fall without end, or mean nothing. End the model in"
        f" nn.LogSoftmax(dim=1){other}{' in the place of the softmax' if origin and origin.name else ''}."
    )


def _takes_probabilities(name: str, outputs: Tensor, origin: Origin | None) -> str:
    other = origin is not None and origin.kind != PROBABILITIES
    low, high = (float(value) for value in outputs.detach().aminmax()) if outputs.numel() else (0.0, 1.0)
    if not other and low >= 0 and high <= 1:
        return ""
    got = f"the {origin.kind} of {origin.where}" if other and origin is not None else "outputs"
    return (
        f"{name} takes probabilities, but gets {got}, from {low:.3g} to {high:.3g}. End the model in nn.Sigmoid(), or"
        " take nn.BCEWithLogitsLoss, which applies it itself and is more exact."
    )


def _adds_up_to_1(outputs: Tensor) -> bool:
    """True for probabilities of several classes in every row."""
    if outputs.ndim < 2 or min(outputs.shape[:2]) < 2 or not outputs.is_floating_point():
        return False
    rows = outputs.detach().float()
    return bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() < TINY).all())


def _too_large(outputs: Tensor, normalized: bool) -> bool:
    """True if outputs are no logarithms of probabilities: above 0, or with `normalized` of a sum above 1."""
    rows = outputs.detach().float()
    if rows.numel() == 0 or not rows.isfinite().all():
        return False
    return bool(rows.max() > TINY) or (normalized and rows.ndim > 1 and bool(rows.logsumexp(1).max() > SLACK))


CHECKS: dict[Any, Check] = {
    functional.cross_entropy: _takes_logits_of_classes,
    functional.binary_cross_entropy_with_logits: _takes_logits,
    functional.multilabel_soft_margin_loss: _takes_logits,
    functional.nll_loss: _takes_logs,
    functional.kl_div: _takes_logs,
    functional.binary_cross_entropy: _takes_probabilities,
}
TAKE_LOGITS = [loss for loss, check in CHECKS.items() if check in (_takes_logits_of_classes, _takes_logits)]
