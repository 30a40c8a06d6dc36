"""Nested rows: a part of the training rows such that more rows contain fewer, in proportion to the classes."""

import numpy as np
import torch
from torch import Tensor

from tuneflow.data.folds import classes_of, part_of_rows
from tuneflow.data.sources import Source
from tuneflow.seeds import torch_stream


def nested_part(source: Source, count: int, seed: int) -> Source:
    """Return `count` rows of a source, without a copy; with the same seed, more rows contain these.

    Args:
        source: all rows.
        count: number of rows, at most all.
        seed: of the random order that the rows are the first of.
    """
    return part_of_rows(source, nested_rows(source, seed)[:count].sort().values)


def nested_rows(source: Source, seed: int) -> Tensor:
    """Return the random order of rows whose first ones are a part: int64, shape (n,).

    Where the targets are classes, every beginning of it has them in proportion, within a row of each class.

    Args:
        source: all rows; those of a Dataset are not loaded.
        seed: any int.
    """
    generator = torch_stream(seed, "rows")
    order = torch.randperm(len(source), generator=generator)
    classes = classes_of(source)
    if classes is None:
        return order
    classes = torch.from_numpy(np.unique(classes.numpy(), return_inverse=True)[1])
    within, counts = classes[order].argsort(stable=True), classes.bincount()
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    shift = torch.rand(len(counts), generator=generator)
    ranks = torch.arange(len(order)) - first + torch.repeat_interleave(shift, counts)
    return order[within][(ranks / torch.repeat_interleave(counts, counts)).argsort(stable=True)]
