"""The charts of history and learning curves: what is drawn where, and what is left out."""

import re
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from tests.helpers.records import mixed_record, record_of_trials, scored
from tuneflow.history.objective import Limit
from tuneflow.history.trial import CUT, Trial
from tuneflow.pages.curves_chart import CURVES, curves
from tuneflow.pages.history_chart import history

VALUES = (0.7, 0.9, 0.8, 0.95, 0.94)
RECORD = record_of_trials([scored(n, value, epochs=3) for n, value in enumerate(VALUES)])


def path(markup, kind):
    """(path, numbers of trials) of the only path of a class."""
    ((d, numbers),) = re.findall(rf'<path d="([^"]*)"(?: data-t="([^"]*)")? class="{kind}"', markup)
    return d, numbers


def points(d):
    return [tuple(map(float, point)) for point in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d)]


def texts(markup):
    return re.findall(r"<text[^>]*>([^<]*)</text>", markup)


class TestHistory:
    def test_dots_stand_by_number_and_ties_are_told_from_the_others(self):
        markup = history(RECORD).body
        assert path(markup, "dots best")[1] == "3-4"
        d, numbers = path(markup, "dots")
        assert numbers == "0-2"
        (x0, y0), (x1, y1), (x2, y2) = points(d)
        assert x1 - x0 == pytest.approx(x2 - x1, abs=1)
        assert y1 < y2 < y0

    def test_the_line_of_the_best_so_far_never_goes_down(self):
        d, _ = path(history(RECORD).body, "best")
        heights = [float(y) for y in re.findall(r"V([\d.]+)", d)]
        assert len(heights) == 2  # steps at trials 1 and 3
        assert heights == sorted(heights, reverse=True)

    def test_a_larger_loss_is_higher_and_the_smallest_is_named(self):
        record = record_of_trials(
            [scored(n, value, metric="loss") for n, value in enumerate(VALUES)], [("loss", False)]
        )
        (_, first), *_, (_, last) = points(path(history(record).body, "dots")[0])
        assert last < first  # of those that do not tie: 0.9, 0.8, 0.95, 0.94
        assert "trial 0: 0.700 ± 0.010" in texts(history(record).body)

    def test_the_best_trial_is_named_with_its_error(self):
        assert "trial 3: 0.950 ± 0.010" in texts(history(RECORD).body)

    def test_no_number_below_the_first_trial_has_a_tick(self):
        record = record_of_trials([scored(n, 0.5 + n / 50) for n in range(6)])
        ticks = re.findall(r'class="tick middle">([^<]*)<', history(record).body)
        assert ticks == ["0", "1", "2", "3", "4", "5"]

    def test_the_best_of_several_trainings_is_named_at_their_mean_where_its_line_ends(self):
        trials = [scored(0, 0.8, error=0), scored(1, 0.9, error=0, config=scored(0, 0).config, repeats=0)]
        body = history(record_of_trials(trials)).body
        line, _ = path(body, "best")
        (height,) = re.findall(r'y="([\d.]+)" class="best[^"]*">trial 0: 0.85', body)
        ((_, y),) = points(line)
        assert 0 < y - float(height) < 20

    def test_the_band_is_there_where_an_error_is_known(self):
        exact = record_of_trials([scored(0, 0.9, error=0)])
        assert 'class="band"' in history(RECORD).body
        assert "band" not in history(exact).body + history(exact).note

    def test_the_trial_at_a_measured_rate_is_marked(self):
        probes = {"": SimpleNamespace(rate=RECORD.trials[2].config["optimizer"]["lr"])}
        assert "LeCun&#x27;s start" in texts(history(replace(RECORD, probes=probes)).body)
        assert 'class="ring"' not in history(RECORD).body

    def test_failures_are_crosses_at_the_worse_edge(self):
        markup = history(mixed_record(20)).body
        assert path(markup, "crosses")[1] == "3 7 13 17"

    def test_every_objective_has_a_chart(self):
        assert history(mixed_record(goals=(("accuracy", True), ("loss", False)))).body.count("<svg") == 2

    @pytest.mark.parametrize(
        "record",
        [record_of_trials([]), record_of_trials([scored(0, 0.9)], limits=(Limit("accuracy", least=0.95),))],
        ids=["no trial", "none within the limits"],
    )
    def test_without_a_best_trial_there_is_none(self, record):
        assert history(record) is None


class TestCurves:
    def test_the_front_of_several_objectives_is_named(self):
        record = mixed_record(20, goals=(("accuracy", True), ("latency", False)))
        markup = curves(record).body
        assert [text for text in texts(markup) if "trial" in text] == [f"trial {record.front[0].number}"]

    def test_the_three_best_are_named_at_the_heights_of_their_lines_in_order(self):
        markup = curves(RECORD).body
        assert [text for text in texts(markup) if "trial" in text] == ["trial 1", "trial 4", "trial 3"]
        heights = [float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)" class="best">', markup)]
        assert heights == sorted(heights, reverse=True)
        assert min(a - b for a, b in pairwise(heights)) >= 13.9

    def test_stopped_trials_are_dashed(self):
        stopped = scored(5, 0.4, epochs=2, status="STOPPED", reason="worse", detail=CUT)
        markup = curves(record_of_trials([*RECORD.trials, stopped])).body
        assert path(markup, "lines stopped")[1] == "5"
        assert path(markup, "lines")[1] == "0 2"

    def test_a_fork_begins_on_its_parents_line(self):
        fork = scored(5, 0.5, epochs=3, parent=(0, 2))
        record = record_of_trials([*RECORD.trials, replace(fork, reports=fork.reports[2:])])
        d, numbers = path(curves(record).body, "lines")
        assert numbers == "0 2 5"
        lines = [points(f"M{part}") for part in d.split("M")[1:]]
        assert lines[2][0] == lines[0][1]

    def test_a_single_report_is_a_stroke(self):
        d, _ = path(curves(record_of_trials([*RECORD.trials, scored(5, 0.4)])).body, "lines")
        assert d.endswith("h9")

    def test_of_many_trials_some_are_drawn_with_the_best_among_them_and_the_note_says_so(self):
        trials = [scored(n, 0.5 + 0.0005 * ((7 * n) % 500), epochs=2) for n in range(500)]
        section = curves(record_of_trials(trials))
        assert section.note.endswith(f"{CURVES} of 500 are drawn.")
        assert sum(len(points(d)) for d in re.findall(r' d="([^"]*)" data-t', section.body)) == 2 * CURVES + 3

    @pytest.mark.parametrize(
        "trials",
        [[], [scored(0, 0.9)], [Trial(0, scored(0, 1).config, "FAILED", "no")]],
        ids=["none", "one epoch", "failed"],
    )
    def test_where_none_trained_for_two_epochs_there_are_no_curves(self, trials):
        assert curves(record_of_trials(trials)) is None
