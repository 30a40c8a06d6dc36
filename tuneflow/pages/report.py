"""The report of a study: one HTML file that needs no network and no server.

The trials' table is the data of the page: whatever the script shows of a trial it reads there. So every number is in
the file once, and stands in the page too where scripts do not run.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files

from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.markup.html import Markup, element, joined
from tuneflow.pages.code import code
from tuneflow.pages.curves_chart import curves
from tuneflow.pages.failures import failures
from tuneflow.pages.front_chart import front_chart
from tuneflow.pages.headline import headline
from tuneflow.pages.history_chart import history
from tuneflow.pages.measure_charts import measure_charts
from tuneflow.pages.numbers import numbers
from tuneflow.pages.parallel_chart import parallel_chart
from tuneflow.pages.parameter_table import parameter_table
from tuneflow.pages.probe_charts import probe_charts
from tuneflow.pages.reproduce import reproduce
from tuneflow.pages.section import PageSection
from tuneflow.pages.trials import trials
from tuneflow.pages.worker_chart import worker_chart
from tuneflow.version import __version__

# In the order of the page; each returns None where it has nothing to show.
SECTIONS: tuple[Callable[[StudyRecord], PageSection | None], ...] = (
    headline,
    numbers,
    code,
    history,
    curves,
    parameter_table,
    parallel_chart,
    front_chart,
    measure_charts,
    probe_charts,
    failures,
    worker_chart,
    trials,
    reproduce,
)

PAGES = "tuneflow.pages"
STYLES = (("tuneflow.markup", "chart.css"), (PAGES, "report.css"), (PAGES, "linked.css"))
SCRIPTS = ((PAGES, "report.js"), (PAGES, "linking.js"), (PAGES, "sorting.js"), (PAGES, "brushing.js"))


def page(record: StudyRecord, refresh: float = 0.0) -> str:
    """Return the report of a study as the text of an HTML file.

    Args:
        record: the study's.
        refresh: seconds after which the page reads its file anew; 0 for never.
    """
    sections = [section for make in SECTIONS if (section := make(record)) is not None]
    style, script = _resources(STYLES), _resources(SCRIPTS)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("title", f"{record.name}: tuneflow report"),
        element("style", style),
    )
    main = element("main", *(section.markup for section in sections))
    body = element("body", _header(record), _links(sections), main, _footer(), element("script", script))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en", data_refresh=refresh or None) + "\n"


def _resources(paths: Sequence[tuple[str, str]]) -> Markup:
    texts = (files(room).joinpath(name).read_text(encoding="utf-8") for room, name in paths)
    return Markup("\n".join(texts))


def _policy(script: str) -> str:
    """Return the rule by which a browser runs this script only, and asks for nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _header(record: StudyRecord) -> Markup:
    running = len(record.history.running) + record.history.claimed
    state = element("span", f"{plural(running, 'trial')} under way", class_="live") if running else None
    return element("header", element("h1", record.name), state)


def _links(sections: list[PageSection]) -> Markup:
    links = (element("a", section.title, href=f"#{section.key}") for section in sections if section.title)
    return element("nav", *links, aria_label="Sections")


def _footer() -> Markup:
    now = datetime.now().astimezone()
    when = element("time", now.strftime("%Y-%m-%d %H:%M"), datetime=now.isoformat(timespec="seconds"))
    return element("footer", joined("Written ", when, f" by tuneflow {__version__}."))
