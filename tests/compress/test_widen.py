"""Widen: more channels, the same outputs, and copies that part in training."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.channel_nets import NETS, net_of
from tuneflow.compress.channel_groups import groups_of
from tuneflow.compress.operations import Select, apply_all, operations_of
from tuneflow.compress.step import StepRows
from tuneflow.compress.widen import Widen
from tuneflow.nested import leaves

WIDENED = [name for name, (_, _, widths, _) in NETS.items() if widths]


def rows_of(inputs):
    return StepRows(inputs, lambda size, count: iter(()), lambda module, batch: torch.zeros(()))


def widened(net, inputs, step):
    """A copy that has gone through the plain values of a recipe."""
    values = [operation.to_values() for operation in step.operations(copy.deepcopy(net), rows_of(inputs))]
    return apply_all(operations_of(values), copy.deepcopy(net))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", WIDENED)
def test_a_widened_module_gives_the_same_outputs(name, training):
    net, inputs = net_of(name)
    wide = widened(net, inputs, Widen(2.3)).train(training)
    with torch.no_grad():
        before, after = leaves(net.train(training)(inputs)), leaves(wide(inputs))
    for old, new in zip(before, after, strict=True):
        assert (new - old).abs().max() <= 1e-5 * old.abs().max()
    widths = {group.name: round(2.3 * group.width) for group in groups_of(net, inputs).groups}
    assert {group.name: group.width for group in groups_of(wide, inputs).groups} == widths


def test_only_the_named_channels_become_more():
    net, inputs = net_of("residual")
    wide = widened(net, inputs, Widen(1.5, only=["a.conv1"]))
    assert (wide.a.conv1.out_channels, wide.b.conv1.out_channels, wide.stem.out_channels) == (12, 12, 8)


def test_a_factor_of_1_changes_nothing():
    net, inputs = net_of("convolutional")
    wide = widened(net, inputs, Widen(1.0))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in wide.state_dict().items())


@pytest.mark.parametrize("factor", [0.5, float("nan"), float("inf"), "2", None])
def test_a_factor_below_1_is_refused(factor):
    with pytest.raises(ValueError, match="Widen: factor needs to be a number >= 1"):
        Widen(factor)


def test_a_dropout_behind_the_channels_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 5), nn.Linear(5, 2))
    with pytest.raises(ValueError, match=r"""channels of "0" pass "1" \(Dropout\), .* by only=\['2'\]"""):
        widened(net, torch.ones(2, 3), Widen())
    assert widened(net, torch.ones(2, 3), Widen(only=["2"]))[2].out_features == 10


def test_a_norm_over_the_channels_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 5), nn.Linear(5, 2))
    with pytest.raises(ValueError, match=r'of "0" .* go into "1" \(LayerNorm\)'):
        widened(net, torch.ones(2, 3), Widen(only=["0"]))


class Guarded(nn.Module):
    """Gives other outputs from 9 channels on."""

    def forward(self, x):
        return x if x.size(1) < 9 else -x


def test_outputs_that_would_change_are_refused():
    net = nn.Sequential(nn.Linear(3, 8), Guarded(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"Widen: the outputs would change by .* %"):
        widened(net, torch.ones(2, 3), Widen())


def trained(net, inputs, targets):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs), targets).backward()
        optimizer.step()
    return net[0].weight.detach()


def test_copies_part_in_training_which_equal_shares_would_not():
    torch.manual_seed(1)
    net, inputs, targets = (
        nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)),
        torch.randn(32, 4),
        torch.randn(32, 2),
    )
    operations = Widen().operations(copy.deepcopy(net), rows_of(inputs[:2]))
    equal = [
        Select(op.layer, op.tensor, op.dim, op.index, None if op.scale is None else torch.full_like(op.scale, 0.5))
        for op in operations
    ]
    for recipe, apart in ((operations, True), (equal, False)):
        weight = trained(apply_all(recipe, copy.deepcopy(net)), inputs, targets)
        distance = (weight[::2] - weight[1::2]).norm() / weight.norm()
        assert (distance > 0.05) == apart, distance
