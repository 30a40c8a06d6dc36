"""Channels that go together: what is found in nets of many kinds, and what removing them leaves."""

import copy
import sys
from collections import OrderedDict

import pytest
import torch
from torch import nn

from tests.helpers.channel_nets import NETS, Branching, Heads, net_of
from tuneflow.compress.channel_groups import groups_of, named_groups
from tuneflow.compress.group import Selection, select, select_all
from tuneflow.compress.operations import apply_all, operations_of
from tuneflow.compress.pruning_groups import spaces_by_pruning
from tuneflow.compress.traced_groups import fixed_layers
from tuneflow.nested import leaves

NARROWED = [name for name, (_, _, widths, _) in NETS.items() if any(width > 1 for width in widths.values())]


def outputs_of(net, inputs):
    with torch.no_grad():
        return leaves(net(inputs))


def agree(one, other, tolerance=1e-5):
    spans = [float(values.abs().max()) for values in other]
    return all(float((a - b).abs().max()) <= tolerance * span for a, b, span in zip(one, other, spans, strict=True))


def zeroed(net, choices):
    """A copy of `net` whose layers take nothing from the channels that are not chosen."""
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for group, index in choices:
            gone = torch.ones(group.width, dtype=torch.bool).index_fill_(0, index, False)
            for member in group.users:
                weight = copied.get_submodule(member.layer).weight
                weight.index_fill_(member.dim, member.positions[gone].flatten(), 0)
    return copied


@pytest.mark.parametrize("name", NETS)
def test_groups_and_the_layers_that_belong_to_none(name):
    _, _, widths, reasons = NETS[name]
    groups, kept = groups_of(*net_of(name))
    assert {group.name: group.width for group in groups} == widths
    found = {each.layer: each.reason for each in kept}
    assert {layer: part for layer, part in reasons.items() if part not in found.get(layer, "")} == {}


@pytest.mark.parametrize("name", NARROWED)
def test_channels_without_effect_may_as_well_be_removed(name):
    net, inputs = net_of(name)
    choices = []
    for group in groups_of(net, inputs).groups:
        index = torch.randperm(group.width)[: max(1, group.width // 3)].sort().values
        choices.append((group, index))
        removed = apply_all(select(group, index), copy.deepcopy(net))
        assert agree(outputs_of(removed, inputs), outputs_of(zeroed(net, choices[-1:]), inputs))
    every = apply_all(select_all(Selection(*choice) for choice in choices), copy.deepcopy(net))
    assert agree(outputs_of(every, inputs), outputs_of(zeroed(net, choices), inputs))


@pytest.mark.parametrize("name", ["convolutional", "residual", "inverted", "skips", "attention", "repeated"])
def test_torch_pruning_finds_the_same_groups(name):
    net, inputs = net_of(name)

    def described(groups):
        return {
            group.name: (
                group.width,
                sorted((m.layer, m.tensor, m.dim, m.makes, m.positions.tolist()) for m in group.members),
            )
            for group in groups
        }

    pruning = spaces_by_pruning(copy.deepcopy(net), ((inputs,), {}), fixed_layers(net)).groups()[0]
    widths = NETS[name][2]  # it knows nothing of norms that would change
    assert described(g for g in pruning if g.name in widths) == described(groups_of(net, inputs).groups)


def test_a_forward_that_branches_on_values_is_followed_by_torch_pruning():
    net, inputs = Branching(), torch.ones(2, 3)
    assert [group.name for group in groups_of(net, inputs).groups] == ["a"]


def test_a_dropout_is_noted_of_every_group_that_torch_pruning_finds():
    net = Branching()
    net.rate = 0.5
    assert [group.dropouts for group in groups_of(net, torch.ones(2, 3)).groups] == [("dropout()",)]


def test_a_wrong_group_of_torch_pruning_is_seen_although_the_weights_hide_it():
    torch.manual_seed(0)
    net = Heads()
    for layer in (net.query, net.key):
        layer.weight.data *= 1e-3  # an attention that is almost uniform
    groups, kept = groups_of(net, torch.randn(2, 5, 3))
    assert [group.name for group in groups] == ["hidden"]
    assert "other outputs" in next(each.reason for each in kept if each.layer == "query")


def test_without_torch_pruning_a_branch_on_values_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ValueError, match=r"Branching .* depends on values .* torch-pruning, .* pip install"):
        groups_of(Branching(), torch.ones(2, 3))


def test_a_compiled_module_is_refused_with_the_way_out():
    compiled = nn.Sequential(OrderedDict(_orig_mod=nn.Linear(2, 2)))  # has that attribute, as what torch.compile gives
    with pytest.raises(ValueError, match=r"pass module\._orig_mod"):
        groups_of(compiled, torch.ones(2, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"got a TopLevelTracedModule, .* pass what was scripted"):
        groups_of(torch.jit.trace(nn.Linear(2, 2), torch.ones(2, 2)), torch.ones(2, 2))


def test_a_dict_that_a_hook_spreads_over_the_arguments():
    net = nn.Bilinear(3, 4, 2)
    net.register_forward_pre_hook(lambda _, args: (args[0]["x"], args[0]["y"]))
    assert groups_of(net, {"x": torch.ones(2, 3), "y": torch.ones(2, 4)}).groups == []


def test_finding_groups_leaves_the_module_and_the_generators_alone():
    net, inputs = net_of("residual")
    net.train()
    before = copy.deepcopy(net.state_dict())
    generator = torch.get_rng_state()
    groups_of(net, inputs)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


def test_right_groups_are_checked_at_once():
    calls = []
    for depth in (2, 6):
        layers = [layer for _ in range(depth) for layer in (nn.Linear(8, 8), nn.ReLU())]
        net = nn.Sequential(*layers, nn.Linear(8, 2))
        net.register_forward_hook(lambda *_: calls[-1].append(1))
        calls.append([])
        assert len(groups_of(net, torch.ones(2, 8)).groups) == depth
    assert len(calls[0]) == len(calls[1])


def test_a_dropout_on_the_way_is_noted():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 5), nn.Dropout(0.0), nn.Linear(5, 2))
    assert [group.dropouts for group in groups_of(net, torch.ones(2, 3)).groups] == [('"1" (Dropout)',), ()]


def test_a_selection_survives_the_way_through_a_state():
    net, inputs = net_of("skips")
    group = groups_of(net, inputs).groups[0]
    values = [operation.to_values() for operation in select(group, torch.tensor([1, 4]))]
    replayed = apply_all(operations_of(values), copy.deepcopy(net))
    assert replayed.down1.out_channels == 2
    assert replayed.merge.in_channels == 8


@pytest.mark.parametrize("index", [[], [2, 1], [0, 8], [-1]])
def test_an_index_that_is_no_selection_is_refused(index):
    group = groups_of(*net_of("chain")).groups[0]
    with pytest.raises(ValueError, match=r'group "0" of 8 channels: an index has to name'):
        select(group, torch.tensor(index, dtype=torch.int64))


def test_groups_are_named_by_any_layer_that_makes_their_channels():
    groups = groups_of(*net_of("residual"))
    assert [group.name for group in named_groups(groups, ["a.conv2", "b.down.0", "stem"])] == ["stem", "b.conv2"]
    with pytest.raises(ValueError, match=r'of "fc" .* makes the outputs'):
        named_groups(groups, ["fc"])
    with pytest.raises(ValueError, match=r'Did you mean "a.conv1"'):
        named_groups(groups, ["a.conv11"])


def test_a_module_without_groups_is_refused_with_the_reasons():
    with pytest.raises(ValueError, match=r'no channels that could be .*"1": GroupNorm is not'):
        named_groups(groups_of(*net_of("grouped")), None)


def test_complex_weights_are_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 8, dtype=torch.complex64), nn.Tanh(), nn.Linear(8, 2, dtype=torch.complex64))
    groups, kept = groups_of(net, torch.ones(2, 3, dtype=torch.complex64))
    assert not groups
    assert str(kept[0]) == '"0": its weights are no real numbers in floating point'
