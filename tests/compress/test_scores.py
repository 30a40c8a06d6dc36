"""Scores of channels: closed forms, references by hand, and gates that do what removing does."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.channel_nets import NETS, net_of
from tuneflow.compress.channel_groups import groups_of
from tuneflow.compress.gates import Gates
from tuneflow.compress.scores import magnitude, obd, taylor
from tuneflow.compress.step import StepRows
from tuneflow.nested import leaves

USED = [name for name, (_, _, widths, _) in NETS.items() if widths]


def step_rows(inputs, targets, loss):
    def batches(size, count):
        for start in range(0, min(len(inputs), size * count), size):
            yield inputs[start : start + size], targets[start : start + size]

    return StepRows(inputs[:2], batches, lambda module, batch: loss(module(batch[0]), batch[1]))


def two_layers(outputs, act=nn.Tanh, rows=96):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), act(), nn.Linear(5, outputs)).eval()
    inputs = torch.randn(rows, 3)
    return net, groups_of(net, inputs[:2]).groups, inputs


def row_gradients(net, inputs, loss_of_row):
    """Derivative of each row's loss by a factor on each hidden unit, from the chain rule: (rows, units)."""
    hidden = net[1](net[0](inputs)).detach().requires_grad_()
    total = sum(loss_of_row(outputs, number) for number, outputs in enumerate(net[2](hidden)))
    return torch.autograd.grad(total, hidden)[0] * hidden.detach()


@pytest.mark.parametrize("name", USED)
def test_closing_a_gate_is_what_taking_nothing_from_the_channel_is(name):
    net, inputs = net_of(name)
    groups = groups_of(net, inputs).groups
    silent = copy.deepcopy(net)
    rows = len(leaves(inputs)[0])
    with torch.no_grad(), Gates(net, groups, rows) as gates:
        assert all(map(torch.equal, leaves(net(inputs)), leaves(silent(inputs))))
        for group, values in zip(groups, gates.values, strict=True):
            values[:, ::2] = 0
            for member in group.users:
                weight = silent.get_submodule(member.layer).weight
                weight.index_fill_(member.dim, member.positions[::2].flatten(), 0)
        pairs = list(zip(leaves(net(inputs)), leaves(silent(inputs)), strict=True))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)


def test_a_gate_belongs_to_one_row():
    net, groups, inputs = two_layers(2)
    with torch.no_grad(), Gates(net, groups, len(inputs)) as gates:
        before = net(inputs)
        gates.values[0][3] = 0
        changed = (net(inputs) != before).any(1)
    assert changed.nonzero().flatten().tolist() == [3]


def test_obd_is_what_a_linear_net_at_its_minimum_loses():
    net, groups, inputs = two_layers(1, nn.Identity)
    targets = net(inputs).detach()
    (scores,) = obd(net, groups, step_rows(inputs, targets, nn.MSELoss()), 96)
    for unit in range(5):
        silent = copy.deepcopy(net)
        silent[2].weight.data[:, unit] = 0
        lost = nn.functional.mse_loss(silent(inputs), targets).item()
        assert lost == pytest.approx(scores[unit].item(), rel=1e-4)


def test_obd_under_cross_entropy_is_the_fisher_information_of_the_gates():
    net, groups, inputs = two_layers(2)
    probabilities = net(inputs).softmax(1).detach()
    (scores,) = obd(net, groups, step_rows(inputs, torch.zeros(96).long(), nn.CrossEntropyLoss()), 96)
    expected = torch.zeros(5)
    for label in (0, 1):
        log = row_gradients(net, inputs, lambda outputs, _, k=label: outputs.log_softmax(0)[k])
        expected += (probabilities[:, label, None] * log**2).mean(0) / 2
    assert torch.allclose(scores.float(), expected, rtol=1e-4)


@pytest.mark.parametrize("outputs", [8, 80])  # formed for each row, and by random signs alone
def test_obd_of_many_outputs_is_right_on_average(outputs):
    net, groups, inputs = two_layers(outputs, rows=4096)
    (scores,) = obd(net, groups, step_rows(inputs, torch.zeros(4096, outputs), nn.MSELoss()), 4096)
    hidden = net[1](net[0](inputs))
    expected = (hidden**2).mean(0) * (net[2].weight ** 2).mean(0)
    assert torch.allclose(scores.float(), expected, rtol=0.15)  # its standard error is about 0.03


def test_a_loss_without_curvature_is_scored_by_its_squared_gradient():
    net, groups, inputs = two_layers(1)
    targets = torch.zeros(96, 1)
    (scores,) = obd(net, groups, step_rows(inputs, targets, nn.L1Loss()), 96)
    expected = (row_gradients(net, inputs, lambda outputs, _: outputs.abs().sum()) ** 2).mean(0) / 2
    assert torch.allclose(scores.float(), expected, rtol=1e-4)


def test_a_loss_that_asks_parts_of_the_module_is_scored_by_its_squared_gradient():
    net, groups, inputs = two_layers(1)
    rows = step_rows(inputs, torch.zeros(96, 1), nn.MSELoss())
    parts = StepRows(rows.inputs, rows.batches, lambda module, batch: module[2](module[1](module[0](batch[0]))).mean())
    (scores,) = obd(net, groups, parts, 96)
    expected = (row_gradients(net, inputs, lambda outputs, _: outputs.sum()) ** 2).mean(0) / 2
    assert torch.allclose(scores.float(), expected, rtol=1e-4)


def test_taylor_is_the_mean_absolute_gradient_of_a_row():
    net, groups, inputs = two_layers(3)
    targets = torch.arange(96) % 3
    (scores,) = taylor(net, groups, step_rows(inputs, targets, nn.CrossEntropyLoss()), 96)
    cross_entropy = nn.functional.cross_entropy
    expected = row_gradients(net, inputs, lambda outputs, n: cross_entropy(outputs, targets[n])).abs().mean(0)
    assert torch.allclose(scores.float(), expected, rtol=1e-4)


def test_magnitude_is_relative_to_its_group_and_looks_at_no_rows():
    net, groups, _ = two_layers(2)
    sums = net[0].weight.detach().abs().sum(1).double()
    (scores,) = magnitude(net, groups, None, 0)
    assert torch.allclose(scores, sums / sums.mean())


@pytest.mark.parametrize("score", [obd, taylor])
def test_rows_are_taken_in_whole_batches(score):
    net, groups, inputs = two_layers(2)
    seen = []

    def loss(outputs, targets):
        seen.append(len(outputs))
        return nn.functional.cross_entropy(outputs, targets)

    score(net, groups, step_rows(inputs, torch.zeros(96).long(), loss), 70)
    assert seen == [64, 32]
    del seen[:]
    score(net, groups, step_rows(inputs, torch.zeros(96).long(), loss), 20)
    assert seen == [20]


def test_a_draw_follows_the_global_generator():
    net, groups, inputs = two_layers(4)
    rows = step_rows(inputs, torch.zeros(96).long(), nn.CrossEntropyLoss())
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(obd(net, groups, rows, 64)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
