"""Gaussian process search: the parts against closed forms and finite differences, and the laws of a searcher."""

import json

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.searching import bowl, cube
from tuneflow.history.objective import Objective
from tuneflow.search.gp.expected_improvement import ExpectedImprovement, log_improvement
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.gp.gaussian_process import JITTER, LEVEL, GaussianProcess, Posterior
from tuneflow.search.gp.kernel import apart, between, matern
from tuneflow.search.gp.targets import targets
from tuneflow.seeds import stream

LOSS = Objective((("loss", False),))


def mixed(where=()):
    return tn.SearchSpace(
        where=where,
        x=tn.Float(-5, 5),
        n=tn.Int(1, 9),
        size=tn.Int(8, 4096, log=True),
        act=tn.Choice(["relu", "tanh", "gelu"]),
        kind=tn.Choice({"a": tn.call(dict, lr=tn.Float(1e-4, 1, log=True)), "b": None}),
    )


def suggested(history, seed=0, searcher=None):
    return (searcher or tn.GP()).suggest(history.space, history, stream(seed, "search", history.number))


def tell(history, number, config, loss, error=None, status="DONE"):
    errors = {} if error is None else {"loss": error}
    history.record(tn.Trial(number, config, status, metrics={} if loss is None else {"loss": loss}, errors=errors))


def searched(space, loss_of, trials, seed=0, batch=1, make=tn.GP, searcher=None):
    """The history after so many trials, `batch` of them at once; `make` gives the searcher of each suggestion."""
    history = tn.types.History(space, LOSS, seed)
    while len(history) < trials:
        under_way = range(len(history), min(len(history) + batch, trials))
        for number in under_way:
            config = space.cast(suggested(history, seed, searcher or make()))
            history.record(tn.Trial(number, config))
        for number in under_way:
            loss = loss_of(history.trials[number].config)
            tell(history, number, history.trials[number].config, loss, status="DONE" if loss is not None else "FAILED")
    return history


def key(config):
    return json.dumps(config, sort_keys=True)


def configs(history):
    return [key(trial.config) for trial in history.trials]


# The laws of a searcher.


@pytest.mark.parametrize("batch", [1, 4])
def test_fresh_searcher_decides_as_a_kept_one(batch):
    def loss_of(config):
        return None if config["n"] == 3 else config["x"] ** 2 + config["n"] + (config["kind"] != "b")

    fresh = searched(mixed(), loss_of, 22, batch=batch)
    assert configs(searched(mixed(), loss_of, 22, batch=batch, searcher=tn.GP())) == configs(fresh)


def test_seed_is_obeyed_and_global_generators_are_left_alone():
    with generators_untouched():
        first = configs(searched(cube(2), bowl, 9, seed=1))
    assert first == configs(searched(cube(2), bowl, 9, seed=1))
    assert first[6:] != configs(searched(cube(2), bowl, 9, seed=2))[6:]


def test_kept_searcher_serves_another_space():
    searcher = tn.GP()
    searched(cube(2), bowl, 8, searcher=searcher)
    assert configs(searched(cube(3), bowl, 8, searcher=searcher)) == configs(searched(cube(3), bowl, 8))


# What it finds.


def test_starts_in_the_middle_then_spreads():
    history = searched(cube(4), bowl, 5)
    assert history.trials[0].config == {f"x{i}": 0.5 for i in range(4)}
    assert len(set(configs(history))) == 5


@pytest.mark.parametrize(("dimensions", "trials", "wanted"), [(1, 15, 1e-5), (3, 30, 1e-3)])
def test_finds_the_bottom_of_a_bowl(dimensions, trials, wanted):
    assert searched(cube(dimensions), bowl, trials).best.metrics["loss"] < wanted


def test_thirty_dimensions_of_which_two_count():
    def loss_of(config):
        return (config["x3"] - 0.2) ** 2 + (config["x7"] - 0.9) ** 2

    history = searched(cube(30), loss_of, 40)
    assert history.best.metrics["loss"] < 0.3 * min(t.metrics["loss"] for t in history.trials[:10])


def test_conditional_space_is_searched_in_its_best_branch():
    space = tn.SearchSpace(
        kind=tn.Choice(
            {
                "a": tn.SearchSpace(p=tn.Float(0.0, 1.0)),
                "b": tn.SearchSpace(r=tn.Float(1e-3, 1.0, log=True), n=tn.Int(1, 5)),
            }
        )
    )

    def loss_of(config):
        if "a" in config["kind"]:
            return 0.5 + (config["kind"]["a"]["p"] - 0.5) ** 2
        settings = config["kind"]["b"]
        return (np.log10(settings["r"]) + 2) ** 2 + abs(settings["n"] - 4) / 5

    history = searched(space, loss_of, 30)
    assert history.best.metrics["loss"] < 0.05
    assert sum("b" in trial.config["kind"] for trial in history.trials[10:]) > 10


def test_each_of_a_few_configurations_is_tried_once_before_any_is_repeated():
    space = tn.SearchSpace(n=tn.Int(0, 5), kind=tn.Choice({"a": tn.SearchSpace(m=tn.Choice([1, 2])), "b": None}))
    assert space.size == 18
    history = searched(space, lambda config: float(config["n"]), 20)
    assert len(set(configs(history)[:18])) == 18


def test_where_is_kept_and_its_edge_is_reached():
    space = tn.SearchSpace(where=lambda c: c["x0"] + c["x1"] >= 1, x0=tn.Float(0, 1), x1=tn.Float(0, 1))
    history = searched(space, lambda config: config["x0"] ** 2 + config["x1"] ** 2, 25)
    assert all(space.allows(trial.config) for trial in history.trials)
    assert history.best.metrics["loss"] < 0.52  # 0.5 at the edge


def test_batch_is_spread():
    history = searched(cube(2), bowl, 6)
    numbers = range(len(history), len(history) + 8)
    for number in numbers:
        history.record(tn.Trial(number, suggested(history)))
    units = np.asarray(history.units)[list(numbers)]
    gaps = np.sqrt(((units[:, None] - units) ** 2).sum(-1))[~np.eye(8, dtype=bool)]
    assert gaps.min() > 1e-4
    assert np.median(gaps) > 0.02


def test_failures_are_kept_away_from():
    def loss_of(config):
        return None if config["x0"] > 0.5 else 1 - config["x0"]

    history = searched(cube(2), loss_of, 30)
    failed = [trial.status == "FAILED" for trial in history.trials]
    assert sum(failed[10:]) < 12
    assert history.best.metrics["loss"] < 0.52


@pytest.mark.parametrize("loss", [None, 1.0], ids=["failures", "equal"])
def test_scores_that_say_nothing_leave_it_searching_all_over(loss):
    history = searched(cube(2), lambda config: loss, 16)
    units = np.asarray(history.units)
    assert len(set(configs(history))) == 16
    assert (units.std(0) > 0.2).all()


def test_one_score_among_failures_is_enough():
    losses = iter([None, None, 0.5, *[None] * 20])
    assert len(set(configs(searched(cube(2), lambda config: next(losses), 12)))) == 12


def test_infinite_and_huge_scores_do_no_harm():
    def loss_of(config):
        return np.inf if config["x0"] > 0.9 else 1e200 if config["x0"] > 0.8 else bowl(config)

    assert searched(cube(2), loss_of, 25).best.metrics["loss"] < 0.01


def test_several_objectives_spread_along_the_front():
    history = tn.types.History(cube(2), Objective((("f", False), ("g", True))))
    for number in range(25):
        config = suggested(history)
        x, y = config.values()
        history.record(tn.Trial(number, config, "DONE", metrics={"f": x**2 + y, "g": -((x - 1) ** 2) - y}))
    places = [trial.config["x0"] for trial in history.front]
    assert len(places) > 5
    assert max(places) - min(places) > 0.4
    assert np.median([trial.config["x1"] for trial in history.front]) < 0.1


# Noise.


def noisy_history(error, trials=14):
    space, rng = tn.SearchSpace(n=tn.Int(0, 30)), np.random.default_rng(0)
    history = tn.types.History(space, LOSS)
    for number in range(trials):
        n = int(rng.integers(31)) if number else 10
        tell(history, number, {"n": n}, ((n - 10) / 20) ** 2 + error * float(rng.standard_normal()), error)
    return history


def repeats(error, searcher):
    history = noisy_history(error)
    for number in range(len(history), len(history) + 10):
        config = suggested(history, searcher=searcher)
        tell(history, number, config, ((config["n"] - 10) / 20) ** 2, error)
    seen = configs(history)
    return sum(seen[number] in seen[:number] for number in range(14, 24))


def test_configurations_are_repeated_only_on_purpose_and_where_noise_dominates():
    assert repeats(0.3, tn.GP()) == 0
    assert repeats(1e-6, tn.GP(repeats=True)) == 0
    assert repeats(0.3, tn.GP(repeats=True)) > 0


def test_known_error_widens_what_is_expected():
    point = np.array([np.log(0.5), 0.0, np.log(1e-6)])
    x, values = np.array([[0.2], [0.8]]), np.array([-1.0, 1.0])
    means = [
        GaussianProcess(point, np.array([0]), x, values, np.array([variance, variance])).predict(x)[0]
        for variance in (0, 1)
    ]
    assert abs(means[0] - values).max() < 1e-3
    assert abs(means[1]).max() < 0.8


def test_warp_keeps_the_order_and_is_a_line_where_scores_are_noisy():
    costs = np.array([0.0, 0.1, 0.2, 0.5, 0.6, 3.0, 1e9, np.inf, np.inf])
    clean = targets(costs, np.full(9, np.nan))
    noisy = targets(costs, np.where(np.isfinite(costs), 1.0, np.nan))
    for found in (clean, noisy):
        assert (np.diff(found.values[:8]) > 0).all()
        assert found.values[7] == found.values[8] == found.values.max()
        assert abs(found.values.mean()) < 1e-9
    assert clean.error == 0
    assert noisy.error > 0
    step = [np.diff(found.values)[0] / np.diff(found.values)[1] for found in (clean, noisy)]
    assert step[0] > 1.5  # 0 to 0.1, against 0.1 to 0.2
    assert 0.9 < step[1] < 1.1
    assert (clean.variances == 0).all()
    assert (noisy.variances[:7] > 0).all()


@pytest.mark.parametrize("costs", [[1.0, 1.0, 1.0], [1.0, np.inf, np.inf], [0.0, 0.0, np.inf], [5.0]])
def test_warp_of_few_or_equal_scores_is_finite(costs):
    found = targets(np.array(costs), np.full(len(costs), np.nan))
    assert np.isfinite(found.values).all()
    failed = np.isinf(costs)
    if failed.any():
        assert found.values[failed].min() > found.values[~failed].max()


# Priors.


def test_start_follows_the_prior():
    space = tn.SearchSpace(lr=tn.Float(1e-5, 1.0, log=True, prior=tn.Normal(0.01, 0.3, uniform=0.0)), x=tn.Float(0, 1))
    history = searched(space, lambda config: config["x"], 5)
    assert history.trials[0].config["lr"] == pytest.approx(0.01, rel=0.01)
    assert all(1e-3 < trial.config["lr"] < 0.1 for trial in history.trials)


def test_prior_that_is_right_helps_and_one_that_is_wrong_is_overcome():
    def space(mean):
        return tn.SearchSpace(**{f"x{i}": tn.Float(0, 1, prior=mean and tn.Normal(mean, 0.1)) for i in range(4)})

    def loss(mean, trials):
        return np.mean([searched(space(mean), bowl, trials, seed).best.metrics["loss"] for seed in range(2)])

    assert loss(0.35, 10) < 0.3 * loss(None, 10)
    assert loss(0.9, 30) < 0.25 * bowl({f"x{i}": 0.9 for i in range(4)})


def test_after_lecun_it_starts_from_the_measured_rate():
    train, valid, _ = tn.data.digits()
    study = tn.Study(
        model=tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), init="lecun"),
        trainer=tn.Trainer(train[:320], valid[:200], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-9, 1e3, log=True), "momentum": tn.Float(0.0, 0.9)}),
        searcher=tn.LeCun(then=tn.GP()),
        runtime=tn.Runtime("cpu", threads=1),
        progress=False,
    )
    rates = []
    for number in range(9):
        trial = study.ask()
        rates.append(trial.config["optimizer"]["lr"])
        study.tell(trial, 1.0 + number % 3)  # scores that say nothing
    decades = abs(np.log10(rates) - np.log10(study.history.probe(study.trials[0].config).rate))
    assert np.median(decades) < 1.0  # of twelve


# The model.


def some_posterior(rng, size=12, noisy=True):
    space = mixed()
    layout = FeatureMap(space)
    units = layout.settled(rng.random((size, len(space))))
    squared = apart(layout.features(units), layout.owner, len(space))
    return Posterior(squared, rng.standard_normal(size), rng.random(size) if noisy else np.zeros(size))


def test_gradient_of_the_likelihood_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    posterior = some_posterior(rng)
    point = posterior.mean + 0.5 * rng.standard_normal(len(posterior.mean))
    _, slopes = posterior.loss(point)
    for place in range(len(point)):
        step = np.zeros_like(point)
        step[place] = 1e-5
        measured = (posterior.loss(point + step)[0] - posterior.loss(point - step)[0]) / 2e-5
        assert slopes[place] == pytest.approx(measured, rel=1e-5, abs=1e-7)


def test_likelihood_is_that_of_a_normal_distribution():
    rng = np.random.default_rng(1)
    posterior = some_posterior(rng)
    point = posterior.mean
    size = len(posterior.values)
    squared = (np.exp(-2 * point[:-2]) @ posterior.apart).reshape(size, size)
    total = np.exp(point[-2]) * matern(squared)[0] + LEVEL
    total += np.diag(np.exp(point[-1]) + posterior.variances + JITTER)
    wanted = 0.5 * posterior.values @ np.linalg.solve(total, posterior.values) + 0.5 * np.linalg.slogdet(total)[1]
    assert posterior.loss(point)[0] == pytest.approx(wanted, rel=1e-9)


def test_fit_goes_down_and_draws_lie_around_it():
    rng = np.random.default_rng(2)
    posterior = some_posterior(rng, size=20)
    fitted = posterior.fit(posterior.mean, 50)
    assert posterior.loss(fitted)[0] < posterior.loss(posterior.mean)[0]
    drawn = posterior.draws(fitted, 4000, rng)
    assert abs(drawn.mean(0) - fitted).max() < 0.15
    assert (drawn.std(0) < 1.1 * posterior.sd).all()  # data can only narrow the prior


def some_process(rng, size=9, dimensions=3):
    point = np.concatenate([np.log(rng.uniform(0.3, 1, dimensions)), [0.3, np.log(1e-2)]])
    features = rng.random((size, dimensions))
    return GaussianProcess(point, np.arange(dimensions), features, rng.standard_normal(size), 0.1 * rng.random(size))


def test_process_is_the_conditional_normal_distribution():
    rng = np.random.default_rng(3)
    process, new = some_process(rng), rng.random((5, 3))
    points = np.concatenate([process.features, new]) * process.scale
    joint = process.variance * matern(between(points, points))[0] + LEVEL
    known = joint[:9, :9] + np.diag(process.noise + process.variances + JITTER)
    gain = np.linalg.solve(known, joint[:9, 9:]).T
    mean, variance = process.predict(new)
    assert np.allclose(mean, gain @ process.values, atol=1e-9)
    assert np.allclose(variance, np.diag(joint[9:, 9:] - gain @ joint[:9, 9:]), atol=1e-9)


def test_imagined_scores_have_the_mean_and_spread_that_are_expected():
    rng = np.random.default_rng(4)
    process, new = some_process(rng), np.array([[0.1, 0.5, 0.9]])
    drawn = np.array([process.fantasized(new, rng).values[-1] for _ in range(4000)])
    (mean,), (variance,) = process.predict(new)
    assert drawn.mean() == pytest.approx(mean, abs=4 * np.sqrt((variance + process.noise) / 4000))
    assert drawn.std() == pytest.approx(np.sqrt(variance + process.noise), rel=0.05)


@pytest.mark.parametrize("z", [-60.0, -12.0, -3.0, -1.0, 0.0, 2.0, 8.0])
def test_log_improvement_is_that_of_quadrature(z):
    mean, sd, best = 1.0, 0.5, 1.0 + 0.5 * z
    found = log_improvement(np.array([mean]), np.array([sd]), best)[0]
    # In units of the density at `best`, which alone would be 0 to the machine.
    shape = lambda gain: sd * gain * np.exp(-0.5 * gain**2 + gain * z)
    mass, _ = quad(shape, 0, max(z, 0) + 12, epsabs=0, epsrel=1e-10, limit=200, points=[max(z, 0.0)] if z > 0 else None)
    assert found == pytest.approx(norm.logpdf(z) + np.log(mass), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_slopes_of_the_improvement_are_those_of_finite_differences(error):
    rng = np.random.default_rng(5)
    improvement = ExpectedImprovement([some_process(rng), some_process(rng)], error)
    points = rng.random((4, 3))
    value, slopes = improvement.slopes(points)
    assert np.allclose(value, improvement(points))
    for place in range(3):
        step = np.zeros(3)
        step[place] = 1e-6
        measured = (improvement(points + step) - improvement(points - step)) / 2e-6
        assert np.allclose(slopes[:, place], measured, rtol=1e-4, atol=1e-5)


def test_noisy_look_improves_by_what_it_moves_the_mean():
    rng, error = np.random.default_rng(7), 0.3
    process = some_process(rng)
    new = process.features[[np.argmin(process.values)]] + 0.1
    point = np.concatenate([process.point[:-1], [np.log(1e-8)]])  # so that all the noise is the look's
    process = GaussianProcess(point, process.owner, process.features, process.values, process.variances)
    (mean,), (variance,) = process.predict(new)
    best = process.predict(process.features)[0].min()
    moved = []
    for z in norm.ppf((np.arange(400) + 0.5) / 400):
        seen = mean + np.sqrt(variance + error) * z
        after = GaussianProcess(
            point,
            process.owner,
            np.concatenate([process.features, new]),
            np.append(process.values, seen),
            np.append(process.variances, error),
        )
        moved.append(max(best - after.predict(new)[0][0], 0.0))
    assert ExpectedImprovement([process], error)(new)[0] == pytest.approx(np.log(np.mean(moved)), abs=0.02)


def test_layout_settles_as_the_space_does():
    space, rng = mixed(), np.random.default_rng(6)
    units = rng.random((200, len(space)))
    wanted = [space.to_unit(space.from_unit(unit)) for unit in units]
    assert np.allclose(FeatureMap(space).settled(units), wanted, atol=1e-12, equal_nan=True)


def test_two_labels_lie_one_apart_whichever_they_are():
    space = mixed()
    layout, place = FeatureMap(space), space.find("act")
    units = np.full((3, len(space)), 0.5)
    units[:, place] = [1 / 6, 3 / 6, 5 / 6]
    found = apart(layout.features(layout.settled(units)), layout.owner, len(space))[place].reshape(3, 3)
    assert np.allclose(found, 1 - np.eye(3))


def test_history_gives_the_standard_errors_of_scores():
    history = tn.types.History(cube(1), LOSS)
    tell(history, 0, {"x0": 0.1}, 1.0, 0.25)
    tell(history, 1, {"x0": 0.2}, 2.0)
    tell(history, 2, {"x0": 0.3}, None, status="FAILED")
    assert np.array_equal(history.errors, [0.25, np.nan, np.nan], equal_nan=True)


def test_ranked_takes_the_luck_off_the_best_observed():
    space, rng = tn.SearchSpace(n=tn.Int(0, 30)), np.random.default_rng(1)
    history = tn.types.History(space, LOSS)
    for number in range(31):
        tell(history, number, {"n": number}, ((number - 10) / 20) ** 2 + 0.02 * float(rng.standard_normal()), 0.1)
    tell(history, 31, {"n": 29}, -0.05, 0.1)  # the best that was seen, by luck: its neighbors say 0.9
    tell(history, 32, {"n": 3}, None, status="FAILED")
    ranked = tn.GP().ranked(space, history)
    assert history.best.number == 31
    assert sorted(ranked) == list(range(32))
    assert all(abs(history.trials[number].config["n"] - 10) <= 4 for number in ranked[:3])
    assert ranked == tn.GP().ranked(space, history)


def test_ranked_of_several_objectives_is_refused():
    with pytest.raises(ValueError, match="one objective"):
        tn.GP().ranked(cube(1), tn.types.History(cube(1), Objective((("f", False), ("g", False)))))
