"""Warm: earlier studies as a prior, over another space, and left when they mislead."""

import json
import pickle

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.search.earlier_study import EarlierStudy, MappedStudy
from tuneflow.search.mixture import Mixture
from tuneflow.seeds import stream

LOSS = Objective((("loss", False),))
PLAIN = tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(1, 9), kind=tn.Choice(["a", "b", "c"]))


def bowl(config):
    """Best at 0.8, 7, b."""
    return (config["x"] - 0.8) ** 2 + (config["n"] - 7) ** 2 / 64 + (0 if config["kind"] == "b" else 0.3)


def earlier(space=PLAIN, cost=bowl, trials=40, seed=5):
    history, rng = tn.types.History(space, LOSS, seed), np.random.default_rng(seed)
    for number in range(trials):
        config = space.sample(rng)
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": cost(config)}))
    return history


def of_configs(space, costs):
    """A history of (configuration, cost)."""
    history = tn.types.History(space, LOSS)
    for number, (config, cost) in enumerate(costs):
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": cost}))
    return history


def searched(searcher, cost=bowl, trials=20, space=PLAIN, seed=0):
    history = tn.types.History(space, LOSS, seed)
    for number in range(trials):
        config = space.cast(searcher.suggest(space, history, stream(seed, "search", number)))
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": cost(config)}))
    return history


def first(searcher, space):
    return searcher.suggest(space, tn.types.History(space, LOSS), stream(0, "search", 0))


def test_the_first_trials_are_the_best_there_were_and_differ():
    past = earlier()
    history = searched(tn.Warm(past), trials=2)
    assert history.trials[0].config == past.best.config
    one, other = history.units
    assert (np.abs(one - other) > 0.19).any()
    assert np.sort(past.costs).tolist().index(past.costs[_number(past, history.trials[1].config)]) < 8


def _number(history, config):
    return next(trial.number for trial in history.trials if trial.config == config)


def test_each_of_several_studies_has_its_turn():
    pasts = [earlier(seed=seed) for seed in (1, 2, 3)]
    history = searched(tn.Warm(pasts), trials=6)
    tried = [history.trials[number].config for number in (0, 1, 3)]
    assert tried == [past.best.config for past in pasts]


def test_the_same_study_twice_is_one_turn():
    past = earlier()
    once, twice = (searched(tn.Warm(sources, then=tn.Sobol()), trials=8) for sources in (past, [past, past]))
    assert [trial.config for trial in once.trials[:2]] == [trial.config for trial in twice.trials[:2]]
    assert len({str(trial.config) for trial in twice.trials}) == 8


def test_a_value_out_of_range_is_moved_and_a_new_parameter_is_in_its_middle():
    narrow = tn.SearchSpace(
        x=tn.Float(0, 0.5), n=tn.Int(1, 4), kind=tn.Choice(["b", "d"]), rate=tn.Float(1e-4, 1.0, log=True)
    )
    past = of_configs(PLAIN, [({"x": 0.8, "n": 7, "kind": "b"}, 0.0), ({"x": 0.1, "n": 2, "kind": "b"}, 1.0)])
    config = first(tn.Warm(past), narrow)
    assert config == {"x": 0.5, "n": 4, "kind": "b", "rate": pytest.approx(0.01)}


def test_values_stay_what_they_are_on_another_scale():
    past = of_configs(tn.SearchSpace(lr=tn.Float(0.0, 1.0)), [({"lr": 0.05}, 0.0)])
    assert first(tn.Warm(past), tn.SearchSpace(lr=tn.Float(1e-4, 1.0, log=True)))["lr"] == pytest.approx(0.05)
    assert first(tn.Warm(past), tn.SearchSpace(lr=tn.Float(0.0, 1.0, step=0.02)))["lr"] == pytest.approx(0.04)


def test_a_label_that_is_gone_takes_its_trial_with_it():
    past = of_configs(PLAIN, [({"x": 0.8, "n": 7, "kind": "b"}, 0.0), ({"x": 0.1, "n": 2, "kind": "a"}, 1.0)])
    rest = tn.SearchSpace(x=tn.Float(0, 1), kind=tn.Choice(["a", "c"]))
    assert first(tn.Warm(past), rest) == {"x": pytest.approx(0.1), "kind": "a"}


def test_branches_keep_what_is_active_in_them():
    branched = tn.SearchSpace(
        kind=tn.Choice({"p": tn.SearchSpace(x=tn.Float(0, 1)), "q": tn.SearchSpace(y=tn.Float(0, 1))})
    )
    past = of_configs(branched, [({"kind": {"q": {"y": 0.25}}}, 0.0), ({"kind": {"p": {"x": 0.75}}}, 1.0)])
    assert first(tn.Warm(past), branched) == {"kind": {"q": {"y": pytest.approx(0.25)}}}
    units = MappedStudy(EarlierStudy.of(past), branched, 2).units
    assert np.isnan(units).sum(1).tolist() == [1, 1]


def test_what_where_excludes_is_not_proposed():
    space = tn.SearchSpace(where=lambda config: config["x"] < 0.5, **PLAIN.entries)
    past = earlier()
    assert past.best.config["x"] > 0.5
    history = searched(tn.Warm(past), space=space, trials=4)
    assert all(trial.config["x"] < 0.5 for trial in history.trials)


def test_a_good_past_is_trusted_and_finds_sooner():
    warm = tn.Warm(earlier())
    costs = [min(searched(make(), trials=6, seed=seed).costs) for make in (lambda: warm, tn.GP) for seed in range(5)]
    assert np.mean(costs[:5]) < 0.2 * np.mean(costs[5:])
    assert warm.trust(PLAIN, searched(tn.Random(), trials=20)) == [1.0]


def test_a_hostile_past_is_left_after_some_trials_and_then_changes_nothing():
    hostile = earlier(cost=lambda config: -bowl(config))
    history = searched(tn.Warm(hostile), trials=12)
    assert tn.Warm(hostile).trust(PLAIN, history) == [0.0]
    assert first_after(tn.Warm(hostile, then=tn.Random()), history) == first_after(tn.Random(), history)
    tried = history.costs[2:]
    assert tried.mean() < 0.5 * history.costs[:2].mean()


def first_after(searcher, history):
    return searcher.suggest(history.space, history, stream(0, "search", history.number))


def test_of_several_pasts_only_the_hostile_one_is_left():
    pasts = [earlier(cost=lambda config: -bowl(config)), earlier(seed=6)]
    trust = tn.Warm(pasts).trust(PLAIN, searched(tn.Random(), trials=12))
    assert trust == [0.0, 1.0]


def test_after_sixty_trials_the_past_says_nothing_more():
    history = searched(tn.Random(), trials=60)
    assert tn.Warm(earlier()).trust(PLAIN, history) == [0.0]


def test_what_was_handed_over_is_copied():
    past = earlier()
    warm = tn.Warm(past)
    same = pickle.loads(pickle.dumps(warm))
    before = repr(warm)
    past.record(tn.Trial(40, {"x": 0.8, "n": 7, "kind": "b"}, "DONE", metrics={"loss": -1.0}))
    assert repr(warm) == repr(same) == before != repr(tn.Warm(past))
    own, others = (searched(each, trials=9).trials for each in (warm, same))
    assert list(own) == list(others)
    assert first(warm, PLAIN) != past.best.config


def test_a_study_its_folder_and_its_history_are_the_same_source(tmp_path):
    with tn.Study(space=PLAIN, folder=tmp_path / "study", progress=False) as study:
        for _ in range(5):
            trial = study.ask()
            study.tell(trial, bowl(trial.config))
        sources = [study, study.history, tn.open(tmp_path / "study")]
        assert len({repr(tn.Warm(source)) for source in sources}) == 1
    json.dumps(repr(tn.Warm(sources)))


def test_failures_and_several_objectives_of_a_past_are_ranked():
    history = tn.types.History(PLAIN, Objective((("loss", False), ("size", False))))
    rng = np.random.default_rng(0)
    for number in range(10):
        config = PLAIN.sample(rng)
        if number < 5:
            history.record(tn.Trial(number, config, "FAILED"))
        else:
            history.record(tn.Trial(number, config, "DONE", metrics={"loss": number, "size": number}))
    assert EarlierStudy.of(history).rows[0]["x"] == pytest.approx(history.trials[5].config["x"])
    assert first(tn.Warm(history), PLAIN) == history.trials[5].config


def test_a_searcher_that_counts_misses_nothing():
    space = tn.SearchSpace(n=tn.Int(1, 4))
    past = of_configs(tn.SearchSpace(n=tn.Int(1, 9)), [({"n": 9}, 0.0), ({"n": 2}, 1.0)])
    study = tn.Study(space=space, searcher=tn.Warm(past, then=tn.Grid(4)), progress=False)
    tried = []
    while (trial := study.ask()) is not None:
        study.tell(trial, float(trial.config["n"]))
        tried.append(trial.config["n"])
    assert tried == [4, 1, 2, 3]


def test_the_mixture_is_the_sum_of_its_kernels_however_it_is_given_out():
    space = tn.SearchSpace(
        kind=tn.Choice({"p": tn.SearchSpace(x=tn.Float(0, 1)), "q": None, "r": None}), y=tn.Float(0, 1)
    )
    points = np.array([[1 / 6, 0.3, 0.2], [0.5, np.nan, 0.9], [1 / 6, np.nan, np.nan]])
    weights = np.array([0.4, 0.3, 0.1])
    mixture = Mixture(space, points, weights, 0.1)
    informed = space.expecting(mixture.priors())
    cells = (np.arange(64) + 0.5) / 64
    total = 0.0
    for kind in (1 / 6, 0.5, 5 / 6):
        for y in cells:
            if kind > 0.2:
                total += np.exp(informed.log_prior([kind, np.nan, y])) / 3 / 64
            else:
                total += sum(np.exp(informed.log_prior([kind, x, y])) for x in cells) / 3 / 64 / 64
    assert total == pytest.approx(1.0)
    far = np.exp(informed.log_prior([5 / 6, np.nan, 0.5]))  # of the kernels, only the last one is even over y
    others = sum(w * 0.3 * np.exp(-((0.5 - y) ** 2) / 0.02) for w, y in ((0.4, 0.2), (0.3, 0.9))) * 4
    assert far == pytest.approx(0.2 + 0.1 * 0.3 + others, abs=0.05)

    rng = np.random.default_rng(0)
    drawn = np.array([space.to_unit(informed.sample(rng)) for _ in range(4_000)])
    shares = [(np.abs(drawn[:, 0] - kind) < 0.1).mean() for kind in (1 / 6, 0.5, 5 / 6)]
    wanted = [0.5 * 0.8 + 0.3 * 0.1 + 0.2 / 3, 0.3 * 0.8 + 0.5 * 0.1 + 0.2 / 3, 0.8 * 0.1 + 0.2 / 3]
    assert shares == pytest.approx(wanted, abs=0.03)  # four standard errors
    assert drawn[np.abs(drawn[:, 0] - 0.5) < 0.1, 2].mean() > 0.6  # what goes together stays together


def test_a_prior_of_ones_own_stays():
    own = tn.SearchSpace(x=tn.Float(0, 1, prior=tn.Normal(0.1, 0.05, uniform=0.0)), n=tn.Int(1, 9))
    searcher = tn.Warm(earlier(), then=tn.Random())
    history = searched(searcher, cost=lambda config: bowl(config | {"kind": "b"}), space=own, trials=12)
    assert all(trial.config["x"] < 0.4 for trial in history.trials[2:])


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ([], ValueError, "at least one"),
        ("runs/digits", TypeError, "needs a Study, a History"),
        (tn.types.History(PLAIN, LOSS), ValueError, "has a score"),
        ([earlier(), 3], TypeError, "got 3"),
    ],
)
def test_what_is_no_earlier_study_is_refused(source, error, words):
    with pytest.raises(error, match=words):
        tn.Warm(source)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (tn.SearchSpace(z=tn.Float(0, 1)), "tuned x, n, kind, this one tunes z: no name in common"),
        (tn.SearchSpace(kind=tn.Choice(["d", "e"])), "every trial of the earlier studies has a label"),
    ],
)
def test_a_space_that_has_nothing_of_it_is_refused_when_the_study_is_made(space, words):
    with pytest.raises(ValueError, match=words):
        tn.Study(space=space, searcher=tn.Warm(earlier()))
