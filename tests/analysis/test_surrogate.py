import math

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.analysis.score_scale import ScoreScale
from tuneflow.analysis.surrogate import POINTS, Surrogate


def studied(scores, trials, **goal):
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 2)), searcher=tn.Random(), progress=False, **goal)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, {"score": scores(trial.config["x"])})
    return study


@pytest.mark.parametrize(("goal", "sign"), [("minimize", 1), ("maximize", -1)])
def test_it_predicts_scores_as_the_metric_gives_them(goal, sign):
    """A parabola, whose bad end counts by its logarithm inside."""
    study = studied(lambda x: sign * (10 + x**2), 25, **{goal: "score"})
    points = np.array([[0.2], [0.5], [0.8]])
    mean, sd = Surrogate(study.record()).predict(points)
    assert mean == pytest.approx(sign * (10 + (2 * points[:, 0]) ** 2), abs=0.05)
    assert (sd > 0).all()
    assert (sd < 0.1).all()


def test_the_least_differences_that_numbers_have_overflow_nowhere():
    scale = ScoreScale(np.array([5e-324, 1e-323, 1.5e-323]), np.ones(3))
    assert np.isfinite(scale.slopes(np.array([5e-324, math.inf]))).all()


def test_it_is_less_certain_where_no_trial_is():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="score", progress=False)
    for x in (0.0, 0.05, 0.1, 0.15, 0.2, 1.0):
        study.enqueue({"x": x})
        study.tell(study.ask(), {"score": math.sin(6 * x)})
    _, sd = Surrogate(study.record()).predict(np.array([[0.12], [0.6]]))
    assert sd[1] > 3 * sd[0]


def test_of_many_trials_a_part_is_enough():
    study = studied(lambda x: x, POINTS + 40, minimize="score")
    surrogate = Surrogate(study.record())
    assert surrogate.trials == POINTS + 40
    assert surrogate.predict(np.array([[0.5]]))[0] == pytest.approx(1.0, abs=0.02)


def test_a_score_scale_maps_costs_and_back():
    costs = np.array([1.0, 1.2, 1.3, 1.5, 1.8, 3.0, 40.0, math.inf])
    scale = ScoreScale(costs, np.ones(8))
    values = scale.compress(costs)
    assert scale.expand(values)[:7] == pytest.approx(costs[:7])
    assert (values.mean(), values.std()) == pytest.approx((0.0, 1.0))
    assert (np.diff(values) > 0).all()
    assert values[-1] - values[-2] < values[-2] - values[0]


def test_a_score_scale_has_the_slope_of_its_map():
    costs = np.array([1.0, 1.2, 1.3, 1.5, 40.0])
    scale = ScoreScale(costs, np.ones(5))
    slopes = (scale.compress(costs + 1e-6) - scale.compress(costs - 1e-6)) / 2e-6
    assert scale.slopes(costs) == pytest.approx(slopes, rel=1e-4)


def test_weights_say_how_much_of_the_space_a_cost_stands_for():
    """Nine good trials that lie close together are no more than the corner they are in."""
    costs = np.array([1.0] * 9 + [5.0, 6.0, 7.0])
    assert ScoreScale(costs, np.ones(12)).middle == 1.0
    assert ScoreScale(costs, np.array([0.1] * 9 + [1.0] * 3)).middle == 6.0
