"""The bootstrap: an error and an interval for a metric that is no mean over rows, from samples of the rows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tuneflow.metrics.measured import Measured
from tuneflow.nested import rows_taken
from tuneflow.seeds import torch_stream

RESAMPLES = 400
FEWEST = 100  # resamples, for very many rows
ROWS = 2**25  # rows of all resamples together, beyond which fewer are drawn


def resampled(metric: Callable[[Any, Any], Any], outputs: Any, targets: Any, rows: int, value: Measured) -> Measured:
    """Return a metric's value with the standard error and the 95 % percentile interval of a seeded bootstrap.

    Rows are drawn with replacement. Without an interval it comes back as it is where there is one row, where the
    outputs are not tensors with rows, or where the metric is not defined for half of the samples.

    Args:
        metric: of (outputs, targets), a single number.
        outputs: of all rows.
        targets: of the same rows.
        rows: their number, n.
        value: the metric's, of all rows.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 13.
    """
    if rows < 2:
        return value
    generator = torch_stream(0, "bootstrap")
    count = max(FEWEST, min(RESAMPLES, ROWS // rows))
    values = []
    for _ in range(count):
        chosen = torch.randint(rows, (rows,), generator=generator)
        try:
            values.append(float(metric(*(rows_taken(part, chosen, rows) for part in (outputs, targets)))))
        except Exception:  # as where a sample has one class only
            values.append(math.nan)
    numbers = np.array([number for number in values if math.isfinite(number)])
    if len(numbers) < count / 2 or not math.isfinite(value.value):
        return value
    low, high = np.quantile(numbers, [0.025, 0.975])
    return value._replace(error=float(numbers.std(ddof=1)), examples=rows, low=float(low), high=float(high))
