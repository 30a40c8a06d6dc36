"""Spectral norms: singular values of the layers' real operators, and a product that bounds where it is said."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_networks import Recurrent, Tied
from tuneflow.compress.winner import BuildRecord, recorded
from tuneflow.harden.linear_gain import linear_gain
from tuneflow.heuristics.input_scaling import Normalizer
from tuneflow.heuristics.sanitizing import RoundedInputs
from tuneflow.heuristics.target_scaling import completed


def scaled_norm(features=4):
    norm = nn.BatchNorm1d(features).eval()
    norm.running_var.copy_(torch.tensor([0.25, 1.0, 4.0, 1.0]))
    norm.running_mean.fill_(50.0)
    return norm


def weighted(factor, constant=0.0):
    torch.manual_seed(1)
    layer = nn.Linear(7, 5)
    layer.weight.data.mul_(factor)
    nn.init.constant_(layer.bias, constant)
    return layer


LINEAR = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear over steps": (lambda: nn.Linear(3, 4), (6, 3)),
    "weight norm": (lambda: weight_norm(nn.Linear(7, 5)), (7,)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 8)),
    "stride and groups": (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), (4, 7, 7)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 6, 6)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 4, 4)),
    "batch norm": (scaled_norm, (4,)),
    "pooling": (lambda: nn.AvgPool2d(2), (1, 4, 4)),
    "normalizer": (lambda: Normalizer(torch.tensor(3.0), torch.tensor(0.5)), (4,)),
    "normalizer of years": (lambda: Normalizer(torch.tensor(1e6), torch.tensor(0.5)), (4,)),
    "large constant": (lambda: weighted(1.0, 1e5), (7,)),
    "large weights": (lambda: weighted(1e25), (7,)),
    "small weights": (lambda: weighted(1e-25, 1.0), (7,)),
    "weights of 0": (lambda: weighted(0.0), (7,)),
}


@pytest.mark.parametrize(("make", "shape"), LINEAR.values(), ids=list(LINEAR))
def test_gain_is_the_largest_singular_value_of_what_the_layer_computes(make, shape):
    torch.manual_seed(0)
    layer, x = make(), torch.ones(1, *shape)
    matrix = torch.autograd.functional.jacobian(layer, x).reshape(-1, x.numel())
    assert linear_gain(layer, x) == pytest.approx(float(torch.linalg.matrix_norm(matrix.double(), 2)), rel=2e-4)


OTHERS = {
    "relu in place": nn.ReLU(inplace=True),
    "layer norm": nn.LayerNorm(8),
    "max pool": nn.MaxPool1d(2),
    "detached": type("Detached", (nn.Module,), {"forward": lambda _, x: x.detach()})(),
    "pair": nn.GRU(8, 4),
    "fine levels": RoundedInputs(-3.0, 3.0, 65536.0),
    "a single level": RoundedInputs(0.0, 100.0, 2.0),
}


@pytest.mark.parametrize("layer", OTHERS.values(), ids=list(OTHERS))
def test_layers_that_are_not_linear_have_no_gain(layer):
    assert linear_gain(layer, torch.ones(1, 8)) is None


def chain():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
        nn.Sequential(nn.Linear(36, 8), nn.Dropout(), nn.GELU()), nn.Linear(8, 10),
    )  # fmt: skip


def test_product_over_a_chain_bounds_the_change_of_outputs():
    module, x = chain().eval(), torch.randn(20, 1, 8, 8)
    norms = tn.harden.spectral_norms(module, x)
    steepest = max(
        torch.linalg.matrix_norm(torch.autograd.functional.jacobian(module, row[None]).reshape(10, 64), 2) for row in x
    )
    assert norms.bound >= steepest
    assert [layer.name for layer in norms.layers] == ["0", "1", "5.0", "6"]
    assert [layer.shape for layer in norms.layers] == [(1, 8, 8), (4, 6, 6), (36,), (8,)]
    assert f"from inputs to outputs a change grows at most {norms.bound:.3g}-fold (l2)" in str(norms)


def hooked(place):
    module = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU()))
    module.get_submodule(place).register_forward_hook(lambda _part, _inputs, outputs: 5 * outputs)
    return module


NO_CHAIN = {
    "a hook on a part": (hooked("1.0"), (3,)),
    "a hook on a part of the chain": (hooked("1"), (3,)),
    "a hook on the chain": (hooked(""), (3,)),
    "a forward of its own": (Tied(), (64,)),
    "layers that are not linear": (Recurrent(), (64,)),
    "an unknown activation": (nn.Sequential(nn.Linear(64, 4), nn.Softmax(1)), (64,)),
    "windows that overlap": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 1)), (1, 8, 8)),
}


@pytest.mark.parametrize(("module", "shape"), NO_CHAIN.values(), ids=list(NO_CHAIN))
def test_without_a_chain_of_known_gains_nothing_is_said_of_the_whole(module, shape):
    norms = tn.harden.spectral_norms(module, torch.ones(2, *shape))
    assert norms.layers
    assert norms.bound is None
    assert "grows at most" not in str(norms)


def test_bound_of_a_chain_with_weights_of_0_is_0():
    assert tn.harden.spectral_norms(nn.Sequential(weighted(0.0), nn.ReLU()), torch.ones(2, 7)).bound == 0


def test_hook_on_a_linear_layer_counts_in_its_gain():
    module, x = hooked("0"), torch.ones(1, 3)
    steepest = float(torch.linalg.matrix_norm(module[0].weight.detach(), 2))
    assert tn.harden.spectral_norms(module, x).bound == pytest.approx(5 * steepest, rel=1e-4)


def test_layers_of_a_trained_module_have_the_names_of_its_builder():
    whole = completed(chain(), Normalizer(torch.zeros(1), torch.full((1,), 0.5)), None)
    names = [layer.name for layer in tn.harden.spectral_norms(whole, torch.ones(2, 1, 8, 8)).layers]
    assert names == ["normalizer", "0", "1", "5.0", "6"]


def test_module_in_another_arithmetic_is_measured_in_its_float_form():
    module = chain().eval()
    converted = recorded(nn.Identity(), BuildRecord(trained=copy.deepcopy(module)))
    x = torch.ones(2, 1, 8, 8)
    assert tn.harden.spectral_norms(converted, x) == tn.harden.spectral_norms(module, x)


def test_layer_that_runs_on_several_shapes_counts_by_the_largest_gain():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(x[..., :1]), self.conv(x)

    module, x = Twice().eval(), torch.ones(1, 1, 9)
    gains = [linear_gain(module.conv, part) for part in (x[..., :1], x)]
    assert gains[0] < gains[1]
    assert [layer.norm for layer in tn.harden.spectral_norms(module, x).layers] == [gains[1]]


def test_module_and_generators_are_left_alone():
    module = chain()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with generators_untouched():
        tn.harden.spectral_norms(module, (torch.ones(4, 1, 8, 8), torch.zeros(4)))
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in module.modules())  # torch's own: no hook is left


def test_what_is_no_module_is_refused_by_name():
    with pytest.raises(TypeError, match="spectral_norms: module needs to be a torch module, got a str"):
        tn.harden.spectral_norms("net", torch.ones(1, 3))
