"""A study's record as a fragment of HTML, for notebooks."""

from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.history.fragments import history_parts
from tuneflow.markup.fragment import fragment, note
from tuneflow.markup.html import Markup


def study_fragment(record: StudyRecord, kind: str) -> Markup:
    """Return a fragment of a study: how many trials ended, the best of them, what was confirmed, how its space grew.

    Args:
        record: the study's.
        kind: the class that is shown, such as "Study".
    """
    history = record.history
    title = f"{kind} {record.name}: {history.ended} of {plural(len(history), 'trial')} ended"
    confirmed = [f"confirmed: {one.words(record.objective.metrics)}" for one in record.confirmed]
    grown = [f"grown: {change}" for change in record.grown]
    return fragment(title, *history_parts(history), *map(note, [*confirmed, *grown]))
