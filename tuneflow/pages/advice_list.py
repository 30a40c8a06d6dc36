"""The advice on a study, in sentences."""

from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.finding import Finding
from tuneflow.analysis.record import StudyRecord
from tuneflow.markup.html import Markup, element
from tuneflow.pages.section import PageSection

MOST = 8  # findings


def advice_list(record: StudyRecord) -> PageSection | None:
    """Return the findings, the most valuable first; None without any."""
    findings = advice_of(record)
    if not findings:
        return None
    able = any(finding.change.automatic for finding in findings) and record.folder is not None
    note = "study.adjusted() makes the next study with these changes, as far as they are its own." if able else ""
    return PageSection("advice", "Next", element("ul", *map(_item, findings[:MOST])), note)


def _item(finding: Finding) -> Markup:
    fact = finding.fact[:1].upper() + finding.fact[1:] if not finding.parameter else finding.fact
    return element("li", f"{fact}: ", element("strong", finding.change.text))
