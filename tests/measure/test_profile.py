"""A profile's layers add up to the module, and its sentence says what the numbers say."""

import pytest
import torch
from torch import nn

from tests.helpers.measured_networks import convnet, quantized
from tests.helpers.small_networks import Tied
from tuneflow.heuristics.input_scaling import Normalizer
from tuneflow.heuristics.target_scaling import Scale, completed
from tuneflow.measure import LayerProfile, MACs, Parameters, Profile, profile


class WithToken(nn.Module):
    """Has a parameter of its own, and attention whose inner layer is not called."""

    def __init__(self):
        super().__init__()
        self.token, self.attention = nn.Parameter(torch.ones(8)), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = x + self.token
        return self.attention(x, x, x)[0]


NETS = {"convnet": (convnet, (1, 8, 8)), "tied": (Tied, (64,)), "token": (WithToken, (5, 8))}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("tuneflow.measure.layer_profile.SECONDS", 0.01)


@pytest.mark.parametrize("name", NETS)
def test_layers_add_up_to_the_module(name):
    make, shape = NETS[name]
    module, x = make(), torch.randn(4, *shape)
    layers = profile(module, x, batch=4).layers
    assert sum(layer.parameters for layer in layers) == Parameters().of_module(module, x)
    assert sum(layer.macs for layer in layers) == MACs().of_module(module, x)
    assert all(layer.milliseconds >= 0 for layer in layers)


def test_layers_are_named_in_the_order_in_which_they_run():
    table = profile(convnet(), torch.randn(4, 1, 8, 8), batch=4)
    assert [layer.name for layer in table.layers] == [*"01234567", "(rest)"]
    assert table.layers[4].shape == (8, 2, 2)
    assert str(table).splitlines()[0].split() == ["layer", "kind", "time", "parameters", "MACs", "output"]


def test_layers_of_a_trained_module_have_the_names_of_its_builder():
    whole = completed(convnet(), Normalizer(torch.zeros(1), torch.ones(1)), Scale(torch.zeros(1), torch.ones(1), 1.0))
    names = [layer.name for layer in profile(whole, torch.randn(4, 1, 8, 8), batch=4).layers]
    assert names == ["module.normalizer", *"01234567", "(rest)"]


def test_an_int8_module_has_a_profile_without_other_arithmetic():
    x = torch.randn(4, 1, 8, 8)
    table = profile(quantized(convnet(), x), x, batch=4)
    assert [layer.parameters for layer in table.layers if layer.parameters] == [40, 152, 330]


def test_a_result_is_profiled_by_its_module():
    class Result:
        def model(self):
            return nn.Linear(4, 3)

    assert [layer.name for layer in profile(Result(), torch.ones(2, 4)).layers] == ["Linear", "(rest)"]
    with pytest.raises(TypeError, match=r"needs to be a module or a result such as .* got a int"):
        profile(3, torch.ones(2, 4))


LAYERS = (LayerProfile("conv", "Conv2d", 3.0, 16, 95, ()), LayerProfile("fc1", "Linear", 1.0, 84, 5, ()))


@pytest.mark.parametrize(
    ("speedups", "words"),
    [
        ({"bf16": 1.5, "bf16 with channels_last": 3.2}, "bf16 with channels_last would be 3.2 times as fast"),
        ({"bf16": 0.9, "channels_last": 1.0}, "bf16 and channels_last would not be faster"),
        ({}, "it runs in no other arithmetic: no"),
    ],
)
def test_the_sentence_names_the_largest_and_the_slowest_layer_and_the_fastest_arithmetic(speedups, words):
    told = Profile(LAYERS, speedups, {"bf16": "no"}).sentence
    layers = '"fc1" holds 84 % of the parameters and 5 % of the multiplications; "conv" takes 75 % of the time'
    assert told == f"{layers}; {words}"
