"""study.extend: a trial that is trained on is, to the digit, one that was longer from the start."""

import math
import pickle
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, make
from tests.helpers.trainer_runs import facts, flat
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial, with_reports, with_status
from tuneflow.seeds import stream
from tuneflow.train.protocol import TrainerProtocol

SHORT, LONG = 2, 4
ALL = tn.Folder(None, keep="all")
SETTINGS = {
    "constant": {},
    "plateau": {"schedule": tn.rates.Plateau(patience=0, threshold=0.5)},
    "step in epochs": {"schedule": tn.rates.Step(at=(1, 3))},
    "warm-up in epochs": {"schedule": tn.rates.Warmup(epochs=2.5)},
    "torch's": {"schedule": tn.rates.Torch(partial(lr_scheduler.ExponentialLR, gamma=0.5))},
    "torch's plateau": {"schedule": tn.rates.Torch(partial(lr_scheduler.ReduceLROnPlateau, patience=0))},
    "patience": {"patience": 1},
    "an average of the weights": {"optimizer": tn.optim.Averaged(torch.optim.SGD, decay=0.9)},
    "augmentation": {"augment": lambda inputs: inputs + torch.randn_like(inputs)},
    "folds": {"folds": 2, "valid": None},
}
SPACE = {"model": {"width": tn.Int(4, 16)}, "optimizer": {"lr": tn.Float(0.05, 0.5, log=True)}}


def study(epochs=SHORT, space=SPACE, trainer=None, **settings):
    trainer = trained(epochs) if trainer is None else trainer
    return make(space, trainer=trainer, **({"folder": ALL, "seed": 3} | settings))


def trained(epochs, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "valid": VALID[:80]} | settings
    return tn.Trainer(
        TRAIN[:160], settings.pop("valid"), epochs=epochs, metrics={"accuracy": tn.metrics.accuracy}, **settings
    )


def whole_curves(study):
    """The reports of every configuration by number, those of what extends it at their end."""
    return [facts(study.history.curve(_last(study, t))) for t in study.trials if not t.extends]


def _last(study, trial):
    further = [t for t in study.trials if t.extends and t.parent[0] == trial.number]
    return _last(study, further[0]) if further else trial


def weights(result):
    return flat(dict(result.model().state_dict()))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("more", [{}, {"paired": False, "replicas": 2}], ids=["paired", "unpaired replicas"])
def test_an_extended_trial_is_the_one_that_was_longer_from_the_start(name, more):
    if name == "folds" and more:
        more = {"paired": False}
    short, long = (study(trainer=trained(epochs, **SETTINGS[name]), at="last", **more) for epochs in (SHORT, LONG))
    for each in (short, long):
        each.run(trials=2)
    before = list(short.trials)
    outcome = short.extend(epochs=LONG)
    assert whole_curves(short) == whole_curves(long)
    assert short.trials[:2] == before
    for trial in outcome.trials:
        assert weights(short.result(trial.number)) == weights(long.result(trial.parent[0]))


def odd(outputs, targets):
    """Best when the model is bad, so that an early epoch counts."""
    return -tn.metrics.accuracy(outputs, targets)


@pytest.mark.parametrize("runtime", [{}, {"lanes": 2}])
@pytest.mark.parametrize("lag", [None, 2])
def test_an_earlier_epoch_that_was_kept_is_trained_on_to_the_last_one_without_a_second_report(runtime, lag):
    pair = []
    for epochs in (3, 5):
        ours = trained(epochs)
        ours.metrics["odd"] = odd
        pair.append(study(trainer=ours, maximize="odd", runtime=tn.Runtime("cpu", **runtime), lag=lag, paired=False))
    short, long = pair
    for each in pair:
        each.run(trials=2)
    kept = [short.objective.pick(trial.reports).epoch for trial in short.trials]
    assert min(kept) < 3
    outcome = short.extend(epochs=5)
    assert [trial.parent for trial in outcome.trials] == [(0, 3), (1, 3)]
    assert whole_curves(short) == whole_curves(long)
    assert [[report.epoch for report in trial.reports] for trial in outcome.trials] == [[4, 5], [4, 5]]


def test_the_best_score_measured_counts_whatever_the_length_and_has_its_model():
    ours = study(maximize="accuracy")
    ours.run(trials=3)
    ours.extend(epochs=LONG)
    best = max(ours.trials, key=lambda trial: (trial.metrics["accuracy"], -trial.number))
    assert ours.best.number == best.number
    assert ours.test(TEST[:50])["accuracy"].value == ours.result(best.number).test(TEST[:50])["accuracy"].value
    assert ours.history.epochs == LONG
    ours.run(trials=7)
    assert ours.trials[6].epochs == LONG


@tn.loop(epochs=SHORT)
def fit(config, run):
    model = run.place(nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    rate = config["rate"](optimizer)
    for _ in run.epochs(model=model, optimizer=optimizer, rate=rate):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 2)).sub(1).square().mean()
        loss.backward()
        optimizer.step()
        rate.step()
        yield {"loss": loss}


def loop_study(rate, **settings):
    space = tn.SearchSpace(lr=tn.Float(0.01, 0.1), rate=tn.Choice({"it": rate}))
    return tn.Study(**{"space": space, "trainer": fit, "folder": ALL, "progress": False, "at": "last"} | settings)


def test_a_loop_goes_on_with_a_new_length_also_in_another_process():
    short = loop_study(partial(lr_scheduler.ExponentialLR, gamma=0.9))
    long = loop_study(partial(lr_scheduler.ExponentialLR, gamma=0.9), trainer=fit.with_epochs(LONG))
    for each in (short, long):
        each.run(trials=2)
    short.extend(epochs=LONG)
    assert whole_curves(short) == whole_curves(long)
    sent = pickle.loads(pickle.dumps(short.trainer))
    assert (sent.epochs, sent.function, fit.epochs) == (LONG, fit.function, SHORT)


class Alone(TrainerProtocol):
    epochs = SHORT

    def init(self, job):
        return tn.types.TrainState(0, {"x": 0.0})

    def advance(self, job, state, until):
        for epoch in range(state.epoch + 1, until + 1):
            yield tn.types.TrainState(epoch, {"x": 0.0}), tn.types.Report(epoch, {"loss": 1.0})
        return ""


def averaged():
    return study(trainer=trained(SHORT, optimizer=tn.optim.Averaged(torch.optim.SGD, decay=None, start=0.5)))


REFUSED = {
    "cosine": (
        lambda: study(trainer=trained(SHORT, schedule=tn.rates.Cosine())),
        r"Cosine\(final=0\.0\) spans the full",
    ),
    "shares": (
        lambda: study(trainer=trained(SHORT, schedule=tn.rates.Step())),
        r"Step\(at=\(0\.5, 0\.75\), by=0\.1\) s",
    ),
    "average from a share on": (averaged, r"Averaged: start=0\.5 is a share of the full length"),
    "torch's cosine": (
        lambda: study(
            trainer=trained(SHORT, schedule=tn.rates.Torch(partial(lr_scheduler.CosineAnnealingLR, T_max=2)))
        ),
        "scheduler of rates.Torch has come to its end",
    ),
    "replicas": (lambda: study(trainer=trained(SHORT, schedule=tn.rates.Cosine()), replicas=2), "Cosine.* spans"),
    "a loop's cosine": (
        lambda: loop_study(partial(lr_scheduler.CosineAnnealingLR, T_max=SHORT)),
        r"the scheduler rate has come to its end \(T_max=2\)",
    ),
    "a loop's one cycle": (
        lambda: loop_study(partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3, cycle_momentum=False)),
        "the scheduler rate has total_steps=3",
    ),
    "a loop's rate of 0": (
        lambda: loop_study(partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: max(0.0, 1 - epoch / 2))),
        "the scheduler rate has come to a rate of 0",
    ),
    "a trainer of one's own": (
        lambda: tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=Alone(), folder=ALL, progress=False),
        r"Alone has no method finished\(\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ends_with_the_full_length_is_refused_with_its_reason(name):
    begin, reason = REFUSED[name]
    ours = begin()
    ours.run(trials=1)
    with pytest.raises(StudyError, match=rf"no trial can be trained on to epoch 4 \(.*trial 0: .*{reason}"):
        ours.extend(epochs=LONG)
    assert (len(ours.trials), ours.history.epochs, ours.trainer.epochs) == (1, SHORT, SHORT)


def test_trials_whose_state_is_gone_are_named():
    ours = study(folder=None)
    ours.run(trials=3)
    outcome = ours.extend(epochs=LONG)
    (trial,) = outcome.trials
    others = [number for number in range(3) if number != trial.parent[0]]
    assert list(outcome.left) == others
    assert "left as they are: trials" in repr(outcome)
    assert f"trial 3, which extends trial {trial.parent[0]}: DONE" in repr(outcome)


def test_a_schedule_that_is_tuned_decides_for_each_configuration():
    schedule = tn.Choice({"cosine": tn.rates.Cosine(), "fixed": tn.rates.Fixed()})
    ours = study(space={**SPACE, "trainer": {"schedule": schedule}}, searcher=tn.Grid(4))
    ours.run(trials=4)
    outcome = ours.extend(epochs=LONG)
    label = {trial.number: trial.config["trainer"]["schedule"] for trial in ours.trials}
    assert {label[trial.parent[0]] for trial in outcome.trials} == {"fixed"}
    assert {label[number] for number in outcome.left} == {"cosine"}


def test_top_extends_the_best_only():
    ours = study()
    ours.run(trials=3)
    best = ours.best.number
    outcome = ours.extend(epochs=LONG, top=1)
    assert [trial.parent[0] for trial in outcome.trials] == [best]
    assert set(outcome.left.values()) == {"not among the best 1"}
    again = ours.extend(epochs=LONG, top=1)  # as in a script that is run again
    assert (again.trials, again.left) == ((), outcome.left)


@pytest.mark.parametrize("at_once", [True, False])
def test_trainings_of_one_configuration_have_their_mean_at_the_new_length(at_once):
    ours = study(paired=False, at="last")
    for width in (5, 9, 5, 5):
        ours.enqueue({"model": {"width": width}, "optimizer": {"lr": 0.1}})
    ours.run(trials=4)
    if not at_once:
        ours.extend(epochs=LONG, top=3)
    ours.extend(epochs=LONG)
    longer = [trial for trial in ours.trials if trial.extends and trial.config["model"]["width"] == 5]
    assert [trial.repeats for trial in longer] == [None, longer[0].number, longer[0].number]
    mean = sum(trial.metrics["loss"] for trial in longer) / 3
    assert ours.history.trainings.mean(longer[1]).metrics["loss"] == pytest.approx(mean)


def test_trials_that_were_left_go_on_to_the_length_that_the_study_has():
    ours, long = study(at="last"), study(LONG)
    for each in (ours, long):
        each.run(trials=3)
    ours.extend(epochs=LONG, top=1)
    outcome = ours.extend(epochs=LONG)
    assert (len(outcome.trials), outcome.left) == (2, {})
    assert whole_curves(ours) == whole_curves(long)


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (tn.rates.Torch(partial(lr_scheduler.CosineAnnealingLR, T_max=SHORT)), r"come to its end \(T_max=2\)"),
        (tn.rates.Cosine(), "spans the full 2 epochs"),
    ],
    ids=["torch's", "ours"],
)
def test_a_schedule_that_has_ended_stays_so_when_the_study_is_longer(schedule, reason):
    tuned = tn.Choice({"ended": schedule, "fixed": tn.rates.Fixed()})
    ours = study(space={**SPACE, "trainer": {"schedule": tuned}}, searcher=tn.Grid(2), at="last")
    ours.run(trials=4)
    ended = [trial.number for trial in ours.trials if trial.config["trainer"]["schedule"] == "ended"]
    for epochs in (LONG, 2 * LONG):
        outcome = ours.extend(epochs=epochs)
        assert (len(outcome.trials), list(outcome.left)) == (2, ended)
        assert all(re.search(reason, text) for text in outcome.left.values())


BAD = {
    "no more": (lambda s: s.extend(epochs=SHORT), ValueError, "needs to be more than the 2 epochs of a trial, got 2"),
    "nothing": (lambda s: s.extend(epochs=0), ValueError, "epochs needs to be a whole number >= 1, got 0"),
    "top": (lambda s: s.extend(epochs=LONG, top=0), ValueError, "top needs to be a whole number >= 1, got 0"),
    "new": (lambda s: s.extend(epochs=LONG), StudyError, r"\(there is none that has ended\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    act, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        act(study())


def test_studies_that_train_elsewhere_or_a_function_are_refused():
    space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
    with pytest.raises(StudyError, match="this study has no trainer"):
        tn.Study(space=space, progress=False).extend(epochs=3)


def test_a_trial_that_has_not_ended_comes_first():
    ours = study()
    ours.run(epochs=1)
    with pytest.raises(StudyError, match=r"1 trial has not ended \(trial 0 is PAUSED at epoch 1\); run\(trials=1\)"):
        ours.extend(epochs=LONG)


def stopping(at):
    """A callback that interrupts the run at this report, once."""
    reports = []

    def callback(study, trial):
        reports.append(trial.number)
        if len(reports) == at:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("lag", [None, 2])
@pytest.mark.parametrize("way", ["extend", "run"])
def test_an_interrupted_extension_goes_on_where_it_was(tmp_path, way, lag):
    whole = study(folder=ALL, lag=lag)
    whole.run(trials=2)
    whole.extend(epochs=LONG)
    ours = study(folder=tn.Folder(tmp_path, keep="all"), lag=lag)
    ours.run(trials=2)
    ours.callbacks.append(stopping(2))
    with pytest.raises(KeyboardInterrupt):
        ours.extend(epochs=LONG)
    assert len(ours.history.extending) > 0
    ours.close()
    with study(folder=tn.Folder(tmp_path, keep="all"), lag=lag) as again:
        if way == "run":
            again.run(trials=2)
        else:
            assert len(again.extend(epochs=LONG).trials) > 0
        assert whole_curves(again) == whole_curves(whole)
        assert again.extend(epochs=LONG).trials == ()


@pytest.mark.parametrize("epochs", [SHORT, LONG])
def test_an_extended_study_is_opened_with_either_length(tmp_path, epochs):
    folder = tn.Folder(tmp_path, keep="all")
    with study(folder=folder) as ours:
        ours.run(trials=2)
        ours.extend(epochs=LONG)
        first = whole_curves(ours)
    with study(epochs, folder=folder) as again:
        assert (again.history.epochs, again.trainer.epochs, again.history.lengths) == (LONG, LONG, (SHORT, LONG))
        assert whole_curves(again) == first
        again.run(trials=5)
        assert again.trials[4].epochs == LONG
        again.extend(epochs=LONG + 1, top=1)
        assert again.trials[5].epochs == LONG + 1
        assert again.extend(epochs=LONG).trials == ()  # as in a script that is run again
    archive = tn.open(tmp_path)
    assert (archive.history.epochs, archive.history.lengths) == (LONG + 1, (SHORT, LONG, LONG + 1))
    assert '"extends": true' in list(archive.lines())[3]
    way = r"trainer\.epochs was 2, now 9.*make it with epochs=2 and call study\.extend\(epochs=9\)"
    with pytest.raises(FingerprintError, match=way):
        study(9, folder=folder)
    with pytest.raises(FingerprintError, match=r"trainer\.epochs was 2, now 3.*or another folder\.$"):
        study(3, folder=folder)


def test_confirm_and_learning_curve_take_a_configuration_at_its_best_length():
    ours = study(at="last")
    ours.run(trials=2)
    ours.extend(epochs=LONG)
    chosen = ours.confirm(top=2, seeds=1)
    assert chosen.epochs == LONG
    assert chosen.confirmed.seeds == 1
    assert len(ours.best.learning_curve([40, 80], seeds=1).rows) == 2


def test_an_extension_takes_no_point_of_a_grid():
    ours = study(
        space={**SPACE, "optimizer": {"lr": tn.Float(0.01, 0.1)}},
        searcher=tn.Grid({"model.width": 4, "optimizer.lr": 1}),
    )
    ours.run(trials=2)
    ours.extend(epochs=LONG)
    ours.run(trials=99)
    assert len({trial.config["model"]["width"] for trial in ours.trials}) == 4
    assert len(ours.trials) == 6


SCHEDULERS = {
    "halving": lambda: tn.Halving(factor=2),
    "hyperband": lambda: tn.Hyperband(factor=2),
    "median": lambda: tn.Median(trials=1),
    "population": lambda: tn.Population(members=4),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_go_on_after_an_extension(name):
    ours = study(4, scheduler=SCHEDULERS[name]())
    ours.run(trials=5)
    done = [trial.number for trial in ours.trials if trial.status == "DONE"]
    outcome = ours.extend(epochs=8)
    assert [trial.parent[0] for trial in outcome.trials] == done
    assert {trial.epochs for trial in outcome.trials} == {8}
    before = len(ours.trials)
    ours.run(trials=before + 4)
    assert all(trial.ended for trial in ours.trials)
    new = {trial.epochs for trial in ours.trials[before:]}
    assert new <= {1, 2, 4, 8}
    assert name != "median" or 8 in new


def history(space, further, late):
    """Eight trials of 2 epochs; one extended to 4 by the losses `further`, and a new one that ends in `late`."""
    trials = History(space, Objective((("loss", False),)), seed=0, epochs=4)
    trials.lengths = (2, 4)

    def end(trial, losses, first=1):
        reports = [Report(epoch, {"loss": loss}) for epoch, loss in enumerate(losses, first)]
        trials.record(with_status(with_reports(trial, reports, trials.objective), "DONE"))

    for number in range(8):
        x = (number + 0.5) / 8
        end(Trial(number, {"x": x, "y": 1 - x}), [1.0, (x - 0.3) ** 2])
    end(Trial(8, trials.trials[6].config, parent=(6, 2), extends=True), further, first=3)
    end(Trial(9, {"x": 0.9, "y": 0.9}), [1.0, 0.4, *late])
    return trials


SEARCHERS = {
    "gp": tn.GP,
    "tpe": tn.TPE,
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(population=4, sample=2),
    "nsga2": lambda: tn.NSGA2(population=4),
}


@pytest.mark.parametrize("name", SEARCHERS)
def test_searchers_compare_at_the_common_epoch_and_take_no_second_observation(name):
    space = tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Float(0.0, 1.0))

    def suggested(further, late):
        past = history(space, further, late)
        return SEARCHERS[name]().suggest(space, past, stream(0, "search", 10))

    assert suggested([0.5, 0.5], [0.3, 0.3]) == suggested([0.0, 0.0], [0.3, 0.3]) == suggested([0.5, 0.5], [0.0, 0.0])


def test_costs_compare_at_the_first_length_and_a_curve_is_whole():
    past = history(tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Float(0.0, 1.0)), [0.02, 0.01], [0.3, 0.2])
    assert past.comparable_costs[[6, 9]].tolist() == [past.costs[6], 0.4]
    assert math.isnan(past.comparable_costs[8])
    assert past.costs[[8, 9]].tolist() == [0.01, 0.2]
    assert [report.epoch for report in past.curve(past.trials[8])] == [1, 2, 3, 4]
    assert past.costs_at(3)[8] == 0.02
    assert math.isnan(past.costs_at(2)[8])
    assert past.observed.numbers.tolist() == [*range(8), 9]
