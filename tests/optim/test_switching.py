"""Optimizers with train() and eval() are switched: what eval() shows is scored, saved and handed over."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, job, linear, net, trainer
from tests.helpers.dry_run_cases import check
from tests.helpers.switching_optimizers import Extrapolated, MeanInGroup, MeanUnguarded
from tests.helpers.trainer_runs import facts, flat, run, through_file

KINDS = [MeanInGroup, MeanUnguarded, Extrapolated]
RATE = {"optimizer": {"lr": 0.05}}


def small(optimizer, **settings):
    return trainer(TRAIN[:200], VALID[:100], optimizer=optimizer, epochs=3, **settings)


def accuracy(module):
    with torch.no_grad():
        return float((module(VALID.inputs[:100]).argmax(1) == VALID.targets[:100]).float().mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("builder", [linear, net])
def test_they_resume_exactly(kind, builder):
    ours, trial = small(kind), job(RATE, builder)
    whole, reports = run(ours, trial)
    first, _ = run(ours, trial, 1)
    last, more = run(ours, trial, 3, through_file(first))
    assert flat(last.values) == flat(whole.values)
    assert facts(more) == facts(reports[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("builder", [linear, net])
def test_the_module_of_a_state_has_the_scores_that_were_reported(kind, builder):
    ours, trial = small(kind), job(RATE, builder)
    state, reports = run(ours, trial)
    module = ours.module(trial, state)
    assert accuracy(module) == pytest.approx(reports[-1].metrics["accuracy"])
    assert ours.test(trial, module, VALID[:100])["loss"].value == pytest.approx(reports[-1].metrics["loss"], rel=1e-6)


def test_the_mean_of_the_iterates_is_what_is_scored():
    ours, trial = small(MeanInGroup), job(RATE, linear)
    first, _ = run(ours, trial, 1)
    plain = small(torch.optim.SGD).configured(RATE).session(trial)
    plain.restore(plain_start(ours, trial))
    weights = []
    with trial.at_work("epoch", 1):
        for batch in plain.batches(1):
            plain.backward(batch)
            plain.step()
            weights.append(plain.module[1].weight.detach().clone())
    torch.testing.assert_close(first.values["module"]["1.weight"], torch.stack(weights).mean(0))


def plain_start(ours, trial):
    """The first state of `ours` for a trainer with SGD, whose weights are drawn from the same seed."""
    start = small(torch.optim.SGD).init(trial)
    assert torch.equal(start.values["module"]["1.weight"], ours.init(trial).values["module"]["1.weight"])
    return start


def test_batchnorm_has_the_statistics_of_the_weights_that_are_scored():
    ours, trial = small(MeanInGroup), job(RATE, lambda: net(dropout=0.0))
    state, _ = run(ours, trial)
    session = ours.configured(RATE).session(trial)
    session.restore(state)
    with torch.no_grad(), trial.at_work("statistics", 0):
        means = torch.stack([session.module[1](inputs.flatten(1)).mean(0) for inputs, _ in session.batches(1)])
    torch.testing.assert_close(state.values["module"]["2.running_mean"], means.mean(0))


def test_statistics_are_those_of_rows_without_augmentation_and_leave_the_loss_alone():
    class Counting(nn.CrossEntropyLoss):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, outputs, targets):
            self.calls += self.training
            return super().forward(outputs, targets)

    def climbs(module, inputs, targets):
        inputs = inputs.clone().requires_grad_()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        return inputs + 100 * inputs.grad.sign(), targets

    ours = small(MeanInGroup, augment=climbs, loss=Counting())
    trial = job(RATE)
    state, _ = run(ours, trial, 1)
    session = ours.configured(RATE).session(trial)
    assert state.values["loss"]["calls"] == session.steps
    session.restore(state)
    with torch.no_grad():
        normalized = session.normalizer(TRAIN.inputs[:200]).flatten(1)
        means = session.module[1](normalized).mean(0)
    torch.testing.assert_close(state.values["module"]["2.running_mean"], means, rtol=0.1, atol=0.05)


def test_a_frozen_batchnorm_keeps_its_statistics():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Frozen(16), nn.Linear(16, 10))

    state, _ = run(small(MeanInGroup), job(RATE, build))
    assert torch.equal(state.values["module"]["2.running_mean"], torch.zeros(16))


@pytest.mark.parametrize("kind", KINDS)
def test_they_pass_the_dry_run(kind):
    check(optimizer=kind)


def test_the_probe_races_with_the_weights_that_are_scored():
    measured = tn.probe(tn.Model(linear), small(MeanInGroup, batch_size=16), config=RATE)
    assert measured.optimizer == "MeanInGroup"
    assert measured.race is not None
    assert "no rule is known" in measured.notes[0]


@pytest.mark.parametrize("missing", ["train", "eval"])
def test_an_optimizer_with_one_of_the_two_methods_is_left_alone(missing):
    class One(torch.optim.SGD):
        called = 0

    def note(self, *_):
        self.called += 1

    setattr(One, "eval" if missing == "train" else "train", note)
    session = small(One).configured(RATE).session(job(RATE))
    session.train_epoch(1)
    session.evaluate()
    assert session.optimizer.called == 0
