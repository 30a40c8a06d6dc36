"""LeCun's start: the trials that begin at a learning rate which a probe measured."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Trial

NEAR = 1e-3  # of a rate: the space may round what was measured


def measured_start(record: StudyRecord) -> Trial | None:
    """Return the first trial at a measured learning rate; None where there is none.

    A trial is one if a number of its configuration is the rate of a probe, so this holds for any searcher that asks
    for probes.
    """
    rates = [probe.rate for probe in record.probes.values() if math.isfinite(probe.rate)]
    for trial in record.trials:
        if any(abs(number - rate) <= NEAR * rate for number in _numbers(trial.config) for rate in rates):
            return trial
    return None


def _numbers(config: Any) -> Iterator[float]:
    if isinstance(config, float):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _numbers(value)
