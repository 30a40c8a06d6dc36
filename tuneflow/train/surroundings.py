"""Surroundings: what stands around a trained module, in its state, so that it is made again without the data."""

import copy
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from tuneflow.compress.winner import Winner
from tuneflow.heuristics.target_scaling import Scale
from tuneflow.model import tensors_of
from tuneflow.nested import leaves
from tuneflow.train.job import Job, TrainState
from tuneflow.train.preparation import Preparation
from tuneflow.train.saved_normalizer import facts_of
from tuneflow.train.spread import installed

KEY = "surroundings"  # in the values of a state
SMALL = 2**20  # bytes of a normalizer that a state has in any case
Values = dict[str, Any]


def surroundings(
    preparation: Preparation,
    job: Job,
    module: nn.Module,
    normalizer: nn.Module | None,
    scale: Scale | None,
    box: tuple[float, float] | None,
    own_module: bool = False,
) -> Values:
    """Return the surroundings of a module as tensors and plain values: made once for each normalizer, and shared.

    Args:
        preparation: of the rows that it is trained on; its cache is filled.
        job: the module's.
        module: with the hook that spreads its inputs, where it has one.
        normalizer: stands before it, with sanitizers; None for raw inputs.
        scale: of its targets; None where it gives the targets' units.
        box: the range of the training rows, where something uses it.
        own_module: True if the trainer makes the trained module of a state by itself.
    """
    if own_module:
        return {"reason": "its trainer has a method module of its own"}
    spread, winner = installed(module), None if job.model is None else job.model.winner
    return {
        "normalizer": None if normalizer is None else _kept_normalizer(preparation, job, module, normalizer),
        "scale": None if scale is None else {"mean": scale.mean, "std": scale.std},
        "spread": None if spread is None else asdict(spread),
        "box": None if box is None else list(box),
        "winner": None if winner is None else _winner_values(winner),
    }


def saved_content(state: TrainState, built: Values) -> Values:
    """Return what a saved model's file holds, from the state of a trial.

    Args:
        state: of one training by a tn.Trainer.
        built: the configuration that the builder is called for, with the names in it that stand for objects; a winner's
            own takes its place.

    Raises:
        ValueError: the state lacks a part of it; the message has the reason, to stand behind the trial's name.
    """
    values = state.values
    if KEY not in values or "module" not in values:
        raise ValueError("was not trained by a tn.Trainer, so only its own code makes the module of its state")
    around = values[KEY]
    normalizer = {} if around.get("reason") else around["normalizer"] or {}
    if reason := around.get("reason") or normalizer.get("reason"):
        raise ValueError(f"cannot be made without the study's code: {reason}")
    winner = around["winner"] or {}
    if values.get("weights") == "train":
        raise ValueError("is kept with the weights of training, whose averages only the training rows give")
    return {
        "built": winner.get("built", built),
        "operations": [*winner.get("operations", ()), *values.get("recipe", ())],
        "calibration": values.get("calibration", {}),
        "rows": winner.get("rows", []),
        "box": around["box"],
        "weights": values["module"],
        "normalizer": normalizer["tensors"] if normalizer else None,
        "normalizer_facts": normalizer["facts"] if normalizer else None,
        "scale": around["scale"],
        "spread": around["spread"],
    }


def _kept_normalizer(preparation: Preparation, job: Job, module: nn.Module, normalizer: nn.Module) -> Values:
    kept: WeakKeyDictionary[nn.Module, Values] = preparation.cache.setdefault(KEY, WeakKeyDictionary())
    if normalizer not in kept:
        kept[normalizer] = _normalizer_values(preparation, job, module, normalizer)
    return kept[normalizer]


def _normalizer_values(preparation: Preparation, job: Job, module: nn.Module, normalizer: nn.Module) -> Values:
    """Return facts and tensors of a normalizer; the reason why not, where it cannot be made again or is large."""
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors_of(normalizer).items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > max(SMALL, sum(tensor.nbytes for tensor in leaves(tensors_of(module)))):
        return {"reason": f"its normalizer is larger than itself ({size:,} bytes), and not kept with every state"}
    assert job.model is not None
    kind = job.model.normalization(job.config) if job.model.winner is None else job.model.winner.record.normalize
    try:
        return {"facts": facts_of(copy.deepcopy(normalizer).cpu(), kind, preparation.two_rows(job)), "tensors": tensors}
    except ValueError as error:
        return {"reason": str(error).removeprefix("save: ").rstrip(".")}


def _winner_values(winner: Winner) -> Values:
    """Return what a winner's module is made by."""
    record = winner.record
    return {
        "built": {"config": dict(record.config), "labels": list(record.labels)},
        "operations": [each.to_values() for each in record.operations if not each.converts],
        "rows": list(record.rows),
    }
