"""LowRank: which layers become two, how thin, and that nothing is lost at full rank."""

import copy

import pytest
import torch
from torch import nn

from tuneflow.compress import Factorize, LowRank, StepRows
from tuneflow.compress.operations import apply_all


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 24, (1, 3), dilation=2, bias=False),
        nn.Flatten(), nn.Linear(24 * 8 * 4, 32), nn.ReLU(), nn.Linear(32, 2),
    )  # fmt: skip


def weights(module):
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith("weight"))


INPUTS = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
ROWS = StepRows(INPUTS, None, None)


@pytest.mark.parametrize(("layer", "rank"), [("0", 16), ("3", 24), ("5", 32), ("7", 2)])
def test_full_rank_gives_the_same_outputs(layer, rank):
    before = net().eval()
    after = apply_all([Factorize(layer, rank)], copy.deepcopy(before))
    assert torch.allclose(after(INPUTS), before(INPUTS), atol=1e-5)


@pytest.mark.parametrize("keep", [0.8, 0.5, 0.3, 0.1])
def test_no_layer_keeps_more_than_its_share_but_for_rank_one(keep):
    module = net()
    for each in LowRank(keep).operations(module, ROWS):
        before = weights(module.get_submodule(each.layer))
        after = weights(apply_all([each], copy.deepcopy(module)).get_submodule(each.layer))
        assert after <= keep * before or (each.rank == 1 and after < before)


def test_size_follows_keep_closely():
    module = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 100))
    shares = [
        weights(apply_all(LowRank(k).operations(module), copy.deepcopy(module))) / 30_000 for k in (0.1, 0.4, 0.9)
    ]
    assert shares == pytest.approx([0.1, 0.4, 0.9], abs=0.011)


def test_all_that_is_kept_is_nothing_changed():
    assert LowRank(1.0).operations(net(), ROWS) == []


def test_only_names_the_layers():
    assert [each.layer for each in LowRank(0.5, only=["5"]).operations(net(), ROWS)] == ["5"]
    assert [each.layer for each in LowRank(0.5).operations(net(), ROWS)] == ["0", "3", "5", "7"]


def test_an_error_that_falls_with_the_rank():
    module = net().eval()
    errors = []
    for keep in (0.1, 0.3, 0.6):
        changed = apply_all(LowRank(keep, only=["5"]).operations(module, ROWS), copy.deepcopy(module))
        errors.append(float((changed(INPUTS) - module(INPUTS)).detach().norm()))
    assert errors[0] > errors[1] > errors[2] > 0


class Peeking(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, inputs):
        return inputs @ self.inner.weight


def tied():
    module = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    module[1].weight = module[0].weight
    return module


def twice():
    layer = nn.Linear(16, 16)
    return nn.Sequential(layer, layer)


@pytest.mark.parametrize(
    ("module", "only", "message"),
    [
        (net(), ["2"], "grouped convolution"),
        (net(), ["1"], "it is a ReLU"),
        (net(), ["9"], "there is no such layer"),
        (tied(), ["0"], "used in two places"),
        (twice(), ["0"], "used in two places"),
        (nn.Linear(16, 16), [""], "it is the module itself"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))), ["0"], "parametrized"),
        (nn.TransformerEncoderLayer(16, 2), ["linear1"], "looked at by the module around it"),
        (Peeking(), None, "it looks into one of them; name the others"),
    ],
)
def test_layers_that_cannot_become_two_are_refused_by_name(module, only, message):
    with pytest.raises(ValueError, match=message):
        LowRank(0.3, only=only).operations(module, StepRows(torch.ones(2, 16), None, None))


@pytest.mark.parametrize("module", [tied(), twice(), nn.TransformerEncoderLayer(16, 2)])
def test_without_names_such_layers_stay(module):
    assert LowRank(0.3).operations(module) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 0}, "above 0"),
        ({"keep": 1.2}, "at most 1"),
        ({"keep": True}, "share"),
        ({"only": "fc"}, "list of names"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LowRank(**arguments)
