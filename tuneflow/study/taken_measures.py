"""Measures that are taken once for each structure of a study, and added to the reports of its trials."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from tuneflow.execute.executor import Ended, Reported
from tuneflow.execute.guard import Guarded
from tuneflow.execute.inline import ended
from tuneflow.history.trial import Report
from tuneflow.measure.structure_key import structure_key
from tuneflow.metrics.measured import Measured
from tuneflow.seeds import seeded_globals
from tuneflow.store.store import Store
from tuneflow.train.description import description_of
from tuneflow.train.job import Job, TrainState
from tuneflow.train.module_metrics import of_structure, reference_of, take

MEASURE = "measure "  # begins the keys of measures


@dataclass(frozen=True)
class TakenMeasures:
    """The measures of a study's modules, each taken in this process when a structure is first met, and kept.

    Of several processes the first stores its value, and that one stays: so a study that goes on takes nothing again,
    and all trials of a structure have the same.

    Args:
        store: where they are kept.
    """

    store: Store

    def completed(self, event: Reported, trainer: Any, job: Job, earlier: Sequence[Report] = ()) -> Report | Ended:
        """Return a report with the measures of its trial's structure; the failed end of the trial where one raises.

        Args:
            event: the report with the state.
            trainer: the study's, which makes the module.
            job: the trial's.
            earlier: the trial's reports before, of which the last has the measures already.
        """
        metrics, report = of_structure(trainer.single.metrics), event.report
        if earlier and metrics.keys() <= earlier[-1].metrics.keys():
            values = {name: earlier[-1].metrics[name] for name in metrics}
            errors = {name: earlier[-1].errors[name] for name in metrics if name in earlier[-1].errors}
        else:
            try:
                with Guarded():
                    measured = self._of_state(trainer, job, event.state)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                return _failed(event.trial, error)
            values = {name: each.value for name, each in measured.items()}
            errors = {name: each.error for name, each in measured.items() if each.error == each.error}
        return replace(report, metrics={**report.metrics, **values}, errors={**report.errors, **errors})

    def _of_state(self, trainer: Any, job: Job, state: TrainState) -> dict[str, Measured]:
        """Return the measures of the module that a state is handed over as; of several the first one's."""
        module, first = trainer.module(job, state), trainer.jobs(job)[0]
        data, reference = trainer.single.scored_rows(first), reference_of(first)
        metrics = of_structure(trainer.single.metrics)
        with seeded_globals(*first.key, "metrics", 0, device=first.runtime.device):
            return {name: self._taken(name, metric, module, data, reference) for name, metric in metrics.items()}

    def _taken(
        self, name: str, metric: Any, module: nn.Module, data: Any, reference: nn.Module | None = None
    ) -> Measured:
        """Return a measure of a module; in units of the reference's, which was taken first."""
        key = f"{MEASURE}{description_of(metric)} {structure_key(module)}"
        stored = self.store.recall(key)
        if stored is None:
            unit = None
            if reference is not None and getattr(metric, "compares", False) and not getattr(metric, "relative", False):
                unit = self._taken(name, metric, reference, data).value
            new = take(name, metric, module, data, reference, unit)
            stored = self.store.remember(key, new._asdict())
        return Measured(**stored)


def measures_of(trainer: Any, store: Store) -> TakenMeasures | None:
    """Return the measures of a trainer's modules; None where it has no metric that is taken once for each structure."""
    return TakenMeasures(store) if trainer.inspectable and of_structure(trainer.metrics) else None


def _failed(trial: int, error: BaseException) -> Ended:
    """Return the end of a trial whose measure raised, with the metric's name in the reason."""
    return replace(ended(trial, error, 0.0), status="FAILED")
