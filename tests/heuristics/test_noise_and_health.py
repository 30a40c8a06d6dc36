"""Gradient noise scale and health: closed forms, and what is left as it was."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.helpers.global_generators import generators_untouched
from tests.helpers.hooks import hooks_of
from tuneflow.heuristics.health import Units, health
from tuneflow.heuristics.noise import gradient_noise
from tuneflow.nn import ScaledTanh


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Noise.

MEAN, STD = torch.tensor([0.3, -0.1, 0.0, 0.2]), torch.tensor([1.0, 2.0, 0.5, 0.1])


def linear():
    """A linear model whose gradient for a row is that row: mean MEAN, covariance diag(STD^2)."""
    w = torch.zeros(4, requires_grad=True)
    return lambda rows: (rows @ w).mean(), w


def drawn(count, rows, seed):
    return list(normal(count, rows, 4, seed=seed) * STD + MEAN)


def test_scale_is_the_summed_variance_over_the_squared_gradient():
    """Standard errors, over seeds: 5 % of the variance, 4 % of the squared gradient; 20 % is four of the former."""
    loss_of, w = linear()
    found = gradient_noise(loss_of, [w], drawn(800, 4, 0), drawn(800, 100, 1), rows=(4, 100))
    assert found.variance == pytest.approx(STD.square().sum().item(), rel=0.2)
    assert found.gradient == pytest.approx(MEAN.square().sum().item(), rel=0.2)
    assert found.scale == found.variance / found.gradient
    assert found.gradients == 800 + 800 * 4 / 100
    assert found.reason == ""


def test_estimates_are_unbiased_at_few_rows():
    """200 estimates of seed 0 from 6 rows each; the tolerance is 4 standard errors of their mean."""
    loss_of, w = linear()
    found = [gradient_noise(loss_of, [w], drawn(3, 2, n), drawn(2, 3, n + 1000), rows=(2, 3)) for n in range(200)]
    for name, truth in (("variance", STD.square().sum()), ("gradient", MEAN.square().sum())):
        values = torch.tensor([getattr(one, name) for one in found])
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(200)


def test_rows_that_agree_have_no_noise():
    loss_of, w = linear()
    found = gradient_noise(loss_of, [w], [MEAN.expand(2, 4)], [MEAN.expand(8, 4)], rows=(2, 8))
    assert found.scale == pytest.approx(0, abs=1e-5)


def test_gradient_lost_in_noise_says_so():
    loss_of, w = linear()
    found = gradient_noise(loss_of, [w], [torch.ones(2, 4)], [torch.zeros(8, 4)], rows=(2, 8))
    assert found.scale == math.inf
    assert "lost" in found.reason


def test_gradient_that_is_not_finite_says_so():
    loss_of, w = linear()
    found = gradient_noise(loss_of, [w], [torch.full((2, 4), math.nan)], [torch.zeros(8, 4)], rows=(2, 8))
    assert math.isnan(found.scale)
    assert "finite" in found.reason


def test_large_batch_that_is_noisier_than_the_small_says_so():
    loss_of, w = linear()
    found = gradient_noise(loss_of, [w], [torch.ones(2, 4)], [torch.ones(8, 4) * 2], rows=(2, 8))
    assert found.scale == 0
    assert "chance" in found.reason


def test_noise_obeys_its_seed_and_touches_nothing():
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    net[0].weight.grad = torch.ones(8, 4)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    measure = lambda seed: gradient_noise(
        lambda rows: net(rows).square().mean(), list(net.parameters()), drawn(2, 2, 0), drawn(2, 8, 1), (2, 8), seed
    )
    with generators_untouched():
        assert measure(0) == measure(0) != measure(1)
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert torch.equal(net[0].weight.grad, torch.ones(8, 4))
    assert net[2].weight.grad is None
    json.dumps(asdict(measure(0)))


@pytest.mark.parametrize("rows", [(8, 8), (8, 2), (0, 2)], ids=str)
def test_rows_that_tell_nothing_are_refused(rows):
    loss_of, w = linear()
    with pytest.raises(ValueError, match="small < large"):
        gradient_noise(loss_of, [w], drawn(1, 2, 0), drawn(1, 2, 0), rows)


def test_noise_without_batches_is_refused():
    loss_of, w = linear()
    for parameters, small, large in (([], [1], [1]), ([w], [], [1]), ([w], [1], [])):
        with pytest.raises(ValueError, match="both sizes"):
            gradient_noise(loss_of, parameters, small, large, (1, 2))


# Health.


def seen_of(net, inputs, **settings):
    return health(net, lambda x: net(x).float().square().mean(), inputs, **{"rate": 0.1, **settings})


def test_gradient_and_update_sizes_are_those_of_a_step():
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    inputs = normal(5, 3)
    found = seen_of(net, inputs, rate=0.5)
    loss = net(inputs).square().mean()
    loss.backward()
    before = [torch.cat([layer.weight.flatten(), layer.bias]).detach().clone() for layer in (net[0], net[2])]
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    after = [torch.cat([layer.weight.flatten(), layer.bias]).detach() for layer in (net[0], net[2])]
    assert [one.name for one in found.weights] == ["0", "2"]
    assert found.loss == pytest.approx(loss.item())
    for one, old, new in zip(found.weights, before, after, strict=True):
        assert one.ratio == pytest.approx(((new - old).norm() / old.norm()).item(), rel=1e-4)
        assert one.weight == pytest.approx(old.norm().item(), rel=1e-6)
        assert one.gradient == pytest.approx(((new - old).norm() / 0.5).item(), rel=1e-4)


def test_weights_of_zero_are_moved_without_measure():
    net = nn.Linear(2, 1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    (one,) = health(net, lambda x: (net(x) + 1).square().mean(), torch.ones(2, 2), rate=0.1).weights
    assert one.name == ""
    assert one.ratio == math.inf


def test_frozen_layers_are_left_out():
    net = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    assert [one.name for one in seen_of(net, torch.ones(2, 2)).weights] == ["1"]


def with_biases(act, biases):
    """One unit per bias, each giving act(bias + input)."""
    net = nn.Sequential(nn.Linear(1, len(biases)), act)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.copy_(torch.tensor(biases))
    return net


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.ReLU(inplace=True)], ids=str)
def test_units_that_are_zero_on_every_row_are_dead(act):
    inputs = torch.tensor([[0.0], [1.0], [-1.0]])
    (one,) = seen_of(with_biases(act, [9.0, 0.5, -9.0, -8.0]), inputs).units
    assert one == Units("1", 4, None, 0.5)


@pytest.mark.parametrize(
    ("act", "edge"), [(nn.Tanh(), math.atanh(0.97)), (nn.Sigmoid(), 2 * math.atanh(0.97)), (nn.Softsign(), 0.97 / 0.03)]
)
def test_units_beyond_the_edge_of_their_range_on_most_rows_are_saturated(act, edge):
    inputs = torch.tensor([[0.0], [0.02], [-99.0 * edge]])
    net = with_biases(act, [edge + 0.01, edge - 0.03, 0.0, -9 * edge])
    (one,) = seen_of(net, inputs).units
    assert one == Units("1", 4, 0.5, None)


def test_further_activations_saturate_at_the_ends_they_are_given():
    net = with_biases(ScaledTanh(), [9.0, 0.0])
    assert seen_of(net, torch.zeros(2, 1)).units == ()
    (one,) = seen_of(net, torch.zeros(2, 1), ranges={ScaledTanh: (-1.7159, 1.7159)}).units
    assert one.saturated == 0.5


class Swapped(nn.Module):
    def forward(self, inputs):
        return inputs.transpose(1, 2)


@pytest.mark.parametrize(
    ("layers", "shape", "units"),
    [
        ((nn.Conv2d(1, 3, 1), nn.ReLU()), (2, 1, 4, 4), 3),
        ((nn.Conv1d(1, 3, 1), nn.BatchNorm1d(3), nn.ReLU()), (2, 1, 5), 3),
        ((nn.Linear(4, 3), nn.ReLU()), (2, 5, 4), 3),
        ((nn.Conv1d(1, 3, 1), Swapped(), nn.Linear(3, 7), nn.Tanh()), (2, 1, 5), 7),
        ((nn.Linear(4, 1), nn.Flatten(0), nn.ReLU()), (6, 4), 1),
    ],
    ids=["image", "signal", "sequence", "signal then sequence", "number"],
)
def test_channel_is_one_unit_whatever_its_positions(layers, shape, units):
    (one,) = seen_of(nn.Sequential(*layers), normal(*shape)).units
    assert one.units == units


def test_activation_used_twice_is_told_twice():
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(2, 3), act, nn.Linear(3, 4), act)
    assert [(one.name, one.units) for one in seen_of(net, normal(5, 2)).units] == [("1", 3), ("1#2", 4)]


def test_loss_is_set_against_the_prior():
    net = nn.Linear(3, 4)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    targets = torch.arange(8) % 4
    loss_of = lambda x: functional.cross_entropy(net(x), targets)
    assert health(net, loss_of, normal(8, 3), 0.1, prior=math.log(4)).excess == pytest.approx(0, abs=1e-6)
    assert health(net, loss_of, normal(8, 3), 0.1).excess is None


@pytest.mark.parametrize("training", [True, False])
def test_health_leaves_everything_bit_for_bit_as_it_was(training):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)).train(training)
    net[0].weight.grad = torch.ones(4, 3)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    with generators_untouched():
        found = seen_of(net, normal(8, 3))
        assert (seen_of(net, normal(8, 3), seed=1) != found) is training
    for name, value in net.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert torch.equal(net[0].weight.grad, torch.ones(4, 3))
    assert net[4].weight.grad is None
    assert all(part.training is training for part in net.modules())
    assert hooks_of(net) == []
    assert json.loads(json.dumps(asdict(found)))["loss"] == found.loss


def test_module_that_raises_keeps_no_hooks():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    with pytest.raises(RuntimeError, match="shapes"):
        seen_of(net, normal(2, 9))
    assert hooks_of(net) == []


def test_module_without_parameters_is_refused():
    with pytest.raises(ValueError, match="got none"):
        seen_of(nn.Tanh(), normal(2, 3))
