"""APGD: its losses, its schedule of checks, and its strength where the answer is known."""

import pytest
import torch
from torch import nn

from tuneflow.harden import APGD
from tuneflow.harden.apgd import check_steps, difference_of_logits_ratio
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.threat import Threat

BOX = (0.0, 1.0)
INPUTS = 0.3 + 0.4 * torch.rand((20, 6), generator=torch.Generator().manual_seed(0))
every_loss = pytest.mark.parametrize("loss", ["ce", "dlr"])


def linear(classes=4, factor=1.0):
    net = nn.Linear(6, classes)
    weights = torch.randn((classes, 6), generator=torch.Generator().manual_seed(1))
    net.load_state_dict({"weight": factor * weights, "bias": torch.zeros(classes)})
    return net


def bent():
    """A net whose margin has many local minima."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def margins_after(net, loss, norm="linf", eps=0.1, seed=0, **settings):
    attacked, targets = AttackedModule(net), net(INPUTS).argmax(1)
    threat = Threat(eps, norm, BOX)
    attack = APGD(eps, norm, BOX, loss=loss, **settings)
    rows = attack.perturb(attacked, "own", INPUTS, targets, threat, torch.Generator().manual_seed(seed))
    threat.check(rows, INPUTS)
    return logit_margin(attacked.logits(rows), targets)


@every_loss
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_linear_margin_of_two_classes_falls_by_radius_times_dual_norm(loss, norm, dual):
    net = linear(classes=2)
    direction = net.weight[1] - net.weight[0]
    least = (INPUTS @ direction).abs() - 0.1 * direction.norm(p=dual)
    assert torch.allclose(margins_after(net, loss, norm), least, atol=1e-4)


@every_loss
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_module_loses_every_class_that_can_be_lost(loss, norm):
    net = linear()
    targets = net(INPUTS).argmax(1)
    differences = net.weight[targets][:, None] - net.weight
    dual = differences.norm(p=1 if norm == "linf" else 2, dim=2)
    least = (torch.einsum("rcv,rv->rc", differences, INPUTS) - 0.1 * dual).scatter(1, targets[:, None], torch.inf)
    possible = least.amin(1) < 0
    assert possible.any()
    assert (margins_after(net, loss, norm, restarts=3) < 0).sum() >= possible.sum() - 1


def test_factor_on_the_logits_changes_nothing_for_the_ratio():
    small, large = (margins_after(linear(factor=factor), "dlr") for factor in (1.0, 1024.0))
    assert torch.equal(1024 * small, large)


def test_large_logits_hide_the_gradient_of_the_cross_entropy():
    masked = margins_after(linear(factor=1e5), "ce") / 1e5
    assert (margins_after(linear(), "dlr") < masked - 0.01).any()


@every_loss
def test_more_restarts_are_never_weaker(loss):
    once, twice = (margins_after(bent(), loss, restarts=restarts, steps=5) < 0 for restarts in (1, 2))
    assert (twice | ~once).all()


def test_ratio_has_no_divisor_for_two_classes():
    logits, targets = torch.tensor([[4.0, 1.0], [4.0, 1.0]]), torch.tensor([0, 1])
    assert difference_of_logits_ratio(logits, targets).tolist() == [-3, 3]


def test_ratio_of_three_equal_logits_has_a_finite_gradient():
    logits = torch.ones(1, 4, requires_grad=True)
    difference_of_logits_ratio(logits, torch.tensor([1])).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] < 0


def test_checks_come_closer_to_each_other():
    assert list(check_steps(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sum(check_steps(50).values()) == max(check_steps(50))
    assert check_steps(1) == {1: 1}


def test_draws_come_from_the_generator_alone():
    net, before = bent(), torch.get_rng_state()
    first, again, other = (margins_after(net, "ce", "l2", seed=seed, steps=1) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_with_gradients_that_are_not_finite_stay_within_the_threat():
    class Root(nn.Module):
        def forward(self, inputs):
            return torch.cat([(inputs[:, :2] - 0.5).abs().sqrt(), inputs[:, 2:4]], 1)

    assert margins_after(Root(), "ce", steps=5).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"), [({"loss": "cw"}, '"ce", "dlr"'), ({"steps": 0}, "APGD: steps")], ids=["loss", "steps"]
)
def test_refusal_names_the_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        APGD(0.1, **settings)
