"""Classes that a fold is scored on and never trained on."""

import torch
from torch import Tensor

from tuneflow.data.folds import Folds
from tuneflow.errors import listed, warn


def warn_of_unseen_classes(folds: Folds, path: str, targets: Tensor, ignored: int | None = None) -> None:
    """Warn of every fold with a class among its validation rows that none of its training rows has.

    Args:
        folds: rows of each fold.
        path: of the targets, as in `SampledPart.leaves`.
        targets: of all rows; shares are looked at only where each is 0 or 1.
        ignored: a number that stands for no class.
    """
    if targets.is_floating_point() and not bool(((targets == 0) | (targets == 1)).all()):
        return
    for number, (train, valid) in enumerate(folds.pairs):
        unseen = _classes(targets, valid) - _classes(targets, train) - {ignored}
        if unseen:
            warn(
                f"Trainer: folds: fold {number} is scored on class {listed(map(str, sorted(unseen)))} in {path}, and"
                " none of its training rows is of that class, so no model can learn it there; add rows, join classes,"
                " or give the folds as pairs of row numbers."
            )


def _classes(targets: Tensor, rows: Tensor) -> set[int]:
    return set(map(int, torch.unique(targets[rows.to(targets.device)]).tolist()))
