"""The block to reproduce a study: its seed, versions, space, settings and command."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuneflow.analysis.record import StudyRecord
from tuneflow.markup.html import Markup, element, joined
from tuneflow.pages.code import copied
from tuneflow.pages.section import PageSection, described

LONGEST = 500  # characters of a setting


def reproduce(record: StudyRecord) -> PageSection:
    """Return what the study was made with."""
    facts = dict(record.facts)
    rows = [(name, _text(value)) for name, value in _shown(facts) if value not in (None, {}, "None")]
    grown = [("space grown by", change) for change in record.grown]
    attacked = [("attacked", exposure) for exposure in record.exposures]
    space = element("details", element("summary", "search space"), element("pre", repr(record.space), tabindex="0"))
    settings = joined(described([*rows, *grown, *attacked]), space, _command(record))
    return PageSection("reproduce", "Reproduce", settings)


def _shown(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that are shown, with their names in words."""
    yield from ((name, facts.get(name)) for name in ("seed", "tuneflow", "torch", "searcher", "scheduler", "model"))
    yield "runtime", _words(facts.get("runtime"))
    trainer = facts.get("trainer")
    for name, value in (trainer if isinstance(trainer, Mapping) else {}).items():
        yield name.replace("_", " "), _words(value)
    if not facts.get("paired", True):
        yield "paired", "no"
    yield "lag", facts.get("lag")


def _words(value: Any) -> str | None:
    """Return a setting in words: names with values, one after the other."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words}" for name, one in value.items() if (words := _words(one)) is not None)
    return None if value is None else str(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _command(record: StudyRecord) -> Markup | None:
    """Return the command that writes this page anew, where there is a folder."""
    return None if record.folder is None else copied(f"python -m tuneflow report {record.folder}")
