"""Exported models: a trained module as a program in a file, which runs without its builder and without tuneflow."""

import io
import json
import logging
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.sources import Source
from tuneflow.errors import StudyError, ending_where, in_one_line, listed
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves, mapped, row_count, rows_taken
from tuneflow.seeds import seeded_globals
from tuneflow.store.atomic_file import write_bytes
from tuneflow.study.export_formats import FORMATS, Export, Program
from tuneflow.version import __version__

SIZES = (1, 2, 5)  # rows of the batches that a program is compared with its module on
CLOSE = 1e-4  # of the outputs' size, within which they agree; torch's fast paths differ by some 1e-7
NOISY = ("torch.fx.experimental.symbolic_shapes", "torch.onnx._internal.exporter._registration")


def export_model(path: Path, module: nn.Module, batches: Sequence[Any], facts: Mapping[str, Any]) -> None:
    """Write a trained module as a program, once what was written gives the module's outputs for the rows of `batches`.

    Args:
        path: its ending is the format: `.pt2`, `.pt` or `.onnx`.
        module: takes raw inputs; it is moved to the CPU.
        batches: raw inputs of a few rows each; a dimension that differs between them gets any size.
        facts: plain values to be kept in the file.

    Raises:
        ValueError: there is no such format, or the batches have no rows.
        ImportError: the packages for it are missing.
        StudyError: the module cannot be written in this format, or comes out as another function.
        StoreError: the file cannot be written; what was there before stays.
    """
    form = FORMATS.get(path.suffix)
    if form is None:
        raise ValueError(f"export: the file's ending needs to be one of {listed(FORMATS)}, got {path.name!r}.")
    if refusal := _refused_kind(path, module):
        raise StudyError(f"{path.name}: {refusal}")
    form.check_packages()
    if not all(map(row_count, batches)):
        raise ValueError("export: inputs needs to be a batch of tensors with at least one row, as model() takes it.")
    module = Standalone(module.cpu()).eval().requires_grad_(False)
    batches = [_rows_of(mapped(Tensor.cpu, batch), max(2, row_count(batch))) for batch in batches]
    plain = [_plain_inputs(batch) for batch in batches]
    versions = {"tuneflow": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    text = json.dumps({**versions, **facts, "inputs": _shapes(plain[0])})
    _check_taken(module, batches[0])
    try:
        with _quiet(), seeded_globals(0, "export"), looked_at(module):
            content = form.write(Export(module, plain, text))
            _compare(module, form.program(content), batches)
    except Exception as error:
        raise ending_where(error, StudyError(f"{path.name}: {_refusal(error, path)}")) from None
    write_bytes(path, content)


def few_inputs(source: Source) -> list[Any]:
    """Return the raw inputs of the first few rows of a trainer's data, as batches."""
    with seeded_globals(0, "export"):  # a dataset may draw
        return [inputs for inputs, _ in islice(source.batches(max(SIZES)), 4)]


class Standalone(nn.Module):
    """A module that takes its inputs as one argument, and gives its outputs in plain containers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Any) -> Any:
        return _plain_outputs(self.module(inputs))


def _plain_inputs(inputs: Any) -> Any:
    """Return inputs whose containers are dicts, lists and tuples; a named tuple becomes a dict."""
    if hasattr(inputs, "_asdict"):
        inputs = inputs._asdict()
    if isinstance(inputs, Mapping):
        return {key: _plain_inputs(value) for key, value in inputs.items()}
    return type(inputs)(map(_plain_inputs, inputs)) if type(inputs) in (list, tuple) else inputs


def _plain_outputs(outputs: Any) -> Any:
    """Return outputs whose containers are dicts, lists and tuples; a named tuple becomes a tuple."""
    if isinstance(outputs, Mapping):
        return {key: _plain_outputs(value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return (list if isinstance(outputs, list) else tuple)(map(_plain_outputs, outputs))
    return outputs


def _shapes(inputs: Any) -> Any:
    """Return shape and dtype of the tensors of a batch, in its nesting."""
    count = row_count(inputs)

    def described(tensor: Tensor) -> dict[str, Any]:
        rows = ["batch" if size == count else size for size in tensor.shape[:1]]
        return {"shape": [*rows, *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}

    return mapped(described, inputs)


def _compare(module: nn.Module, program: Program, batches: Sequence[Any]) -> None:
    """Raise ValueError unless a program gives the outputs of its module, for batches of several sizes."""
    dtypes = {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}
    close = max([CLOSE, *(2 * torch.finfo(dtype).eps for dtype in dtypes)])  # a program may round elsewhere
    for batch in batches:
        for size in SIZES:
            rows = _rows_of(batch, size)
            with seeded_globals(0, "export"):
                expected = leaves(module(rows))
            with seeded_globals(0, "export"):
                outputs = leaves(program(_plain_inputs(rows)))
            if len(outputs) != len(expected) or not all(map(partial(_agree, close), outputs, expected)):
                raise ValueError(f"the program gives other outputs than the module for {size} of the training rows")


def _rows_of(batch: Any, size: int) -> Any:
    """Return so many rows of a batch, repeated where it has fewer."""
    count = row_count(batch)
    return rows_taken(batch, torch.arange(size) % count, count)


def _agree(close: float, one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = one.double(), other.double()
    size = other.nan_to_num(0.0, 0.0, 0.0).abs().max().item() if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=close * size, equal_nan=True)


def _check_taken(module: nn.Module, inputs: Any) -> None:
    """Raise ValueError where the module itself does not run on the inputs."""
    try:
        with torch.no_grad(), seeded_globals(0, "export"):
            module(inputs)
    except Exception as error:
        raise ValueError(f"export: the module does not take such inputs ({_reason(error)}).") from None


def _refused_kind(path: Path, module: nn.Module) -> str:
    """Return the reason why modules of this kind are not written in a format, and the way out; else an empty string."""
    kind = "" if path.suffix == ".pt" else _torchscript_only(module)
    if kind:
        return f'{kind} is written as TorchScript only: export("{path.stem}.pt").'
    if path.suffix == ".onnx" and any(tensor.dtype == torch.bfloat16 for tensor in module.parameters()):
        return f'ONNX is written in float32 only, got a bf16 module: export("{path.stem}.pt2").'
    return ""


def _refusal(error: Exception, path: Path) -> str:
    """Return the reason why a module is not written in a format, and the way out."""
    other = f'export("{path.stem}{".pt2" if path.suffix == ".pt" else ".pt"}")'
    return (
        f"{_reason(error)}; where forward branches on values or takes numbers out of tensors, use torch.where and"
        f" tensors; {other} follows it in another way, and save() keeps any module, for tn.load and its builder."
    )


def _reason(error: Exception) -> str:
    if "specialized it to be a constant" in str(error):
        return "its forward depends on the number of rows in a batch"
    return in_one_line(error).splitlines()[0].rstrip(".")


def _torchscript_only(module: nn.Module) -> str:
    """Return the kind of a module that torch.export does not take; empty for others."""
    parts = list(module.modules())
    if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        return "a scripted module"
    return "an int8 module" if any("quantized" in type(part).__module__ for part in parts) else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which torch's notes on a trace go nowhere: an error of ours has the reason."""
    loggers = [(logger, logger.disabled) for logger in map(logging.getLogger, NOISY)]
    for logger, _ in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, before in loggers:
            logger.disabled = before
