"""Studies beside each other: means over seeds, differences paired by seed, and refusals by name."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.records import mixed_record, record_of_trials, scored
from tuneflow.analysis.methods import Difference, common_budget, difference, methods_of, units_of
from tuneflow.history.objective import Limit
from tuneflow.metrics.measured import interval_text
from tuneflow.pages.comparison import comparison

LOSS = (("loss", False),)


def seeded(seed, searcher="Random()", shift=0.0, count=6, **facts):
    """A study whose scores rise; a searcher's are higher by `shift`, a seed's by a tenth of it times itself."""
    values = [0.5 + 0.03 * n + 0.1 * seed + shift for n in range(count)]
    record = record_of_trials([scored(n, value, **facts) for n, value in enumerate(values)], name=f"runs/{seed}")
    record.history.seed = seed
    return replace(record, facts=record.facts | {"seed": seed, "searcher": searcher})


@pytest.fixture(scope="module")
def methods():
    better = [seeded(seed, "TPE()", 0.05 + 0.001 * seed) for seed in range(3)]
    return methods_of([*(seeded(seed) for seed in range(4)), *better])


def test_studies_that_differ_in_their_seed_are_one_method(methods):
    assert [(method.name, len(method.records)) for method in methods] == [("Random", 4), ("TPE", 3)]


def test_lines_are_means_of_the_best_so_far_with_their_errors(methods):
    line = methods[0].line("trials")
    assert line.spent.tolist() == [1, 2, 3, 4, 5, 6]
    assert line.mean == pytest.approx([0.65 + 0.03 * n for n in range(6)])
    assert line.error == pytest.approx([np.std([0, 0.1, 0.2, 0.3], ddof=1) / 2] * 6)


def test_differences_are_paired_by_seed(methods):
    found = difference(methods[1], methods[0], "trials", 6)
    assert found.seeds == 3
    assert found.value == pytest.approx(0.051)
    assert found.error == pytest.approx(0.001 / math.sqrt(3))  # the seeds' own differences are none of it


def test_without_two_shared_seeds_errors_are_independent():
    first, second = methods_of([seeded(0), seeded(1), seeded(2, "TPE()"), seeded(3, "TPE()")])
    found = difference(second, first, "trials", 6)
    assert (found.seeds, found.value) == (0, pytest.approx(0.2))
    assert found.error == pytest.approx(math.hypot(0.05, 0.05))
    assert math.isnan(difference(*methods_of([seeded(0), seeded(0, "TPE()")]), "trials", 6).error)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.04, 0.05, 0.06), "better"),  # 0.05 (0.025 to 0.075)
        ((0.03, 0.05, 0.09), "no clear difference"),  # 3.2 errors, of which Student's t takes 4.3 for three pairs
        ((0.05, 0.06), "no clear difference"),
        ((-0.05,) * 4 + (-0.06,), "worse"),
        ((0.05, 0.05), ""),  # equal by chance as like as not
        ((0.05,), ""),
    ],
    ids=["clear", "three pairs", "two pairs", "worse", "equal", "one pair"],
)
def test_a_verdict_needs_a_95_percent_interval_on_one_side_of_zero(gains, verdict):
    others = [seeded(seed, "TPE()", gain) for seed, gain in enumerate(gains)]
    first, second = methods_of([*(seeded(seed) for seed in range(len(gains))), *others])
    assert difference(second, first, "trials", 6).verdict(maximize=True) == verdict


@pytest.mark.parametrize(("low", "same"), [(0.0004, True), (-0.0004, True), (0.006, False)], ids=str)
def test_equal_figures_have_equal_verdicts(low, same):
    found = Difference(0.1, (0.1 - low) / 3.182446, 3, 4)
    assert (interval_text(found.estimate) == "0.10 (0.00 to 0.20)") == same
    assert (found.verdict(maximize=True) == "no clear difference") == same


def test_unpaired_errors_have_the_degrees_of_freedom_of_welch():
    first, second = methods_of([seeded(0), seeded(1), seeded(2, "TPE()"), seeded(3, "TPE()")])
    assert difference(second, first, "trials", 6).freedom == pytest.approx(2)  # equal variances, two studies each


def test_studies_compare_at_what_all_have_spent():
    short, long = methods_of([seeded(0, count=3), seeded(0, "TPE()", count=6)])
    budget = common_budget([short, long], "trials")
    assert budget == 3
    assert difference(long, short, "trials", budget).value == 0


def test_costs_that_tell_nothing_are_left_out(methods):
    assert units_of(methods) == ["trials", "seconds"]
    assert units_of(methods_of([seeded(0, epochs=2, seconds=0.0)])) == ["trials", "epochs"]


def test_methods_that_differ_in_much_have_the_names_of_their_studies():
    other = seeded(0)
    other = replace(other, name="runs/other", facts=other.facts | {"space": {"a": 1}, "searcher": "X" * 70})
    assert [method.name for method in methods_of([seeded(0), other])] == ["0", "other"]


TPE = "TPE(start=10, share={})"


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ([{"searcher": "LeCun(then=Random())"}, {"searcher": TPE.format(0.2)}], ["LeCun", "TPE"]),
        ([{"searcher": TPE.format(0.2)}, {"searcher": TPE.format(0.3)}], ["TPE(share=0.2)", "TPE(share=0.3)"]),
        ([{"searcher": "LeCun(then=Random())"}, {"searcher": f"LeCun(then={TPE})"}],
         ["LeCun(then=Random)", "LeCun(then=TPE)"]),
        ([{"epochs": 4, "trainer": {"epochs": 4}}, {"epochs": 3, "trainer": {"epochs": 3}}], ["epochs 4", "epochs 3"]),
        ([{"model": "Model(small, seed=1)"}, {"model": "Model(big, seed=1)"}], ["Model(small)", "Model(big)"]),
        ([{"space": {"entries": {"lr": {"high": 0.1}}}}, {"space": {"entries": {"lr": {"high": 1.0}}}}],
         ["lr high 0.1", "lr high 1.0"]),
        ([{"searcher": "Grid()", "grid": "Grid()", "space": {"entries": dict.fromkeys("abcdefgh", 1e9)}},
          {"searcher": "Sobol()", "grid": None}], ["Grid", "Sobol"]),
    ],
    ids=["classes", "arguments", "inner", "epochs", "models", "space", "long space"],
)  # fmt: skip
def test_methods_are_named_by_what_differs_and_no_word_comes_twice(facts, names):
    records = [seeded(0), seeded(0)]
    records = [replace(one, facts=one.facts | own) for one, own in zip(records, facts)]
    assert [method.name for method in methods_of(records)] == names


def test_methods_that_nothing_short_tells_apart_are_named_by_what_their_folders_share():
    records = [replace(seeded(seed, "X" * 70), name=f"/a/runs/wide-{seed}") for seed in range(2)]
    records.append(replace(seeded(0), name="/a/runs/other"))
    assert [method.name for method in methods_of(records)] == ["wide", "other"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (record_of_trials([], LOSS), "maximize='accuracy' of runs/0 and minimize='loss' of in memory"),
        (record_of_trials([], (("accuracy", False),)), "minimize='accuracy'"),
        (record_of_trials([], limits=(Limit("macs", most=3.0),)), "maximize='accuracy' and macs at most 3"),
        (mixed_record(3, goals=(("accuracy", True), *LOSS)), "one objective, got maximize='accuracy' and minimize"),
    ],
    ids=["metric", "direction", "limits", "several objectives"],
)
def test_another_objective_is_refused_by_name(other, words):
    with pytest.raises(ValueError, match=f"studies .*compared .*{re.escape(words)}"):
        comparison([seeded(0), other])


def test_the_page_has_a_panel_for_each_cost_and_says_what_is_clear(methods):
    records = [record for method in methods for record in method.records]
    text = comparison([*records, *(seeded(seed, "<b>", 0.04 + 0.01 * seed) for seed in range(2))])
    assert text.count('class="chart"') == 2
    verdicts = re.findall(r"<span>([^<]+)</span>", text.split('id="differences"')[1])
    assert verdicts == ["worse", "worse", "no clear difference", "no clear difference"]
    assert "At 6 trials and at 6.0 s, TPE leads, clearly before Random, not clearly before &lt;b&gt;." in text
    assert "paired by seed" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


def test_lower_losses_are_better_and_studies_without_trials_have_no_line():
    loss = [record_of_trials([scored(0, value, metric="loss")], LOSS, name=str(value)) for value in (0.5, 0.4)]
    empty = record_of_trials([], LOSS, name="empty")
    facts = [replace(one, facts=one.facts | {"searcher": one.name}) for one in (*loss, empty)]
    text = comparison(facts)
    assert "more seeds do" in text
    assert "+0.1000" in text
    assert "0.4 leads, not clearly before 0.5." in text
    assert "nan" not in text.split("<main>")[1].split("<script>")[0]


def test_a_study_is_compared_with_another_and_with_a_folder(tmp_path):
    space = tn.SearchSpace(x=tn.Float(0, 1))
    studies = [tn.Study(space=space, minimize="loss", seed=seed, folder=tmp_path / str(seed)) for seed in range(2)]
    for study in studies:
        study.tell(study.ask(), 0.5)
    path = studies[0].report(tmp_path / "compare.html", beside=[studies[1], tn.open(tmp_path / "0")])
    for study in studies:
        study.close()
    assert "1 method of 3 studies" in path.read_text()


@pytest.mark.parametrize("beside", ["runs/a", ["runs/a"], 3], ids=["path", "paths", "number"])
def test_what_is_no_list_of_studies_is_refused(beside, tmp_path):
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss")
    with pytest.raises(TypeError, match=r"beside needs a list of studies, got .*tn\.open"):
        study.report(tmp_path / "page.html", beside=beside)
