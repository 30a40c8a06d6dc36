"""Narrow: as many multiplications as were asked for, the channels that matter least, and what stands in for them."""

import copy
import warnings
from functools import cache

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.channel_nets import NETS, net_of
from tuneflow.compress import Assign, Narrow, Select, StepRows, Widen
from tuneflow.compress.channel_costs import ChannelCosts
from tuneflow.compress.channel_groups import groups_of, named_groups
from tuneflow.compress.channel_times import rates_of
from tuneflow.compress.group import Selection, select_all
from tuneflow.compress.narrowing import kept_channels, narrowed
from tuneflow.compress.operations import apply_all, operations_of
from tuneflow.model import tensors_of
from tuneflow.nested import leaves, mapped

WIDTHS = {
    name: widths.values() for name, (_, _, widths, _) in NETS.items() if name not in ("joined twice", "squeezed")
}  # not of one row
NARROWED = [name for name, widths in WIDTHS.items() if widths and max(widths) > 1]


def rows_of(inputs, loss=None):
    """Rows without targets: the loss is the mean square of all outputs."""

    def mean_square(module, batch):
        return sum((values**2).mean() for values in leaves(module(batch[0])))

    return StepRows(inputs, lambda size, count: iter([(inputs, None)] * count), loss or mean_square)


@cache
def grouped(name):
    """A net, inputs, its groups and their costs; nothing of it may be changed."""
    net, inputs = net_of(name)
    groups = groups_of(net, inputs).groups
    return net, inputs, groups, ChannelCosts(net, groups, inputs)


def macs_of(net, inputs):
    return tn.measure.MACs().of_module(net, mapped(lambda tensor: tensor[:1], inputs))


def replayed(net, operations):
    """The structure that a recipe's plain values make of a net."""
    return apply_all(operations_of([each.to_values() for each in operations]), copy.deepcopy(net))


@pytest.mark.parametrize("name", NARROWED)
def test_multiplications_come_to_what_was_asked_for(name):
    net, inputs, groups, costs = grouped(name)
    possible = costs.full / costs.macs([1] * len(groups))
    asked = possible**0.25
    module = copy.deepcopy(net)
    torch.manual_seed(0)
    result = apply_all(Narrow(asked, rows=2).operations(module, rows_of(inputs)), copy.deepcopy(net))
    got, wanted = macs_of(result, inputs), macs_of(net, inputs) / asked
    widest = max(costs.savings([group.width for group in groups]))
    assert wanted - widest <= got <= wanted * (1 + 1e-9)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(result).values(), tensors_of(module).values(), strict=True))


@pytest.mark.parametrize("name", [name for name in NARROWED if name != "mixer"])
def test_costs_and_groups_are_followed_without_a_look_at_the_narrowed_net(name):
    net, inputs, groups, costs = grouped(name)
    kept = [torch.arange(0, group.width, 2) for group in groups]
    costs = costs.macs([len(index) for index in kept])
    result = apply_all(select_all(map(Selection, groups, kept)), copy.deepcopy(net))
    assert costs == pytest.approx(macs_of(result, inputs))
    for ours, anew in zip(narrowed(groups, kept), groups_of(result, inputs).groups, strict=True):
        assert (ours.name, ours.width) == (anew.name, anew.width)
        assert all(torch.equal(a.positions, b.positions) for a, b in zip(ours.members, anew.members, strict=True))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_no_channel_that_went_would_still_fit(share):
    _, _, groups, costs = grouped("flattened")
    scores = [torch.rand(group.width) for group in groups]
    kept = [len(index) for index in kept_channels(scores, costs, share * costs.full)]
    more = [[n + (i == j) for j, n in enumerate(kept)] for i in range(len(kept)) if kept[i] < groups[i].width]
    assert costs.macs(kept) <= share * costs.full < min(map(costs.macs, more))


WIDE = ["chain", "convolutional", "residual", "flattened", "channels last", "encoder", "one dimension"]


@pytest.mark.parametrize("name", WIDE)
def test_copies_of_channels_can_go_without_a_loss(name):
    net, inputs = net_of(name)
    wide = copy.deepcopy(net)
    Widen(2.0).operations(wide, rows_of(inputs))
    many = torch.randn(64, *inputs.shape[1:])
    factor = macs_of(wide, inputs) / macs_of(net, inputs)
    torch.manual_seed(0)
    result = apply_all(Narrow(factor, rows=64).operations(copy.deepcopy(wide), rows_of(many)), copy.deepcopy(wide))
    with torch.no_grad():
        expected, got = wide(many), result(many)
    assert macs_of(result, inputs) <= macs_of(net, inputs)
    assert float((got - expected).std()) < 0.05 * float(expected.std())


def test_new_weights_keep_the_outputs_closer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    inputs, errors = torch.randn(256, 3), {}
    for refit in (True, False):
        step = Narrow(4.0, rows=256, refit=refit)
        result = apply_all(step.operations(copy.deepcopy(net), rows_of(inputs)), copy.deepcopy(net))
        with torch.no_grad():
            errors[refit] = float((result(inputs) - net(inputs)).norm())
    assert errors[True] < 0.3 * errors[False]


@pytest.mark.parametrize("by", ["obd", "taylor", "magnitude"])
def test_a_channel_without_effect_goes_first(by):
    net, _ = net_of("chain")
    for part in (net[0].weight, net[0].bias):
        part.data[[2, 5]] = 0
    operations = Narrow(8 / 6, by, rows=64).operations(copy.deepcopy(net), rows_of(torch.randn(64, 3)))
    assert operations[0].index.tolist() == [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize(("slow", "group"), [(0, "0"), (1, "0"), (3, "2"), (4, "2")])
def test_channels_of_slow_layers_go_first(monkeypatch, slow, group):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6)).eval()
    monkeypatch.setattr(
        "tuneflow.compress.channel_times.layer_times",
        lambda module, _: {part: 1e6 if i == slow else 1.0 for i, part in enumerate(module)},
    )
    operations = Narrow(1.5, rows=64, per="ms").operations(copy.deepcopy(net), rows_of(torch.randn(64, 6)))
    assert {each.layer for each in operations if isinstance(each, Select) and each.dim == 0} == {group}


@pytest.mark.parametrize("name", ["flattened", "encoder", "of a dict"])
def test_every_layer_with_channels_has_a_time(name):
    net, inputs = net_of(name)
    costs = ChannelCosts(net, groups_of(net, inputs).groups, inputs)
    rates = rates_of(net, costs.layers, costs.widths, inputs, 3)
    assert min(rates.operation.values()) > 0
    timed = ChannelCosts(net, groups_of(net, inputs).groups, inputs, rates)
    assert min(timed.savings([group.width for group in groups_of(net, inputs).groups])) > 0


@pytest.mark.parametrize("only", [["0"], ["2"]])
def test_times_of_other_layers_do_not_count_for_the_named_ones(only):
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6)).eval()
    inputs = torch.randn(2, 6)
    costs = ChannelCosts(net, named_groups(groups_of(net, inputs), only), inputs)
    assert rates_of(net, costs.layers, costs.widths, inputs, 4).channel.keys() == set(only)


def test_a_recipe_replays_the_structure_and_leaves_the_weights_to_the_state():
    net, inputs = net_of("residual")
    operations = Narrow(2.0, rows=2).operations(copy.deepcopy(net), rows_of(inputs))
    assert all("values" not in each.to_values() for each in operations if isinstance(each, Assign))
    result, again = apply_all(operations, copy.deepcopy(net)), replayed(net, operations)
    first = next(each for each in operations if isinstance(each, Assign))
    assert torch.equal(result.get_submodule(first.layer).weight, first.values)
    assert not torch.equal(again.get_submodule(first.layer).weight, first.values)
    again.load_state_dict(result.state_dict())
    assert torch.equal(result(inputs), again(inputs))


def test_equal_seeds_narrow_equally():
    net, _ = net_of("convolutional")
    rows = rows_of(torch.randn(64, 1, 8, 8))
    kept = []
    for seed in (1, 1):
        torch.manual_seed(seed)
        kept.append(Narrow(2.0, rows=64).operations(copy.deepcopy(net), rows))
    one, two = kept
    assert [each.to_values().keys() for each in one] == [each.to_values().keys() for each in two]
    assert all(torch.equal(a.values, b.values) for a, b in zip(one, two, strict=True) if isinstance(a, Assign))


def test_once_as_many_is_nothing_changed():
    net, inputs = net_of("chain")
    assert Narrow(1.0).operations(net, rows_of(inputs)) == []


def test_a_module_whose_channels_are_all_dead_is_narrowed():
    net, inputs = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), torch.ones(32, 6)
    nn.init.constant_(net[0].bias, -100.0)
    operations = Narrow(2.0).operations(copy.deepcopy(net), rows_of(inputs))
    result = apply_all(operations, copy.deepcopy(net))
    assert result[0].out_features == 4
    assert torch.equal(result(inputs), net(inputs))


def test_only_the_named_layers_lose_channels():
    net, inputs = net_of("convolutional")
    operations = Narrow(1.1, only=["5"], rows=2).operations(copy.deepcopy(net), rows_of(inputs))
    result = apply_all(operations, copy.deepcopy(net))
    assert result[0].out_channels == net[0].out_channels
    assert result[5].out_features < net[5].out_features


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("chain", {"macs": 9}, "more than this module can give: .* it has 8 times fewer"),
        ("grouped", {"macs": 2}, "no channels that could be dropped .*GroupNorm"),
        ("chain", {"macs": 2, "only": ["2"]}, 'no channels of "2" can be dropped'),
    ],
)
def test_modules_that_cannot_be_narrowed_are_refused_with_the_reason(name, arguments, message):
    net, inputs = net_of(name)
    with pytest.raises(ValueError, match=message):
        Narrow(**arguments).operations(net, rows_of(inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"macs": 0.5}, "number >= 1"),
        ({"by": "obds"}, 'Did you mean "obd"'),
        ({"rows": 0}, "whole number >= 1"),
        ({"per": "time"}, r"one of \"macs\", \"ms\", got 'time'"),
        ({"batch": 0}, "batch .*whole number >= 1"),
        ({"only": "conv"}, "list of names"),
        ({"only": []}, "at least one name"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Narrow(**arguments)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()])
def test_a_narrowed_winner_trains_and_goes_on_from_its_state(loss):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(96, 6, generator=generator)
    targets = inputs[:, :3].argmax(1) if isinstance(loss, nn.CrossEntropyLoss) else 50 + 9 * inputs[:, :1]
    data = tn.Data(inputs, targets)
    torch.manual_seed(0)
    winner = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3 if targets.ndim == 1 else 1))
    trainer = tn.Trainer(data, data, loss=loss, optimizer=torch.optim.SGD, epochs=2)
    config = {"narrow": {"macs": 4.0}, "optimizer": {"lr": 0.01}}
    task = tn.types.Job(tn.Model(winner, steps={"narrow": Narrow}), config, tn.Runtime())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = trainer.init(task)
        whole = [state for state, _ in trainer.advance(task, start, 2)]
        (resumed,) = [state for state, _ in trainer.advance(task, whole[0], 2)]
    module = trainer.module(task, resumed)
    assert macs_of(module, inputs) * 4 <= macs_of(winner, inputs)
    before, after = (tensors_of(trainer.module(task, state)) for state in (whole[1], resumed))
    assert all(torch.equal(before[name], after[name]) for name in before)
