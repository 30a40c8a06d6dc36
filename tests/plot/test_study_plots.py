"""Plots of studies: what is drawn is what the record says, in the units of the metrics and parameters."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.records import ACCURACY, mixed_record, record_of_trials, scored
from tuneflow.history.objective import Limit
from tuneflow.history.trial import Report, Trial

pytestmark = pytest.mark.xdist_group("matplotlib")

LOSS = (("loss", False),)
TWO = (("accuracy", True), ("latency", False))
BRANCHES = tn.SearchSpace(
    optimizer=tn.Choice(
        {"sgd": tn.call(dict, lr=tn.Float(1e-4, 1, log=True)), "adam": tn.call(dict, b=tn.Float(0, 1))}
    ),
    order=tn.Permutation(["crop", "flip", "noise"]),
    size=tn.Choice([128, 16, 32]),
)
SGD = {"optimizer": {"sgd": {"lr": 0.01}}, "order": ["flip", "crop", "noise"], "size": 16}
ADAM = {"optimizer": {"adam": {"b": 0.25}}, "order": ["crop", "flip", "noise"], "size": 128}


def line(ax, label):
    """The one line or set of markers with this label."""
    (found,) = [each for each in ax.lines if each.get_label() == label]
    return found


def points(ax, label):
    return line(ax, label).get_xydata().tolist()


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    axis.figure.draw_without_rendering()
    return [tick.label1.get_text() for tick in axis.get_major_ticks()]


@pytest.fixture(scope="module")
def two():
    """Three trials on the front of an accuracy and a latency, one beaten, one that failed."""
    pairs = [(0.9, 3.0), (0.95, 5.0), (0.8, 2.0), (0.85, 4.0)]
    reports = [Report(1, {"accuracy": high, "latency": low}, {"latency": 0.1}) for high, low in pairs]
    trials = [Trial(n, scored(n, 0.5).config, "DONE", reports=(report,)) for n, report in enumerate(reports)]
    return record_of_trials([*trials, Trial(4, trials[0].config, "FAILED", "out of memory")], TWO)


@pytest.fixture(scope="module")
def by_rate():
    """Twelve trials whose accuracy depends on the learning rate alone, best at 0.01."""
    configs = [scored(n, 0.5).config for n in range(12)]
    values = [0.9 - 0.1 * (math.log10(config["optimizer"]["lr"]) + 2) ** 2 for config in configs]
    return record_of_trials([scored(n, value, config=config) for n, (value, config) in enumerate(zip(values, configs))])


class TestHistory:
    def test_every_score_stands_at_the_place_of_its_end_and_the_best_so_far_in_steps(self):
        record = record_of_trials([scored(n, value) for n, value in enumerate((0.7, 0.9, 0.8))])
        ax = tn.plot.history(record)
        assert points(ax, "done") == [[0, 0.7], [1, 0.9], [2, 0.8]]
        assert points(ax, "best so far") == [[0, 0.7], [1, 0.9], [2, 0.9]]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("trial", "accuracy")
        assert texts(ax) == ["trial 1\n0.900 ± 0.010"]

    def test_shares_stand_on_a_scale_of_their_error(self):
        ax = tn.plot.history(record_of_trials([scored(n, value) for n, value in enumerate((0.9, 0.99, 0.999))]))
        heights = ax.transData.transform([(1, 0.9), (1, 0.99), (1, 0.999)])[:, 1]
        assert np.diff(heights)[0] == pytest.approx(np.diff(heights)[1])
        assert {"0.9", "0.99", "0.999"} <= set(ticks(ax.yaxis))

    def test_a_share_of_one_is_drawn_inside(self):
        ax = tn.plot.history(record_of_trials([scored(n, value, 0.0) for n, value in enumerate((0.9, 0.99, 1.0))]))
        (place,) = ax.transAxes.inverted().transform(ax.transData.transform([(2, 1.0)]))[:, 1]
        assert 0.85 < place < 0.99
        assert points(ax, "done")[-1] == [2, 1.0]

    def test_losses_over_a_wide_range_stand_on_a_logarithmic_scale(self):
        losses = [scored(n, value, metric="loss") for n, value in enumerate((0.01, 0.1, 10.0))]
        ax = tn.plot.history(record_of_trials(losses, LOSS))
        assert ax.get_yscale() == "log"
        assert {"0.01", "0.1", "1", "10"} <= set(ticks(ax.yaxis))

    def test_errors_are_bars_and_ties_a_band(self):
        ax = tn.plot.history(record_of_trials([scored(0, 0.7, 0.02), scored(1, 0.75, 0.01)]))
        bars = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
        assert bars == [pytest.approx([0.68, 0.72]), pytest.approx([0.74, 0.76])]
        (band,) = ax.patches
        reach = 2 * math.sqrt(2) * 0.01
        assert (band.get_y(), band.get_height()) == pytest.approx((0.75 - reach, 2 * reach))

    def test_ends_of_each_kind_have_a_marker_of_their_own(self):
        ax = tn.plot.history(mixed_record(24))
        assert {"done", "stopped", "failed"} <= {each.get_label() for each in ax.lines}
        assert line(ax, "stopped").get_markerfacecolor() == (1.0, 1.0, 1.0)
        assert len(points(ax, "failed")) == 5

    def test_trials_beyond_a_limit_are_crosses_and_never_the_best(self):
        limit = Limit("accuracy", most=0.8)
        ax = tn.plot.history(record_of_trials([scored(0, 0.9), scored(1, 0.7)], limits=(limit,)))
        assert points(ax, "beyond a limit") == [[0, 0.9]]
        assert points(ax, "best so far")[-1] == [1, 0.7]

    def test_a_score_far_worse_than_the_others_is_at_the_edge(self):
        losses = [scored(n, value, metric="loss") for n, value in enumerate((1.0, 1.1, 1.2, 1.3, 90.0))]
        ax = tn.plot.history(record_of_trials(losses[:4] + losses[4:], LOSS))
        assert points(ax, "far worse") == [[4, 0.98]]
        assert ax.get_ylim()[1] < 2

    def test_a_ring_is_about_the_trial_at_a_measured_rate(self):
        trials = [scored(n, 0.5 + 0.1 * n) for n in range(2)]
        rate = trials[1].config["optimizer"]["lr"]
        record = replace(record_of_trials(trials), probes={"net": SimpleNamespace(rate=rate)})
        assert points(tn.plot.history(record), "LeCun's start") == [[1, 0.6]]

    @pytest.mark.parametrize(("unit", "places"), [("epochs", [3, 4]), ("seconds", [1.5, 3.5])])
    def test_the_horizontal_axis_counts_what_is_asked_for(self, unit, places):
        trials = [scored(0, 0.7, epochs=3, seconds=1.5), scored(1, 0.8, epochs=1, seconds=2.0)]
        assert line(tn.plot.history(record_of_trials(trials), unit=unit), "done").get_xdata().tolist() == places

    def test_a_second_study_in_the_same_axes_widens_their_limits(self):
        first = tn.plot.history(record_of_trials([scored(0, 0.5), scored(1, 0.6)]))
        before = first.get_ylim()
        tn.plot.history(record_of_trials([scored(0, 0.2), scored(1, 0.3)]), ax=first)
        assert (first.get_ylim()[0] < 0.2, first.get_ylim()[1]) == (True, before[1])


class TestCurves:
    def test_each_trial_is_a_line_and_the_three_best_are_named_at_their_ends(self):
        record = record_of_trials([scored(n, 0.7 + 0.03 * n, epochs=3) for n in range(5)])
        ax = tn.plot.curves(record)
        assert points(ax, "trial 4") == [[1, pytest.approx(0.80)], [2, pytest.approx(0.81)], [3, pytest.approx(0.82)]]
        assert (len(ax.lines), texts(ax)) == (3, ["trial 2", "trial 3", "trial 4"])
        assert [each[-1].tolist() for each in ax.collections[0].get_segments()] == [[3, 0.7], [3, 0.73]]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")

    def test_stopped_trials_are_dashed_and_a_fork_begins_at_its_parent(self):
        parent = scored(0, 0.8, epochs=2)
        fork = Trial(1, parent.config, "DONE", reports=(Report(3, {"accuracy": 0.9}),), parent=(0, 2))
        ax = tn.plot.curves(record_of_trials([parent, fork, scored(2, 0.5, epochs=2, status="STOPPED")]))
        assert points(ax, "trial 1") == [[2, 0.8], [3, 0.9]]
        assert [line(ax, f"trial {n}").get_linestyle() for n in range(3)] == ["-", "-", "--"]

    def test_any_metric_that_is_reported_can_be_drawn_and_others_are_refused(self):
        record = record_of_trials([scored(0, 1.0, metric="loss")], LOSS)
        with pytest.raises(ValueError, match=r'no trial has reported "los". Did you mean "loss"\?'):
            tn.plot.curves(record, "los")

    def test_the_best_has_its_standard_error_as_a_band(self):
        ax = tn.plot.curves(record_of_trials([scored(0, 0.5, 0.05, epochs=2)]))
        heights = ax.collections[-1].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((0.44, 0.55))


class TestParameters:
    def test_parallel_axes_have_heights_by_the_scale_of_each_parameter(self):
        record = record_of_trials([scored(0, 0.9, config=SGD), scored(1, 0.5, config=ADAM)], space=BRANCHES)
        ax = tn.plot.parallel(record)
        assert ticks(ax.xaxis) == ["optimizer", "lr", "b", "order, first", "size", "accuracy"]
        heights = line(ax, "trial 0").get_ydata()
        assert heights[:5] == pytest.approx([0.25, 0.5, math.nan, 0.5, 1 / 6], nan_ok=True)  # 16 comes before 128
        assert line(ax, "trial 1").get_ydata()[:5] == pytest.approx([0.75, math.nan, 0.25, 1 / 6, 5 / 6], nan_ok=True)

    def test_parallel_axes_of_several_objectives_have_each_of_them_and_name_the_front(self, two):
        ax = tn.plot.parallel(two, ["lr"])
        assert ticks(ax.xaxis) == ["lr", "accuracy", "latency"]
        assert {"trial 0", "trial 1", "trial 2"} <= set(texts(ax))

    def test_better_trials_are_drawn_stronger(self):
        (context,) = tn.plot.parallel(record_of_trials([scored(n, 0.5 + 0.01 * n) for n in range(6)])).collections
        assert np.diff([color[3] for color in context.get_colors()]).min() > 0
        assert [segment[-1, 1] for segment in context.get_segments()] == sorted(
            s[-1, 1] for s in context.get_segments()
        )

    def test_a_slice_has_the_values_of_its_parameter(self):
        trials = [scored(n, 0.5, config=scored(n, 0.5).config | {"optimizer": {"lr": 10.0**-n}}) for n in range(4)]
        ax = tn.plot.slice(record_of_trials(trials), "lr")
        drawn = points(ax, "done") + points(ax, "best")
        assert sorted({round(math.log10(x)) for x, _ in drawn}) == [-3, -2, -1, 0]
        assert (ax.get_xscale(), ax.get_xlabel(), ax.get_xlim()) == ("log", "lr", (1e-4, 1.0))

    def test_options_stand_in_their_order_near_their_index(self):
        trials = [scored(0, 0.9, config=SGD), scored(1, 0.5, config=ADAM)]
        ax = tn.plot.slice(record_of_trials(trials, space=BRANCHES), "size")
        assert ticks(ax.xaxis) == ["16", "32", "128"]
        assert [round(x) for x, _ in points(ax, "best")] == [0, 2]

    def test_several_slices_stand_side_by_side_and_leave_out_what_is_not_active(self):
        trials = [scored(0, 0.9, config=SGD), scored(1, 0.5, config=ADAM)]
        ax = tn.plot.slice(record_of_trials(trials, space=BRANCHES))
        places = [x for each in ax.lines if each.get_label() == "best" for x in each.get_xdata()]
        assert [int(x) for x in places] == [0, 0, 1, 2, 3, 3, 4, 4]
        assert places[2] == pytest.approx(1.5)
        assert {"optimizer", "lr", "b", "order, first", "size"} <= set(texts(ax))


class TestModels:
    def test_importance_has_a_bar_and_an_interval_for_each_parameter(self, by_rate):
        ax = tn.plot.importance(by_rate)
        assert ticks(ax.yaxis)[0] == "lr"
        widths = [bar.get_width() for bar in ax.patches]
        low, high = ax.collections[0].get_segments()[0][:, 0]
        assert widths == sorted(widths, reverse=True)
        assert low <= widths[0] <= high

    def test_contour_has_its_maximum_where_the_scores_have_it(self, by_rate):
        ax = tn.plot.contour(by_rate, "lr", "act")
        cells = ax.collections[0]
        means = cells.get_array()
        rate = cells.get_coordinates()[0, np.unravel_index(means.argmax(), means.shape)[1], 0]
        assert 10**-2.7 < rate < 10**-1.3
        assert (ax.get_xscale(), ticks(ax.yaxis)) == ("log", ["relu", "tanh"])
        assert [other.get_ylabel() for other in ax.figure.axes] == ["act", "accuracy"]

    def test_contour_shows_where_the_trials_are(self, by_rate):
        ax = tn.plot.contour(by_rate, "width", "lr")
        drawn = points(ax, "trials") + points(ax, "best")
        assert sorted(x for x, _ in drawn) == sorted(trial.config["model"]["width"] for trial in by_rate.trials)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ({}, "needs two parameters, got 4 of the space; name x= and y= of model.width, "),
            ({"x": "lr"}, "needs two parameters, got lr"),
            ({"x": "lr", "y": "optimizer.lr"}, "needs two parameters, got lr, optimizer.lr"),
            ({"x": "lr", "y": "rate"}, 'the space has no "rate"'),
        ],
        ids=["none", "one", "the same", "unknown"],
    )
    def test_contour_needs_two_parameters(self, by_rate, names, message):
        with pytest.raises(ValueError, match=message):
            tn.plot.contour(by_rate, **names)

    def test_contour_of_branches_that_exclude_each_other_is_refused(self):
        trials = [scored(n, 0.5 + 0.1 * n, config=(SGD, ADAM)[n % 2]) for n in range(4)]
        record = record_of_trials(trials, space=BRANCHES)
        with pytest.raises(tn.errors.StudyError, match="no trial with a score has both lr and b"):
            tn.plot.contour(record, "lr", "b")
        with pytest.raises(ValueError, match="order, first is a Permutation"):
            tn.plot.contour(record, "order", "size")


def test_a_contour_of_one_parameter_names_the_plot_that_there_is():
    space = tn.SearchSpace(x=tn.Float(0, 1))
    with pytest.raises(ValueError, match=r"the space has x alone; tn\.plot\.slice draws it"):
        tn.plot.contour(record_of_trials([], space=space))


class TestFront:
    def test_members_are_joined_and_named_and_each_axis_says_its_direction(self, two):
        ax = tn.plot.front(two)
        assert points(ax, "beaten") == [[0.9, 3.0], [0.95, 5.0], [0.8, 2.0], [0.85, 4.0]]
        assert ax.containers[0].lines[0].get_xydata().tolist() == [[0.8, 2.0], [0.9, 3.0], [0.95, 5.0]]
        assert texts(ax) == ["2", "0", "1"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("accuracy, more is better", "latency, less is better")

    def test_the_axes_can_be_chosen_and_show_their_limits(self, two):
        record = record_of_trials(two.trials, TWO, limits=(Limit("latency", most=4.5),))
        ax = tn.plot.front(record, x="latency", y="accuracy")
        assert ax.get_ylabel() == "accuracy, more is better"
        assert line(ax, "latency at most 4.5").get_xdata() == [4.5, 4.5]
        assert points(ax, "beyond a limit") == [[5.0, 0.95]]

    @pytest.mark.parametrize(
        ("goals", "names", "message"),
        [
            (ACCURACY, {}, "needs two objectives, got accuracy alone"),
            (TWO, {"y": "accuracy"}, "needs two different metrics, got accuracy twice"),
            (TWO, {"x": "latenc"}, 'tuned for accuracy, latency, got metric="latenc". Did you mean "latency"'),
        ],
        ids=["one", "twice", "unknown"],
    )
    def test_what_has_no_front_is_refused(self, goals, names, message):
        with pytest.raises(ValueError, match=message):
            tn.plot.front(record_of_trials([], goals), **names)


class TestMethods:
    def test_shares_of_trials_at_least_as_good_count_failures_among_all(self):
        record = record_of_trials([scored(0, 0.9), scored(1, 0.7), Trial(2, scored(2, 0).config, "FAILED", "memory")])
        drawn = tn.plot.ecdf(record).lines[0].get_xydata()
        assert drawn == pytest.approx(np.array([[0.9, 0], [0.9, 1 / 3], [0.7, 2 / 3]]))

    def test_studies_that_differ_in_their_seed_only_are_taken_together_and_others_named_by_what_differs(self):
        first = record_of_trials([scored(0, 0.5, metric="loss"), scored(1, 0.7, metric="loss")], LOSS)
        again = replace(first, facts=first.facts | {"seed": 1})
        other = replace(first, facts=first.facts | {"searcher": "TPE()"})
        ax = tn.plot.ecdf(first, again, other)
        assert points(ax, "Random (2 studies)") == [[0.5, 0], [0.5, 0.25], [0.5, 0.5], [0.7, 0.75], [0.7, 1.0]]
        assert points(ax, "TPE") == [[0.5, 0], [0.5, 0.5], [0.7, 1.0]]

    @pytest.mark.parametrize(
        ("goals", "message"),
        [
            ((ACCURACY, LOSS), "got accuracy maximized, loss minimized"),
            ((TWO,), "got accuracy, latency; tn.plot.front draws"),
            ((), "got nothing"),
        ],
        ids=["different", "several", "none"],
    )
    def test_studies_without_one_common_objective_are_refused(self, goals, message):
        with pytest.raises(ValueError, match=f"tn.plot.ecdf needs studies of one .*{message}"):
            tn.plot.ecdf(*(record_of_trials([], goal) for goal in goals))


class TestTimeline:
    def test_each_worker_has_a_row_and_each_span_a_bar(self):
        reports = [(Report(1, {"accuracy": 0.5}, {}, 2.0, at=102.0 + n, worker=n),) for n in range(2)]
        trials = [Trial(n, scored(n, 0.5).config, "DONE", reports=reports[n]) for n in range(2)]
        ax = tn.plot.timeline(record_of_trials(trials))
        (bars,) = ax.collections
        corners = [path.vertices for path in bars.get_paths()]
        assert [(each[:, 0].min(), each[:, 0].max(), each[0, 1] + 0.35) for each in corners] == [(0, 2, 0), (1, 3, 1)]
        assert ticks(ax.yaxis) == ["worker 0\n33 % idle", "worker 1\n33 % idle"]
        assert ax.get_xlabel() == "seconds since the start"

    def test_without_times_it_says_what_is_missing(self):
        with pytest.raises(tn.errors.NothingFinished, match="no epoch was trained yet whose time is known"):
            tn.plot.timeline(record_of_trials([scored(0, 0.5)]))


ODD = {
    "no trial": lambda: record_of_trials([]),
    "one trial": lambda: record_of_trials([scored(0, 0.5, 0.0)]),
    "all failed": lambda: record_of_trials([Trial(n, scored(n, 0).config, "FAILED", "memory") for n in range(3)]),
    "none ended": lambda: record_of_trials([Trial(0, scored(0, 0.5).config, reports=scored(0, 0.5).reports)]),
    "claimed": lambda: record_of_trials([Trial(0, {}, "CLAIMED")]),
    "not finite": lambda: record_of_trials([scored(0, math.nan), scored(1, math.inf), scored(2, 0.5)]),
    "equal": lambda: record_of_trials([scored(n, 1.0, 0.0) for n in range(4)]),
    "repeats": lambda: record_of_trials([scored(0, 0.5), scored(1, 0.6, repeats=0, config=scored(0, 0).config)]),
    "fixed": lambda: record_of_trials([scored(0, 0.5, config={"a": 1.0})], space=tn.SearchSpace(a=tn.Float(1.0, 1.0))),
    "open end": lambda: record_of_trials([scored(0, 0.5)], epochs=None),
}


@pytest.mark.parametrize("draw", [tn.plot.history, tn.plot.curves, tn.plot.parallel, tn.plot.slice, tn.plot.ecdf],
                         ids=lambda draw: draw.__name__)  # fmt: skip
@pytest.mark.parametrize("odd", ODD)
def test_odd_studies_are_drawn(draw, odd):
    ax = draw(ODD[odd]())
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
    assert ax.get_xlabel() or ax.get_xticklabels()


@pytest.mark.parametrize("draw", [tn.plot.history, tn.plot.curves, tn.plot.slice, tn.plot.ecdf],
                         ids=lambda draw: draw.__name__)  # fmt: skip
@pytest.mark.parametrize(
    "losses", [(0.0, 0.5, 0.0, 0.01, 0.02), (1.7e308, -1.7e308, 1e300, 0.1, 0.2)], ids=["exactly 0", "huge"]
)
def test_losses_beyond_a_scale_are_drawn_at_its_edge(draw, losses):
    ax = draw(record_of_trials([scored(n, value, 0, metric="loss") for n, value in enumerate(losses)], LOSS))
    ax.figure.draw_without_rendering()  # warns where a text is far outside
    ends = [text.get_window_extent().min for text in ax.texts]
    assert all((end >= 0).all() and (end <= ax.figure.bbox.max).all() for end in ends)


def test_the_best_loss_of_0_is_seen_on_a_logarithmic_scale():
    losses = [scored(n, value, 0, metric="loss") for n, value in enumerate((0.0, 0.5, 0.01))]
    ax = tn.plot.history(record_of_trials(losses, LOSS))
    assert points(ax, "done")[0] == points(ax, "best so far")[0] == [0, ax.get_ylim()[0]]


@pytest.mark.parametrize(("unit", "low"), [("trials", -0.5), ("epochs", 0)], ids=["trials", "epochs"])
def test_ticks_of_trials_and_epochs_are_whole(unit, low):
    ax = tn.plot.history(record_of_trials([scored(n, 0.5) for n in range(4)]), unit=unit)
    assert all("." not in text for text in ticks(ax.xaxis))
    assert ax.get_xlim()[0] == low


@pytest.mark.parametrize("draw", [tn.plot.parallel, tn.plot.importance, tn.plot.slice],
                         ids=lambda draw: draw.__name__)  # fmt: skip
def test_long_names_are_cut_at_their_beginning(draw):
    space = tn.SearchSpace(**{"q" * 96 + "rate": tn.Float(0, 1), "width": tn.Int(1, 9)})
    configs = [space.sample(np.random.default_rng(n)) for n in range(12)]
    trials = [scored(n, 0.5 + 0.01 * n, config=config) for n, config in enumerate(configs)]
    ax = draw(record_of_trials(trials, space=space))
    assert f"…{'q' * 35}rate" in [*ticks(ax.xaxis), *ticks(ax.yaxis), *texts(ax)]


@pytest.mark.parametrize("odd", ["no trial", "all failed", "none ended"])
@pytest.mark.parametrize(
    "draw", [tn.plot.importance, lambda r: tn.plot.contour(r, "lr", "act")], ids=["importance", "contour"]
)
def test_models_of_too_few_scores_are_refused(draw, odd):
    with pytest.raises(tn.errors.NothingFinished, match=r"needs \d+ configurations with a score"):
        draw(ODD[odd]())


def test_a_study_a_folder_and_a_record_are_drawn_alike(tmp_path):
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path / "s", progress=False)
    for value in (0.5, 0.25):
        study.tell(study.ask(), {"loss": value})
    drawn = [points(tn.plot.history(one), "done") for one in (study, tn.open(tmp_path / "s"), study.record())]
    assert drawn == [[[0, 0.5], [1, 0.25]]] * 3


@pytest.mark.parametrize(
    ("study", "message"),
    [("runs/digits", r"got str; tn.open\('runs/digits'\) reads one"), (None, r"got NoneType; tn.open\(folder\) reads")],
    ids=["path", "nothing"],
)
def test_what_is_no_study_is_refused(study, message):
    with pytest.raises(TypeError, match=message):
        tn.plot.history(study)


def test_names_with_signs_of_mathematics_are_drawn_as_they_are():
    space = tn.SearchSpace(**{"a$b{$": tn.Choice(["$x$", "y"])})
    trials = [scored(n, 0.5, config={"a$b{$": option}, metric="los$s$") for n, option in enumerate(["$x$", "y"])]
    for draw in (tn.plot.slice, tn.plot.parallel):
        draw(record_of_trials(trials, (("los$s$", False),), space)).figure.draw_without_rendering()
