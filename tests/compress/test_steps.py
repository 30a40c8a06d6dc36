"""Steps of a trained winner: decided once, replayed from the state."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.compress import Factorize, Remove, Select
from tuneflow.model import tensors_of


def winner():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class Halve:
    """Keeps the hidden units with the largest gradient on the first rows; counts how often it is asked."""

    asked = 0

    def __init__(self, keep=4):
        self.keep = keep

    def operations(self, module, rows):
        Halve.asked += 1
        rows.loss_of(module, next(rows.batches(16, 1))).backward()
        index = module[0].weight.grad.norm(dim=1).topk(self.keep).indices.sort().values
        kept = [("0", "weight", 0), ("0", "bias", 0), ("2", "weight", 1)]
        return [*(Select(*where, index) for where in kept), Factorize("2", 2)]


def trainer(epochs=2):
    inputs = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
    rows = tn.Data(inputs, inputs[:, :3].argmax(1))
    return tn.Trainer(rows, rows, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=epochs)


def job(model):
    return tn.types.Job(model, {"halve": {"keep": 3}, "optimizer": {"lr": 0.1}}, tn.Runtime())


def test_a_state_replays_its_recipe_without_asking_the_step():
    ours, task = trainer(), job(tn.Model(winner(), steps={"halve": Halve}))
    start = ours.init(task)
    asked = Halve.asked
    whole = [state for state, _ in ours.advance(task, start, 2)]
    (resumed,) = [state for state, _ in ours.advance(task, whole[0], 2)]
    assert Halve.asked == asked
    module = ours.module(task, resumed)
    assert [tuple(p.shape) for p in module.parameters()] == [(3, 4), (3,), (2, 3), (3, 2), (3,)]
    for name, tensor in tensors_of(ours.module(task, whole[1])).items():
        assert torch.equal(tensor, tensors_of(module)[name])


def test_two_arithmetics_are_refused():
    steps = {"halve": Halve, "one": tn.compress.Arithmetic("bf16"), "other": tn.compress.Arithmetic("fp32")}
    with pytest.raises(ValueError, match="leave one Arithmetic"):
        trainer().init(job(tn.Model(winner(), steps=steps)))


def test_every_trial_starts_from_the_winner():
    task, start = job(tn.Model(winner())), winner()
    module = trainer().module(task, trainer().init(task))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), start.parameters(), strict=True))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        return x + self.body(x)


class Drop:
    """Drops a block; or, by mistake, only that of its copy."""

    def __init__(self, layer="1", returns=True):
        self.layer, self.returns = layer, returns

    def operations(self, module, rows):
        module[int(self.layer)] = nn.Identity()
        return [Remove(self.layer)] if self.returns else []


def test_a_block_is_taken_out():
    ours, net = trainer(), nn.Sequential(Block(), Block(), nn.Linear(4, 3))
    task = tn.types.Job(tn.Model(net, steps={"drop": Drop}), {"optimizer": {"lr": 0.1}}, tn.Runtime())
    (state,) = (state for state, _ in ours.advance(task, ours.init(task), 1))
    module, rows = ours.module(task, state), torch.ones(2, 4)
    assert torch.equal(module(rows), module[2](module[0](rows)))


def test_a_step_that_changes_only_its_copy_is_refused():
    task = tn.types.Job(tn.Model(winner(), steps={"drop": Drop("1", False)}), {"optimizer": {"lr": 0.1}}, tn.Runtime())
    with pytest.raises(TypeError, match="Drop changed only the copy"):
        trainer().init(task)


def test_a_choice_of_ready_steps_takes_the_place_of_one():
    space = {"halve": tn.Choice({"two": Halve(2), "three": Halve(3)}), "optimizer": {"lr": 0.01}}
    study = tn.Study(
        model=tn.Model(winner(), steps={"halve": Halve}), trainer=trainer(), space=tn.SearchSpace(**space),
        searcher=tn.Grid(), progress=False, minimize="loss", folder=tn.Folder(None, keep="all"),
    )  # fmt: skip
    study.run()
    assert len({sum(p.numel() for p in study.result(t.number).model().parameters()) for t in study.trials}) == 2


@pytest.mark.parametrize(
    ("steps", "space", "message"),
    [
        ({"halve": Halve}, {"halve": {"kep": tn.Int(1, 4)}}, 'takes no argument "kep"'),
        ({"halve": Halve}, {"cut": {"keep": tn.Int(1, 4)}}, 'has a section "cut"'),
        ({}, {"model": {"width": tn.Int(1, 4)}}, "the model is a trained winner"),
        ({"halve": Halve(2)}, {"halve": {"keep": tn.Int(1, 4)}}, "a ready"),
    ],
)
def test_sections_of_steps_are_checked(steps, space, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tn.Study(model=tn.Model(winner(), steps=steps), trainer=trainer(), space=tn.SearchSpace(**space))
