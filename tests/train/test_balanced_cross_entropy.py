"""Class weights from one number, and losses that are fitted to the training targets."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import tuneflow as tn
from tests.helpers.trainer_runs import facts, run
from tuneflow.data.sources import DatasetSource
from tuneflow.nn import BalancedCrossEntropy

DRAWS = torch.Generator().manual_seed(0)
Y = torch.tensor([0] * 24 + [1] * 12 + [3] * 4)[torch.randperm(40, generator=DRAWS)]
X = torch.randn(40, 6, generator=DRAWS)
OUTPUTS = torch.randn(40, 4, generator=DRAWS)
RUNTIME = tn.Runtime("cpu", threads=1)


def fitted(targets=Y, **settings):
    loss = BalancedCrossEntropy(**settings)
    loss.fit(targets)
    return loss


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_weights_are_powers_of_the_frequency_with_mean_1_over_rows(power):
    weights = fitted(power=power).weights(4)
    assert float(weights[Y].mean()) == pytest.approx(1.0, rel=1e-6)
    assert float(weights[3] / weights[0]) == pytest.approx(6.0**power, rel=1e-5)
    assert float(weights[2] / weights[3]) == pytest.approx(4.0**power, rel=1e-5)  # no rows: as if it had one


SETTINGS = ({}, {"label_smoothing": 0.1}, {"ignore_index": 1}, {"reduction": "sum"}, {"reduction": "none"})


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_power_0_is_cross_entropy_to_the_bit(settings):
    expected = nn.CrossEntropyLoss(**settings)(OUTPUTS, Y)
    assert torch.equal(fitted(power=0.0, **settings)(OUTPUTS, Y), expected)


def test_a_batch_counts_its_rows_and_not_their_weights():
    loss = fitted(power=1.0, ignore_index=1)
    weights, kept = loss.weights(4), Y != 1
    each = F.cross_entropy(OUTPUTS, Y, reduction="none")
    assert float(loss(OUTPUTS, Y)) == pytest.approx(float((weights[Y] * each)[kept].mean()), rel=1e-6)
    alone = [float(loss(OUTPUTS[i : i + 1], Y[i : i + 1])) for i in range(40) if kept[i]]
    assert float(loss(OUTPUTS, Y)) == pytest.approx(sum(alone) / len(alone), rel=1e-5)


def test_shares_of_classes_count_as_class_numbers_do():
    numbers, shares = fitted(power=0.7), fitted(F.one_hot(Y, 4).float(), power=0.7)
    assert torch.allclose(numbers.weights(4), shares.weights(4))
    assert float(shares(OUTPUTS, F.one_hot(Y, 4).float())) == pytest.approx(float(numbers(OUTPUTS, Y)), rel=1e-6)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_output_is_two_classes(shape):
    targets, outputs = (Y == 3).float().reshape(shape), OUTPUTS[:, 0].reshape(shape)
    both = torch.stack([torch.zeros(40), outputs.flatten()], 1)
    two, one = fitted((Y == 3).long(), power=0.8), fitted(targets, power=0.8)
    assert float(one(outputs, targets)) == pytest.approx(float(two(both, (Y == 3).long())), rel=1e-5)
    plain = nn.BCEWithLogitsLoss()(outputs, targets)
    assert torch.equal(fitted(targets, power=0.0)(outputs, targets), plain)


def test_a_loss_that_was_not_fitted_says_so():
    with pytest.raises(ValueError, match=r"needs the training targets first.*fit\(targets\)"):
        BalancedCrossEntropy()(OUTPUTS, Y)


# In a Trainer.


def trainer(loss, train=None, valid=None, **settings):
    settings = {"optimizer": torch.optim.SGD, "epochs": 1, "batch_size": 16} | settings
    return tn.Trainer((X[:30], Y[:30]) if train is None else train, valid or (X[30:], Y[30:]), loss=loss, **settings)


def job(**more):
    return tn.types.Job(tn.Model(lambda: nn.Linear(6, 4)), {"optimizer": {"lr": 0.1}} | more, RUNTIME)


def test_a_trainer_fits_a_copy_of_the_loss_to_its_training_rows():
    ours = trainer(BalancedCrossEntropy(power=0.5))
    session = ours.configured(job().config).session(job())
    assert session.settings.loss.counts.tolist() == torch.bincount(Y[:30]).tolist()
    assert len(ours.loss.counts) == 0


def test_a_dataset_is_counted_as_tensors_are():
    loss = BalancedCrossEntropy
    both = [trainer(loss, train) for train in (None, DatasetSource(TensorDataset(X[:30], Y[:30])))]
    assert facts(run(both[0], job())[1]) == facts(run(both[1], job())[1])


def test_each_fold_is_counted_by_itself():
    rows = [(list(range(20)), list(range(20, 40))), (list(range(20, 40)), list(range(20)))]
    ours = tn.Trainer((X, Y), folds=rows, loss=BalancedCrossEntropy, optimizer=torch.optim.SGD)
    for fold, (train, _) in enumerate(rows):
        this = tn.types.Job(job().model, job().config, RUNTIME, fold=fold)
        session = ours.configured(this.config).session(this)
        assert session.settings.loss.counts.tolist() == torch.bincount(Y[train]).tolist()


def test_the_power_is_tuned_as_one_number_and_micro_batches_add_up():
    space = tn.SearchSpace(loss={"power": tn.Float(0.0, 1.0)}, optimizer={"lr": tn.Float(0.01, 0.1)})
    study = tn.Study(
        model=tn.Model(lambda: nn.Linear(6, 4)), trainer=trainer(BalancedCrossEntropy, micro_batch=6), space=space,
        minimize="loss", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["DONE", "DONE"]
    whole, parts = (run(trainer(BalancedCrossEntropy, micro_batch=m), job())[0].values["module"] for m in (None, 6))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor)


class Centered:
    """A user's loss that is fitted."""

    def fit(self, targets):
        self.mean = targets.mean()

    def __call__(self, outputs, targets):
        return (outputs - (targets - self.mean)).square().mean()


def test_any_loss_with_fit_is_fitted_and_the_users_own_object_is_left():
    ours = trainer(Centered(), (X[:30], X[:30]), (X[30:], X[30:]))
    this = tn.types.Job(tn.Model(lambda: nn.Linear(6, 6)), {"optimizer": {"lr": 0.1}}, RUNTIME)
    session = ours.configured(this.config).session(this)
    assert torch.equal(session.settings.loss.mean, X[:30].mean())
    assert not hasattr(ours.loss, "mean")
