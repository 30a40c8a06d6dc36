"""The probe: what was measured before any training, and the race of learning rates."""

import math
from collections.abc import Mapping

from tuneflow.analysis.record import StudyRecord
from tuneflow.markup.html import Markup, element
from tuneflow.pages.section import PageSection, described
from tuneflow.probing.probe import Probe
from tuneflow.probing.race_chart import race_chart

MOST = 6  # structures


def probe_charts(record: StudyRecord) -> PageSection | None:
    """Return the measurements of each structure that was probed; None where none was."""
    if not record.probes:
        return None
    shown = dict(list(record.probes.items())[:MOST])
    left_out = len(record.probes) - len(shown)
    more = f" {left_out} more structures were measured." if left_out else ""
    note = f"Measured before any training: where the learning rate starts.{more}"
    return PageSection("probe", "Probe", _cards(shown), note)


def _cards(probes: Mapping[str, Probe]) -> Markup:
    single = len(probes) == 1
    return element("div", *(_card(name, probe, single) for name, probe in probes.items()), class_="charts")


def _card(name: str, probe: Probe, single: bool) -> Markup:
    """Return a structure's race, and its numbers behind a click unless it is the only one."""
    race = probe.race
    drawn = race is not None and math.isfinite(min(race.losses))
    chart = race_chart(race, probe.optimizer, probe.estimate, probe.rate) if race is not None and drawn else None
    lines: list[tuple[str, object]] = [line for line in probe.lines if not line[0].startswith("race of")]
    summary = element("summary", f"rate {probe.rate:.3g}, and all numbers")
    numbers = element("details", summary, described(lines), open=single)
    return element("figure", element("figcaption", name), chart, numbers)
