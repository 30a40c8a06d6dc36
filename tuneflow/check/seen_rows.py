"""Rows that a winner or a teacher was trained on: scores on them say nothing of others."""

from tuneflow.compress.distill import rows_of_teacher
from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.model import Model
from tuneflow.train.trainer import Trainer


def has_seen(model: Model | None, rows: Source) -> bool:
    """True if the winner that a model starts from was trained on exactly these rows, as far as that is known."""
    winner = None if model is None else model.winner
    return winner is not None and bool(winner.record.rows) and rows.digest() in winner.record.rows


def check_seen_rows(model: Model, trainer: Trainer) -> None:
    """Raise ValueError where a study would be scored on rows that its winner, or the teacher of its loss, has seen."""
    scored = trainer.valid if trainer.fold_rows is None else trainer.train
    if has_seen(model, scored):
        _refuse("winner", trainer)
    if (rows := rows_of_teacher(trainer.loss)) and scored.digest() in rows:
        _refuse("teacher", trainer)


def _refuse(who: str, trainer: Trainer) -> None:
    if trainer.fold_rows is not None:
        raise ValueError(
            f"Trainer: folds are parts of train, and the {who} was trained on these rows, so that every fold would be"
            " scored on rows that it has seen; give valid, rows that were kept from it."
        )
    if not isinstance(trainer.valid, Data) or trainer.valid.digest() == trainer.train.digest():
        return  # those who score on the rows that they train on know it
    raise ValueError(
        f"Trainer: the {who} was trained on the validation rows, so that scores on them say nothing of others; give"
        " valid, rows that were kept from it."
    )
