"""The failures of a study: the trials that failed or diverged, by their reasons."""

import re
from collections import defaultdict
from collections.abc import Sequence

from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.history.trial import WORTHLESS, Trial
from tuneflow.markup.html import Markup, element, joined
from tuneflow.pages.section import PageSection

MOST = 12  # reasons that are shown
NUMBERS = 20  # trials that are named for each
LONGEST = 4_000  # characters of a traceback, of its end

VARIES = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?|0x[0-9a-f]+")


def failures(record: StudyRecord) -> PageSection | None:
    """Return the reasons for which trials failed or diverged, the most frequent first; None without any."""
    worthless = [trial for trial in record.trials if trial.status in WORTHLESS]
    if not worthless:
        return None
    groups = sorted(_by_reason(worthless), key=len, reverse=True)
    rest = groups[MOST:]
    more = (
        element("p", f"{plural(len(rest), 'other reason')} of {plural(sum(map(len, rest)), 'trial')}") if rest else None
    )
    note = f"{len(worthless)} of {plural(len(record.trials), 'trial')} gave no score."
    return PageSection("failures", "Failures", joined(*map(_group, groups[:MOST]), more), note)


def _by_reason(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Return the trials in groups of one status and reason, apart from the numbers in it."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.status, VARIES.sub("#", trial.reason)].append(trial)
    return list(groups.values())


def _group(trials: Sequence[Trial]) -> Markup:
    """Return one reason with the trials that have it, and the traceback of the first one where there is one."""
    first = trials[0]
    numbers = [element("a", str(t.number), href=f"#trial-{t.number}", data_t=t.number) for t in trials[:NUMBERS]]
    separated = [part for number in numbers for part in (", ", number)][1:]
    more = f" and {len(trials) - NUMBERS} more" if len(trials) > NUMBERS else None
    word = "trial " if len(trials) == 1 else "trials "
    head = element("p", element("b", first.status), " ", first.reason, element("span", word, *separated, more))
    trace = next((t.detail for t in trials if t.detail), "")
    if not trace or first.status != "FAILED":
        return element("div", head, class_="failure")
    cut = trace if len(trace) <= LONGEST else f"...{trace[-LONGEST:]}"
    details = element("details", element("summary", "traceback"), element("pre", cut, tabindex="0"))
    return element("div", head, details, class_="failure")
