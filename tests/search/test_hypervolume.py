"""Expected hypervolume improvement: boxes and expectations against other ways to them, and what it searches."""

from itertools import combinations

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.gaussian_processes import some_processes
from tests.helpers.searching import ask_all, cube, history_of, searched
from tuneflow.search.gp.expected_improvement import ExpectedImprovement
from tuneflow.search.gp.hypervolume import MOST, Cells, HypervolumeImprovement, boxes, reference
from tuneflow.search.gp.targets import front_targets
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream


def sphere(count, objectives, rng):
    """Points of which none beats another."""
    points = np.abs(rng.standard_normal((count, objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def beaten(costs, corner):
    """The volume that `costs` beat below `corner`, by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(costs) + 1):
        for some in combinations(costs, size):
            total -= (-1) ** size * np.prod(np.maximum(corner - np.max(some, axis=0), 0.0))
    return total


# Boxes.


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_a_point_is_in_one_box_unless_something_beats_it(objectives):
    rng = np.random.default_rng(objectives)
    costs = np.round(rng.random((20, objectives)), 1)  # with equals, and with points behind the front
    low, high = boxes(costs, np.full(objectives, 1.2))
    points = 1.3 * rng.random((2000, objectives)) - 0.05
    inside = ((points[:, None] >= low) & (points[:, None] < high)).all(2).sum(1)
    free = ~(costs <= points[:, None]).all(2).any(1) & (points < 1.2).all(1)
    assert np.array_equal(inside, free.astype(int))
    assert 0 < free.sum() < 2000


@pytest.mark.parametrize(("objectives", "most"), [(2, 41), (3, 81)])
def test_boxes_are_few(objectives, most):
    low, _ = boxes(sphere(40, objectives, np.random.default_rng(0)), np.full(objectives, 1.1))
    assert len(low) <= most


def test_reference_is_worse_than_everything():
    costs = np.array([[0.0, 1.0], [1.0, 1.0], [0.5, 1.0]])
    assert reference(costs) == pytest.approx([1.1, 1.1])


# Expectations.


@pytest.mark.parametrize("objectives", [2, 3])
def test_gain_is_that_of_draws(objectives):
    rng = np.random.default_rng(7)
    front, corner = sphere(4, objectives, rng), np.full(objectives, 1.3)
    means, variances = rng.uniform(0.3, 1.2, (3, objectives)), rng.uniform(0.01, 0.1, (3, objectives))
    found = np.exp(Cells(front, corner).log_gain(list(zip(means.T, variances.T, strict=True))))
    for place in range(3):
        drawn = means[place] + np.sqrt(variances[place]) * rng.standard_normal((400, objectives))
        gains = [beaten([*front, cost], corner) - beaten(front, corner) for cost in drawn]
        assert found[place] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(400))


def test_gain_of_known_costs_is_the_hypervolume_that_they_add():
    rng = np.random.default_rng(8)
    front, corner = sphere(5, 3, rng), np.full(3, 1.2)
    for cost in (np.full(3, 0.4), np.array([0.1, 0.9, 0.2])):
        found = Cells(front, corner).log_gain([(np.array([c]), np.array([1e-12])) for c in cost])
        assert np.exp(found[0]) == pytest.approx(beaten([*front, cost], corner) - beaten(front, corner), rel=1e-4)


def test_hypervolume_of_one_objective_is_the_improvement():
    rng = np.random.default_rng(1)
    processes, points = some_processes(rng, 1), rng.random((5, 3))
    found, wanted = HypervolumeImprovement(processes), ExpectedImprovement([own for (own,) in processes])
    assert np.allclose(found(points), wanted(points), atol=1e-9)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_slopes_of_the_hypervolume_are_those_of_finite_differences(objectives):
    rng = np.random.default_rng(2)
    counted = np.array([[True] * 9, [True] * 4 + [False] * 5, [False] * 9])
    gain, points = HypervolumeImprovement(some_processes(rng, objectives, draws=3), counted), rng.random((4, 3))
    value, slopes = gain.slopes(points)
    assert np.allclose(value, gain(points))
    for place in range(3):
        step = np.zeros(3)
        step[place] = 1e-6
        measured = (gain(points + step) - gain(points - step)) / 2e-6
        assert np.allclose(slopes[:, place], measured, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_to_be_gained_there_is_still_a_way_to_better():
    cells = Cells(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.1, 1.1]))
    far = [(np.array([60.0, 50.0]), np.ones(2)), (np.array([40.0, 40.0]), np.ones(2))]
    value, up, wide = cells.slopes(far)
    assert value[0] < value[1] < -1000
    assert np.isfinite(value).all()
    assert (up < 0).all()
    assert (wide > 0).all()


def test_of_very_many_boxes_the_largest_count():
    rng = np.random.default_rng(3)
    front, corner = sphere(40, 4, rng), np.full(4, 1.1)
    low, high = boxes(front, corner)
    costs = [(np.array([0.6]), np.array([0.05]))] * 4
    psi = Cells(front, corner)
    assert len(low) > MOST == len(psi.low)
    drawn = 0.6 + np.sqrt(0.05) * rng.standard_normal((4000, 4))
    whole = np.maximum(high - np.maximum(low, drawn[:, None]), 0).prod(2).sum(1).mean()
    assert 0.8 * whole < np.exp(psi.log_gain(costs)[0]) < 1.1 * whole


# Targets.


def test_costs_are_eased_in_order_and_as_they_are_near_the_better_half():
    costs = np.array([0.0, 0.1, 0.2, 0.3, 0.35, 3.0, 1e9, np.inf])
    found = front_targets(costs, np.where(np.isfinite(costs), 0.01, np.nan))
    assert (np.diff(found.values) > 0).all()
    assert np.diff(found.values)[0] == pytest.approx(np.diff(found.values)[1])
    assert found.values.mean() == pytest.approx(0, abs=1e-9)
    assert found.variances[6] < 1e-9 < found.variances[0]
    assert found.variances[7] == 0


@pytest.mark.parametrize("costs", [[1.0, 1.0, 1.0], [1.0, np.inf, np.inf], [5.0]])
def test_few_or_equal_costs_are_eased_to_something_finite(costs):
    found = front_targets(np.array(costs), np.full(len(costs), np.nan))
    assert np.isfinite(found.values).all()
    assert np.isinf(costs).any() == (found.values.max() > found.values.min())


# The search.


def trade_off(config):
    """A front from (0, 1) to (1, 0), bent inwards, where x1 and x2 are 0.3."""
    x, *rest = config.values()
    away = sum((value - 0.3) ** 2 for value in rest)
    return x + away, (1 - np.sqrt(x)) + away


def volume(history):
    """What the front beats of the square between (0, 0) and (1.5, 1.5)."""
    low, high = boxes(history.costs, np.full(2, 1.5))
    return 1.5**2 - np.maximum(high - np.maximum(low, 0.0), 0.0).prod(1).sum()


def test_front_is_found_with_a_third_of_random_searchs_trials():
    own = searched(tn.GP(), cube(3), trade_off, 20, goals=("f", "g"))
    assert volume(own) > volume(searched(tn.Random(), cube(3), trade_off, 60, goals=("f", "g")))
    places = [trial.config["x0"] for trial in own.front]
    assert max(places) - min(places) > 0.8


def test_three_objectives_are_searched():
    def corners(config):
        x = np.array(list(config.values()))
        return tuple(float(((x - np.eye(3)[place]) ** 2).sum()) for place in range(3))

    history = searched(tn.GP(), cube(3), corners, 25, goals=("f", "g", "h"))
    assert (history.costs[10:].min(0) < 0.25).all()  # random search: one time in four


def test_a_fresh_searcher_proposes_the_same_for_several_objectives():
    kept = searched(tn.GP(), cube(2), lambda c: (c["x0"], c["x1"] - c["x0"]), 15, goals=("f", "g"))
    fresh = searched(None, cube(2), lambda c: (c["x0"], c["x1"] - c["x0"]), 15, goals=("f", "g"), fresh=tn.GP)
    assert [trial.config for trial in kept.trials] == [trial.config for trial in fresh.trials]


def test_workers_that_ask_at_once_are_sent_along_the_front():
    history = searched(tn.GP(), cube(3), trade_off, 15, goals=("f", "g"))
    configs = ask_all(tn.GP(), cube(3), history, 6)
    assert np.ptp([config["x0"] for config in configs]) > 0.3


def test_failures_are_kept_away_from_with_several_objectives():
    space, history = cube(2), history_of(cube(2), goals=("f", "g"))
    for number in range(25):
        config = proposed(tn.GP(), space, history, stream(0, "search", number))
        x, y = config.values()
        failed = y < 0.5
        metrics = {} if failed else {"f": x + y, "g": 1 - x + y}
        history.record(tn.Trial(number, config, "FAILED" if failed else "DONE", metrics=metrics))
    assert sum(trial.status == "FAILED" for trial in history.trials[10:]) < 9
    assert min(trial.config["x1"] for trial in history.front) < 0.55
