"""Schedulers: who is trained how far, resumed, forked and stopped."""

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.small_studies import constant_losses, make, net, scripted, scripted_for, trainer
from tuneflow.history.objective import Objective
from tuneflow.history.trial import with_reports, with_status
from tuneflow.schedule.halving import Halving


def test_full_trains_everything_to_the_end():
    study = scripted(scheduler=tn.Full())
    study.run()
    assert [t.epochs for t in study.trials] == [3, 3, 3]


def test_rungs_grow_by_the_factor_and_end_with_the_full_length():
    assert Halving(3).rungs(10) == [1, 3, 9, 10]
    assert Halving(2, first=2).rungs(16) == [2, 4, 8, 16]
    assert Halving(3).rungs(27) == [1, 3, 9, 27]


def test_halving_promotes_the_best_third_and_resumes_them():
    study = scripted_for(9, constant_losses(9, 9), scheduler=tn.Halving(3))
    starts, real = [], study.trainer.advance

    def advance(job, state, until):
        starts.append((job.config["model"]["width"], state.epoch, until))
        return real(job, state, until)

    study.trainer.advance = advance
    study.run(trials=9)
    assert [t.epochs for t in study.trials] == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    assert study.trials[0].status == "DONE"
    assert {t.status for t in study.trials[1:]} == {"STOPPED"}
    assert study.trials[8].reason == "place 9 of 9 at epoch 1: not among the best 1/3"
    assert (0, 1, 3) in starts
    assert (0, 3, 9) in starts
    assert study.best.number == 0


def test_halving_interrupted_anywhere_takes_the_same_decisions(tmp_path):
    whole = make(trainer=trainer(epochs=4), scheduler=tn.Halving(2))
    whole.run(trials=6)
    for total in range(1, 18):
        with make(
            trainer=trainer(epochs=4), scheduler=tn.Halving(2), folder=tn.Folder(tmp_path, checkpoint=0.0)
        ) as study:
            study.run(trials=6, epochs=total)
    again = make(trainer=trainer(epochs=4), scheduler=tn.Halving(2), folder=tmp_path)
    again.run(trials=6)
    facts = [[(t.status, t.reason, [r.metrics for r in t.reports]) for t in s.trials] for s in (again, whole)]
    assert facts[0] == facts[1]
    assert len({t.epochs for t in whole.trials}) > 1


def test_a_study_that_is_opened_again_knows_the_order_in_which_trials_ended(tmp_path):
    settings = {"trainer": trainer(epochs=4), "scheduler": tn.Halving(2), "folder": tmp_path}
    study = make(**settings)
    study.run(trials=6)
    ended = [trial.number for trial in study.history.finished]
    assert ended != sorted(ended)
    assert [trial.number for trial in make(**settings).history.finished] == ended


def test_median_stops_what_is_worse_than_most():
    losses = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0], [9.0, 9.0, 0.0], [1.5, 1.5, 0.5]]
    study = scripted(losses, scheduler=tn.Median(trials=3))
    study.run()
    assert [(t.status, t.epochs) for t in study.trials] == [("DONE", 3)] * 3 + [("STOPPED", 1), ("DONE", 3)]
    assert study.trials[3].reason == "worse than 3 of 3 at epoch 1"


def test_a_fork_goes_on_from_another_trials_state():
    class Copy(tn.Scheduler):
        """Trains trial 0, then trains it on from epoch 1 with another rate."""

        def next(self, space, history, rng):
            if len(history) == 0:
                return tn.schedule.Start(3)
            if history.running:
                return tn.schedule.Wait()
            if len(history) == 1:
                first = history.trials[0].config
                return tn.schedule.Fork(0, 1, {**first, "optimizer": {"lr": 0.3}}, 3)
            return tn.schedule.Wait()

        def keep(self, history):
            return [(0, 1)] if len(history) < 2 else []

    study = make(scheduler=Copy())
    study.run(trials=2)
    parent, fork = study.trials
    assert fork.parent == (0, 1)
    assert [r.epoch for r in fork.reports] == [2, 3]
    assert fork.epochs == 3
    assert fork.status == "DONE"
    assert fork.reports[0].metrics != parent.reports[1].metrics

    job = tn.types.Job(tn.Model(net), study.space.resolve(parent.config), study.runtime)
    states = {s.epoch: s for s, _ in study.trainer.advance(job, study.trainer.init(job), 1)}
    other = tn.types.Job(tn.Model(net), study.space.resolve(fork.config), study.runtime)
    expected = [report.metrics for _, report in study.trainer.advance(other, states[1], 3)]
    assert [r.metrics for r in fork.reports] == expected


def test_a_scheduler_may_stop_a_running_trial_at_any_epoch():
    class Impatient(tn.Scheduler):
        def next(self, space, history, rng):
            for trial in history.running:
                if trial.epochs == 2:
                    return tn.schedule.Stop(trial.number, "seen enough")
            return tn.schedule.Start(history.epochs)

    study = scripted(scheduler=Impatient())
    study.run()
    assert [(t.status, t.epochs, t.reason) for t in study.trials] == [("STOPPED", 2, "seen enough")] * 3


BAD = {
    "factor": (lambda: tn.Halving(1), "factor needs to be a whole number >= 2, got 1"),
    "first": (lambda: tn.Halving(first=0), "first needs to be a whole number >= 1, got 0"),
    "no rung": (lambda: make(scheduler=tn.Halving(first=3)), "first=3 leave no rung below the full 3 epochs"),
    "several": (
        lambda: make(scheduler=tn.Median(), maximize=["accuracy"], minimize=["loss"]),
        "Median: compares trials by one objective",
    ),
    "median": (lambda: tn.Median(trials=0), "trials needs to be a whole number >= 1, got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_named(name):
    broken, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        broken()


@tn.loop(epochs=4)
def falling(config, run):
    for epoch in run.epochs():
        yield {"loss": config["x"] / epoch}


def test_halving_over_a_grid_ends_its_trials_with_and_without_a_limit():
    def statuses(**limits):
        study = tn.Study(
            space=tn.SearchSpace(x=tn.Float(0.0, 1.0)),
            trainer=falling,
            searcher=tn.Grid(16),
            scheduler=tn.Halving(2),
            minimize="loss",
            progress=False,
        )
        study.run(**limits)
        return [(t.config["x"], t.status, t.epochs) for t in study.trials]

    assert statuses() == statuses(trials=16)
    assert {status for _, status, _ in statuses()} == {"DONE", "STOPPED"}


@tn.loop(epochs=4)
def traded(config, run):
    """Two objectives that pull apart along x; y is bad for both."""
    for epoch in run.epochs():
        yield {"f": (config["x"] + config["y"]) / epoch, "g": (1 - config["x"] + config["y"]) / epoch}


@pytest.mark.parametrize("scheduler", [tn.Halving(2), tn.Hyperband(2)], ids=["halving", "hyperband"])
def test_of_several_objectives_those_go_on_that_nothing_beats_in_all(scheduler):
    study = tn.Study(
        space=tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Float(0.0, 1.0)),
        trainer=traded,
        searcher=tn.Sobol(),
        scheduler=scheduler,
        minimize=["f", "g"],
        progress=False,
        seed=1,
    )
    study.run(trials=20)
    assert {trial.status for trial in study.trials} == {"DONE", "STOPPED"}
    for place, rungs in enumerate(scheduler.brackets(4)[:-1]):
        own = [trial for trial in study.trials if scheduler.bracket(trial.number, 4) == place]
        stopped, further = ([t for t in own if (t.epochs > rungs[0]) is on] for on in (False, True))
        assert further
        assert len(further) <= len(own) // 2
        for lost in stopped:  # nobody who lost is better in both than all who went on
            assert any(
                kept.config["x"] + kept.config["y"] <= lost.config["x"] + lost.config["y"]
                or kept.config["y"] - kept.config["x"] <= lost.config["y"] - lost.config["x"]
                for kept in further
            )
        assert np.mean([t.config["y"] for t in further]) < np.mean([t.config["y"] for t in stopped])


def paused_at(costs, goals):
    history = tn.types.History(
        tn.SearchSpace(x=tn.Float(0, 1)), Objective(tuple((goal, False) for goal in goals)), 0, 9
    )
    for number, own in enumerate(costs):
        report = tn.types.Report(1, dict(zip(goals, own, strict=True)))
        history.record(with_status(with_reports(tn.Trial(number, {"x": 0.5}), [report], history.objective), "PAUSED"))
    return history


def promoted(history):
    """Numbers in the order in which they go on from the first rung."""
    numbers = []
    while isinstance(decision := tn.Halving(3).next(history.space, history, None), tn.schedule.Continue):
        numbers.append(decision.trial)
        history.record(with_status(history.trials[decision.trial], "RUNNING"))
    return numbers


def test_the_front_goes_on_first_its_ends_and_what_is_far_from_its_neighbors():
    costs = [(0.0, 9.0), (9.0, 0.0), (4.0, 4.0), (4.1, 3.9), (5.0, 5.0), (1.0, 8.0), (9.0, 9.0), (9.5, 9.5), (8.0, 9.0)]
    assert promoted(paused_at(costs, ("f", "g"))) == [0, 1, 3]


def test_of_equals_the_earliest_go_on():
    assert promoted(paused_at([(1.0,)] * 9, ("f",))) == [0, 1, 2]


def test_a_trial_that_was_interrupted_after_its_last_epoch_comes_to_its_end():
    history = paused_at([(1.0,)], ("f",))
    reports = [tn.types.Report(epoch, {"f": 1.0}) for epoch in range(1, 10)]
    history.record(with_status(with_reports(history.trials[0], reports, history.objective), "PAUSED"))
    assert tn.Halving(3).next(history.space, history, None) == tn.schedule.Continue(0, 9)


def test_replicas_compete_at_the_rungs_by_their_mean(tmp_path):
    """A promoted configuration goes on under all of its seeds, also in pieces."""

    def study(folder=None):
        where = tn.Folder(folder, checkpoint=0.0)
        return make(trainer=trainer(epochs=4), scheduler=tn.Halving(2), replicas=3, folder=where)

    whole = study()
    whole.run(trials=6)
    first = [trial.reports[0].metrics["accuracy"] for trial in whole.trials]
    went_on = {trial.number for trial in whole.trials if trial.epochs > 1}
    assert len(went_on) == 3
    assert min(first[n] for n in went_on) >= max(first[n] for n in range(6) if n not in went_on)
    assert all(report.errors["accuracy"] >= 0 for trial in whole.trials for report in trial.reports)
    for total in (2, 5, 9):
        with study(tmp_path) as part:
            part.run(trials=6, epochs=total)
    last = study(tmp_path)
    last.run(trials=6)
    facts = [[(t.config, t.status, t.reason, t.metrics, t.errors) for t in s.trials] for s in (last, whole)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("searcher", [lambda: tn.TPE(start=3), tn.GP], ids=["tpe", "gp"])
def test_a_study_that_learns_from_its_rungs_is_the_same_in_pieces(tmp_path, searcher):
    def study(folder=None):
        settings = {"trainer": falling, "minimize": "loss", "progress": False}
        space = tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Float(0.0, 1.0))
        return tn.Study(
            space=space,
            searcher=searcher(),
            scheduler=tn.Halving(2),
            folder=tn.Folder(folder, checkpoint=0.0),
            **settings,
        )

    whole = study()
    whole.run(trials=14)
    for total in (3, 8, 9, 14, 20):
        with study(tmp_path) as part:
            part.run(trials=14, epochs=total)
    last = study(tmp_path)
    last.run(trials=14)
    facts = [[(t.config, t.status, t.reason, t.metrics) for t in s.trials] for s in (last, whole)]
    assert facts[0] == facts[1]
    assert {trial.status for trial in whole.trials} == {"DONE", "STOPPED"}


def test_a_trial_that_another_process_stops_is_trained_no_further(tmp_path):
    losses = [[9.0, 9.0, 9.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [1.5, 1.5, 1.5]]

    def meanwhile(study, trial):
        if (trial.number, trial.epochs, trial.status) == (0, 2, "RUNNING"):  # the store has its first epoch
            with pytest.warns(UserWarning, match="scheduler was"):
                other = scripted(losses, scheduler=tn.Median(trials=2), folder=tmp_path)
            other.run(trials=4)

    study = scripted(losses, folder=tmp_path, callbacks=[meanwhile])
    study.run(trials=4)
    facts = [(t.status, t.epochs, t.reason) for t in study.trials]
    assert facts == [("STOPPED", 1, "worse than 2 of 2 at epoch 1"), *[("DONE", 3, "")] * 3]
    assert [t.status for t in tn.open(tmp_path).trials] == [status for status, _, _ in facts]
