"""Lanes with losses of every kind: trained as one program with the scores of training alone, or alone for a reason."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.projected_loss import Projected
from tuneflow.execute.lanes import lane_stack, structure_group
from tuneflow.execute.lanes.engine_cache import EngineTiming
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.structure import structure_of, unfit_lane
from tuneflow.history.trial import Slice

DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(40, 6, generator=DRAWS)
Y = torch.randint(3, (40,), generator=DRAWS)


class Penalized:
    def __init__(self, strength=0.1):
        self.strength = strength

    def loss_of(self, module, batch):
        return F.cross_entropy(module(batch[0]), batch[1]) + self.strength * sum(
            p.square().sum() for p in module.parameters()
        )


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(3, 3))

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs @ self.prototypes, targets)


class Mean(nn.Module):
    """A loss whose buffer changes in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, outputs, targets):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * outputs.detach().mean(0))
        return F.cross_entropy(outputs - self.mean, targets)


class Guided:
    """Holds a module that is not trained."""

    def __init__(self):
        self.teacher = nn.Linear(6, 3).requires_grad_(False)

    def __call__(self, outputs, targets):
        return F.cross_entropy(outputs, targets) + F.mse_loss(outputs, self.teacher.bias.expand_as(outputs))


def lane(loss, section=None, seed=0):
    trainer = tn.Trainer((X, Y), (X, Y), loss=loss, optimizer=torch.optim.SGD, epochs=2, batch_size=8)
    config = {"optimizer": {"lr": 0.1}} | ({} if section is None else {"loss": section})
    job = tn.types.Job(tn.Model(lambda: nn.Linear(6, 3)), config, tn.Runtime("cpu", threads=1), seed)
    return Lane(Slice(0, 0, 2), trainer, job, None)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (Head, "the loss has parameters"),
        (Mean, "the loss changes its buffers"),
        (Projected, ""),
        (Penalized, ""),
        (nn.CrossEntropyLoss(torch.ones(3)), ""),
        (tn.nn.BalancedCrossEntropy, ""),
        (F.cross_entropy, ""),
    ],
)
def test_a_loss_that_training_changes_is_trained_alone(loss, reason):
    one = lane(loss)
    before = {name: tensor.clone() for name, tensor in one.run.loss.state().items()}
    assert unfit_lane(one) == reason
    assert all(torch.equal(tensor, one.run.loss.state()[name]) for name, tensor in before.items())


def test_lanes_share_a_program_where_their_losses_compute_the_same():
    def same(*lanes):
        first, second = (structure_of(each) for each in lanes)
        return first.facts == second.facts and first.code == second.code

    assert same(lane(Penalized), lane(Penalized))
    assert not same(lane(Penalized, {"strength": 0.2}), lane(Penalized, {"strength": 0.3}))
    assert not same(lane(Projected), lane(Projected, seed=1))
    assert not same(lane(Guided), lane(Guided, seed=1))
    assert not same(lane(nn.BCEWithLogitsLoss, {"pos_weight": 2.0}), lane(nn.BCEWithLogitsLoss, {"pos_weight": 3.0}))


@pytest.fixture
def steps(monkeypatch):
    """The steps taken together, where everything is worth being fused."""
    taken, step = [], lane_stack.Lanes.step
    monkeypatch.setattr(lane_stack.Lanes, "step", lambda self, *given: taken.append(self) or step(self, *given))
    monkeypatch.setattr(structure_group, "TRACING", 0.0)
    monkeypatch.setattr(structure_group, "TRIED", 0)
    monkeypatch.setattr(structure_group, "time_alone", lambda lane: 1.0)
    monkeypatch.setattr(
        structure_group, "measure", lambda lanes, slots, programs, alone: EngineTiming("stacked", slots, alone, alone)
    )
    return taken


@pytest.mark.parametrize(
    ("loss", "fused"),
    [(Penalized, True), (Head, False), (Mean, False), (Projected, True), (Guided, False)],
)
def test_scores_in_lanes_are_those_of_training_alone(loss, fused, steps):
    scores = []
    for lanes in (1, 4):
        study = tn.Study(
            model=tn.Model(lambda: nn.Linear(6, 3)),
            trainer=tn.Trainer((X, Y), (X, Y), loss=loss, optimizer=torch.optim.SGD, epochs=2, batch_size=8),
            space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.2)}),
            runtime=tn.Runtime("cpu", threads=1, lanes=lanes),
            searcher=tn.Random(),
            progress=False,
        )
        study.run(trials=4)
        scores.append([trial.metrics["loss"] for trial in study.trials])
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert len({id(lanes) for lanes in steps}) == (1 if fused else 4 if loss is Guided else 0)
