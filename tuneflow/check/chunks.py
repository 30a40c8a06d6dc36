"""The dry run of an evaluation in chunks: batches of unequal size as the data give them, whose outputs may not join."""

import math

from tuneflow.train.session import Session


def check_chunks(run: Session) -> None:
    """Raise unless loss and metrics can be computed of two batches of unequal size.

    A metric that needs all rows at once cannot be, where each batch is padded to a length of its own.

    Args:
        run: a session of few rows; a trainer's own loss or evaluation is not asked for parts.

    Raises:
        TypeError: a metric needs all rows at once, and outputs or targets cannot be joined; it is named.
    """
    rows = len(run.valid)
    if run.settings.own_loss or run.settings.own_evaluation or rows < 2:
        return
    with run.evaluating(), run.job.at_work("check", 1):
        run.settings.evaluate(run.whole, run.valid, math.ceil(0.6 * rows))
