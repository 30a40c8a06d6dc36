"""Hyperband's brackets, and a population that copies its best."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.small_studies import constant_losses, make, scripted_for, trainer
from tuneflow.testing import check_scheduler


def test_brackets_begin_later_and_later():
    assert tn.Hyperband(3).brackets(9) == [[1, 3, 9], [3, 9], [9]]
    assert tn.Hyperband(2, first=2).brackets(8) == [[2, 4, 8], [4, 8], [8]]
    assert tn.Hyperband(3).brackets(10) == [[2, 4, 10], [4, 10], [10]]
    assert all(rungs[-1] == epochs for epochs in range(2, 60) for rungs in tn.Hyperband(3).brackets(epochs))


def test_every_bracket_gets_about_the_same_number_of_epochs():
    scheduler, epochs = tn.Hyperband(3), 27
    spent = Counter()
    for number in range(len(scheduler.brackets(epochs)) * 20):
        place = scheduler.bracket(number, epochs)
        rungs = scheduler.brackets(epochs)[place]
        share = [1 / 3**k for k in range(len(rungs))]
        steps = np.diff([0, *rungs])
        spent[place] += float(np.dot(share, steps))
    assert len(spent) == 4
    assert max(spent.values()) < 2 * min(spent.values())


def test_trials_compete_within_their_bracket_and_go_on_from_where_they_stand():
    scheduler = tn.Hyperband(3)
    study = scripted_for(9, constant_losses(17, 9), scheduler=scheduler)
    study.run(trials=17)
    by_bracket = {place: [] for place in range(3)}
    for trial in study.trials:
        by_bracket[scheduler.bracket(trial.number, 9)].append(trial)
    assert [len(trials) for trials in by_bracket.values()] == [9, 5, 3]
    for place, rungs in enumerate(scheduler.brackets(9)):
        trials = by_bracket[place]
        assert {trial.epochs for trial in trials} <= set(rungs)
        for rung, following in pairwise(rungs):
            reached = [trial for trial in trials if trial.epochs >= rung]
            further = [trial for trial in trials if trial.epochs >= following]
            assert len(further) == len(reached) // 3
            assert [t.number for t in further] == sorted(t.number for t in reached)[: len(further)]
    stopped = next(trial for trial in study.trials if trial.status == "STOPPED")
    assert "of bracket 0: not among the best 1/3" in stopped.reason


def test_hyperband_interrupted_anywhere_takes_the_same_decisions(tmp_path):
    whole = make(trainer=trainer(epochs=4), scheduler=tn.Hyperband(2))
    whole.run(trials=7)
    for total in range(1, 26, 3):
        with make(
            trainer=trainer(epochs=4), scheduler=tn.Hyperband(2), folder=tn.Folder(tmp_path, checkpoint=0.0)
        ) as study:
            study.run(trials=7, epochs=total)
    again = make(trainer=trainer(epochs=4), scheduler=tn.Hyperband(2), folder=tmp_path)
    again.run(trials=7)
    facts = [[(t.status, t.reason, [r.metrics for r in t.reports]) for t in s.trials] for s in (again, whole)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("make_one", [lambda: tn.Hyperband(3), lambda: tn.Hyperband(2, first=2)], ids=["3", "2"])
def test_hyperband_keeps_a_schedulers_promises(make_one):
    check_scheduler(make_one)
    check_scheduler(make_one, trials=20, epochs=9)  # more than a round of brackets


def test_population_keeps_a_schedulers_promises():
    check_scheduler(lambda: tn.Population(members=4))
    check_scheduler(lambda: tn.Population(members=6, every=2, share=0.5), trials=16, epochs=9, all_start=False)


def population(**settings):
    given = {"members": 4, "every": 1, "share": 0.25, **settings}
    return make(trainer=trainer(epochs=4), scheduler=tn.Population(**given))


def test_the_worst_member_ends_and_a_fork_of_the_best_takes_its_place():
    study = population()
    study.run(trials=6)
    forks = [trial for trial in study.trials if trial.parent is not None]
    assert [fork.number for fork in forks] == [4, 5]
    first = forks[0]
    parent, epoch = first.parent
    members = [(trial.reports[0].metrics["loss"], trial.number) for trial in study.trials[:4]]
    assert (parent, epoch) == (min(members)[1], 1)
    ended = study.trials[max(members)[1]]
    assert (ended.status, ended.epochs, ended.reason) == ("STOPPED", 1, "place 4 of 4 at epoch 1: replaced")
    assert [report.epoch for report in first.reports] == list(range(2, first.epochs + 1))
    assert first.config["optimizer"] != study.trials[parent].config["optimizer"]
    assert first.config["model"] == study.trials[parent].config["model"]
    assert len(study.trials) == 6


def test_without_a_trial_left_nobody_is_replaced():
    study = population()
    study.run(trials=4)
    assert [(trial.status, trial.epochs) for trial in study.trials] == [("DONE", 4)] * 4


def test_a_population_interrupted_anywhere_takes_the_same_decisions(tmp_path):
    def again():
        scheduler = tn.Population(members=4, every=1)
        return make(trainer=trainer(epochs=4), scheduler=scheduler, folder=tn.Folder(tmp_path, checkpoint=0.0))

    whole = population()
    whole.run(trials=8)
    for total in range(2, 20, 3):
        with again() as study:
            study.run(trials=8, epochs=total)
    study = again()
    study.run(trials=8)
    facts = [[(t.config, t.status, t.reason, t.parent, t.metrics) for t in s.trials] for s in (study, whole)]
    assert facts[0] == facts[1]


BAD = {
    "factor": (lambda: tn.Hyperband(1), "Hyperband: factor needs to be a whole number >= 2, got 1"),
    "first": (lambda: make(scheduler=tn.Hyperband(first=3)), "first=3 leave no rung below the full 3 epochs"),
    "far": (lambda: make(scheduler=tn.Hyperband(first=100)), "first=100 leave no rung below the full 3 epochs"),
    "short": (lambda: make(scheduler=tn.Hyperband(factor=4)), "factor=4 and first=1 leave no rung below the full 3"),
    "members": (lambda: tn.Population(members=3), "members needs to be a whole number >= 4, got 3"),
    "share": (lambda: tn.Population(share=0.6), "share needs to be a number above 0 and at most 0.5, got 0.6"),
    "step": (lambda: tn.Population(step=0), "step needs to be a number > 0, got 0"),
    "every": (lambda: make(scheduler=tn.Population(every=3)), "every=3 leaves no replacement within the full 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_named(name):
    broken, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        broken()
