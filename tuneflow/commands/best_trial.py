"""The verb best: the best configuration of a study, or those of its front."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from tuneflow.analysis.json_text import json_text, marked_facts, study_facts
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import error_of, printable, score_of
from tuneflow.commands.parser import add_folder, add_json, added
from tuneflow.errors import NothingFinished
from tuneflow.history.trial import Trial
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "print the best configuration with its score; with several objectives, those of the front"
    verb = added(verbs, "best", text, run, "best runs/digits --json")
    add_folder(verb)
    add_json(verb)


def run(options: argparse.Namespace) -> None:
    """Print them.

    Raises:
        NothingFinished: no trial has a score within the limits.
    """
    record = Archive(options.folder).record()
    trials = record.front if record.objective.several else [record.best or record.history.best]
    if not trials:
        raise NothingFinished(f"{record.name}: no trial is on the front, as none has ended within the limits.")
    if options.json:
        print(json_text({**study_facts(record), "trials": marked_facts(record, trials)}))
    else:
        print("\n\n".join("\n".join(_lines(record, trial)) for trial in trials))


def _lines(record: StudyRecord, trial: Trial) -> list[str]:
    """Return a trial's scores, and a line for each of its settings, unrounded."""
    confirmed = next((scores for scores in record.confirmed if scores.number == trial.number), None)
    selected = record.objective.pick(trial.reports)
    epoch = f"epoch {selected.epoch} of {trial.epochs}" if selected else ""
    scores = ", ".join(score_of(metric, trial.metrics, trial.errors) for metric in record.metrics)
    circumstances = ", ".join(filter(None, [error_of(record.metrics, trial.errors), epoch]))
    head = f"trial {trial.number}: {scores}{circumstances and f' ({circumstances})'}"
    words = [] if confirmed is None else [f"confirmed: {confirmed.words(record.objective.metrics)}"]
    settings = dict(_settings(trial.config))
    wide = max(map(len, settings), default=0)
    return [*map(printable, [head, *words, *(f"  {name:<{wide}}  {value}" for name, value in settings.items())])]


def _settings(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a configuration by dotted name; that of a choice without settings of its own is empty."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", "" if value == {} else value
