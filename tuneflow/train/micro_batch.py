"""Micro-batches compared with the whole batch: the gradients of parts have to add up to the gradient of the batch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.data.data import Batch, Data, sliced
from tuneflow.errors import ending_where
from tuneflow.heuristics.unchanged import looked_at, unchanged
from tuneflow.nested import leaves, mapped
from tuneflow.train.gradients import backward, backward_in_parts
from tuneflow.train.loss_divisor import kind_of
from tuneflow.train.session import Session

ROWS = 33  # of a batch that is compared, at most
MANY = 1024  # of a batch whose outputs alone are compared, at most
PART = 0.4  # of them in a part, at most: two parts, and a smaller one
CLOSE, COARSE = 1e-4, 1e-2  # relative difference that rounding may make on the CPU, and on a device that rounds more
ACROSS_ROWS = nn.modules.batchnorm._BatchNorm

Ignored = Sequence[float | None]  # of each tensor of the targets: its lowest number, where that is below 0


def check_unknown_loss(run: Session) -> None:
    """Raise as `check_micro_batch` does, if the loss is not one of torch's, whose parts are known to add up."""
    if run.settings.micro_batch is not None and (run.settings.own_loss or kind_of(run.settings.loss) is None):
        check_micro_batch(run, lowest_of(run.train.source))


def check_micro_batch(run: Session, ignored: Ignored = ()) -> None:
    """Raise unless training in micro-batches gives the gradient of whole batches, on a few rows.

    The parts differ in size and, where targets have numbers below 0, in how many of their targets those are. Batch
    norms use their running statistics and every draw is replaced by a constant, so that only the loss is judged; one
    that is random nevertheless is not. The session is left as it was, but for the parameters' gradients.

    Args:
        run: a new session.
        ignored: as `lowest_of` gives them.

    Raises:
        ValueError: the gradients differ by more than rounding, or parts of a batch have none.
    """
    settings, micro = run.settings, run.settings.micro_batch
    if micro is None or micro >= settings.batch_size:
        return
    rows = min(settings.batch_size, len(run.train), 2 * micro + 1, ROWS)
    size = min(micro, math.ceil(PART * rows))
    if rows < 2:
        return
    with run.job.at_work("micro-batch", 0), run.job.runtime.autocast(on=False):
        inputs, targets = run.first_rows(rows)
        batch = inputs, _with_ignored(targets, ignored, math.ceil(size / 2))
        whole, again = _gradient(run, batch, None), _gradient(run, batch, None)
        if whole is None or again is None or _difference(whole, again) > CLOSE / 10:
            return
        try:
            parts = _gradient(run, batch, size)
        except Exception as error:
            reason = f"the loss of {size} rows fails, with {type(error).__name__}: {error}"
            raise ending_where(error, ValueError(_refusal(micro, reason))) from None
    _compare(run, whole, parts)
    _check_outputs(run, micro)


def _check_outputs(run: Session, micro: int) -> None:
    """Raise as `check_micro_batch` does for a loss of outputs and targets, with as many rows as a batch has.

    A loss of the 40 hardest rows, say, shows itself there only. The gradient is that of the outputs, which takes little
    memory.
    """
    settings, rows = run.settings, min(run.settings.batch_size, len(run.train), MANY)
    if settings.own_loss or kind_of(settings.loss) is not None or rows <= ROWS:
        return
    with run.job.at_work("micro-batch", 0), run.job.runtime.autocast(on=False):
        batch = run.first_rows(rows)
        with looked_at(run.whole):
            chunks = [run.whole(inputs) for inputs, _ in sliced(batch, micro)]
        if not all(isinstance(chunk, Tensor) and chunk.ndim for chunk in chunks) or sum(map(len, chunks)) != rows:
            return
        outputs = torch.cat(chunks).requires_grad_()
        whole, parts = (_gradient_of(run, outputs, batch[1], size) for size in (rows, micro))
    if whole is not None:
        _compare(run, whole, parts)


def _gradient_of(run: Session, outputs: Tensor, targets: Any, size: int) -> list[Tensor] | None:
    """Return the gradient of the outputs, `size` rows at a time; None where the loss is not finite."""
    settings, holder = run.settings, torch.optim.SGD([outputs], lr=0.0)
    with unchanged(run.loss.module or nn.Identity()), _WithoutDraws():  # type: ignore[no-untyped-call]
        batch = outputs, targets
        value = backward_in_parts(settings.loss_of, nn.Identity(), batch, holder, settings.loss, size)
    return [outputs.grad.clone()] if outputs.grad is not None and math.isfinite(value) else None


def _compare(run: Session, whole: list[Tensor], parts: list[Tensor] | None) -> None:
    """Raise ValueError unless the two gradients differ by rounding only; None is one that is not finite."""
    micro = run.settings.micro_batch or 0
    off = math.inf if parts is None else _difference(whole, parts)
    if off > (CLOSE if run.job.runtime.device.type == "cpu" else COARSE):
        words = "is not finite" if parts is None else f"differs by {_percent(off)} from that of the whole batch"
        raise ValueError(_refusal(micro, f"the gradient of parts of a batch {words}"))


def lowest_of(source: Any) -> list[float | None]:
    """Return `lowest` of each tensor of the targets; nothing for rows that have to be loaded."""
    return [lowest(leaf) for leaf in leaves(source.targets)] if isinstance(source, Data) else []


def lowest(tensor: Tensor) -> float | None:
    """Return the lowest of whole numbers, if it is below 0; else None."""
    if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.numel() == 0 or tensor.min() >= 0:
        return None
    return tensor.min().item()


def layers_across_rows(module: nn.Module) -> list[str]:
    """Return the layers that compute with the rows of a part and not with those of the whole batch, in words."""
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, ACROSS_ROWS)]
    return [f'"{name}: {type(layer).__name__}"' for name, layer in found]


# The comparison.


def _with_ignored(targets: Any, ignored: Ignored, count: int) -> Any:
    """Return a copy of `targets` in which the first `count` rows have the numbers that a loss may ignore."""
    lowest = iter(ignored)

    def changed(tensor: Tensor) -> Tensor:
        value = next(lowest, None)
        if value is None:
            return tensor
        copy = tensor.clone()
        copy[:count] = value
        return copy

    return mapped(changed, targets)


def _gradient(run: Session, batch: Batch, size: int | None) -> list[Tensor] | None:
    """Return the gradient of each parameter, of parts of `size` rows or of the whole; None where it is not finite."""
    settings, module, optimizer = run.settings, run.whole, run.optimizer
    with _comparable(run), _WithoutDraws():  # type: ignore[no-untyped-call]
        if size is None:
            value = backward(settings.loss_of, module, batch, optimizer)
        else:
            value = backward_in_parts(settings.loss_of, module, batch, optimizer, settings.loss, size)
    zeros = (torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in run.parameters)
    gradient = list(zeros)
    optimizer.zero_grad()
    return gradient if math.isfinite(value) else None


@contextmanager
def _comparable(run: Session) -> Iterator[None]:
    """A block in which batch norms use their running statistics; buffers and modes are restored."""
    with unchanged(run.whole), unchanged(run.loss.module or nn.Identity()):
        for layer in run.whole.modules():
            if isinstance(layer, ACROSS_ROWS) and layer.track_running_stats:
                layer.eval()
        yield


class _WithoutDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Replaces every draw of floating-point numbers by a constant; dropout then drops nothing."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return result
        name = str(function)
        if "dropout" in name:
            result[0].copy_(args[0])
            result[1].fill_(1)
        elif isinstance(result, Tensor) and result.is_floating_point():
            share = args[1] if "bernoulli" in name and len(args) > 1 else 0.5
            result.copy_(share) if isinstance(share, Tensor) else result.fill_(share)
        return result


def _difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the norm of the difference relative to the norm of the first."""
    off = math.sqrt(sum(float((a - b).double().square().sum()) for a, b in zip(one, other, strict=True)))
    norm = math.sqrt(sum(float(a.double().square().sum()) for a in one))
    return off / norm if norm else (math.inf if off else 0.0)


def _percent(share: float) -> str:
    return f"{share:.2g}" if share > 9 or share < 0.001 else f"{100 * share:.2g} %"


def _refusal(micro: int, reason: str) -> str:
    return (
        f"micro_batch={micro} needs a loss whose parts add up, but {reason}. That is so for torch's losses, and for a"
        " mean over rows; not where targets are left out by hand (ignore_index= does it for class numbers), for a sum"
        ' (reduction="sum" says so), or where rows are compared with each other. Leave out micro_batch, or take such a'
        " loss."
    )
