"""Fused evaluation, the re-check of a program, and losses whose settings are tensors."""

import copy
import itertools
import math
import random

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn import functional as F

from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_networks import (
    DROPPING_NETS,
    NETS,
    OPTIMIZERS,
    assert_equal,
    batches,
    lanes_of,
    loss_of,
    made,
    optimizers_of,
    tensors,
)
from tuneflow.fused import verify
from tuneflow.fused.label_smoothing import smoothed
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import StackedTensors

KINDS = ("stacked", "single", "eager")
TRAINED = {**NETS, "layers": DROPPING_NETS["layers"]}


def evaluated(module, inputs):
    with torch.no_grad():
        return copy.deepcopy(module).eval()(inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", TRAINED)
def test_outputs_are_those_of_each_module_in_evaluation_mode(net, kind):
    modules, inputs = made(TRAINED[net], 3), batches(1, 2, rows=9)[0][0][0]
    lanes = lanes_of(modules, OPTIMIZERS["momentum"], kind=kind)
    lanes.outputs(inputs)
    for step in batches(3, 3)[:2]:  # of one shape
        lanes.step(step)
    with generators_untouched():
        outputs = lanes.outputs(inputs)
    assert outputs.shape == (3, 9, 10)
    for lane, module in enumerate(modules):
        lanes.unload(lane)
        torch.testing.assert_close(outputs[lane], evaluated(module, inputs), rtol=1e-11, atol=1e-12)
        assert module.training


def test_outputs_are_the_callers_to_keep_and_shapes_share_programs():
    programs, (inputs, other) = ProgramCache(), torch.randn(2, 2000, 64, dtype=torch.float64)
    lanes = lanes_of(made(NETS["mlp"], 4), programs=programs)
    first = lanes.outputs(inputs)
    kept = first.clone()
    lanes.outputs(other)
    lanes.step(batches(4, 2)[0])
    assert torch.equal(first, kept)
    first.zero_()
    assert torch.equal(lanes_of(made(NETS["mlp"], 4), programs=programs).outputs(inputs), kept)
    assert len(programs) == 2
    lanes.outputs(inputs[:7])
    assert len(programs) == 3


class Several(nn.Module):
    """Takes and gives nested tensors; the second output is a view of the first."""

    def __init__(self):
        super().__init__()
        self.linear, self.fixed = nn.Linear(64, 10), nn.Linear(3, 10)
        self.fixed.requires_grad_(False)

    def forward(self, x):
        made = self.linear(x["left"]) + self.fixed(x["right"][0])
        return {"logits": made, "parts": (made[:, :3], made.argmax(1))}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_outputs_may_be_nested(kind):
    modules = made(Several, 3)
    for module in modules:
        module.fixed.load_state_dict(modules[0].fixed.state_dict())
    left, right = (torch.randn(5, n, dtype=torch.float64) for n in (64, 3))
    inputs = {"left": left, "right": (right,)}
    lanes = lanes_of(modules, kind=kind, loss_of=lambda m, b: m(b)["logits"].square().mean())
    assert StackedTensors(modules).shared == ["fixed.weight", "fixed.bias"]
    outputs = lanes.outputs(inputs)
    for lane, module in enumerate(modules):
        expected = evaluated(module, inputs)
        torch.testing.assert_close(outputs["logits"][lane], expected["logits"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outputs["parts"][0][lane], expected["parts"][0], rtol=1e-12, atol=1e-12)
        assert torch.equal(outputs["parts"][1][lane], expected["parts"][1])
    kept = outputs["parts"][0].clone()
    outputs["logits"].zero_()
    assert torch.equal(outputs["parts"][0], kept)


def test_a_forward_that_cannot_be_traced_in_evaluation_mode_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            y = self.linear(x)
            if not self.training and y.sum() > 0:  # HERE
                return y * 2
            return y

    class Named(Odd):
        def forward(self, x):
            return {"logits": self.linear(x), "name": "linear"}

    class Noisy(Odd):
        def forward(self, x):
            return F.dropout(self.linear(x), 0.1, True)

    for net, reason in (
        (Odd, r"data-dependent branch in forward at test_evaluation.py:\d+: if not self.training"),
        (Named, "forward gives a str"),
        (Noisy, "random numbers"),
    ):
        modules, start, inputs = made(net, 2), made(net, 2), torch.randn(4, 64, dtype=torch.float64)
        lanes = lanes_of(modules)
        with generators_untouched(), pytest.raises(CannotFuse, match=reason):
            lanes.outputs(inputs)
        assert_equal(modules[1], start[1])
    lanes = lanes_of(made(Odd, 2))
    lanes.step(batches(2, 1)[0])  # training goes on


class Changing(nn.Module):
    """What it does depends on something that a trace does not see."""

    factor = 1.0
    draws = False

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(64, 10), nn.BatchNorm1d(10), nn.Dropout(0.2)

    def forward(self, x):
        luck = random.random() if Changing.draws else 1.0
        return self.drop(self.norm(self.linear(x))) * Changing.factor * luck


@pytest.mark.parametrize("kind", ["stacked", "single"])
@pytest.mark.parametrize("change", ["factor", "draws"])
def test_a_check_notices_what_has_changed_since_the_trace(kind, change, monkeypatch):
    lanes, steps = lanes_of(made(Changing, 3), OPTIMIZERS["adam"], kind=kind), batches(3, 4)
    for step in steps[:3]:
        lanes.step(step)
    lanes.check(steps[0])
    monkeypatch.setattr(Changing, change, 1.25)
    with generators_untouched(), pytest.raises(CannotFuse, match=r"traced (loss|gradients) differ from plain torch's"):
        lanes.check(steps[0])


@pytest.mark.parametrize("kind", ["stacked", "single"])
def test_a_check_notices_an_attribute_that_has_changed_since(kind):
    modules, step = made(Changing, 2), batches(2, 2)[0]
    lanes = lanes_of(modules, kind=kind)
    lanes.step(step)
    modules[0].norm.eps = 0.5
    with pytest.raises(CannotFuse, match="differ from plain torch's"):
        lanes.check(step)


@pytest.mark.parametrize("kind", ["stacked", "single"])
def test_a_forward_with_luck_or_a_count_of_its_own_is_refused_at_once(kind):
    calls, luck = itertools.count(1), random.Random(0)
    for factor in (lambda: next(calls), luck.random):
        lanes = lanes_of(
            made(NETS["mlp"], 2),
            loss_of=lambda module, batch, factor=factor: loss_of(module, batch) * factor(),
            kind=kind,
        )
        with pytest.raises(CannotFuse, match="forward returns something else every time"):
            lanes.step(batches(2, 1)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_changes_nothing(kind):
    generators = [torch.Generator().manual_seed(n) for n in range(2)]
    modules, steps = made(Changing, 2), batches(2, 3)
    optimizers = optimizers_of(modules, OPTIMIZERS["adam"])
    lanes = Lanes(modules, loss_of, optimizers, kind=kind, generators=generators)
    for step in steps:
        lanes.step(step)

    def state():
        for lane in range(2):
            lanes.unload(lane)
        moments = [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in optimizers]
        own = [{name: t.detach().clone() for name, t in tensors(module).items()} for module in modules]
        return own, moments, [generator.get_state() for generator in generators]

    before = state()
    with generators_untouched():
        lanes.check(steps[0])
        lanes.check((steps[0][0][:, :5], steps[0][1][:, :5]))  # of a shape that was not seen yet
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    lanes.stop(0)
    lanes.stop(1)
    lanes.check(steps[0])


def test_a_program_of_lanes_at_a_minimum_is_not_refused_for_rounding(monkeypatch):
    """Where gradients cancel to nothing, any two orders of summation differ by more than 1e-5 of them."""
    modules = made(lambda: nn.Sequential(nn.Linear(64, 600), nn.Tanh(), nn.Linear(600, 1)), 2, torch.float32)
    inputs = torch.randn(2, 50, 64)
    with torch.no_grad():
        targets = torch.stack([module(x) for module, x in zip(modules, inputs)])

    def distance(module, batch):
        return F.mse_loss(module(batch[0]), batch[1])

    lanes_of(modules, loss_of=distance).step((inputs, targets))
    monkeypatch.setattr(verify, "ROUNDINGS", 0.0)
    with pytest.raises(CannotFuse, match="gradients differ"):
        lanes_of(modules, loss_of=distance).step((inputs, targets))


def cases():
    weights = torch.linspace(0.2, 2.0, 5, dtype=torch.float64)
    return list(itertools.product((None, weights), ("mean", "sum", "none"), (-100, 2), ((6,), (6, 3)), (0.0, 0.1, 1.0)))


@pytest.mark.parametrize(("weight", "reduction", "ignored", "shape", "amount"), cases())
def test_a_smoothed_loss_is_torchs_in_value_and_gradient(weight, reduction, ignored, shape, amount):
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(shape[0], 5, *shape[1:], generator=draw, dtype=torch.float64)
    targets = torch.randint(5, shape, generator=draw)
    settings = {"weight": weight, "reduction": reduction, "ignore_index": ignored}
    ours = smoothed(nn.CrossEntropyLoss(**settings, label_smoothing=0.7))
    theirs = nn.CrossEntropyLoss(**settings, label_smoothing=amount)
    given = torch.tensor(amount, dtype=torch.float64)
    torch.testing.assert_close(ours(outputs, targets, given), theirs(outputs, targets), rtol=1e-12, atol=1e-12)
    mine = grad(lambda x: ours(x, targets, given).sum())(outputs)
    torch.testing.assert_close(mine, grad(lambda x: theirs(x, targets).sum())(outputs), rtol=1e-12, atol=1e-12)


def test_a_smoothed_loss_takes_shares_of_classes_and_goes_under_vmap():
    draw = torch.Generator().manual_seed(0)
    outputs, shares = torch.randn(2, 6, 5, generator=draw), torch.rand(2, 6, 5, generator=draw).softmax(-1)
    amounts = torch.tensor([0.0, 0.3])
    ours = vmap(smoothed(nn.CrossEntropyLoss()))(outputs, shares, amounts)
    expected = [F.cross_entropy(outputs[n], shares[n], label_smoothing=float(amounts[n])) for n in range(2)]
    torch.testing.assert_close(ours, torch.stack(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_smooth_by_amounts_of_their_own(kind):
    loss, amounts = nn.CrossEntropyLoss(), torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)
    ours = smoothed(loss)
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes = lanes_of(fused, loss_of=lambda module, batch: ours(module(batch[0][0]), batch[0][1], batch[1]), kind=kind)
    steps = batches(3, 8)
    losses = [lanes.step((step, amounts)) for step in steps]
    for lane, amount in enumerate(amounts.tolist()):
        optimizer = torch.optim.SGD(alone[lane].parameters(), lr=0.1)
        for step, (inputs, targets) in enumerate(steps):
            value = F.cross_entropy(alone[lane](inputs[lane]), targets[lane], label_smoothing=amount)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            assert math.isclose(losses[step][lane], value.item(), rel_tol=1e-11)
    assert loss_of(fused[0], (steps[0][0][0], steps[0][1][0])) > 0
