"""Rows of the data for the dry run: a few to train on, and all of them, or a sample, for rules that hold for each."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tuneflow.data.data import Data
from tuneflow.data.folds import Folds
from tuneflow.data.sources import Source
from tuneflow.errors import listed
from tuneflow.nested import Path, paths
from tuneflow.train.trainer import Trainer

SAMPLE = 64  # rows looked at where each has to be fetched from a Dataset


@dataclass(frozen=True)
class SampledPart:
    """The training or the validation part: all rows of a Data, or a sample of the rows of a Dataset.

    Attributes:
        name: "train" or "valid".
        leaves: every tensor by its path: `inputs`, `targets["box"]`, ...
        numbers: the row numbers of a sample; None for all rows.
        total: number of rows of the part.
        folds: those that the part is divided into; None without cross-validation.
        columns: the names of the columns of inputs that were a DataFrame; else empty.
    """

    name: str
    leaves: dict[str, Tensor]
    numbers: list[int] | None
    total: int
    folds: Folds | None = None
    columns: tuple[str, ...] = ()

    @property
    def trained(self) -> dict[int, str]:
        """Numbers of rows that are trained on, each with its place in words: "in fold 2", or an empty string."""
        counts = (
            {} if self.folds is None else {len(rows): f" in fold {i}" for i, (rows, _) in enumerate(self.folds.pairs)}
        )
        return {self.total: ""} | counts

    def describe(self, path: str, wrong: Tensor) -> str:
        """Return the wrong rows in words: `train targets: 3 of 1077 rows, the first is row 17`.

        Args:
            path: of the tensor, as in `leaves`.
            wrong: booleans, shape (rows, ...).
        """
        rows = wrong.reshape(len(wrong), -1).any(1).nonzero().flatten().tolist()
        first = rows[0] if self.numbers is None else self.numbers[rows[0]]
        looked = "" if self.numbers is None else " that were looked at"
        return f"{self.name} {path}: {len(rows)} of {len(wrong)} rows{looked}, the first is row {first}"


def parts_of(trainer: Trainer) -> list[SampledPart]:
    """Return the training and the validation part of a trainer; with folds there is only the first."""
    train = part_of(trainer.train, "train")
    if trainer.fold_rows is not None:
        return [replace(train, folds=trainer.fold_rows)]
    return [train, part_of(trainer.valid, "valid")]


def part_of(source: Source, name: str) -> SampledPart:
    """Return `source` as a SampledPart; of a Dataset, 64 evenly spaced rows."""
    if isinstance(source, Data):
        leaves = leaves_of((source.inputs, source.targets))
        return SampledPart(name, leaves, None, len(source), columns=source.columns)
    numbers = spread(len(source), SAMPLE)
    batch = next(source.rows(numbers).batches(len(numbers)))
    return SampledPart(name, leaves_of(batch), numbers, len(source))


def few(source: Source, limit: int) -> Source:
    """Return at most `limit` rows of `source`, evenly spaced; copies, if the source holds tensors."""
    numbers = spread(len(source), limit)
    return source[numbers] if isinstance(source, Data) else source.rows(numbers)


def spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` of the numbers below `count`, from the first to the last, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, limit), dtype=torch.float64).round().long().tolist()


def check_finite(part: SampledPart) -> None:
    """Raise ValueError if a number is NaN or infinite."""
    for path, tensor in part.leaves.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            wrong = torch.cat([~torch.isfinite(rows) for rows in torch.split(tensor, 4096)])
            if wrong.any():
                raise ValueError(
                    f"the data need finite numbers, got NaN or inf in {part.describe(path, wrong)}"
                    f"{_where(part, path, wrong)}; fill them in or drop the rows: data[mask]."
                )


def _where(part: SampledPart, path: str, wrong: Tensor) -> str:
    """Return the columns of a matrix that are wrong in words: `, in column "age"`; empty for other shapes."""
    if wrong.ndim != 2:
        return ""
    numbers = wrong.any(0).nonzero().flatten().tolist()
    named = path == "inputs" and len(part.columns) == wrong.shape[1]
    names = [f'"{part.columns[number]}"' if named else str(number) for number in numbers]
    return f", in column{'s' if len(names) > 1 else ''} {listed(names)}"


def leaves_of(batch: Any) -> dict[str, Tensor]:
    """Return every tensor of a batch by its path: `inputs`, `inputs["pixels"]`, `targets[1]`."""
    leaves = paths({"inputs": batch[0], "targets": batch[1]}).items()
    return {_path_of(keys): leaf for keys, leaf in leaves if isinstance(leaf, Tensor)}


def _path_of(keys: Path) -> str:
    return str(keys[0]) + "".join(f"[{key}]" if isinstance(key, int) else f'["{key}"]' for key in keys[1:])
