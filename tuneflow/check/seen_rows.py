"""Rows that a winner was trained on: scores on them say nothing of others."""

from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.model import Model
from tuneflow.train.trainer import Trainer


def has_seen(model: Model | None, rows: Source) -> bool:
    """True if the winner that a model starts from was trained on exactly these rows, as far as that is known."""
    winner = None if model is None else model.winner
    return winner is not None and bool(winner.record.rows) and rows.digest() in winner.record.rows


def check_seen_rows(model: Model, trainer: Trainer) -> None:
    """Raise ValueError where a fork would be scored on the rows that its winner was trained on."""
    if trainer.fold_rows is not None and has_seen(model, trainer.train):
        raise ValueError(
            "Trainer: folds are parts of train, and the winner was trained on these rows, so that every fold would be"
            " scored on rows that it has seen; give valid, rows that were kept from it."
        )
    if trainer.fold_rows is None and isinstance(trainer.valid, Data) and has_seen(model, trainer.valid):
        if trainer.valid.digest() == trainer.train.digest():
            return  # those who score on the rows that they train on know it
        raise ValueError(
            "Trainer: the winner was trained on the validation rows, so that scores on them say nothing of others; give"
            " valid, rows that were kept from it."
        )
