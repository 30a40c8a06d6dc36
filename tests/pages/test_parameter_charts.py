"""Charts over parameters: trials stand where their values are, in the order of the options, and none is left out."""

import re

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.records import mixed_record, record_of_trials, scored
from tuneflow.analysis.parameter_axis import ParameterAxis, jitter
from tuneflow.analysis.standing import Standing
from tuneflow.history.trial import Trial
from tuneflow.pages.parallel_chart import SLOT, parallel_chart
from tuneflow.pages.parameter_table import parameter_table, range_text
from tuneflow.pages.strips import strip

BRANCHES = tn.SearchSpace(
    optimizer=tn.Choice(
        {"sgd": tn.call(dict, lr=tn.Float(1e-4, 1, log=True)), "adam": tn.call(dict, b=tn.Float(0, 1))}
    ),
    order=tn.Permutation(["crop", "flip", "noise"]),
)


def labels(parameter, most=6):
    return [text for _, text in ParameterAxis(parameter).ticks(most)]


@pytest.mark.parametrize(
    ("parameter", "texts"),
    [
        (tn.Float(1e-5, 0.1, log=True), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]),
        (tn.Float(0.0, 0.5, step=0.25), ["0", "0.25", "0.5"]),
        (tn.Float(0.1, 0.1), ["0.1"]),
        (tn.Int(8, 32, log=True), ["8", "20", "32"]),
        (tn.Int(1, 3), ["1", "2", "3"]),
        (tn.Choice([128, 16, 32, 64]), ["16", "32", "64", "128"]),
        (tn.Choice([128, 16, 32], ordered=True), ["128", "16", "32"]),
        (tn.Choice(["b", "a", None]), ["b", "a", "None"]),
    ],
    ids=range_text,
)
def test_ticks_are_in_the_order_of_the_values_and_name_both_ends(parameter, texts):
    parameter = parameter.named("p")
    assert labels(parameter) == texts
    axis = ParameterAxis(parameter)
    positions = [axis.position(unit) for unit, _ in axis.ticks()]
    assert positions == sorted(positions)


def test_a_number_among_options_stands_at_its_own_tick():
    parameter = tn.Choice([128, 16, 32, 64]).named("p")
    axis = ParameterAxis(parameter)
    places = {text: axis.position(unit) for unit, text in axis.ticks()}
    assert {str(value): axis.position(parameter.to_unit(value)) for value in parameter.values} == pytest.approx(places)


def test_dots_of_one_value_are_apart_and_within_its_cell():
    parameter = tn.Choice(["a", "b", "c"])
    moves = [jitter(parameter, number) for number in range(50)]
    assert len(set(moves)) == 50
    assert max(map(abs, moves)) < 0.5 / 3
    assert jitter(tn.Float(0, 1), 3) == 0


def numbers_of(markup):
    """The numbers of the trials that the paths of a chart have, by the class of the path."""
    found = {}
    for text, kind in re.findall(r'data-t="([^"]+)" class="([^"]+)"', markup):
        runs = [[int(end) for end in run.split("-")] for run in text.split()]
        found[kind] = [number for run in runs for number in range(run[0], run[-1] + 1)]
    return found


def test_every_ended_trial_is_in_each_chart():
    record = mixed_record(40)
    ended = {trial.number for trial in record.trials if trial.ended}
    charts = [strip(Standing(record), place) for place in record.space.parameters.values()]
    for chart in [*charts, parallel_chart(record).body]:
        assert {number for numbers in numbers_of(chart).values() for number in numbers} == ended


def test_a_dot_stands_at_its_value_and_better_ones_are_higher():
    trials = [scored(0, 0.9, config={"x": 0.25}), scored(1, 0.5, config={"x": 0.75})]
    record = record_of_trials(trials, space=tn.SearchSpace(x=tn.Float(0, 1)))
    (left, upper), (right, lower) = (
        map(float, pair) for pair in re.findall(r"M([\d.]+) ([\d.]+)z", strip(Standing(record), 0))[::-1]
    )
    assert right - left == pytest.approx(0.5 * (260 - 28), abs=0.2)
    assert upper < lower


def test_lower_losses_are_higher_in_a_strip():
    trials = [scored(0, 0.9, metric="loss"), scored(1, 0.5, metric="loss")]
    standing = Standing(record_of_trials(trials, (("loss", False),)))
    assert standing.axis.position(0.5) > standing.axis.position(0.9)


def test_lines_leave_the_axes_of_other_branches():
    rng = np.random.default_rng(0)
    configs = [BRANCHES.sample(rng) for _ in range(12)]
    record = record_of_trials(
        [scored(n, 0.5 + n / 30, config=config) for n, config in enumerate(configs)], space=BRANCHES
    )
    chart = parallel_chart(record).body
    assert chart.count('class="brush"') == 4  # without the permutation
    assert chart.count(">not active<") == 2
    lines = re.findall(r"M([^M\"]+)", "".join(re.findall(r'd="([^"]+)" data-t', chart)))
    below = [[point.split()[1] for point in line.split("L")].count(str(SLOT)) for line in lines]
    assert below == [1] * 12


def test_trials_without_a_score_end_below_the_last_axis():
    trials = [scored(0, 0.9), Trial(1, scored(1, 0.5).config, "FAILED", "no")]
    chart = parallel_chart(record_of_trials(trials)).body
    assert re.search(rf' {SLOT}" data-t="1" class="lines bad"', chart)
    assert ">no score<" in chart


@pytest.mark.parametrize("trials", [[], [scored(0, 0.9)], [Trial(0, {}, "CLAIMED")]], ids=["none", "one", "claimed"])
def test_one_line_is_no_chart(trials):
    assert parallel_chart(record_of_trials(trials)) is None


def test_the_table_has_range_and_best_of_each_parameter():
    config = {"optimizer": {"sgd": {"lr": 0.01}}, "order": ["flip", "crop", "noise"]}
    table = parameter_table(record_of_trials([scored(0, 0.9, config=config)], space=BRANCHES)).body
    cells = [re.sub(r"<svg.*?</svg>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", table)]
    assert cells[4:8] == ["optimizer", "sgd, adam", "sgd", ""]
    assert ["b", "0 to 1", "-", ""] in [cells[at : at + 4] for at in range(4, len(cells), 4)]
    assert "orders of crop, flip, noise" in cells


def test_importances_of_which_nothing_is_known_are_left_out():
    section = parameter_table(mixed_record(16))
    assert "importance</th>" not in section.body
    assert section.note.endswith("Not enough trials to tell how important the parameters are.")


def test_importance_and_hints_stand_beside_the_parameters():
    rng = np.random.default_rng(0)
    space = tn.SearchSpace(lr=tn.Float(1e-4, 1.0, log=True), none=tn.Float(0.0, 1.0))
    configs = [space.sample(rng) for _ in range(40)]
    scores = [0.9 + 0.02 * np.log10(config["lr"]) + 0.001 * rng.random() for config in configs]
    pairs = enumerate(zip(scores, configs, strict=True))
    trials = [scored(n, score, 0.001, config=config) for n, (score, config) in pairs]
    table = parameter_table(record_of_trials(trials, space=space)).body
    lr, none = table.split("<tr>")[2:]
    (share, other) = (float(re.search(r"<b>([\d.]+)</b>", row)[1]) for row in (lr, none))
    assert share > 0.9 > 0.1 > other
    assert "at the edge: widen it to Float(0.0001, 10.0, log=True)" in lr
    assert "at the edge" not in none
