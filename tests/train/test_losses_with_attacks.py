"""Attacks as a user writes them into a loss: in training and, where they are scored by it, in validation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.trainer_runs import facts, flat, run, through_file

TRAIN, VALID, TEST = tn.data.digits()
TRAIN, VALID = TRAIN[:32], VALID[:64]


def attacked(module, inputs, targets, size=0.3):
    """Inputs after two steps of gradient ascent, written the ordinary way: by `backward`."""
    start = inputs.detach()
    moved = start + size * (2 * torch.rand_like(start) - 1)
    for _ in range(2):
        moved.requires_grad_()
        F.cross_entropy(module(moved), targets).backward()
        moved = (moved + size * moved.grad.sign()).detach()
        moved = torch.clamp(moved, start - size, start + size)
    return moved


class Hardened:
    def loss_of(self, module, batch):
        return F.cross_entropy(module(attacked(module, *batch)), batch[1])


class HardenedOnRaw(Hardened):
    raw_inputs = True


class HardenedTrainer(tn.Trainer):
    def loss_of(self, module, batch):
        inputs = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(module(inputs), batch[1]), inputs)
        return super().loss_of(module, (batch[0] + 0.3 * gradient.sign(), batch[1]))


WAYS = {
    "object": (tn.Trainer, Hardened()),
    "object of raw inputs": (tn.Trainer, HardenedOnRaw()),
    "subclass": (HardenedTrainer, nn.CrossEntropyLoss()),
}
every_way = pytest.mark.parametrize(("kind", "loss"), WAYS.values(), ids=list(WAYS))


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


def trainer(kind, loss, **settings):
    settings = {"optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return kind(TRAIN, VALID, loss=loss, metrics={"accuracy": tn.metrics.accuracy}, **settings)


def job():
    return tn.types.Job(tn.Model(net), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu", threads=1))


@every_way
def test_study_trains_and_scores_it(kind, loss):
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.05, 0.2)})
    study = tn.Study(model=tn.Model(net), trainer=trainer(kind, loss), space=space, progress=False)
    study.run(trials=1)
    best = study.best
    plain = F.cross_entropy(best.model()(VALID.inputs), VALID.targets).item()
    assert best.metrics["loss"] > plain
    assert study.test(TEST[:40])["loss"].value > 0


@every_way
def test_training_resumes_exactly(kind, loss):
    through, reports = run(trainer(kind, loss), job())
    half, first = run(trainer(kind, loss), job(), 1)
    rest, later = run(trainer(kind, loss), job(), 2, through_file(half))
    assert facts([*first, *later]) == facts(reports)
    assert flat(rest.values["module"]) == flat(through.values["module"])


@every_way
def test_evaluation_leaves_gradients_of_parameters_alone_and_returns_none(kind, loss):
    ours, module = trainer(kind, loss), net().eval()
    ours.loss_of(module, (TRAIN.inputs, TRAIN.targets)).backward()
    before = [parameter.grad.clone() for parameter in module.parameters()]
    with torch.no_grad():
        measured = ours.evaluate(module, VALID)
    assert flat([parameter.grad for parameter in module.parameters()]) == flat(before)
    assert measured["accuracy"].value == (module(VALID.inputs).argmax(1) == VALID.targets).float().mean()


def test_loss_without_gradients_of_its_own_is_scored_without():
    enabled = []

    class Plain:
        def loss_of(self, module, batch):
            enabled.append(torch.is_grad_enabled())
            return F.cross_entropy(module(batch[0]), batch[1])

    run(trainer(tn.Trainer, Plain(), epochs=1), job())
    assert enabled == [True, True, False]


def test_micro_batches_of_a_loss_that_leaves_gradients_are_refused():
    with pytest.raises(ValueError, match="micro_batch=4 needs a loss whose parts add up"):
        run(trainer(tn.Trainer, Hardened(), micro_batch=4), job())
