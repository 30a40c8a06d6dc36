"""Configurations that are trained again on purpose: each training has its own seed, and their mean is the score."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.searching import history_of
from tests.helpers.small_studies import net, trainer
from tuneflow.search.observations import Observations
from tuneflow.study.confirm import candidates

SPACE = tn.SearchSpace(n=tn.Int(0, 7))


@tn.loop(epochs=2)
def noisy(config, run):
    for _ in run.epochs():
        yield {"loss": (((config["n"] - 4) / 20) ** 2 + 0.3 * float(torch.randn(())), 0.3)}


def study_of(searcher, **settings):
    settings = {"space": SPACE, "trainer": noisy, "minimize": "loss", "progress": False} | settings
    return tn.Study(searcher=searcher, **settings)


class Twice(tn.Searcher):
    """Proposes every configuration twice on purpose."""

    repeats = True

    def suggest(self, space, history, rng):
        return {"n": history.number // 2}


def recorded(*trials, goals=("loss",)):
    """A history of (number, n, loss, repeats), in this order."""
    history = history_of(SPACE, goals=goals)
    for number, n, loss, repeats in trials:
        status, metrics = ("DIVERGED", {}) if loss is None else ("DONE", {"loss": loss})
        history.record(tn.Trial(number, {"n": n}, status, metrics=metrics, errors={"loss": 0.1}, repeats=repeats))
    return history


def test_a_gp_that_repeats_links_each_training_to_the_first_and_gives_it_a_seed_of_its_own():
    study = study_of(tn.GP(repeats=True), seed=1)
    study.run(trials=16)
    again = [trial for trial in study.trials if trial.repeats is not None]
    assert again
    for trial in again:
        first = study.trials[trial.repeats]
        assert first.repeats is None
        assert first.config == trial.config
        assert first.metrics != trial.metrics


def test_a_gp_repeats_a_continuous_configuration_to_the_last_digit():
    space = tn.SearchSpace(lr=tn.Float(1e-4, 1.0, log=True))
    study = tn.Study(space=space, minimize="loss", searcher=tn.GP(repeats=True), progress=False)
    for number in range(14):
        trial = study.ask()
        loss = math.log10(trial.config["lr"] / 0.01) ** 2 + float(np.random.default_rng(number).normal())
        study.tell(trial, loss, errors={"loss": 1.0})
    again = [trial for trial in study.trials if trial.repeats is not None]
    assert again
    assert all(trial.config == study.trials[trial.repeats].config for trial in again)


def test_seeds_of_repetitions_are_those_of_no_replica_and_no_confirmation():
    study = study_of(Twice(), replicas=2)
    study.run(trials=4)
    seen = [trial.metrics["loss"] - ((trial.config["n"] - 4) / 20) ** 2 for trial in study.trials]
    assert seen[0] == pytest.approx(seen[2])  # first trainings are paired
    confirmed = study.confirm(top=1, seeds=2)
    looks = confirmed.confirmed.metrics["loss"] - ((confirmed.config["n"] - 4) / 20) ** 2
    assert len({round(value, 9) for value in (*seen, looks)}) == 4


@pytest.mark.parametrize("searcher", [tn.Random, tn.Sobol, tn.TPE])
def test_without_pairs_every_training_has_its_own_seed_and_is_linked(searcher):
    study = study_of(searcher(), paired=False)
    study.run(trials=20)
    firsts = {}
    for trial in study.trials:
        assert trial.repeats == firsts.get(trial.config["n"])
        firsts.setdefault(trial.config["n"], trial.number)
    assert len(study.trials) == 20 > len(firsts)


def test_the_best_has_the_mean_of_its_trainings_with_its_error():
    history = recorded((0, 0, 1.0, None), (1, 1, 0.2, None), (2, 1, 0.6, 1))
    assert (history.best.number, history.best.metrics["loss"]) == (1, pytest.approx(0.4))
    assert history.best.errors["loss"] == pytest.approx(0.2)


def test_a_mean_that_becomes_worse_gives_way_to_the_next_best():
    history = recorded((0, 0, 0.5, None), (1, 1, 0.2, None))
    assert history.best.number == 1
    history.record(tn.Trial(2, {"n": 1}, "DONE", metrics={"loss": 1.8}, repeats=1))
    assert (history.best.number, history.stale) == (0, 1)


def test_a_training_that_diverged_counts_for_its_configuration():
    history = recorded((0, 0, 0.9, None), (1, 1, 0.1, None), (2, 1, None, 1))
    assert history.best.number == 0
    assert history.cost(history.trials[1]) == math.inf


def test_the_luckiest_training_is_not_selected():
    trials = [(0, 0, 0.5, None), *((n, 1, 0.1 if n == 5 else 0.9, 1 if n > 1 else None) for n in range(1, 6))]
    history = recorded(*trials)
    assert history.best.number == 0
    ranked = tn.Random().ranked(SPACE, history)
    assert ranked[:2] == [0, 1]
    assert [trial.number for trial in candidates(history, ranked, 3)] == [0, 1]
    assert tn.GP().ranked(SPACE, history)[0] == 0


def test_a_front_is_of_means():
    history = history_of(SPACE, goals=("loss", "size"))
    for number, n, loss, size, repeats in [(0, 0, 1.0, 1.0, None), (1, 1, 0.0, 2.0, None), (2, 1, 4.0, 2.0, 1)]:
        history.record(tn.Trial(number, {"n": n}, "DONE", metrics={"loss": loss, "size": size}, repeats=repeats))
    assert [(trial.number, trial.metrics["loss"]) for trial in history.front] == [(0, 1.0)]


def test_observations_have_one_row_for_each_configuration():
    history = recorded((0, 0, 1.0, None), (1, 1, 0.2, None), (2, 1, 0.6, 1), (3, 2, 0.3, None), (4, 1, 0.4, 1))
    seen = Observations.of(history)
    assert seen.numbers.tolist() == [0, 1, 3]
    assert seen.costs == pytest.approx([1.0, 0.4, 0.3])
    assert seen.counts.tolist() == [1, 3, 1]
    assert seen.errors == pytest.approx([0.1, 0.1 / math.sqrt(3), 0.1])


def test_trainings_without_errors_have_the_spread_of_repetitions():
    history = history_of(SPACE)
    for number, n, loss, repeats in [(0, 0, 1.0, None), (1, 1, 0.2, None), (2, 1, 0.6, 1)]:
        history.record(tn.Trial(number, {"n": n}, "DONE", metrics={"loss": loss}, repeats=repeats))
    spread = np.std([0.2, 0.6], ddof=1)
    assert Observations.of(history).errors == pytest.approx([spread, spread / math.sqrt(2)])


def test_the_best_hands_over_a_model_of_its_configuration(tmp_path):
    study = tn.Study(
        model=tn.Model(net),
        trainer=trainer(epochs=1),
        space=tn.SearchSpace(model={"width": tn.Int(4, 5)}),
        searcher=WidthsTwice(),
        maximize="accuracy",
        folder=tn.Folder(tmp_path, keep=1),
        progress=False,
    )
    study.run(trials=4)
    best = study.best
    mean = np.mean([t.metrics["accuracy"] for t in study.trials if t.config == best.config])
    assert best.metrics["accuracy"] == pytest.approx(mean)
    assert "mean of 2 trials" in repr(best)
    assert isinstance(best.model(), nn.Module)


class WidthsTwice(Twice):
    def suggest(self, space, history, rng):
        return {"model": {"width": 4 + history.number // 2}}


@pytest.mark.parametrize("paired", [True, False])
def test_queued_trials_of_one_configuration_are_linked_where_their_seeds_differ(paired):
    asked = study_of(tn.GP(), trainer=None, paired=paired)
    for loss in (1.0, 3.0, 2.0):
        asked.enqueue({"n": 2})
        asked.tell(asked.ask(), {"loss": loss})
    assert [trial.repeats for trial in asked.trials] == [None, 0, 0]
    assert asked.best.metrics["loss"] == 2.0
    trained = study_of(tn.GP(), paired=paired)
    for _ in range(2):
        trained.enqueue({"n": 2})
    trained.run(trials=2)
    assert trained.trials[1].repeats == (None if paired else 0)
