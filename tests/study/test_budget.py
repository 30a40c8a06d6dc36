"""When a run is over: trials, epochs, seconds, a target, a plateau."""

import math

import pytest
import torch

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.study.budget import Budget

UP, DOWN = Objective((("score", True),)), Objective((("score", False),))


def history(scores, objective=UP):
    found = tn.types.History(tn.SearchSpace(x=tn.Float(0.0, 1.0)), objective)
    for number, score in enumerate(scores):
        status = "DIVERGED" if math.isnan(score) else "DONE"
        found.record(tn.Trial(number, {"x": 0.5}, status, metrics={"score": score}))
    return found


def over(scores, objective=UP, trained=0, **limits):
    given = {"trials": None, "epochs": None, "seconds": None, "target": None, "plateau": None} | limits
    return Budget.of(objective, *given.values()).over(history(scores, objective), trained)


def test_a_target_is_reached_by_the_best():
    assert over([0.5, 0.8], target=0.9) == ""
    assert over([0.5, 0.9, 0.7], target=0.9) == "trial 1 has score 0.9, and 0.9 is enough"
    assert over([0.5, 0.3], DOWN, target=0.3) == "trial 1 has score 0.3, and 0.3 is enough"
    assert over([], target=0.9) == ""


def test_a_plateau_is_so_many_trials_without_a_better_one():
    assert over([0.5, 0.4, 0.6, 0.6, 0.1], plateau=3) == ""
    assert over([0.5, 0.4, 0.6, 0.6, 0.1, math.nan], plateau=3) == "3 trials have ended without a better one"
    assert over([math.nan] * 3, plateau=3) == "3 trials have ended without a better one"


def test_epochs_and_seconds():
    assert over([], epochs=5, trained=4) == ""
    assert over([], epochs=5, trained=5) == "5 epochs are trained"
    assert over([], seconds=0) == "the time is over"
    assert over([], seconds=1e6) == ""


def train(config, run):
    weight = torch.zeros(1)
    for epoch in run.epochs(weight=weight):
        weight.fill_(config["x"])
        yield {"score": float(weight) * epoch}


def study(epochs=1, **more):
    trainer = tn.loop(epochs=epochs)(train)
    return tn.Study(
        space=tn.SearchSpace(x=tn.Float(0.0, 1.0)), trainer=trainer, maximize="score", progress=False, **more
    )


def test_a_run_ends_at_its_target_and_goes_on_with_another(caplog):
    made = study()
    with caplog.at_level("INFO", "tuneflow"):
        made.run(trials=50, target=0.7)
    first = len(made.trials)
    assert first < 50
    assert made.best.number == first - 1
    assert f"stopped: trial {first - 1} has score 0." in caplog.text
    made.run(trials=50, target=0.7)
    assert len(made.trials) == first
    made.run(trials=50, plateau=5)
    assert made.history.stale == 5
    assert len(made.trials) < 50


def test_what_is_under_way_at_a_plateau_is_paused_and_goes_on(tmp_path):
    made = study(epochs=4, scheduler=tn.Halving(factor=2), folder=tmp_path)
    made.run(trials=30, plateau=4)
    assert made.history.stale >= 4
    assert made.history.paused
    assert len(made.trials) < 30
    made.run(trials=30)
    assert all(trial.ended for trial in made.trials)


def test_a_target_or_a_plateau_is_a_limit():
    study().run(plateau=3)
    with pytest.raises(ValueError, match="run needs trials="):
        study().run()


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({"target": "0.9"}, TypeError, "target needs to be a score of score"),
        ({"target": math.nan}, TypeError, "target needs to be a score of score"),
        ({"plateau": 0}, ValueError, "plateau needs to be a whole number >= 1"),
        ({"plateau": 2.5}, ValueError, "plateau needs to be a whole number >= 1"),
    ],
)
def test_what_is_no_limit(limits, error, words):
    with pytest.raises(error, match=words):
        study().run(trials=3, **limits)


@pytest.mark.parametrize("limits", [{"target": 0.5}, {"plateau": 3}])
def test_several_objectives_have_neither(limits):
    made = tn.Study(
        space=tn.SearchSpace(x=tn.Float(0.0, 1.0)), trainer=tn.loop(epochs=1)(train), maximize=["score", "other"],
        progress=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs one objective"):
        made.run(trials=3, **limits)


def test_a_run_says_why_it_has_fewer_trials_than_asked_for(caplog):
    class Never(tn.Scheduler):
        def next(self, space, history, rng):
            return tn.schedule.Wait()

    with caplog.at_level("INFO", "tuneflow"):
        study(searcher=tn.Grid(3)).run(trials=5)
        study(scheduler=Never()).run(trials=5)
        study(searcher=tn.Grid(3)).run()
    line = "stopped: search space exhausted after 3 trials"
    assert caplog.messages.count(line) == 1
    assert "stopped: Never() starts no more trials after 0 and has none to continue" in caplog.text


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (None, "decided None; it needs to be Start"),
        (tn.schedule.Start(0), "until needs to be a whole number above 0"),
        (tn.schedule.Start(4.5), "until needs to be a whole number above 0"),
    ],
)
def test_a_decision_that_is_none_is_named(decision, words):
    class Odd(tn.Scheduler):
        def next(self, space, history, rng):
            return decision

    with pytest.raises(tn.errors.StudyError, match=words):
        study(scheduler=Odd()).run(trials=2)


def test_a_searcher_is_heard_when_it_has_something_new_to_say(capsys):
    made = study(searcher=tn.Auto())
    made.progress = True
    made.run(trials=3)
    assert capsys.readouterr().err.count("Auto: GP() from trial 0 on, for less than 1,000 trials") == 1


@pytest.mark.parametrize("behind", [tn.LeCun, lambda then: tn.Warm(history([0.5]), then=then)])
def test_what_stands_behind_a_searcher_is_one(behind):
    with pytest.raises(TypeError, match=r"then needs to be a searcher, got .* add parentheses"):
        behind(then=tn.TPE)
