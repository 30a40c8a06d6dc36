"""The report of a study: one HTML file that needs no network and no server.

The trials' table is the data of the page: whatever the script shows of a trial it reads there. So every number is in
the file once, and the best trials stand in the page too where scripts do not run.
"""

from collections.abc import Callable

from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.markup.html import Markup, element
from tuneflow.pages.advice_list import advice_list
from tuneflow.pages.code import code
from tuneflow.pages.curves_chart import curves
from tuneflow.pages.document import document
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

# In the order of the page; each returns None where it has nothing to show.
SECTIONS: tuple[Callable[[StudyRecord], PageSection | None], ...] = (
    headline,
    numbers,
    advice_list,
    code,
    front_chart,
    history,
    curves,
    parameter_table,
    parallel_chart,
    measure_charts,
    probe_charts,
    failures,
    worker_chart,
    trials,
    reproduce,
)


def page(record: StudyRecord, refresh: float = 0.0) -> str:
    """Return the report of a study as the text of an HTML file.

    Args:
        record: the study's.
        refresh: seconds after which the page reads its file anew; 0 for never.
    """
    sections = [section for make in SECTIONS if (section := make(record)) is not None]
    return document(f"{record.name}: tuneflow report", _header(record), sections, refresh)


def _header(record: StudyRecord) -> Markup:
    running = len(record.history.running) + record.history.claimed
    state = element("span", f"{plural(running, 'trial')} not ended yet", class_="live") if running else None
    return element("header", element("h1", record.name), state)
