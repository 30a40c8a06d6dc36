"""Front, measures, probe and timeline: each shows what there is, with its names and directions, or is absent."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.helpers.records import SPACE, mixed_record, record_of_trials, scored
from tuneflow.analysis.confirmed import Confirmed
from tuneflow.history.objective import Limit
from tuneflow.history.trial import Report, Trial
from tuneflow.pages.front_chart import front_chart
from tuneflow.pages.measure_charts import measure_charts
from tuneflow.pages.probe_charts import probe_charts
from tuneflow.pages.worker_chart import worker_chart
from tuneflow.probing.probe import Probe
from tuneflow.probing.race import Race

BOTH = (("accuracy", True), ("latency", False))
THREE = (*BOTH, ("size", False))
LIMITS = (Limit("latency", most=3.5), Limit("accuracy", least=0.6))


def told(number, metrics, errors=(), **facts):
    config = SPACE.sample(np.random.default_rng(number))
    return Trial(number, config, "DONE", metrics=metrics, errors=dict(errors), epochs=1, **facts)


def record_of_pairs(pairs, goals=BOTH, **facts):
    names = [metric for metric, _ in goals]
    trials = [told(n, dict(zip(names, pair, strict=True)), {"accuracy": 0.01}) for n, pair in enumerate(pairs)]
    return record_of_trials(trials, goals, **facts)


PAIRS = [(0.9, 3.0), (0.8, 1.0), (0.7, 2.0), (0.95, 4.0), (0.85, 2.0)]


def numbers(markup, kind):
    return re.findall(rf'data-t="([^"]*)" class="{kind}"', markup)


def test_the_front_is_named_and_has_its_directions():
    body = front_chart(record_of_pairs(PAIRS)).body
    assert numbers(body, "dots best") == ["0-1 3-4"]
    assert numbers(body, "dots") == ["2"]
    assert ">accuracy, more is better<" in body
    assert ">latency, less is better<" in body
    assert re.findall(r'class="best halo">(\d)', body) == ["0", "1", "3", "4"]
    assert body.count('class="errors"') == 1


def test_the_line_of_the_front_never_gets_better_in_both():
    (line,) = re.findall(r'd="M([^"]+)" class="lines best"', front_chart(record_of_pairs(PAIRS)).body)
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    assert len(points) == 2 * 4 - 1
    for (x, y), (right, lower) in pairwise(points):
        assert right <= x  # from the best accuracy down,
        assert lower >= y  # and with less latency, which is lower


@pytest.mark.parametrize(("goals", "charts"), [(BOTH, 1), (THREE, 3)], ids=["two", "three"])
def test_every_pair_of_objectives_has_a_chart(goals, charts):
    body = front_chart(record_of_pairs([(0.9, 3.0, 1.0)[: len(goals)], (0.8, 1.0, 2.0)[: len(goals)]], goals)).body
    assert body.count("<svg") == charts


def test_means_under_fresh_seeds_stand_beside_the_scores():
    record = record_of_pairs(PAIRS)
    confirmed = [Confirmed(0, {}, {"accuracy": 0.88, "latency": 3.1}, {"accuracy": 0.02}, 3)]
    body = front_chart(replace(record, confirmed=confirmed)).body
    assert ">accuracy, fresh seeds<" in body
    assert ">0.880 ± 0.020<" in body
    assert body.count("<td>-</td>") == 3 * 2


def test_limits_are_marked_where_they_are_in_sight():
    body = front_chart(record_of_pairs(PAIRS, limits=LIMITS)).body
    assert ">at most 3.5<" in body
    assert ">at least 0.6<" not in body  # left of every trial


@pytest.mark.parametrize("record", [mixed_record(9), record_of_trials([], BOTH)], ids=["one objective", "no trial"])
def test_without_a_front_there_is_no_section(record):
    assert front_chart(record) is None


def test_other_metrics_have_a_chart_and_their_range():
    trials = [told(n, {"accuracy": 0.8 + n / 50, "latency": 2.0 + n, "macs": 1000}) for n in range(4)]
    record = record_of_trials([*trials, Trial(4, trials[0].config, "FAILED", "no")])
    record = replace(record, facts=record.facts | {"trainer": {"metrics": dict.fromkeys(["latency", "macs", "f1"])}})
    body = measure_charts(record).body
    assert "latency: 5.0000 at trial 3, the best; 2.0000 to 5.0000 over all trials" in body
    assert "macs: 1,000 at trial 3, the best; the same for all trials" in body
    assert body.count("<svg") == 1
    assert numbers(body, "dots best") + numbers(body, "dots") == ["3", "0-2"]
    assert measure_charts(mixed_record(9)) is None


def probed(**facts):
    return replace(Probe.unmeasured("", 0.1), errors=(), rate=0.03, optimizer="SGD", loss=2.3, **facts)


def test_structures_that_were_probed_have_their_race_and_numbers():
    race = Race((0.01, 0.1, 1.0), (1.0, 0.4, float("inf")), 0.1, 50, 9.0, (0, 0, 0))
    probes = {"batch 32": probed(race=race), "batch <64>": probed()}
    body = probe_charts(replace(mixed_record(3), probes=probes)).body
    assert body.count("<svg") == 1
    assert "batch &lt;64&gt;" in body
    assert "<dt>initial loss</dt><dd>2.3</dd>" in body
    assert probe_charts(mixed_record(3)) is None


def timed(number, spans, status="DONE", worker=0):
    reports = tuple(Report(n + 1, {"accuracy": 0.5 + number / 100}, {"accuracy": 0.001}, end - begin, end, worker)
                    for n, (begin, end) in enumerate(spans))  # fmt: skip
    return Trial(number, SPACE.sample(np.random.default_rng(number)), status, reports=reports)


def test_the_timeline_has_a_row_for_each_worker_and_a_bar_for_each_span():
    trials = [
        timed(0, [(1000, 1010), (1010, 1020)]),
        timed(1, [(1000, 1008)], worker=1, status="STOPPED"),
        timed(2, [(1012, 1020)], worker=1, status="DIVERGED"),
        timed(3, [(5000, 5020)]),
    ]
    section = worker_chart(record_of_trials(trials))
    assert section.note == "40 s of the clock. Left out: 1 pause of more than a minute."
    assert re.findall(r">(worker \d|\d+% idle)<", section.body) == ["worker 0", "0% idle", "worker 1", "60% idle"]
    shown = {kind: numbers(section.body, kind) for kind in ("bars", "bars stopped", "bars bad", "bars best")}
    assert shown == {"bars": ["0"], "bars stopped": ["1"], "bars bad": ["2"], "bars best": ["3"]}
    assert section.body.count('class="mark"') == 1


def test_without_times_there_is_no_timeline():
    assert worker_chart(record_of_trials([scored(0, 0.9)])) is None


def test_a_measure_far_from_the_others_stands_at_its_value():
    values = [0.01, 0.011, 0.012, 0.013, 0.014, 0.9]
    trials = [told(n, {"accuracy": 0.9 + n / 100, "robust": value}) for n, value in enumerate(values)]
    record = record_of_trials(trials)
    record = replace(record, facts=record.facts | {"trainer": {"metrics": {"robust": None}}})
    body = measure_charts(record).body
    places = [float(x) for x in re.findall(r"M([\d.]+) [\d.]+z", body)]
    assert max(places) < 420 - 16  # within the frame, not at its edge
