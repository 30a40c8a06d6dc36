"""The dry run of one training step: rows, dtypes, loss and gradient."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.check.bounded_outputs import OutputRange, check_bounded
from tuneflow.check.explain import TRIED, culprit, explain, lost_rows, rerun
from tuneflow.check.few_rows import Batching, check_few_rows
from tuneflow.check.late_state import BuiltState
from tuneflow.check.layer_watch import Watch
from tuneflow.check.loss_rules import LossRules
from tuneflow.check.output_kinds import OutputKinds
from tuneflow.check.samples import SampledPart, leaves_of
from tuneflow.check.untrained import check_trained
from tuneflow.compress.winner import record_of, recorded
from tuneflow.data.data import Batch, sliced
from tuneflow.errors import ending_where
from tuneflow.heuristics.target_scaling import completed
from tuneflow.heuristics.unchanged import unchanged
from tuneflow.nested import leaves, mapped
from tuneflow.train.augmentation import Augmentation
from tuneflow.train.boxed_module import box_where_used
from tuneflow.train.evaluated_loss import evaluated
from tuneflow.train.job import Job
from tuneflow.train.trained_loss import evaluating
from tuneflow.train.trainer import Trainer

EVALUATED = 8  # rows of the batch that the module is run on in evaluation mode


class NotFiniteLoss(ValueError):
    """The loss is NaN or infinite on the rows of the dry run; other rows may do."""


def check_step(
    trainer: Trainer,
    job: Job,
    module: nn.Module,
    parts: Sequence[SampledPart],
    ways: Sequence[Batching] = (),
) -> None:
    """Raise unless `module` takes a batch of the trainer's and its loss gives a gradient.

    Args:
        trainer: configured, and of few rows.
        job: the configuration, and the device.
        module: a new one; it is left with gradients, and with buffers that training mode changes.
        parts: all rows, for rules that hold for each.
        ways: every way in which the space cuts an epoch into batches.
    """
    trainer = trainer.for_job(job)
    with job.at_work("check", 0):
        module, batch = _complete(trainer, job, module)
        before = mapped(torch.clone, leaves_of(batch))
        rows = len(next(iter(before.values()), trainer.train))
        module.train()
        built = BuiltState(module)
        watch = Watch(module, rows, LossRules(batch, parts), OutputKinds())
        try:
            with watch, job.runtime.autocast():
                loss = trainer.loss_of(module, batch)
        except Exception as error:
            raise ending_where(error, explain(module, watch, error)) from None
        built.check(module)
        _check_untouched(before, leaves_of(batch))
        _check_loss(loss, module)
        _check_finite(loss, watch, rows)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            failure = ValueError(f"the loss has no gradient: {type(error).__name__}: {error}")
            raise ending_where(error, failure) from None
        _check_gradient(module)
        trained = [*module.parameters(), *_parameters_of(trainer.loss)]
        check_trained(loss, lambda: trainer.loss_of(module, batch), trained)
        _check_evaluation(trainer, module, batch)
        _check_any_rows(module, watch)
        check_few_rows(ways, trainer, job, module, batch, watch.rows)


def _check_evaluation(trainer: Trainer, module: nn.Module, batch: Batch) -> None:
    """Raise if the module gives the loss other outputs in evaluation mode than it takes, such as probabilities."""
    loss_of = evaluated(trainer.loss_of)
    few, outputs = mapped(torch.clone, next(sliced(batch, EVALUATED))), OutputRange()
    before = mapped(torch.clone, leaves_of(few))
    watch = Watch(module, 0, OutputKinds(evaluation=True), outputs)
    with unchanged(module), evaluating(trainer.loss), torch.no_grad(), suppress(Exception):
        module.eval()
        with watch:
            loss_of(module, few)
    if watch.refusal is not None:
        raise watch.refusal
    _check_untouched(before, leaves_of(few))
    if outputs.bounded:
        with evaluating(trainer.loss):
            check_bounded(module, lambda: loss_of(module, few))


def _complete(trainer: Trainer, job: Job, module: nn.Module) -> tuple[nn.Module, Batch]:
    """Return the module as the loss takes it, and the first batch as that does: on the device, augmented, normalized.

    For a loss of raw inputs the normalizer is in front of the module, and not applied to the batch.
    """
    runtime, size = job.runtime, min(trainer.batch_size, len(trainer.train))
    batch = runtime.place(next(iter(trainer.train.batches(size))))
    preparation = trainer.preparation()
    normalizer, scale = preparation.scaling(job, module, trainer.resolved())
    normalizer = preparation.sanitized(normalizer, [] if job.model is None else job.model.recipe)
    complete = completed(module, normalizer, scale)
    if box := box_where_used(trainer.resolved().objects, preparation.fits.box):
        recorded(complete, replace(record_of(complete), box=box))
    inputs, targets = Augmentation(trainer.augment)(complete, batch)
    module.zero_grad()
    if trainer.raw_inputs:
        return complete, (inputs, targets)
    return module, (inputs if normalizer is None else normalizer(inputs), targets)


def _parameters_of(loss: Any) -> list[nn.Parameter]:
    return list(loss.parameters()) if isinstance(loss, nn.Module) else []


def _check_untouched(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    for path, tensor in before.items():
        if path in after and not torch.equal(tensor, after[path]):
            raise ValueError(
                f"the model and the loss need to leave a batch as it is, but {path} were changed in place, as"
                " nn.ReLU(inplace=True) in front or x += 1 do; make a new tensor there: x = x + 1."
            )


def _check_loss(loss: Any, module: nn.Module) -> None:
    if isinstance(loss, tuple | list | dict):
        raise TypeError(
            f"the loss needs to be a single tensor with a gradient, got a {type(loss).__name__} of {len(loss)} parts;"
            " return their sum, or a weighted one, and report the parts as metrics."
        )
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the loss needs to be a tensor with a gradient, got {type(loss).__name__}; leave out .item() and float()."
        )
    if loss.numel() != 1:
        raise ValueError(
            f'the loss needs to be a single number, got shape {tuple(loss.shape)}; reduction="mean" or .mean() makes'
            " one of it."
        )
    if not loss.requires_grad:
        trained = any(p.requires_grad for p in module.parameters())
        why = (
            "something between the parameters and the loss cuts it off, such as detach(), no_grad() or argmax()"
            if trained
            else f"{type(module).__name__} has no parameter that requires one"
        )
        raise ValueError(f"the loss needs a gradient, got one that does not require it: {why}.")


def _check_finite(loss: Tensor, watch: Watch, rows: int) -> None:
    """Raise NotFiniteLoss for a loss that is NaN or infinite before any step."""
    if loss.isfinite().all():
        return
    outputs = [t for t in leaves(watch.outputs) if t.is_floating_point()]
    if all(bool(t.isfinite().all()) for t in outputs):
        why = "for finite outputs of the model; see whether it averages over no targets, or takes the log of 0"
    else:
        why = (
            "as are outputs of the model; see whether it divides by 0, or takes a root, logarithm or power of numbers"
            " that may be negative, as standardized inputs are: tn.Model(..., normalize=False) leaves them as they are"
        )
    raise NotFiniteLoss(f"the loss needs to be finite, got {loss.item()} on {rows} rows, before any step, {why}.")


def _check_gradient(module: nn.Module) -> None:
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if named and all(p.grad is None for _, p in named):
        raise ValueError(
            f'the loss depends on none of the model\'s {len(named)} parameters, "{named[0][0]}" the first of them; it'
            " needs to be computed from the model's outputs."
        )


def _check_any_rows(module: nn.Module, watch: Watch) -> None:
    """Raise if the module is written for one batch size; the last batch and evaluation have others."""
    if watch.rows <= TRIED or lost_rows(module, watch):
        return
    second = rerun(module, watch, TRIED)
    view = None if second is None else culprit(second)
    if second is not None and view is not None and (second.error is not None or lost_rows(module, second)):
        raise ValueError(
            f"the model takes batches of {watch.rows} rows only, by {view.call}{view.where}, but batches differ in"
            " size, as the last of an epoch does; take the number of rows from x.shape[0]."
        )
