"""Priors say where draws fall, constraints which there are."""

import json

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.search.searcher import proposed

CURVES = {
    "float": tn.Float(0.0, 10.0, prior=tn.Normal(2.0, 1.0)),
    "log float": tn.Float(1e-5, 1.0, log=True, prior=tn.Normal(0.01, 0.5, uniform=0.0)),
    "stepped float": tn.Float(0.0, 1.0, step=0.25, prior=tn.Normal(0.25, 0.2)),
    "int": tn.Int(1, 9, prior=tn.Normal(7, 2)),
    "stepped int": tn.Int(0, 64, step=8, prior=tn.Normal(16, 8, uniform=0.5)),
    "log int": tn.Int(8, 1024, log=True, prior=tn.Normal(64, 0.3)),
    "narrow": tn.Float(0.0, 1.0, prior=tn.Normal(1.0, 1e-3)),
    "choice": tn.Choice(["a", "b", "c"], prior=[1, 0, 3]),
    "labels": tn.Choice({"relu": 1, "tanh": 2}, prior={"tanh": 0.9, "relu": 0.1}),
}


@pytest.mark.parametrize("parameter", CURVES.values(), ids=CURVES)
def test_the_quantile_is_the_inverse_of_the_integrated_density(parameter):
    curve = tn.SearchSpace(x=parameter).coordinates[0].parameter.curve
    edges = np.linspace(0, 1, 300_001)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum([curve.density(u) for u in middles]) / len(middles)])
    assert below[-1] == pytest.approx(1.0, abs=1e-4)
    for share in np.linspace(0.01, 0.99, 25):
        assert np.interp(curve.quantile(share), edges, below) == pytest.approx(share, abs=1e-3)


def test_random_draws_follow_the_prior():
    """A two-sided binomial test of each count; with five standard deviations a false alarm once in 10^6."""
    space = tn.SearchSpace(
        lr=tn.Float(1e-5, 1.0, log=True, prior=tn.Normal(0.01, 0.5)), act=tn.Choice(["a", "b"], prior=[3, 1])
    )
    rng, n = np.random.default_rng(0), 4000
    drawn = [space.sample(rng) for _ in range(n)]
    near = 0.8 * 0.6827 + 0.2 / 5  # within one sd of the mean; one of five decades of the even share
    for count, share in (
        (sum(10**-2.5 <= c["lr"] <= 10**-1.5 for c in drawn), near),
        (sum(c["act"] == "a" for c in drawn), 0.75),
    ):
        assert abs(count - n * share) < 5 * np.sqrt(n * share * (1 - share))


def test_sobol_keeps_its_evenness_under_a_prior():
    space = tn.SearchSpace(x=tn.Float(0.0, 1.0, prior=tn.Normal(0.3, 0.1)), y=tn.Choice(["a", "b"], prior=[3, 1]))
    study = tn.Study(space=space, minimize="value", searcher=tn.Sobol(), progress=False)
    trials = [study.ask() for _ in range(64)]
    assert sum(t.config["y"] == "a" for t in trials) == 48
    curve = space.coordinates[0].parameter.curve
    halves = [curve.quantile(0.25), curve.quantile(0.5), curve.quantile(0.75)]
    assert [sum(t.config["x"] < half for t in trials) for half in halves] == [16, 32, 48]


def test_a_space_without_priors_draws_as_it_did():
    space = tn.SearchSpace(x=tn.Float(0, 1))
    assert space.sample(np.random.default_rng(3)) == {"x": np.random.default_rng(3).random()}
    assert space.log_prior([0.3]) == 0.0


def test_log_prior_adds_what_is_active():
    bell = tn.Float(0.0, 1.0, prior=tn.Normal(0.5, 0.1))
    space = tn.SearchSpace(x=bell, kind=tn.Choice({"a": tn.SearchSpace(p=bell), "b": tn.SearchSpace(q=bell)}))
    peak = np.log(0.8 / (0.1 * np.sqrt(2 * np.pi)) + 0.2)
    one = space.to_unit({"x": 0.5, "kind": {"a": {"p": 0.5}}})
    assert space.log_prior(one) == pytest.approx(2 * peak, rel=1e-4)
    space = tn.SearchSpace(k=tn.Choice(["a", "b"], prior=[1, 0]))
    assert space.log_prior([0.75]) == -np.inf


def test_priors_are_stored_and_may_change(tmp_path):
    def study(mean):
        space = tn.SearchSpace(x=tn.Float(0, 1, prior=tn.Normal(mean, 0.1)), k=tn.Choice(["a", "b"], prior=[1, 3]))
        return tn.Study(space=space, minimize="value", folder=tmp_path, progress=False)

    first = study(0.5)
    again = tn.SearchSpace.from_json(json.loads(json.dumps(first.space.to_json())))
    assert again == first.space
    assert again.sample(np.random.default_rng(0)) == first.space.sample(np.random.default_rng(0))
    assert study(0.6).space != first.space
    assert tn.open(tmp_path).space == study(0.6).space


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tn.Float(0, 1, prior=0.5), ['Float "x"', "tn.Normal", "got 0.5"]),
        (lambda: tn.Float(0, 1, prior=tn.Normal(2, 1)), ['Float "x"', "mean", "got 2", "widen"]),
        (lambda: tn.Float(0, 1, prior=tn.Normal(float("nan"), 1)), ["mean", "finite", "got nan"]),
        (lambda: tn.Int(0, 9, prior=tn.Normal(2, 0)), ['Int "x"', "sd", "got 0", "Constant"]),
        (lambda: tn.Int(0, 9, prior=tn.Normal(2, 1, uniform=2)), ["uniform", "0 to 1", "got 2"]),
        (lambda: tn.Choice(["a", "b"], prior=[1]), ['Choice "x"', "2 weights", r"got [1]"]),
        (lambda: tn.Choice(["a", "b"], prior=[0, 0]), ["not all 0", "[0, 0]"]),
        (lambda: tn.Choice(["a", "b"], prior=[-1, 2]), [">= 0", "[-1, 2]"]),
        (lambda: tn.Choice({"a": 1, "b": 2}, prior={"a": 1, "c": 2}), ["weight for each of 'a', 'b'", "got 'c'"]),
        (lambda: tn.Choice(["a", "b"], prior=["x", 2]), ["weight", "number", "'x'"]),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        tn.SearchSpace(x=make())
    assert all(word in str(caught.value) for word in words), caught.value


def small(config):
    return config["width"] * config["depth"] <= 32


def space_of(**settings):
    return tn.SearchSpace(where=small, width=tn.Int(4, 64, log=True), depth=tn.Int(1, 8), **settings)


@pytest.mark.parametrize("searcher", [tn.Random, tn.Sobol, lambda: tn.Grid(4), lambda: tn.Grid(4, shuffle=True)])
def test_searchers_propose_only_what_is_allowed(searcher):
    study = tn.Study(space=space_of(), minimize="value", searcher=searcher(), progress=False)
    configs = []
    while len(configs) < 40 and (trial := study.ask()) is not None:
        configs.append(trial.config)
    assert len(configs) >= 7
    assert all(map(small, configs))
    assert len({json.dumps(c) for c in configs}) > 5


def test_a_grid_with_a_constraint_is_what_is_left_of_the_whole():
    left = list(space_of().grid(4))
    whole = tn.SearchSpace(width=tn.Int(4, 64, log=True), depth=tn.Int(1, 8)).grid(4)
    assert left == [config for config in whole if small(config)]
    assert len(left) < len(whole)
    with pytest.raises(ValueError, match=r"where= would be evaluated on 4,096,000,000 points; pass fewer"):
        tn.SearchSpace(where=small, **{f"x{i}": tn.Float(0, 1) for i in range(3)}).grid(1600)


def test_several_constraints_all_hold():
    space = tn.SearchSpace(where=[lambda c: c["x"] > 0.5, lambda c: c["x"] < 0.6], x=tn.Float(0, 1))
    rng = np.random.default_rng(0)
    assert all(0.5 < space.sample(rng)["x"] < 0.6 for _ in range(20))


class Climb(tn.Searcher):
    """Knows nothing of constraints."""

    def suggest(self, space, history, rng):
        return space.from_unit(rng.random(len(space)))


class Stubborn(tn.Searcher):
    def suggest(self, space, history, rng):
        return {"width": 64, "depth": 8}


class Outside(tn.Searcher):
    def suggest(self, space, history, rng):
        return {"width": 65, "depth": 8}


def test_a_searcher_that_knows_nothing_of_constraints_is_asked_again():
    study = tn.Study(space=space_of(), minimize="value", searcher=Climb(), progress=False)
    assert all(small(study.ask().config) for _ in range(30))
    history = tn.types.History(space_of(), Objective((("value", False),)))
    drawn = proposed(Stubborn(), space_of(), history, np.random.default_rng(0))
    assert drawn == space_of().sample(np.random.default_rng(0))


def test_a_number_whose_proposal_failed_is_free_again():
    study = tn.Study(space=space_of(), minimize="value", searcher=Outside(), progress=False)
    with pytest.raises(ValueError, match=r"Outside\(\) proposed for trial 0: .*width"):
        study.ask()
    study.searcher = tn.Random()
    assert study.ask().number == 0


def test_what_cannot_be_allowed_is_said():
    space = tn.SearchSpace(where=lambda c: False, x=tn.Float(0, 1))
    with pytest.raises(ValueError, match=r"where=.*<lambda> allowed none of 10,000 random configurations; relax"):
        space.sample(np.random.default_rng(0))
    with pytest.raises(ValueError, match="relax it"):
        next(space.examples())
    with pytest.raises(ValueError, match=r"excludes \{'x': 0.5\}"):
        space.cast({"x": 0.5})
    with pytest.raises(ValueError, match=r"where=.*<lambda> allowed none of 10,000 random configurations; relax"):
        tn.Study(space=space, minimize="value", searcher=tn.Sobol(), progress=False)


def test_a_constraint_that_fails_says_with_what():
    space = tn.SearchSpace(where=lambda c: c["y"] > 0, x=tn.Float(0, 1))
    with pytest.raises(ValueError, match=r"where=.*<lambda> fails with KeyError: 'y', for the configuration \{'x'"):
        space.sample(np.random.default_rng(0))


@pytest.mark.parametrize("where", [tn.Float(0, 1), {"x": 1}, "x > 1", 3, [3]])
def test_where_takes_functions_only(where):
    with pytest.raises(TypeError, match="where needs a function"):
        tn.SearchSpace(where=where, x=tn.Float(0, 1))


def test_a_constraint_of_an_inner_space_is_refused():
    inner = tn.SearchSpace(where=bool, p=tn.Float(0, 1))
    with pytest.raises(TypeError, match=r'"kind\.a": where= of an inner space .* outermost'):
        tn.SearchSpace(kind=tn.Choice({"a": inner}))


def test_examples_are_allowed_and_keep_their_labels():
    space = tn.SearchSpace(
        where=lambda c: c["x"] < 0.2 and (c["kind"] == "b") == (c["x"] < 0.1),
        x=tn.Float(0, 1),
        kind=tn.Choice({"a": 1, "b": 2}),
    )
    examples = list(space.examples())
    assert all(map(space.allows, examples))
    assert {config["kind"] for config in examples[1:]} == {"a", "b"}


def test_a_changed_constraint_is_refused_by_its_name(tmp_path):
    def large(config):
        return config["width"] > 8

    space = tn.SearchSpace(where=small, width=tn.Int(4, 64), depth=tn.Int(1, 8))
    tn.Study(space=space, minimize="value", folder=tmp_path, progress=False)
    assert tn.open(tmp_path).history.space.where == ()
    space = tn.SearchSpace(where=large, width=tn.Int(4, 64), depth=tn.Int(1, 8))
    with pytest.raises(tn.errors.FingerprintError, match=r"where.*small.*large"):
        tn.Study(space=space, minimize="value", folder=tmp_path, progress=False)
