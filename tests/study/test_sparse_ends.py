"""Metrics that some reports lack, where a training ends by itself, goes on, or is repeated."""

import random

import pytest
import torch

import tuneflow as tn
from tests.helpers.small_studies import TRAIN, VALID, linear
from tests.helpers.worker_training import ONE
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.train.patience import Patience

ENDS = Patience(1, "train_loss", maximize=True)  # training lowers it, so that a training ends at epoch 2
SPACE = {"optimizer": {"lr": tn.Float(0.001, 0.1, log=True)}}


class Norm:
    """The norm of the weights."""

    def __init__(self, every=4):
        self.every = every

    def of_module(self, module, data):
        return sum(p.square().sum().item() for p in module.parameters())

    def brief(self):
        return Brief()


class Brief:
    taken = 0

    def of_module(self, module, data):
        Brief.taken += 1
        return 0.0


class Drawn:
    every = 2

    def of_module(self, module, data):
        return torch.rand(()).item() + random.random()


def trainer(norm=None, **settings):
    settings = {"epochs": 5, "metrics": {"norm": norm or Norm()}} | settings
    return tn.Trainer(TRAIN[:64], VALID[:32], loss=torch.nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, **settings)


def make(training=None, **settings):
    settings = {"minimize": "norm", "runtime": ONE, "trainer": training or trainer(patience=ENDS)} | settings
    return tn.Study(space=tn.SearchSpace(**SPACE), model=tn.Model(linear), progress=False, **settings)


def curve(trial):
    return {report.epoch: report.metrics["norm"] for report in trial.reports if "norm" in report.metrics}


@pytest.fixture(scope="module")
def ended():
    study = make()
    study.run(trials=2)
    return study


def test_where_patience_ends_a_trial_the_report_has_it(ended):
    assert [trial.status for trial in ended.trials] == ["STOPPED"] * 2
    assert [list(curve(trial)) for trial in ended.trials] == [[2], [2]]
    module = ended.best.model()
    assert ended.best.metrics["norm"] == pytest.approx(Norm().of_module(module, None))


@pytest.mark.parametrize("settings", [{}, {"runtime": tn.Runtime("cpu", threads=1, lanes=2)}], ids=["pieces", "lanes"])
def test_neither_pieces_nor_lanes_change_that(tmp_path, ended, settings):
    for epochs in (1, 2, 3, None):
        study = make(folder=tmp_path, **settings)
        study.run(trials=2, epochs=epochs)
        study.close()
    for trial, same in zip(study.trials, ended.trials, strict=True):
        assert curve(trial) == pytest.approx(curve(same), rel=1e-5)


def test_training_under_fresh_seeds_reports_it_at_the_epoch_that_counts(ended):
    assert "norm" in ended.confirm(top=1, seeds=1).confirmed.metrics
    single = ended.trainer.single.configured({"trainer": {"patience": 5}, "optimizer": {"lr": 0.01}})
    job = tn.types.Job(tn.Model(linear), {"optimizer": {"lr": 0.01}}, ONE)
    reports = [report for _, report in single.reporting_at({3}).advance(job, single.init(job), 5)]
    assert [report.epoch for report in reports if "norm" in report.metrics] == [3, 4, 5]


class EndsAt(tn.Trainer):
    """Ends the replica of a number after two epochs."""

    ending = 0

    def advance(self, job, state, until):
        for reached in super().advance(job, state, until):
            yield reached
            if job.replica == self.ending and reached[1].epoch == 2:
                return "long enough"
        return ""


@pytest.mark.parametrize("ending", [0, 1])
def test_a_report_of_replicas_has_what_all_of_them_have(ending):
    parts = {"loss": torch.nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 4}
    training = EndsAt(TRAIN[:64], VALID[:32], metrics={"norm": Norm(2)}, **parts)
    training.ending = ending
    study = make(training, replicas=2)
    study.run(trials=1)
    job = tn.types.Job(tn.Model(linear), study.trials[0].config, ONE)
    each = [list(training.advance(one, training.init(one), 4)) for one in study.trainer.jobs(job)]
    last = [reports[-1][1].metrics["norm"] for reports in each]
    assert curve(study.trials[0]) == {2: pytest.approx(study.trials[0].reports[1].metrics["norm"]), 4: sum(last) / 2}


def test_trials_of_a_longer_study_report_it_at_the_first_length_too():
    study = make(trainer(schedule=tn.rates.Plateau(metric="norm", patience=1)), scheduler=tn.Full())
    study.run(trials=1)
    study.extend(epochs=7)
    study.run(trials=3)
    assert [list(curve(trial)) for trial in study.trials] == [[4, 5], [7], [4, 5, 7]]


@pytest.mark.parametrize(
    ("norm", "says"),
    [(Norm(5), r"no report before the last, at epoch 5, has norm"), (Norm(9), "no report before the last")],
    ids=["at the last", "beyond"],
)
def test_a_rule_that_could_stop_nothing_is_refused(norm, says):
    with pytest.raises(ValueError, match=says):
        make(trainer(norm), scheduler=tn.Median(trials=1))


def test_once_for_each_structure_and_at_some_epochs_exclude_each_other():
    metric = Norm(2)
    metric.once_per_structure = True
    with pytest.raises(ValueError, match=r'metric "norm" is taken once for each structure .* got every=2; drop one'):
        trainer(metric)


def test_the_dry_run_takes_its_brief_version_whatever_the_epoch():
    before = Brief.taken
    make(trainer(Norm(4)))
    assert Brief.taken > before


class Silent(tn.Trainer):
    """Declares a metric that it never reports."""

    def advance(self, job, state, until):
        for reached, report in super().advance(job, state, until):
            yield reached, tn.types.Report(report.epoch, {"loss": report.metrics["loss"]})


def test_a_metric_that_is_declared_and_never_reported_is_an_error():
    parts = {"loss": torch.nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2}
    study = make(Silent(TRAIN[:64], VALID[:32], metrics={"norm": Norm(2)}, **parts))
    with pytest.raises(StudyError, match='metric "norm" was never reported'):
        study.run(trials=1)


def test_it_draws_by_the_seed_of_the_job_and_leaves_the_generators_alone():
    drawn = []
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        random.seed(before)
        state = torch.get_rng_state(), random.getstate()
        study = make(trainer(Drawn()), seed=seed)
        study.run(trials=2)
        assert torch.equal(state[0], torch.get_rng_state())
        assert state[1] == random.getstate()
        values = {value for trial in study.trials for value in curve(trial).values()}
        assert len(values) == 1  # the same in every report, so that epochs and trials compare
        drawn.append(values)
    assert drawn[0] == drawn[1] != drawn[2]


class Third(Drawn):
    every = 3


def test_a_study_may_get_such_a_metric_later_and_keeps_its_every(tmp_path):
    studies = [trainer(metrics={}), trainer(metrics={"norm": Drawn()}), trainer(metrics={"norm": Third()})]
    make(studies[0], folder=tmp_path, minimize="loss").close()
    with pytest.warns(UserWarning, match=r"trainer\.metrics\.norm was None, now 'Drawn\(\), every 2'"):
        make(studies[1], folder=tmp_path, minimize="loss").close()
    make(studies[1], folder=tmp_path / "other", minimize="loss").close()
    with pytest.raises(FingerprintError, match="now 'Third\\(\\), every 3'"):
        make(studies[2], folder=tmp_path / "other", minimize="loss")
