"""The structure of a lane: everything that lanes of one program have in common."""

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tuneflow.execute.lanes.lane import Lane
from tuneflow.fused.module_facts import comparable, facts_of
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.seeds import digest

KEPT = 16


@dataclass(frozen=True)
class Structure:
    """Equal for lanes that differ only in numbers that each may have of its own.

    Attributes:
        facts: names, shapes and settings; the same in every process.
        code: the classes and functions of this process.
        data: identities of the training and validation data.
    """

    facts: Hashable
    code: Hashable
    data: Hashable

    @property
    def name(self) -> str:
        return f"{digest(repr(self.facts)):x}"


def unfit_lane(lane: Lane) -> str:
    """The reason why this trial cannot be stacked with others; empty where it can."""
    if lane.run.settings.micro_batch is not None:
        return "micro_batch trains in parts"
    if lane.run.augmentation.sees_module:
        return "augment sees the module, whose weights are in the stack"
    if getattr(lane.run.settings.loss, "uses_box", False):
        return "the loss attacks its inputs, by gradients that a program of several trials does not have"
    if lane.run.loss.parameters:
        return "the loss has parameters"
    if _loss_changes(lane):
        return "the loss changes its buffers"
    if lane.run.weights.switches:
        return f"{type(lane.run.optimizer).__name__} scores other weights than it trains, and a stack holds one of each"
    if lane.run.form.label:
        return f"a stack of trials scores the modules that it trains, and this one is scored in {lane.run.form.label}"
    label = lane.job.runtime.label
    return f"a stack of trials has no {label}" if label else ""


def _loss_changes(lane: Lane) -> bool:
    """True if a training step changes the buffers of the loss; tried on copies, for a loss that is not torch's."""
    loss = lane.run.loss
    if (
        loss.module is None
        or type(loss.module).__module__.startswith(("torch.", "tuneflow."))
        or not list(loss.module.buffers())
    ):
        return False
    run = lane.trainer.resumed(lane.job, lane.state)
    with lane.job.at_work("measure", 0):
        run.loss_of(run.whole, run.first_rows(run.settings.batch_size))
    return bool(run.loss.state() or loss.state())


def structure_of(lane: Lane) -> Structure:
    """Return the structure of a lane; lanes with equal ones can share a program."""
    run = lane.run
    settings, optimizer = run.settings, run.optimizer
    facts = (
        type(lane.trainer).__qualname__,
        _sorted(facts_of(run.whole)),
        _loss_facts(settings.loss),
        type(optimizer).__qualname__,
        tuple(len(group["params"]) for group in optimizer.param_groups),
        settings.batch_size,
        settings.augment is None,
        run.unit,
    )
    code = (type(lane.trainer), type(optimizer), _code_of(settings.loss))
    return Structure(facts, code, (id(run.train), id(run.valid)))


_kept: OrderedDict[Hashable, ProgramCache] = OrderedDict()


def programs_of(lane: Lane, structure: Structure) -> ProgramCache:
    """Return the programs of a structure that this process has traced, in any study; the last `KEPT` are kept."""
    if lane.run.settings.own_loss:
        return ProgramCache()  # its loss may hold anything of the trainer's
    key = (structure.facts, structure.code)
    made = _kept.setdefault(key, ProgramCache())
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return made


def _loss_facts(loss: Any) -> Hashable:
    if isinstance(loss, nn.Module):
        facts = facts_of(loss, modules_by_class=False)
        if "label_smoothing" in facts:
            facts["label_smoothing"] = bool(facts["label_smoothing"])  # how much may differ
        tensors = [*loss.named_parameters(), *loss.named_buffers()]
        values = [(name, hashlib.blake2b(t.detach().cpu().numpy().tobytes()).hexdigest()) for name, t in tensors]
        return type(loss).__qualname__, _sorted(facts), tuple(values)
    return comparable(loss)


def _code_of(loss: Any) -> Any:
    """Return the function, or else the class, that computes a loss."""
    function = loss.func if isinstance(loss, partial) else loss
    return function if inspect.isroutine(function) else type(function)


def _sorted(facts: dict[str, Any]) -> Hashable:
    return tuple(sorted(facts.items()))
