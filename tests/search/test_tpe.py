"""TPE and its densities."""

import itertools
import math

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.searching import ask_all, bowl, cube, history_of, searched
from tuneflow.search.parzen import Parzen
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.priors import Bell
from tuneflow.testing.check_searcher import SPACES


def branches():
    return tn.SearchSpace(
        kind=tn.Choice({"a": tn.SearchSpace(p=tn.Float(0, 1), q=tn.Int(0, 9)), "b": tn.SearchSpace(p=tn.Float(0, 1))}),
        n=tn.Int(1, 64, log=True),
    )


def branch_cost(config):
    (kind, own), n = next(iter(config["kind"].items())), math.log2(config["n"])
    if kind == "b":
        return 0.5 + abs(own["p"] - 0.2) + abs(n - 3) / 10
    return abs(own["p"] - 0.8) + abs(own["q"] - 7) / 10 + abs(n - 3) / 10


# The unit cube as arrays.


@pytest.mark.parametrize("name", SPACES)
def test_axes_settle_points_where_the_space_would(name):
    space = SPACES[name]()
    points = np.vstack([stream(0).random((300, len(space))), np.zeros(len(space)), np.ones(len(space))])
    expected = [space.to_unit(space.from_unit(point)) for point in points]
    np.testing.assert_allclose(Coordinates(space).settled(points), expected, atol=1e-9)


def test_cells_end_where_another_value_begins():
    space = tn.SearchSpace(n=tn.Int(1, 40, log=True), m=tn.Int(0, 6), s=tn.Float(0, 1, step=0.25), x=tn.Float(0, 1))
    points = stream(0).random((200, 4))
    low, high = Coordinates(space).cells(points)
    assert (low <= points).all()
    assert (points <= high).all()
    inside = [space.from_unit(low[i] + (high[i] - low[i]) * share) for i in range(200) for share in (1e-6, 1 - 1e-6)]
    assert inside[::2] == inside[1::2]
    below = [space.from_unit(np.maximum(end - 1e-6, 0)) for end in low]
    assert all(b["n"] < i["n"] or i["n"] == 1 for b, i in zip(below, inside[::2], strict=True))


# Densities.


def test_density_over_labels_and_whole_numbers_of_a_conditional_space_is_one():
    """Summed over labels and integrated over numbers, by the midpoint rule: whatever is active."""
    space = tn.SearchSpace(
        kind=tn.Choice({"a": tn.SearchSpace(p=tn.Float(0, 1)), "b": None, "c": None}), x=tn.Float(0, 1)
    )
    axes, points = Coordinates(space), stream(0).random((7, 3))
    made = Parzen(axes, axes.settled(points), np.arange(1.0, 8.0), np.full(3, 0.1), informed=True)
    middles = (np.arange(100) + 0.5) / 100
    with_p = np.array([(1 / 6, p, x) for p, x in itertools.product(middles, middles)])
    without = np.array([(kind, np.nan, x) for kind, x in itertools.product((0.5, 5 / 6), middles)])
    total = np.exp(made.log_density(with_p)).mean() + np.exp(made.log_density(without)).sum() / 100
    assert total == pytest.approx(1, abs=1e-3)


def test_draws_follow_the_density():
    axes = Coordinates(tn.SearchSpace(x=tn.Float(0, 1)))
    made = Parzen(axes, np.array([[0.1], [0.7]]), np.array([3.0, 1.0]), np.array([0.1]), informed=True)
    drawn = made.draw(20_000, stream(0))[:, 0]
    middles = (np.arange(20) + 0.5) / 20
    density = np.exp(made.log_density(np.linspace(0.00025, 0.99975, 2000)[:, None])).reshape(20, 100).mean(1)
    counts = np.histogram(drawn, 20, (0, 1))[0]
    chi2 = ((counts - 1000 * density) ** 2 / (1000 * density)).sum()
    assert chi2 < 43.8  # 19 degrees of freedom: a false alarm once in 1,000
    assert middles[counts.argmax()] < 0.2


def test_parameters_that_go_together_are_drawn_together():
    axes = Coordinates(cube(2))
    made = Parzen(axes, np.array([[0.1, 0.1], [0.9, 0.9]]), np.full(2, 50.0), np.full(2, 0.05), informed=True)
    drawn = made.draw(500, stream(0))
    assert np.corrcoef(drawn.T)[0, 1] > 0.9


# The searcher.


@pytest.mark.parametrize(("dimensions", "trials", "better"), [(1, 30, 0.2), (5, 80, 0.2), (30, 120, 0.8)])
def test_beats_random_search(dimensions, trials, better):
    """Mean regret over four seeds, as a share of random search's."""
    cost = lambda make: np.mean(
        [bowl(searched(make(), cube(dimensions), bowl, trials, s).best.config) for s in range(4)]
    )
    assert cost(tn.TPE) < better * cost(tn.Random)


def test_finds_the_branch_and_what_is_best_in_it():
    history = searched(tn.TPE(), branches(), branch_cost, 80)
    assert history.best.config["kind"].keys() == {"a"}
    assert branch_cost(history.best.config) < 0.25
    late = [next(iter(trial.config["kind"])) for trial in history.trials[40:]]
    assert late.count("a") > 25


def test_fresh_searcher_decides_as_a_kept_one_and_another_seed_differently():
    kept = [trial.config for trial in searched(tn.TPE(), branches(), branch_cost, 25).trials]
    fresh = [trial.config for trial in searched(None, branches(), branch_cost, 25, fresh=tn.TPE).trials]
    other = [trial.config for trial in searched(tn.TPE(), branches(), branch_cost, 25, seed=1).trials]
    assert kept == fresh != other


def test_finite_space_is_searched_without_repeats():
    space = tn.SearchSpace(a=tn.Int(0, 5), b=tn.Choice(["x", "y", "z"]), c=tn.Choice([1, 2], ordered=True))
    history = searched(tn.TPE(), space, lambda c: abs(c["a"] - 4) + (c["b"] != "z") + c["c"], 30)
    proposed = [str(trial.config) for trial in history.trials[10:]]
    assert len(set(proposed)) >= 18  # all but where no candidate was new
    assert history.best.config == {"a": 4, "b": "z", "c": 1}


def test_asks_without_tells_are_all_different():
    space, searcher = cube(2), tn.TPE()
    history = searched(searcher, space, bowl, 30)
    assert len({str(config) for config in ask_all(searcher, space, history, 16)}) == 16
    assert len(history.running) == 16


def test_keeps_away_from_where_trials_run():
    """With eight trials under way at the best place, fewer of 60 workers are sent there."""

    def near(running):
        space, history = cube(2), searched(tn.TPE(), cube(2), bowl, 30)
        for number in range(30, 30 + running):
            history.record(tn.Trial(number, history.best.config))
        center = np.array(list(history.best.config.values()))
        drawn = [list(tn.TPE().suggest(space, history, stream(i)).values()) for i in range(60)]
        return sum(np.linalg.norm(np.array(drawn) - center, axis=1) < 0.1)

    assert near(running=8) < 0.6 * near(running=0)


@pytest.mark.parametrize("status", ["FAILED", "DIVERGED", "SCREENED"])
def test_keeps_away_from_where_trials_fail(status):
    space, searcher = cube(2), tn.TPE()
    history = history_of(space)
    for number in range(60):
        config = searcher.suggest(space, history, stream(0, "search", number))
        failed = config["x0"] > 0.5
        trial = tn.Trial(number, config, status) if failed else tn.Trial(number, config, "DONE", metrics={"loss": 1.0})
        history.record(trial)
    late = [trial.config["x0"] > 0.5 for trial in history.trials[30:]]
    assert sum(late) < 8


def test_goes_on_with_random_points_while_everything_fails():
    space, history = cube(2), history_of(cube(2))
    for number in range(20):
        history.record(tn.Trial(number, {"x0": 0.5, "x1": 0.5}, "FAILED"))
    one, other = (tn.TPE().suggest(space, history, stream(0)) for _ in range(2))
    assert one == other != {"x0": 0.5, "x1": 0.5}


def test_equal_scores_are_borne():
    history = searched(tn.TPE(), cube(3), lambda c: 1.0, 40)
    assert len({str(trial.config) for trial in history.trials}) == 40


@pytest.mark.parametrize("status", ["PAUSED", "STOPPED"])
def test_trials_that_were_not_trained_to_the_end_count_with_their_score(status):
    space, history = cube(1), history_of(cube(1))
    for number in range(20):
        config, loss = {"x0": number / 20}, {"loss": abs(number / 20 - 0.7)}
        history.record(tn.Trial(number, config, status, metrics=loss, epochs=1, reports=[tn.types.Report(1, loss)]))
    drawn = [tn.TPE().suggest(space, history, stream(i))["x0"] for i in range(20)]
    assert np.mean(drawn) == pytest.approx(0.7, abs=0.1)


def test_prior_leads_at_first_and_is_outvoted_by_evidence():
    wrong = tn.SearchSpace(x=tn.Float(0, 1, prior=tn.Normal(0.9, 0.03, uniform=0.1)), y=tn.Float(0, 1))
    history = searched(tn.TPE(), wrong, lambda c: (c["x"] - 0.2) ** 2 + (c["y"] - 0.5) ** 2, 100)
    x = np.array([trial.config["x"] for trial in history.trials])
    assert np.median(x[:10]) > 0.8
    assert np.median(x[60:]) < 0.4


def test_lecun_hands_it_the_space_with_its_priors():
    """A curve that only the searcher's space has, as LeCun gives it: x is expected near 0.9."""
    plain = cube(2)
    informed, history = plain.expecting({0: lambda _: Bell(0.9, 0.02, 0.0)}), history_of(plain)
    for number in range(12):
        history.record(tn.Trial(number, {"x0": 0.5, "x1": number / 12}, "DONE", metrics={"loss": 1.0}))
    drawn = [[tn.TPE().suggest(s, history, stream(i))["x0"] > 0.8 for i in range(30)] for s in (informed, plain)]
    assert sum(drawn[0]) > sum(drawn[1]) + 5


def test_several_objectives_bring_the_front_forward():
    space, goals = cube(4), ("f", "g")

    def two(config):
        x = np.array(list(config.values()))
        return float(((x - 0.2) ** 2).sum()), float(((x - 0.4) ** 2).sum())

    sums = [
        sum(map(sum, [two(t.config) for t in searched(make(), space, two, 80, 0, goals).trials[40:]]))
        for make in (tn.TPE, tn.Random)
    ]
    assert sums[0] < 0.5 * sums[1]


def test_constraints_are_kept():
    space = tn.SearchSpace(where=lambda c: c["x"] + c["y"] < 0.9, x=tn.Float(0, 1), y=tn.Float(0, 1))
    history = searched(tn.TPE(), space, lambda c: -c["x"] - c["y"], 50)
    assert all(trial.config["x"] + trial.config["y"] < 0.9 for trial in history.trials)
    assert sum(history.best.config.values()) > 0.8


def test_refuses_counts_below_one():
    with pytest.raises(ValueError, match="TPE: start needs to be a whole number >= 1, got 0"):
        tn.TPE(start=0)
    with pytest.raises(ValueError, match=r"TPE: candidates needs to be a whole number >= 1, got 1\.5"):
        tn.TPE(candidates=1.5)
