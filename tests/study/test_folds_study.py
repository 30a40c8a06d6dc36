"""Studies with cross-validation: the score, the dry run of every fold, resuming, workers, and the models."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.trainer_runs import run
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.train.loop_state import differences
from tuneflow.train.protocol import TrainerProtocol

ROWS = 64
INPUTS = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
CLASSES = (INPUTS @ torch.randn(4, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
DATA = tn.Data(INPUTS, CLASSES)


def net(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


class Counted(tn.rates.Fixed):
    """Counts the epochs trained on all rows."""

    epochs = 0

    def attach(self, optimizer, settings, steps, epochs):
        live = super().attach(optimizer, settings, steps, epochs)
        if steps == ROWS // 16:
            live.after_epoch = lambda _: setattr(Counted, "epochs", Counted.epochs + 1)
        return live


SETTINGS = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16}


def trainer(data=DATA, folds=3, **settings):
    return tn.Trainer(data, folds=folds, **SETTINGS | settings)


def study(ours=None, builder=net, high=0.5, **settings):
    settings = {"minimize": "loss", "progress": False, "runtime": tn.Runtime("cpu", threads=1)} | settings
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, high, log=True)})
    return tn.Study(space=space, model=tn.Model(builder), trainer=ours or trainer(), **settings)


def scores(study):
    return [(trial.config, trial.status, trial.metrics, trial.errors) for trial in study.trials]


def test_a_killed_study_resumes_exactly_within_the_folds(tmp_path):
    whole, folder = study(), tmp_path / "study"
    whole.run(trials=3)
    with study(folder=folder) as first:
        first.run(trials=3, epochs=3)
    with study(folder=folder) as again:
        assert [trial.epochs for trial in again.trials] == [2, 1]
        again.run(trials=3)
        assert scores(again) == scores(whole)


def test_a_study_with_other_folds_is_refused(tmp_path):
    study(folder=tmp_path).close()
    with pytest.raises(FingerprintError, match=r"trainer.data.folds.number was 3, now 4"):
        study(trainer(folds=4), folder=tmp_path)


def test_confirm_trains_fresh_seeds_over_the_same_folds():
    ours = study(replicas=2)
    ours.run(trials=2)
    chosen = ours.confirm(top=1, seeds=2)
    confirmed = chosen.confirmed
    assert confirmed.seeds == 2
    assert isinstance(chosen.model(), nn.Module)
    assert confirmed.metrics["loss"] != ours.best.metrics["loss"]


# The models.


def equal(one, other):
    return differences(dict(one.state_dict()), dict(other.state_dict())) == []


def on_all_rows(trial, until, **settings):
    """A trial's configuration trained by hand on all rows."""
    ours = tn.Trainer(DATA, DATA, **SETTINGS | settings)
    job = tn.types.Job(tn.Model(net), trial.config, tn.Runtime("cpu", threads=1))
    return ours.module(job, run(ours, job, until)[0])


def mixed(module, inputs, targets):
    """An augmentation that draws, and sees all three."""
    share = torch.rand(len(inputs), 1)
    return inputs * share + inputs.flip(0) * (1 - share), targets


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": tn.optim.Averaged(torch.optim.SGD, decay=0.9)},
        {"optimizer": torch.optim.AdamW, "schedule": tn.rates.OneCycle()},
        {"loss": tn.nn.BalancedCrossEntropy},
        {"augment": mixed, "micro_batch": 4},
    ],
    ids=["averaged", "one cycle", "balanced", "augmented"],
)
def test_whatever_a_trainer_has_is_in_the_training_on_all_rows(settings):
    ours = study(trainer(**settings), at="last")
    ours.run(trials=1)
    assert equal(ours.best.model(), on_all_rows(ours.best, 2, **settings))


@pytest.mark.parametrize("at", ["best", "last"])
def test_the_model_is_trained_on_all_rows_for_the_epochs_that_count(at):
    ours = study(at=at)
    ours.run(trials=2)
    best = ours.best
    epoch = 2 if at == "last" else min(best.reports, key=lambda report: report.metrics["loss"]).epoch
    assert equal(best.model(), on_all_rows(best, epoch))


def test_the_model_of_folds_that_end_apart_is_trained_for_the_mean_of_their_epochs():
    settings = {"epochs": 30, "optimizer": partial(torch.optim.SGD, momentum=0.95)}
    ours = study(trainer(patience=1, **settings), at="last", high=2.0)
    ours.run(trials=1)
    job = tn.types.Job(tn.Model(net), ours.best.config, tn.Runtime("cpu", threads=1))
    alone = trainer(patience=1, **settings)
    lengths = [len(run(alone, replace(job, fold=fold))[1]) for fold in range(3)]
    assert len(set(lengths)) > 1
    assert equal(ours.best.model(), on_all_rows(ours.best, round(sum(lengths) / 3), **settings))


def test_a_schedule_that_watches_a_metric_goes_by_the_folds():
    seen = []

    class Watching(tn.rates.Plateau):
        def attach(self, *arguments):
            live = super().attach(*arguments)
            noting = live.after_epoch
            live.after_epoch = lambda metrics: (seen.append(metrics["loss"]), noting(metrics))
            return live

    ours = study(trainer(schedule=Watching()), at="last")
    ours.run(trials=1)
    seen.clear()
    ours.best.model()
    assert seen == [report.metrics["loss"] for report in ours.best.reports]


def test_the_models_are_those_of_the_folds_and_replicas():
    ours = study(replicas=2, at="last")
    ours.run(trials=1)
    models = ours.best.models()
    alone, job = trainer(), tn.types.Job(tn.Model(net), ours.best.config, tn.Runtime("cpu", threads=1))
    jobs = [replace(job, replica=replica, fold=fold) for replica in (0, 1) for fold in (0, 1, 2)]
    assert [equal(model, alone.module(j, run(alone, j)[0])) for model, j in zip(models, jobs, strict=True)] == [
        True
    ] * 6


@pytest.mark.parametrize("replicas", [1, 2])
def test_without_folds_there_is_a_model_for_each_replica(replicas):
    ours = study(tn.Trainer(DATA, DATA, **SETTINGS), replicas=replicas)
    ours.run(trials=1)
    models = ours.best.models()
    assert len(models) == replicas
    assert equal(models[0], ours.best.model())
    assert replicas == 1 or not equal(*models)


def test_the_model_is_trained_once_and_kept(tmp_path):
    with study(trainer(schedule=Counted()), folder=tmp_path) as ours:
        ours.run(trials=1)
        Counted.epochs = 0
        first = ours.best.model()
        trained = Counted.epochs
        assert trained == ours.best.origin.epoch
        ours.best.save(tmp_path / "best.pt")
        scores = ours.test((INPUTS, CLASSES))
    with study(trainer(schedule=Counted()), folder=tmp_path) as again:
        assert equal(again.best.model(), first)
        assert repr(again.test((INPUTS, CLASSES))) == repr(scores)
    assert Counted.epochs == trained
    assert torch.equal(tn.load(tmp_path / "best.pt", net)(INPUTS), first(INPUTS))


def test_the_models_on_all_rows_of_trials_whose_states_are_dropped_go(tmp_path):
    with study(folder=tmp_path) as ours:
        bests = []
        for trials in range(1, 7):
            ours.run(trials=trials)
            ours.best.model()
            bests.append(ours.best.number)
        names = [file.name[:6] for file in (tmp_path / "final").glob("*.state")]
        assert len(set(bests)) > 1
        assert names == [f"{bests[-1]:06d}"]
        assert ours.best.model() is not None


def test_a_fork_is_trained_on_all_rows_by_the_configurations_that_it_had():
    class ForkOnce(tn.Scheduler):
        def next(self, space, history, rng):
            if not len(history):
                return tn.schedule.Start(1)
            if len(history) == 1 and history.paused:
                return tn.schedule.Fork(0, 1, {"optimizer": {"lr": 0.5}}, 2)
            return tn.schedule.Wait()

        def keep(self, history):
            return [(0, 1)]

    ours = study(scheduler=ForkOnce(), at="last")
    ours.run(trials=2)
    fork = ours.result(1)
    assert fork.parent == (0, 1)
    alone = tn.Trainer(DATA, DATA, **SETTINGS)
    jobs = [tn.types.Job(tn.Model(net), t.config, tn.Runtime("cpu", threads=1)) for t in ours.trials]
    state, _ = run(alone, jobs[0], 1)
    assert equal(fork.model(), alone.module(jobs[1], run(alone, jobs[1], 2, state)[0]))


def test_a_training_on_all_rows_that_fails_ends_in_words():
    class Fragile(tn.Trainer):
        def loss_of(self, module, batch):
            if len(self.train) == ROWS and self.fold_rows is not None:
                raise RuntimeError("all rows are too many")
            return super().loss_of(module, batch)

    ours = study(Fragile(DATA, folds=3, **SETTINGS))
    ours.run(trials=1)
    with pytest.raises(StudyError, match=r"trial 0 ends on all rows: FAILED \(RuntimeError: all rows are too many"):
        ours.best.model()
    assert len(ours.best.models()) == 3


def test_a_trainer_of_another_kind_has_folds_too():
    class Means(TrainerProtocol):
        """Reports the fold's number; its module holds the number of the fold that it was trained on, or 9."""

        epochs, folds = 2, 3

        def init(self, job):
            return tn.types.TrainState(0, {"fold": 9 if job.fold is None else job.fold})

        def advance(self, job, state, until):
            for epoch in range(state.epoch + 1, until + 1):
                yield tn.types.TrainState(epoch, state.values), tn.types.Report(epoch, {"loss": state.values["fold"]})

        def module(self, job, state):
            return state.values["fold"], state.epoch

    ours = study(Means())
    ours.run(trials=1)
    assert ours.best.metrics["loss"] == 1.0
    assert ours.best.models() == [(0, 1), (1, 1), (2, 1)]
    assert ours.best.model() == (9, 1)


def test_the_scores_say_that_they_are_means_of_folds():
    ours = study()
    ours.run(trials=1)
    assert "mean of 3 folds, epoch " in repr(ours.best)


def test_a_probe_measures_fold_0():
    ours, job = trainer(), tn.types.Job(tn.Model(net), {}, tn.Runtime("cpu", threads=1))
    train, valid = ours.fold_rows.pairs[0]
    wanted = tn.probe(job.model, tn.Trainer(DATA[train], DATA[valid], **SETTINGS), job.runtime)
    assert replace(tn.probe(job.model, ours, job.runtime), seconds=0.0) == replace(wanted, seconds=0.0)


@pytest.mark.parametrize("searcher", [tn.LeCun, tn.Auto])
@pytest.mark.parametrize("scheduler", [tn.Halving(2), tn.Median()])
def test_searchers_and_schedulers_go_by_the_mean_over_folds(searcher, scheduler):
    ours = study(trainer(epochs=4), high=10.0, searcher=searcher(), scheduler=scheduler)
    ours.run(trials=4)
    assert any(trial.status == "DONE" for trial in ours.trials)
    assert isinstance(ours.best.model(), nn.Module)


def test_limits_hold_for_the_mean_over_folds():
    ours = study(limits={"train_loss": 100.0})
    ours.run(trials=1)
    assert ours.best.metrics["train_loss"] < 100


# The dry run.


def test_a_row_of_any_fold_is_checked():
    inputs = INPUTS.clone()
    inputs[63] = torch.nan
    with pytest.raises(ValueError, match="NaN or inf in train inputs: 1 of 64 rows, the first is row 63"):
        study(trainer((inputs, CLASSES)))


def test_a_last_batch_of_one_row_is_found_in_every_fold():
    def normed():
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    folds = [(range(40), range(40, 64)), (range(31, 64), range(31))]
    with pytest.raises(ValueError, match="33 rows in fold 1 in batches of 16 leave one for the last batch"):
        study(trainer(folds=folds), normed)
    assert study(trainer(folds=[folds[0], (range(30, 64), range(30))]), normed)


@pytest.mark.parametrize(
    ("targets", "loss", "outputs"),
    [(CLASSES, nn.CrossEntropyLoss(), 3), ((CLASSES == 1).float()[:, None], nn.BCEWithLogitsLoss(), 1)],
)
def test_a_class_that_a_fold_never_trains_on_is_named(targets, loss, outputs):
    one = (CLASSES == 1).numpy()
    with pytest.warns(UserWarning, match="fold 1 is scored on class 1 in targets, and none of its training rows"):
        study(trainer((INPUTS, targets), [(range(40), range(40, 64)), (~one, one)], loss=loss),
              lambda: nn.Linear(4, outputs))  # fmt: skip


def test_a_class_that_the_loss_ignores_is_not_named():
    one, some = (CLASSES == 1).numpy(), (torch.arange(ROWS) > 40).numpy()
    targets = torch.where(CLASSES == 1, -100, CLASSES)
    study(trainer((INPUTS, targets), [(range(40), range(40, 64)), (~one & ~some, one | some)]))


def two_classes(outputs, targets):
    """Fails on a single class, as AUC does."""
    if len(targets.unique()) == 1:
        raise ValueError("only one class")
    return float(len(targets))


def two_classes_or_nan(outputs, targets):
    return two_classes(outputs, targets) if len(targets.unique()) > 1 else float("nan")


ONE_CLASS = [
    (range(40), range(40, 64)),
    ((CLASSES != 1) | (torch.arange(ROWS) < 30), (CLASSES == 1) & (torch.arange(ROWS) >= 30)),
]


def test_a_fold_that_a_metric_is_not_defined_on_is_refused_or_named():
    with pytest.raises(ValueError, match=r"fold 1 cannot be scored: ValueError: .*only one class"):
        study(trainer(folds=ONE_CLASS, metrics={"auc": two_classes}))
    with pytest.warns(UserWarning, match='metric "auc" is nan on fold 1, and so is its mean over the folds'):
        study(trainer(folds=ONE_CLASS, metrics={"auc": two_classes_or_nan}))
    study(trainer(metrics={"auc": two_classes}))


class Counts(nn.Module):
    """A loss that is fitted to targets; keeps how many there were of each class."""

    fitted: list[list[int]] = []

    def fit(self, targets):
        Counts.fitted.append(torch.bincount(targets).tolist())

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)


def test_a_loss_is_fitted_to_the_training_rows_of_each_fold():
    ours = study(trainer(loss=Counts()))
    Counts.fitted.clear()
    ours.run(trials=1)
    wanted = [torch.bincount(CLASSES[train]).tolist() for train, _ in trainer().fold_rows.pairs]
    assert {tuple(counts) for counts in Counts.fitted} == {tuple(counts) for counts in wanted}
