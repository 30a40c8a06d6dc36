import math

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.analysis.importance import Importance, Share, importance_of, importances
from tuneflow.errors import NothingFinished, StudyError


def told(space, scores, trials, **settings):
    """A study of random configurations, each with the metrics that `scores` gives its configuration."""
    settings = {"minimize": "loss", "searcher": tn.Random(), "progress": False} | settings
    study = tn.Study(space=space, **settings)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, scores(trial.config))
    return study


CUBE = tn.SearchSpace(a=tn.Float(0, 1), b=tn.Float(0, 1), c=tn.Float(0, 1))


def additive(config):
    """Total effects 4 / 5, 1 / 5 and 0."""
    return 2 * config["a"] + config["b"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return told(CUBE, additive, 30, folder=tmp_path_factory.mktemp("importance") / "study")


@pytest.fixture(scope="module")
def importance(study):
    return study.importance()


def test_shares_are_those_of_a_function_whose_shares_are_known(importance):
    assert list(importance) == ["a", "b", "c"]
    for name, share in {"a": 0.8, "b": 0.2, "c": 0.0}.items():
        assert importance[name].low <= share <= importance[name].high
        assert importance[name].value == pytest.approx(share, abs=0.05)
    assert (importance.top.name, importance.top.first) == ("a", 1.0)
    assert importance.explained > 0.99
    assert importance.notes == []


def test_a_folder_gives_the_same(study, importance):
    assert dict(tn.open(study.folder).importance()) == dict(importance)


def test_it_is_reproducible_and_leaves_the_global_generators_alone(study, importance):
    with generators_untouched():
        assert dict(study.importance()) == dict(importance)


def test_what_two_parameters_do_together_counts_for_both():
    """(a - 1/2)(b - 1/2): each alone does nothing on average, and fixing either takes everything away."""
    importance = told(CUBE, lambda c: (c["a"] - 0.5) * (c["b"] - 0.5), 40).importance()
    assert importance["a"].value > 0.9
    assert importance["b"].value > 0.9
    assert importance["c"].value < 0.1


def test_a_log_axis_counts_in_its_logarithm():
    """Over the values themselves lr would have the larger variance by far."""
    space = tn.SearchSpace(lr=tn.Float(1e-4, 1, log=True), x=tn.Float(0, 1))
    importance = told(space, lambda c: math.log10(c["lr"]) / 4 + 2 * c["x"], 30).importance()
    assert importance["lr"].low <= 0.2 <= importance["lr"].high
    assert importance["x"].low <= 0.8 <= importance["x"].high


def test_failures_are_bad_results_and_no_gaps():
    """`b` decides nothing but who diverges."""
    importance = told(CUBE, lambda c: math.inf if c["b"] > 0.7 else 0.1 * c["a"], 40).importance()
    assert importance.trials == 40
    assert importance.top.name == "b"


def test_a_conditional_parameter_counts_for_the_part_of_the_space_where_it_is_active():
    """In the branch v alone the score is 2 x: variance 1/3 there, 0 in the other, means 1 and 1."""
    space = tn.SearchSpace(kind=tn.Choice({"u": tn.call(dict, y=tn.Float(0, 1)), "v": tn.call(dict, x=tn.Float(0, 1))}))
    importance = told(space, lambda c: 2 * c["kind"]["v"]["x"] if "v" in c["kind"] else 1.0, 60).importance()
    assert importance.top.name == "kind.v.x"
    assert importance["kind.v.x"].high >= 0.9
    assert importance["kind.u.y"].value < 0.1


@tn.loop(epochs=4)
def falling(config, run):
    for epoch in run.epochs(weight=torch.zeros(1)):
        yield {"loss": config["a"] - 10 * epoch}


def test_stopped_trials_count_as_if_they_had_gone_on():
    """A trial that was stopped at the first epoch has a loss 30 above one that was not, however good its `a`."""
    study = tn.Study(space=CUBE, minimize="loss", searcher=tn.Random(), progress=False,
                     scheduler=tn.Halving(), trainer=falling)  # fmt: skip
    study.run(trials=30)
    assert {trial.status for trial in study.trials} == {"DONE", "STOPPED"}
    assert study.importance()["a"].low > 0.5


def test_each_objective_has_an_importance_of_its_own():
    study = told(CUBE, lambda c: {"x": c["a"], "y": c["b"]}, 20, minimize=["x", "y"])
    assert study.importance("x").top.name == "a"
    assert [one.top.name for one in importances(study.record()).values()] == ["a", "b"]
    with pytest.raises(StudyError, match='several objectives; name one of x, y, as in "x"'):
        study.importance()
    with pytest.raises(StudyError, match='"z" is no objective of the study'):
        study.importance("z")


def test_noise_alone_is_not_taken_for_an_effect():
    rng = np.random.default_rng(0)
    importance = told(CUBE, lambda _: rng.standard_normal(), 40).importance()
    assert importance.explained < 0.5
    assert any("not enough trials" in note for note in importance.notes)


@pytest.mark.parametrize("trials", [0, 3])
def test_too_few_trials_are_refused(trials):
    study = told(CUBE, additive, trials)
    with pytest.raises(NothingFinished, match="a model of loss needs 4 configurations with a score"):
        study.importance()
    assert importances(study.record()) == {}


def test_a_parameter_with_one_value_has_no_share_and_an_order_has_one():
    space = tn.SearchSpace(order=tn.Permutation(["p", "q", "r"]), one=tn.Float(1, 1))
    importance = told(space, lambda c: float(c["order"].index("p")), 12, seed=1).importance()
    assert importance["order"].value > 0.9
    assert (importance["one"].value, importance["one"].low, str(importance["one"].high)) == (0.0, 0.0, "0.0")


def test_failures_alone_are_refused():
    with pytest.raises(NothingFinished, match="needs 4 configurations with a score; 0 trials"):
        told(CUBE, lambda _: math.inf, 5).importance()


def test_a_space_without_a_choice_is_refused():
    study = told(tn.SearchSpace(a=tn.Float(1, 1), b=2), lambda _: 0.5, 1)
    with pytest.raises(NothingFinished, match="no parameter of the search space has two values"):
        study.importance()
    assert importances(study.record()) == {}


@pytest.mark.parametrize("size", [1e-300, 1e12, 1e300])
def test_the_unit_of_the_score_does_not_matter(size):
    study = told(CUBE, lambda config: size * additive(config) / 3, 12)
    assert study.importance().top.name == "a"


def test_equal_scores_show_no_effect():
    importance = told(CUBE, lambda _: 1.0, 6).importance()
    assert {share.value for share in importance.values()} == {0.0}
    assert importance.notes == ["all scores are equal"]


def test_it_prints_as_a_table_with_its_doubts():
    shares = [Share("b", 0.1, 0.0, 0.2, 0.2), Share("optimizer.lr", 0.75, 0.3, 0.9, 0.8)]
    assert repr(Importance("accuracy", 12, shares, 0.914)).splitlines() == [
        "importance for accuracy, 12 configurations, 91% explained",
        "parameter     share  90 % interval",
        "optimizer.lr  0.75   0.30 to 0.90   ###############",
        "b             0.10   0.00 to 0.20   ##",
        "not enough trials to tell which parameter is first: optimizer.lr is first in 80% of the"
        " functions that fit the trials",
        "not enough trials for optimizer.lr: an interval is wider than 0.5",
    ]


def test_parameters_that_matter_alike_ask_for_no_more_trials():
    importance = Importance("loss", 40, [Share("a", 0.98, 0.91, 1.0, 0.6), Share("b", 0.97, 0.9, 1.0, 0.4)], 1.0)
    assert importance.notes == ["a and b matter about alike: a is first in 60% of the functions that fit the trials"]
    with pytest.raises(KeyError, match="There are a, b"):
        importance["lr"]


def test_a_notebook_shows_names_as_text():
    shown = Importance("loss", 4, [Share("<script>", 0.5, 0.4, 0.6, 1.0)], 1.0)._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown


def test_ranges_that_a_constraint_excludes_are_told_of():
    space = tn.SearchSpace(a=tn.Float(0, 1), b=tn.Float(0, 1), where=lambda c: c["a"] < c["b"])
    importance = importance_of(told(space, lambda c: c["a"], 8).record())
    assert importance.notes[-1] == "the whole ranges count, also what where= excludes, of which no trial tells"
