"""What lanes have to have in common to be trained as one program."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tuneflow.execute.lanes.lane import Lane
from tuneflow.fused.module_facts import facts_of
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.seeds import digest
from tuneflow.signature import name_of

KEPT = 16


@dataclass(frozen=True)
class Structure:
    """What is equal for lanes that differ only in numbers that each may have of its own.

    Attributes:
        facts: the same in every process.
        code: the classes and functions of this process.
        data: by identity, what rows come from.
    """

    facts: Hashable
    code: Hashable
    data: Hashable

    @property
    def name(self) -> str:
        return f"{digest(repr(self.facts)):x}"


def unfit_lane(lane: Lane) -> str:
    """Why this trial cannot share its steps; empty where it can."""
    if lane.run.settings.micro_batch is not None:
        return "micro_batch trains in parts"
    label = lane.job.runtime.label
    return f"a stack of trials has no {label}" if label else ""


def structure_of(lane: Lane) -> Structure:
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
    loss = (
        type(settings.loss) if isinstance(settings.loss, nn.Module) else getattr(settings.loss, "func", settings.loss)
    )
    code = (type(lane.trainer), type(optimizer), loss if isinstance(loss, Hashable) else id(loss))
    return Structure(facts, code, (id(run.train), id(run.valid)))


_kept: OrderedDict[Hashable, ProgramCache] = OrderedDict()


def programs_of(lane: Lane, structure: Structure) -> ProgramCache:
    """What was traced of a structure in this process so far, by any study; the last `KEPT` structures are kept."""
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
        facts = facts_of(loss)
        if "label_smoothing" in facts:
            facts["label_smoothing"] = bool(facts["label_smoothing"])  # how much may differ
        tensors = [*loss.named_parameters(), *loss.named_buffers()]
        values = [(name, hashlib.blake2b(t.detach().cpu().numpy().tobytes()).hexdigest()) for name, t in tensors]
        return type(loss).__qualname__, _sorted(facts), tuple(values)
    given = repr((loss.args, loss.keywords)) if isinstance(loss, partial) else ""
    return name_of(loss), given


def _sorted(facts: dict[str, Any]) -> Hashable:
    return tuple(sorted(facts.items()))
