"""The verb show: the best trials of a study."""

import argparse
from typing import Any

from tuneflow.analysis.json_text import json_text, marked_facts, study_facts
from tuneflow.analysis.listing import ranked_trials
from tuneflow.commands.parser import add_folder, add_json, added, positive
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "print the best trials of a study; the front of several objectives and what is beyond limits are marked"
    verb = added(verbs, "show", text, run, "show runs/digits --trials 5")
    add_folder(verb)
    verb.add_argument("--trials", type=positive, default=20, help="how many; default %(default)s")
    add_json(verb)


def run(options: argparse.Namespace) -> None:
    """Print them as text, or as JSON with those that have no score at the end."""
    archive = Archive(options.folder)
    if not options.json:
        print(archive.listing(options.trials))
        return
    record = archive.record()
    ranked = ranked_trials(record)
    scored = {trial.number for trial in ranked}
    others = [trial for trial in record.trials if trial.number not in scored]
    trials = marked_facts(record, [*ranked, *others][: options.trials])
    print(json_text({**study_facts(record), "trials": trials}))
