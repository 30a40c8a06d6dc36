"""Micro-batches give the gradient of whole batches, or are refused before anything is trained."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.trainer_runs import flat, run

DRAWS = torch.Generator().manual_seed(0)
ROWS = 60
X = torch.randn(ROWS, 6, generator=DRAWS)
Y = torch.randint(3, (ROWS,), generator=DRAWS)
SOME = torch.where(torch.rand(ROWS, generator=DRAWS) < 0.6, -100, Y)
RARE = torch.where(torch.arange(ROWS) == 50, -1, Y)
ONES = F.one_hot(Y, 3).float()
WEIGHT = torch.tensor([1.0, 5.0, 0.1])
RUNTIME = tn.Runtime("cpu", threads=1)


def linear():
    return nn.Linear(6, 3)


def trainer(loss, targets, micro_batch=None, **settings):
    return tn.Trainer(
        (X, targets), (X, targets), loss=loss, optimizer=torch.optim.SGD, epochs=1,
        **{"batch_size": 20, "micro_batch": micro_batch} | settings,
    )  # fmt: skip


def job(builder=linear, **more):
    return tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.5}}, RUNTIME, **more)


def masked(outputs, targets):
    return F.cross_entropy(outputs[targets >= 0], targets[targets >= 0])


def focal(outputs, targets):
    return (
        (1 - outputs.softmax(1).gather(1, targets[:, None])[:, 0]) * F.cross_entropy(outputs, targets, reduction="none")
    ).mean()


class Penalized:
    def loss_of(self, module, batch):
        return F.cross_entropy(module(batch[0]), batch[1]) + 0.1 * sum(p.square().sum() for p in module.parameters())


class Noisy:
    """Draws in every call, as a variational autoencoder does."""

    def loss_of(self, module, batch):
        outputs = module(batch[0])
        return F.mse_loss(outputs + torch.randn_like(outputs) * outputs.exp(), F.one_hot(batch[1], 3).float())


class NoisySum(Noisy):
    def loss_of(self, module, batch):
        return super().loss_of(module, batch) * len(batch[0])


class Contrastive:
    def loss_of(self, module, batch):
        return torch.cdist(module(batch[0]), module(batch[0])).square().mean()


class Ignoring(nn.Module):
    """A loss of a user's own that says what it ignores."""

    ignore_index = -100

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets, ignore_index=self.ignore_index)


EQUAL = {
    "cross_entropy that ignores": (F.cross_entropy, SOME),
    "cross_entropy with weights": (partial(F.cross_entropy, weight=WEIGHT), Y),
    "cross_entropy that sums": (partial(F.cross_entropy, reduction="sum"), SOME),
    "CrossEntropyLoss with weights": (nn.CrossEntropyLoss(WEIGHT, ignore_index=-1), RARE),
    "a dict of targets": (lambda o, t: F.cross_entropy(o, t["y"]), {"y": Y}),
    "a tuple of targets": (lambda o, t: F.cross_entropy(o, t[0]) + F.mse_loss(o, t[1]), (Y, ONES)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), ONES),
    "mse_loss": (F.mse_loss, ONES),
    "a focal loss": (focal, Y),
    "a balanced loss": (tn.nn.BalancedCrossEntropy, SOME),
    "a loss that says what it ignores": (Ignoring(), SOME),
    "an object": (Penalized(), Y),
}
UNEQUAL = {
    "targets left out by hand": (masked, SOME),
    "one target left out by hand": (masked, RARE),
    "a sum": (lambda o, t: F.cross_entropy(o, t, reduction="sum"), Y),
    "a root": (lambda o, t: F.mse_loss(o, t).sqrt(), ONES),
    "rows compared with each other": (Contrastive(), Y),
    "a sum with draws": (NoisySum(), Y),
    "a loss that needs many rows": (lambda o, t: F.cross_entropy(o, t) + o.topk(10, dim=0).values.mean(), Y),
}


@pytest.mark.parametrize("micro_batch", [7, 1])
@pytest.mark.parametrize("name", EQUAL)
def test_micro_batches_train_as_whole_batches_do(name, micro_batch):
    whole, parts = (run(trainer(*EQUAL[name], micro), job())[0].values["module"] for micro in (None, micro_batch))
    for tensor in whole:
        torch.testing.assert_close(parts[tensor], whole[tensor], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", UNEQUAL)
def test_a_loss_whose_parts_do_not_add_up_is_refused_before_training(name):
    with pytest.raises(ValueError, match=r"micro_batch=7 needs a loss whose parts add up.*Leave out micro_batch"):
        trainer(*UNEQUAL[name], micro_batch=7).init(job())
    for size in (None, 20):
        trainer(*UNEQUAL[name], micro_batch=size).init(job())


def hardest(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none").topk(min(40, len(targets))).values.mean()


def test_a_loss_of_a_number_of_rows_is_compared_on_as_many_as_a_batch_has():
    with pytest.raises(ValueError, match="micro_batch=7 needs a loss whose parts add up"):
        trainer(hardest, Y, micro_batch=7, batch_size=50).init(job())
    with pytest.raises(ValueError, match="micro_batch=7 needs a loss whose parts add up"):
        study(hardest, Y, micro_batch=7, batch_size=50)
    for loss, targets in ((focal, Y), (masked, Y), (lambda o, t: F.cross_entropy(o, t), Y)):
        study(loss, targets, micro_batch=7, batch_size=50)


def test_the_dry_run_refuses_it_too():
    with pytest.raises(ValueError, match="micro_batch=7 needs a loss whose parts add up"):
        study(masked, SOME, micro_batch=7)


def study(loss, targets, builder=linear, **settings):
    return tn.Study(
        model=tn.Model(builder), trainer=trainer(loss, targets, **settings), minimize="loss", runtime=RUNTIME,
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.1, 0.5)}), progress=False,
    )  # fmt: skip


def test_a_loss_that_draws_is_judged_by_all_but_its_draws():
    trainer(Noisy(), Y, micro_batch=7).init(job())
    study(Noisy(), Y, micro_batch=7)


class Dropping(nn.Module):
    """Dropout by a function, a norm over rows, and a buffer that counts."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 3), nn.BatchNorm1d(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        return F.dropout(self.norm(self.layer(inputs)), 0.5, self.training)


def test_the_comparison_leaves_no_trace():
    states = [
        trainer(loss, Y, 7).init(job(Dropping)).values for loss in (F.cross_entropy, lambda o, t: F.cross_entropy(o, t))
    ]
    assert flat(states[0]) == flat(states[1])
    trained = [
        run(trainer(loss, Y, 7), job(Dropping))[0].values["module"]
        for loss in (F.cross_entropy, lambda o, t: F.cross_entropy(o, t))
    ]
    assert flat(trained[0]) == flat(trained[1])


def test_layers_that_see_a_part_of_the_batch_are_named():
    with pytest.warns(UserWarning, match=r'"norm: BatchNorm1d" computes with 7 rows at a time.*batch_size=20'):
        study(F.cross_entropy, Y, Dropping, micro_batch=7)


def test_only_configurations_with_micro_batches_are_compared():
    space = {"trainer": {"micro_batch": tn.Choice({"none": None, "some": 7})}, "optimizer": {"lr": tn.Float(0.1, 0.5)}}
    with pytest.raises(ValueError, match="micro_batch=7 needs a loss"):
        tn.Study(
            model=tn.Model(linear), trainer=trainer(masked, SOME), space=tn.SearchSpace(**space), runtime=RUNTIME,
            progress=False,
        )  # fmt: skip
