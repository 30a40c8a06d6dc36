"""Export formats: torch.export, TorchScript and ONNX, each as a way to write a module and to run what was written."""

import importlib.util
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.padding import without_unpadded
from tuneflow.errors import listed
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves, mapped, paths, row_count

FACTS = "tuneflow.json"  # the name of the facts in a file

Program = Callable[[Any], Any]  # inputs to outputs, without the module


@dataclass(frozen=True)
class Export:
    """The parts that a program is written from.

    Attributes:
        module: on the CPU and in evaluation mode; it takes its inputs as one argument, and tensors in plain containers.
        batches: such inputs, of a few rows each.
        facts: JSON that is kept in the file.
    """

    module: nn.Module
    batches: Sequence[Any]
    facts: str

    @property
    def example(self) -> Any:
        """The batch with the most numbers."""
        return max(self.batches, key=lambda batch: sum(leaf.numel() for leaf in leaves(batch)))

    @property
    def free_sizes(self) -> Any:
        """The dimensions of any size, in the nesting of a batch: the rows, and what differs between batches."""
        batch, count = torch.export.Dim("batch"), row_count(self.batches[0])
        seen = zip(*([leaf.shape for leaf in leaves(each)] for each in self.batches), strict=True)

        def free(tensor: Tensor) -> dict[int, Any]:
            sizes = list(zip(*next(seen), strict=True))
            rows: dict[int, Any] = {0: batch} if tensor.ndim and len(tensor) == count else {}
            return rows | {n: torch.export.Dim.AUTO for n in range(1, len(sizes)) if len(set(sizes[n])) > 1}

        return mapped(free, self.batches[0])


class TorchExport:
    """A program by torch.export, in a file that torch.export.load reads."""

    def check_packages(self) -> None:
        """Torch alone is needed."""

    def write(self, export: Export) -> bytes:
        """Return the content of the file."""
        buffer = io.BytesIO()
        torch.export.save(exported_program(export), buffer, extra_files={FACTS: export.facts})
        return buffer.getvalue()

    def program(self, content: bytes) -> Program:
        """Return the program in a file's content."""
        program: Program = torch.export.load(io.BytesIO(content)).module()
        return program


class TorchScript:
    """A program by torch.jit.trace, in a file that torch.jit.load reads."""

    def check_packages(self) -> None:
        """Torch alone is needed."""

    def write(self, export: Export) -> bytes:
        """Return the content of the file.

        Raises:
            ValueError: the user's code takes a branch or a number out of a tensor, which a trace makes constant.
        """
        with warnings.catch_warnings(record=True) as caught, looked_at(export.module), without_unpadded(export.module):
            warnings.simplefilter("always")
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                export.module, (export.example,), check_trace=False, strict=False
            )
        for warning in caught:
            _check_followed(warning)
        buffer = io.BytesIO()
        torch.jit.save(script, buffer, _extra_files={FACTS: export.facts})
        return buffer.getvalue()

    def program(self, content: bytes) -> Program:
        """Return the program in a file's content."""
        program: Program = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
        return program


class Onnx:
    """A graph by torch.onnx.export, in a file that onnxruntime and others run."""

    def check_packages(self) -> None:
        """Raise ImportError where packages are missing."""
        missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"export to .onnx needs {listed(missing)}, not installed; python -m pip install {' '.join(missing)}, or"
                " export to .pt2, which needs torch alone."
            )

    def write(self, export: Export) -> bytes:
        """Return the content of the file, its inputs and outputs named by their keys."""
        program = exported_program(export)
        outputs = export.module(export.example)
        graph = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=_names("inputs", export.example),
            output_names=_names("outputs", outputs),
        )
        model: Any = graph.model_proto  # type: ignore[union-attr]  # it returns a program with dynamo=True
        _name_batch(model.graph)
        model.metadata_props.add(key=FACTS, value=export.facts)
        content: bytes = model.SerializeToString()
        return content

    def program(self, content: bytes) -> Program:
        """Return the program in a file's content: in onnxruntime if it is installed, else in onnx's reference."""
        if importlib.util.find_spec("onnxruntime") is None:
            from onnx.reference import ReferenceEvaluator

            return _by_name(ReferenceEvaluator(io.BytesIO(content)), [])
        from onnxruntime import InferenceSession

        session = InferenceSession(content, providers=["CPUExecutionProvider"])
        return _by_name(session, [value.name for value in session.get_inputs()])


FORMATS: dict[str, TorchExport | TorchScript | Onnx] = {".pt2": TorchExport(), ".pt": TorchScript(), ".onnx": Onnx()}


def exported_program(export: Export) -> torch.export.ExportedProgram:
    """Return the module as torch.export's program, without the rows and the source lines that it was made with."""
    nothing = mapped(torch.zeros_like, export.example)
    program = torch.export.export(export.module, (nothing,), dynamic_shapes={"inputs": export.free_sizes})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # of the files of this machine
    return program


def _check_followed(warning: warnings.WarningMessage) -> None:
    """Raise ValueError where the trace has warned of a line outside of torch."""
    file = Path(warning.filename)
    own = file.name.startswith("<eval_with_key>") or file.is_relative_to(Path(torch.__file__).parent)
    if warning.category.__name__ == "TracerWarning" and not own:
        reason = str(warning.message).split(" might cause")[0]
        raise ValueError(f"{reason[:1].lower()}{reason[1:]}, in {file.name}, line {warning.lineno}")


def _names(start: str, values: Any) -> list[str]:
    tensors = [path for path, leaf in paths(values).items() if isinstance(leaf, Tensor)]
    return ["_".join(map(str, (start, *path))) for path in tensors]


def _name_batch(graph: Any) -> None:
    """Name the free dimension of rows "batch", which torch numbers."""
    values = [*graph.input, *graph.output, *graph.value_info]
    sizes = [size for value in values for size in value.type.tensor_type.shape.dim]
    number = next(size.dim_param for size in sizes if size.dim_param)
    for size in sizes:
        if size.dim_param == number:
            size.dim_param = "batch"


def _by_name(session: Any, names: Sequence[str]) -> Program:
    names = names or session.input_names

    def run(inputs: Any) -> list[Tensor]:
        arrays = [leaf.numpy() for leaf in leaves(inputs)]
        return list(map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True)))))

    return run
