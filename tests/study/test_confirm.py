"""study.confirm: fresh seeds choose among the best, and say what the chosen one is worth; and the luck in a score."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.analysis.selection_bias import optimism
from tuneflow.errors import NothingFinished, StudyError
from tuneflow.store.sqlite import SqliteStore

NOISE = 0.1
CALLS = []


@tn.loop(epochs=2)
def noisy(config, run):
    """Its score is x, and luck; it diverges beyond 1 under seeds of other studies."""
    weight = torch.zeros(1)
    for _ in run.epochs(weight=weight):
        CALLS.append(config["x"])
        luck = float(torch.randn(1))
        weight.fill_(config["x"] + NOISE * luck)
        yield {"score": float(weight) if config["x"] <= 1 or luck > 0 else math.nan}


def study(trainer=noisy, high=1.0, **more):
    settings = {"maximize": "score", "at": "last", "paired": False, "progress": False} | more
    return tn.Study(space=tn.SearchSpace(x=tn.Float(0.9, high)), trainer=trainer, **settings)


def test_the_confirmed_score_is_free_of_the_luck_that_the_observed_one_has():
    observed, confirmed, errors = [], [], []
    for seed in range(20):
        made = study(seed=seed)
        made.run(trials=20)
        truth = made.best.config["x"]
        observed.append(made.best.metrics["score"] - truth)
        best = made.confirm(top=3, seeds=4)
        confirmed.append(best.confirmed.metrics["score"] - best.config["x"])
        errors.append(best.confirmed.errors["score"])
    assert np.mean(observed) > 1.2 * NOISE
    assert abs(np.mean(confirmed)) < 3 * NOISE / math.sqrt(4 * 20)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(NOISE / 2, rel=0.3)


def test_the_error_over_seeds_is_never_that_over_examples():
    @tn.loop(epochs=1)
    def same(config, run):
        for _ in run.epochs(weight=torch.zeros(1)):
            yield {"score": (config["x"], 0.125)}

    made = study(same)
    made.run(trials=2)
    assert made.best.errors == {"score": 0.125}
    assert made.confirm(seeds=2).confirmed.errors == {"score": 0.0}


def test_every_training_is_made_once_and_kept(tmp_path):
    with study(folder=tmp_path) as made:
        made.run(trials=6)
        CALLS.clear()
        best = made.confirm(top=2, seeds=3)
        assert len(CALLS) - 2 * (best.number != made.history.best.number) == 2 * (2 * 3 + 3)
        CALLS.clear()
        assert made.confirm(top=2, seeds=3).confirmed == best.confirmed
    with study(folder=tmp_path) as again:
        assert again.best.confirmed == best.confirmed
        again.confirm(top=2, seeds=3)
        assert CALLS == []
        again.confirm(top=3, seeds=3)
        assert len(CALLS) - 2 * (best.number != again.history.best.number) <= 2 * 2 * 3


def test_what_was_trained_before_a_kill_is_kept(tmp_path, monkeypatch):
    def killed(store, key, value):
        if len(kept) == 4:
            raise KeyboardInterrupt
        kept.append(remember(store, key, value))
        return kept[-1]

    kept, made, straight = [], study(folder=tmp_path), study()
    for each in (made, straight):
        each.run(trials=6)
    remember = SqliteStore.remember
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "remember", killed)
        with pytest.raises(KeyboardInterrupt):
            made.confirm(top=2, seeds=3)
    made.close()
    with study(folder=tmp_path) as again:
        CALLS.clear()
        found, calls = again.confirm(top=2, seeds=3), len(CALLS)
    CALLS.clear()
    assert found.confirmed == straight.confirm(top=2, seeds=3).confirmed
    assert calls == len(CALLS) - 2 * 4


def test_best_is_the_chosen_one_until_more_trials_end(tmp_path):
    with study(folder=tmp_path) as made:
        made.run(trials=6)
        chosen = made.confirm(top=4, seeds=2)
        assert made.best.number == chosen.number
        assert tn.open(tmp_path).best.number == chosen.number
        assert "confirmed: trial" in tn.open(tmp_path).listing()
        made.run(trials=7)
        assert made.best.confirmed is None
        assert made.best.number == made.history.best.number


def test_it_says_what_was_observed_and_what_was_confirmed():
    made = study()
    made.run(trials=6)
    assert "(best of 6 observed, epoch 2 of 2)" in repr(made.best)
    best = made.confirm(top=2, seeds=2)
    score = best.confirmed.metrics["score"]
    assert f"score {score:.4f} +- " in repr(best)
    assert f"(standard error, 2 fresh seeds, observed {best.metrics['score']:.4f}, epoch 2 of 2)" in repr(best)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.2), nn.Linear(8, 10))


def digits(**more):
    train, valid, _ = tn.data.digits()
    trainer = tn.Trainer(
        train[:128],
        valid[:64],
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        epochs=3,
        metrics={"accuracy": tn.metrics.accuracy},
    )
    space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-2, 1.0, log=True), "momentum": 0.5})
    settings = {"maximize": "accuracy", "progress": False, "runtime": tn.Runtime("cpu", threads=1)} | more
    return tn.Study(model=tn.Model(net), trainer=trainer, space=space, **settings)


def test_the_model_is_that_of_the_trial_though_its_state_was_gone(tmp_path):
    made, every = digits(folder=tmp_path), digits(folder=tn.Folder(None, keep=6))
    for each in (made, every):
        each.run(trials=6)
    last = made.history.trials[made.searcher.ranked(made.space, made.history)[-1]]
    made.searcher.ranked = lambda space, history: [last.number]
    chosen = made.confirm(seeds=1)
    assert chosen.number == last.number != made.history.best.number
    made.close()
    with digits(folder=tmp_path) as again:
        weights = again.best.model().state_dict()
    assert again.best.number == last.number
    for name, tensor in every.result(last.number).model().state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_the_optimism_of_a_score_with_an_error_is_said():
    made = digits()
    made.run(trials=4)
    assert 0 < made.best.optimism < 0.1
    assert f"best of 4 observed, optimistic by about {made.best.optimism:.2g}, epoch" in repr(made.best)
    assert math.isnan(made.result(0).optimism)


def test_replicas_and_fresh_seeds_have_nothing_in_common():
    seen = set()

    @tn.loop(epochs=1)
    def once(config, run):
        for _ in run.epochs(weight=torch.zeros(1)):
            drawn = float(torch.rand(1))
            seen.add(drawn)
            yield {"score": drawn}

    made = study(trainer=once, replicas=2, paired=True)
    made.run(trials=1)
    seen.clear()
    made.confirm(top=1, seeds=2)
    assert len(seen) == 4
    made = study(trainer=once, replicas=2, paired=True)
    made.run(trials=1)
    assert len(seen) == 6


def test_trials_alike_are_trained_once():
    made = study()
    for x in (0.95, 0.95, 0.92):
        made.enqueue({"x": x})
    made.run(trials=3)
    CALLS.clear()
    made.confirm(top=3, seeds=1)
    assert set(CALLS[:4]) == {0.95, 0.92}


def test_what_diverges_under_a_fresh_seed_is_not_chosen(caplog):
    for seed in range(20):
        made = study(high=1.2, seed=seed)
        for x in (1.15, 0.95):
            made.enqueue({"x": x})
        made.run(trials=2)
        if made.trials[0].status == "DONE":
            break
    with caplog.at_level("INFO", "tuneflow"):
        assert made.confirm(top=2, seeds=8).number == 1
    assert "trial 0: DIVERGED: score is nan at epoch" in caplog.text


def test_what_confirm_needs():
    asked = study(trainer=None)
    with pytest.raises(StudyError, match="has no trainer to train"):
        asked.confirm()
    with pytest.raises(StudyError, match="several; use front=True"):
        tn.Study(space=tn.SearchSpace(x=1), trainer=noisy, maximize=["score", "b"], progress=False).confirm()
    made = study()
    with pytest.raises(NothingFinished):
        made.confirm()
    for wrong in ({"top": 0}, {"seeds": 0}, {"seeds": 1.5}):
        with pytest.raises(ValueError, match="needs to be a whole number >= 1"):
            made.confirm(**wrong)


def test_a_population_has_nothing_to_train_anew():
    made = study(scheduler=tn.Population(members=4, every=1), at="last")
    made.run(trials=6)
    forks = [t.number for t in made.trials if t.parent is not None]
    assert forks
    made.searcher.ranked = lambda space, history: forks
    with pytest.raises(StudyError, match="went on from another trial's state"):
        made.confirm()


@pytest.mark.parametrize("count", [10, 100])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_optimism_is_about_the_luck_of_the_best(count, spread):
    rng, found, true = np.random.default_rng(count), [], []
    for _ in range(40):
        truths = 0.9 - spread * rng.random(count)
        seen = rng.binomial(360, truths) / 360
        found.append(optimism(-seen, np.sqrt(seen * (1 - seen) / 360)))
        true.append(seen.max() - truths[seen.argmax()])
    assert 0.6 * np.mean(true) < np.mean(found) < 1.6 * np.mean(true)


def test_optimism_of_exact_scores_is_none_and_of_unknown_errors_unknown():
    assert optimism(np.arange(5.0), np.zeros(5)) == 0
    assert math.isnan(optimism(np.arange(5.0), np.full(5, math.nan)))
    assert math.isnan(optimism(np.array([1.0]), np.array([0.1])))
    assert optimism(np.ones(5), np.full(5, 0.1)) == 0
