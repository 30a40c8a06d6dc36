"""Saved models: a trained module in one file, with its configuration, normalizer and versions, and back again."""

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.compress.completed_form import calibration_of, converted_again
from tuneflow.compress.operations import Operation, apply_all, operations_of
from tuneflow.compress.winner import BuildRecord, in_float, parts_of, recorded, wrappers
from tuneflow.errors import CheckpointError, ending_where, in_one_line, in_use, listed, printable
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.restoring import Misfit, holders, misfit, owner_of, restore_tensors
from tuneflow.heuristics.target_scaling import RescaledModule
from tuneflow.model import Model, tensors_of
from tuneflow.nested import mapped, paths
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.space.values import rounded
from tuneflow.store.atomic_file import write_bytes
from tuneflow.store.torch_file import content_of, values_in
from tuneflow.study.saved_entries import check_entries
from tuneflow.train.saved_normalizer import facts_of, rebuilt
from tuneflow.train.spread import Spread, install, installed
from tuneflow.validate import is_whole, path_of
from tuneflow.version import __version__

FORMAT = 5  # 1 had no scale of the targets, 2 another digest, 3 one kind of normalizer and no spread, 4 no operations


def save_model(path: Path, module: nn.Module, facts: Mapping[str, Any], rows: Any = None) -> None:
    """Write a trained module and `facts`, plain values, to a file that `load` reads.

    Args:
        path: the file to write.
        module: as `Result.model` returns it.
        facts: to be read by people; `load` goes by the module's own record.
        rows: a few raw inputs, to try out a normalizer that an object of the user's has fitted.

    Raises:
        ValueError: such a normalizer cannot be made again from its tensors.
        StoreError: the file cannot be written; what was there before stays.
    """
    winner = parts_of(in_float(module))
    record, normalizer, scale, spread = winner.record, winner.normalizer, winner.scale, installed(winner.module)
    content = {
        "format": FORMAT,
        "tuneflow": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **facts,
        "built": {"config": dict(record.config), "labels": list(record.labels)},
        "operations": [operation.to_values() for operation in record.operations],
        "calibration": calibration_of(module),
        "rows": list(record.rows),
        "box": record.box and list(record.box),
        "weights": tensors_of(winner.module),
        "buffers": holders(winner.module),
        "normalizer": None if normalizer is None else tensors_of(normalizer),
        "normalizer_facts": None if normalizer is None else facts_of(normalizer, record.normalize, rows),
        "scale": None if scale is None else {"mean": scale.mean, "std": scale.std},
        "spread": None if spread is None else asdict(spread),
    }
    content = mapped(lambda tensor: tensor.detach().cpu(), content)
    buffer = io.BytesIO()
    torch.save(content | {"sha256": digest_of(content)}, buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: str | Path, builder: Callable[..., nn.Module] | Model, space: SearchSpace | None = None) -> nn.Module:
    """Return the module that `Result.save` wrote, in evaluation mode on the CPU, as `Result.model` returns it.

    Operations of steps are carried out again on what the builder makes, without data and without the packages that the
    steps needed to decide on them.

    Args:
        path: the file.
        builder: the function or tn.Model that made the module, of a fork the one that made its winner; it is called
            with the saved configuration's section `model`. A normalizer that an object of your own has fitted needs the
            tn.Model, with `normalize=` that object: it fits a new module to made-up rows, which gets the saved tensors.
        space: the space of the study that the builder had, needed only where that section holds labels that stand for
            objects.

    Raises:
        CheckpointError: the file is damaged, or was written by a newer or older tuneflow, or by something else.
        TypeError: the builder is a trained module.
        ValueError: the builder fails with the saved configuration, the weights do not fit what it makes, or the space
            is needed.
    """
    return module_of(_read(path), builder, space, str(path))


def module_of(
    content: Mapping[str, Any], builder: Callable[..., nn.Module] | Model, space: SearchSpace | None, path: str
) -> nn.Module:
    """Return the module that the content of a saved file describes; the arguments are those of `load`.

    Args:
        content: as `save_model` writes it; only the entries that a module is made by are read.
        builder: as for `load`.
        space: as for `load`.
        path: opens messages.

    Raises:
        CheckpointError: an entry is absent, or not of its kind.
        TypeError, ValueError: as `load`.
    """
    check_entries(content, path)
    built, labels = content["built"]["config"], content["built"]["labels"]
    if labels and space is None:
        raise ValueError(
            f"{path}: {listed(map(printable, labels))} stands for an object that only the study's space knows; pass"
            " space=."
        )
    config = built if space is None else space.resolve(space.cast(built))
    model = builder if isinstance(builder, Model) else Model(builder)
    if model.winner is not None:
        raise TypeError(f"{path}: load needs the function that makes the module, got a trained one.")
    operations = _operations(content, path)
    module, wrapped = _built(model, config, operations, content, path)
    record = BuildRecord(
        config=built,
        labels=labels,
        normalize=model.normalization(config),
        operations=operations,
        wrapped=wrapped,
        rows=content["rows"],
        box=content.get("box") and tuple(content["box"]),
    )
    facts, scale = content["normalizer_facts"], content["scale"]
    if facts is not None:
        with in_use(f"{path}: its normalizer", RuntimeError):
            normalizer = rebuilt(facts, content["normalizer"], record.normalize, path)
        module = NormalizedModule(module, normalizer)
    whole = (module if scale is None else RescaledModule(module, scale["mean"], scale["std"])).eval()
    try:
        with in_use(f"{path}: its calibration", RuntimeError):
            return converted_again(recorded(whole, record), content["calibration"])
    except ValueError as error:
        raise ValueError(f"{path}: what the builder makes is not converted as the saved module was: {error}") from None


def _operations(content: Mapping[str, Any], path: str) -> list[Operation]:
    try:
        with in_use(f"{path}: its operations", RuntimeError):
            return operations_of(content["operations"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _built(
    model: Model, config: Config, operations: list[Operation], content: Mapping[str, Any], path: str
) -> tuple[nn.Module, int]:
    """Return the module of a file without normalizer and scale, and the number of those that its builder brings."""
    try:
        module = model.build(config)
    except Exception as error:
        raise ending_where(error, ValueError(f"{path}: {_not_taken(config)}: {_reason(error)}.")) from None
    wrapped = len(wrappers(module))
    try:
        apply_all(operations, module)
    except (ValueError, IndexError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: the steps behind it do not fit the module that the builder makes: {_reason(error)}."
        ) from None
    _fill(module, content, path)
    if content["spread"] is not None:
        install(module, Spread(**content["spread"]))
    return module, wrapped


def _reason(error: Exception) -> str:
    """Return the message of an error without its last period, with its class where the reason is not its arguments."""
    text = in_one_line(error).rstrip(".")
    return text.removeprefix("TypeError: ").removeprefix("ValueError: ")


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
    sha = hashlib.sha256()
    for path, value in paths({name: value for name, value in content.items() if name != "sha256"}).items():
        plain = (str(value.dtype), list(value.shape)) if isinstance(value, Tensor) else value
        sha.update(json.dumps([path, plain], sort_keys=True).encode())
        if isinstance(value, Tensor):
            sha.update(np.ascontiguousarray(value.detach().reshape(-1).view(torch.uint8).numpy()).data)
    return sha.hexdigest()


def _read(path: str | Path) -> dict[str, Any]:
    try:
        raw = content_of(path_of("tn.load: path", path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None
    if _is_program(raw):
        raise CheckpointError(
            f"{path}: not what Result.save wrote but a program, as Result.export writes one; torch.jit.load (.pt) or"
            " torch.export.load (.pt2) reads it."
        )
    content: dict[str, Any] = values_in(raw, path)
    if not isinstance(content, dict) or not is_whole(content.get("format")):
        raise CheckpointError(f"{path}: not a file that tuneflow saved: it holds no model with its configuration.")
    version = content["format"]
    if version != FORMAT:
        newer = version > FORMAT
        raise CheckpointError(
            f"{path}: written by {'a newer' if newer else 'an older'} tuneflow, {content.get('tuneflow')} (file version"
            f" {version}, this one reads {FORMAT});"
            f" {'upgrade tuneflow' if newer else 'load it with that one, or train and save the model again'}."
        )
    digest = _digest(content)
    if digest is None or digest != content.get("sha256"):
        raise CheckpointError(f"{path}: its SHA-256 differs from the one it was written with; the file is damaged.")
    return content


def _digest(content: Mapping[str, Any]) -> str | None:
    """Return the digest of a file's content; None where it holds what no saved model does."""
    try:
        return digest_of(content)
    except (RuntimeError, TypeError, ValueError):
        return None


def _is_program(content: bytes) -> bool:
    """True for a zip file with code in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any("/code/" in name or "/models/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError):
        return False


def _fill(module: nn.Module, content: Mapping[str, Any], path: str) -> None:
    weights, held = content["weights"], content.get("buffers")
    wrong = misfit(module, weights)
    if wrong is None and held is not None:
        late = weights.keys() - tensors_of(module).keys()  # that appear in forward, in a module of the same class
        strange = [name for name in late if held.get(name) != type(owner_of(module, name)).__qualname__]
        if strange:
            wrong = Misfit(printable(min(strange)), str(tuple(weights[min(strange)].shape)), "nothing")
    if wrong is not None:
        raise ValueError(
            f'{path}: "{wrong.name}" is {wrong.saved} in the file and {wrong.live} in the module that the builder'
            " makes."
        )
    restore_tensors(module, weights)
