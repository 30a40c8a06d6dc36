"""Saved models: a trained module in one file, with its configuration, normalizer and versions, and back again."""

import copy
import hashlib
import io
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.errors import CheckpointError, listed
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.restoring import Misfit, holders, misfit, owner_of, restore_tensors
from tuneflow.heuristics.target_scaling import RescaledModule
from tuneflow.model import Model, tensors_of
from tuneflow.seeds import seeded_globals
from tuneflow.space.search_space import SearchSpace
from tuneflow.space.values import rounded
from tuneflow.store.checkpoints import write_bytes
from tuneflow.study.saved_normalizer import facts_of, rebuilt
from tuneflow.train.job import Job
from tuneflow.train.spread import Spread, install, installed
from tuneflow.version import __version__

FORMAT = 4  # 1 had no scale of the targets, 2 another digest, 3 one kind of normalizer and no spread of the inputs
TENSORS = ("weights", "normalizer", "scale")  # the entries of a file that hold tensors by name


def save_model(path: Path, module: nn.Module, facts: Mapping[str, Any], job: Job, rows: Any = None) -> None:
    """Write a trained module and `facts`, plain values, to a file that `load` reads.

    Args:
        path: the file to write.
        module: as `Result.model` returns it.
        facts: at least `config`, and the `labels` in it that stand for objects; see `labels_of`.
        job: the one that it was trained for.
        rows: a few raw inputs, to try out a normalizer that an object of the user's has fitted.

    Raises:
        ValueError: such a normalizer cannot be made again from its tensors.
        StoreError: the file cannot be written; what was there before stays.
    """
    module, normalizer, scale = _unwrapped(module, job)
    kind = False if job.model is None else job.model.normalization(job.config)
    spread = installed(module)
    content = {
        "format": FORMAT,
        "tuneflow": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **facts,
        "weights": {name: tensor.detach().cpu() for name, tensor in tensors_of(module).items()},
        "buffers": holders(module),
        "normalizer": None if normalizer is None else tensors_of(normalizer),
        "normalizer_facts": None if normalizer is None else facts_of(normalizer, kind, rows),
        "scale": scale,
        "spread": None if spread is None else asdict(spread),
    }
    buffer = io.BytesIO()
    torch.save(content | {"sha256": digest_of(content)}, buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: str | Path, builder: Callable[..., nn.Module] | Model, space: SearchSpace | None = None) -> nn.Module:
    """Return the module that `Result.save` wrote, in evaluation mode on the CPU, as `Result.model` returns it.

    Args:
        path: the file.
        builder: the function or tn.Model that made the module; it is called with the saved configuration's section
            `model`. A normalizer that an object of your own has fitted needs the tn.Model, with `normalize=` that
            object: it fits a new module to made-up rows, which gets the saved tensors.
        space: the study's space, needed only where that section holds labels that stand for objects.

    Raises:
        CheckpointError: the file is damaged, or was written by a newer or older tuneflow.
        ValueError: the weights do not fit what the builder makes, or the space is needed.
    """
    content = _read(path)
    if content["labels"] and space is None:
        raise ValueError(
            f"{path}: {listed(content['labels'])} stands for an object that only the study's space knows; pass space=."
        )
    config = content["config"] if space is None else space.resolve(space.cast(content["config"]))
    model = builder if isinstance(builder, Model) else Model(builder)
    try:
        module = model.build(config)
    except TypeError as error:
        raise ValueError(f"{path}: {_not_taken(config)}: {error}.") from None
    _fill(module, content, str(path))
    if content["spread"] is not None:
        install(module, Spread(**content["spread"]))
    facts, scale = content["normalizer_facts"], content["scale"]
    if facts is not None:
        normalizer = rebuilt(facts, content["normalizer"], model.normalization(config), str(path))
        module = NormalizedModule(module, normalizer)
    return (module if scale is None else RescaledModule(module, scale["mean"], scale["std"])).eval()


def _not_taken(config: Mapping[str, Any]) -> str:
    """Return what a builder was called with that did not take it."""
    if "model" in config:
        return f"holds a module that was made with {rounded(config['model'])}, which the builder does not take"
    return (
        f'its configuration {rounded(config)} has no section "model", so the builder is called without arguments; pass'
        " functools.partial(builder, name=value) with those it needs"
    )


def labels_of(name: str, stored: Any, resolved: Any) -> list[str]:
    """Return the dotted names of the values in a configuration that stand for objects.

    Args:
        name: the configuration's own name, which opens the others.
        stored: the configuration as the study stores it.
        resolved: the same as it was passed on.
    """
    if isinstance(stored, Mapping) and isinstance(resolved, Mapping):
        return [label for key in stored for label in labels_of(f"{name}.{key}", stored[key], resolved[key])]
    return [] if type(stored) is type(resolved) and stored == resolved else [name]


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything in a saved file but the digest itself."""
    plain = {name: value for name, value in content.items() if name not in (*TENSORS, "sha256")}
    sha = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for entry in TENSORS:
        for name, tensor in (content[entry] or {}).items():
            sha.update(f"{entry}.{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(np.ascontiguousarray(tensor.detach().reshape(-1).view(torch.uint8).numpy()).data)
    return sha.hexdigest()


def _read(path: str | Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        version = content["format"]
        damaged = version == FORMAT and digest_of(content) != content["sha256"]
        newer = version > FORMAT
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a file that tuneflow saved, or damaged ({reason}).") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{path}: written by {'a newer' if newer else 'an older'} tuneflow, {content['tuneflow']} (file version"
            f" {version}, this one reads {FORMAT});"
            f" {'upgrade tuneflow' if newer else 'load it with that one, or train and save the model again'}."
        )
    if damaged:
        raise CheckpointError(f"{path}: its SHA-256 differs from the one it was written with; the file is damaged.")
    return content


def _unwrapped(module: nn.Module, job: Job) -> tuple[nn.Module, nn.Module | None, dict[str, Tensor] | None]:
    """Return the module as its builder makes it, the normalizer in front of it, and the scale behind it, on the CPU.

    A normalizer or scale that the builder itself brings is part of the module.
    """
    around = _wrappers(module)
    if job.model is not None:
        with seeded_globals(0, "save"):
            around = around[: len(around) - len(_wrappers(job.model.build(job.config)))]
    normalizer, scale = None, None
    for wrapper in around:
        if isinstance(wrapper, NormalizedModule):
            normalizer = copy.deepcopy(wrapper.normalizer).cpu()
        else:
            scale = {"mean": wrapper.mean.cpu(), "std": wrapper.std.cpu()}
        module = wrapper.module
    return module, normalizer, scale


def _wrappers(module: nn.Module) -> list[NormalizedModule | RescaledModule]:
    """Return the normalizers and scales around a module, from the outside."""
    wrappers = []
    while isinstance(module, NormalizedModule | RescaledModule):
        wrappers.append(module)
        module = module.module
    return wrappers


def _fill(module: nn.Module, content: Mapping[str, Any], path: str) -> None:
    weights, held = content["weights"], content.get("buffers", {})
    wrong = misfit(module, weights)
    if wrong is None:
        late = weights.keys() - tensors_of(module).keys()  # that appear in forward, in a module of the same class
        strange = [name for name in late if held.get(name) != type(owner_of(module, name)).__qualname__]
        wrong = Misfit(min(strange), str(tuple(weights[min(strange)].shape)), "nothing") if strange else None
    if wrong is not None:
        raise ValueError(
            f'{path}: "{wrong.name}" is {wrong.saved} in the file and {wrong.live} in the module that the builder'
            " makes."
        )
    restore_tensors(module, weights)
