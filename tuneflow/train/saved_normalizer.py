"""Saved normalizers: the input normalizer of a saved model as plain facts and tensors, and back again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.heuristics.by_part import ByPart, PartNormalizer
from tuneflow.heuristics.input_scaling import Normalizer
from tuneflow.heuristics.normalizers import described, fitter_of
from tuneflow.heuristics.sanitizing import SanitizedInputs, sanitizer_of
from tuneflow.heuristics.whitening import Whitening
from tuneflow.model import tensors_of
from tuneflow.nested import mapped
from tuneflow.seeds import seeded_globals

ROWS = 64  # made up, to have an object fit a module of the same shapes

Facts = dict[str, Any]


def facts_of(normalizer: nn.Module, kind: Any, rows: Any) -> Facts:
    """Return plain facts from which `rebuilt` makes the normalizer again, its tensors apart.

    Args:
        normalizer: as the model has it.
        kind: the Model's normalization, which made it.
        rows: a few raw inputs, to compare the normalizer with the rebuilt one.

    Raises:
        ValueError: it is of an object that does not fit the same module again, or whose module keeps what was fitted in
            other places than parameters and buffers.
    """
    if isinstance(normalizer, PartNormalizer):
        return {"kind": "parts", "keys": normalizer.keys, "parts": [facts_of(p, kind, rows) for p in normalizer.parts]}
    if isinstance(normalizer, SanitizedInputs):
        return _sanitized_facts(normalizer, kind, rows)
    if type(normalizer) in (Normalizer, Whitening):
        return {"kind": type(normalizer).__name__.lower()}
    rows = mapped(Tensor.cpu, rows)
    facts = {"kind": "own", "object": described(kind), "inputs": _shapes(rows)}
    with torch.no_grad():
        before, after = normalizer(rows), rebuilt(facts, tensors_of(normalizer), kind, "save")(rows)
    if not _same(before, after):
        raise ValueError(
            f"save: the module that {described(kind)} fitted cannot be made again from its tensors: with these, a newly"
            " fitted one gives other numbers; register_buffer keeps a number or tensor with the module."
        )
    return facts


def rebuilt(facts: Facts, tensors: Mapping[str, Tensor], kind: Any, where: str) -> nn.Module:
    """Return the normalizer of `facts` with these tensors.

    Args:
        facts: as `facts_of` returns them.
        tensors: parameters and buffers by name.
        kind: the Model's normalization; an object's `fit` makes its module.
        where: opens messages, such as the path of a file.

    Raises:
        ValueError: the object is missing, or makes a module of other tensors.
    """
    if facts["kind"] == "normalizer":
        return Normalizer(tensors["mean"], tensors["std"])
    if facts["kind"] == "whitening":
        return Whitening(tensors["mean"], tensors["matrix"])
    if facts["kind"] == "parts":
        parts = [
            rebuilt(part, _inside(tensors, f"parts.{index}."), kind, where) for index, part in enumerate(facts["parts"])
        ]
        return PartNormalizer(dict(zip(facts["keys"], parts, strict=True)))
    if facts["kind"] == "sanitized":
        behind, inside = facts["normalizer"], _inside(tensors, "normalizer.")
        normalizer = None if behind is None else rebuilt(behind, inside, kind, where)
        return SanitizedInputs([sanitizer_of(name, settings) for name, settings in facts["sanitizers"]], normalizer)
    if isinstance(kind, bool | str | ByPart):
        raise ValueError(
            f"{where}: the inputs are normalized by {facts['object']}, which only its class can make again; pass"
            " tn.Model(builder, normalize=...) with it, or with the section normalize of the space, space=."
        )
    with seeded_globals(0, "normalizer"):
        module: nn.Module = fitter_of(kind).fit(_made_up(facts["inputs"])).eval().requires_grad_(False)
    _fill(module, tensors, where, described(kind))
    return module


def _sanitized_facts(normalizer: SanitizedInputs, kind: Any, rows: Any) -> Facts:
    behind, before = normalizer.normalizer, SanitizedInputs(list(normalizer.sanitizers), None)
    return {
        "kind": "sanitized",
        "sanitizers": [[each.kind, each.settings] for each in normalizer.sanitizers],
        "normalizer": None if behind is None else facts_of(behind, kind, rows if rows is None else before(rows)),
    }


def _inside(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], where: str, name: str) -> None:
    own = tensors_of(module)
    if {key: t.shape for key, t in own.items()} != {key: t.shape for key, t in tensors.items()}:
        raise ValueError(
            f"{where}: {name} fits a module of other tensors than the saved one, which depends on more of the rows than"
            " their shape; fix its size, such as the number of components."
        )
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])


def _shapes(rows: Any) -> Any:
    """Return the shape and dtype of a row's tensors, in the nesting of the inputs."""
    return mapped(lambda t: {"shape": list(t.shape[1:]), "dtype": str(t.dtype).removeprefix("torch.")}, rows)


def _made_up(shapes: Any) -> Any:
    """Return so many rows of random inputs: normal numbers, or whole numbers from 0 to 3."""
    if isinstance(shapes, Mapping) and "dtype" in shapes:
        dtype, shape = getattr(torch, shapes["dtype"]), (ROWS, *shapes["shape"])
        return torch.randn(shape, dtype=dtype) if dtype.is_floating_point else torch.randint(0, 4, shape).to(dtype)
    if isinstance(shapes, Mapping):
        return {key: _made_up(value) for key, value in shapes.items()}
    return type(shapes)(_made_up(value) for value in shapes)


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.allclose(before, after, equal_nan=True)
    values = before.keys() if isinstance(before, Mapping) else range(len(before))
    return all(_same(before[key], after[key]) for key in values)
