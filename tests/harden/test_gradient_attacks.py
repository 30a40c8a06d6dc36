"""FGSM and PGD where the answer is known, and what an attack leaves of a module and of its caller."""

import pytest
import torch
from torch import nn

from tuneflow.harden import APGD, FGSM, PGD
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.threat import Threat, row_norms

BOX = (0.0, 16.0)
INPUTS = 4 + 8 * torch.rand((12, 6), generator=torch.Generator().manual_seed(0))
WEIGHTS = (
    torch.randn((2, 6), generator=torch.Generator().manual_seed(1)) / 16
)  # beyond a lead of some 16 a probability in float32 is 1
TARGETS = (INPUTS @ WEIGHTS.T).argmax(1)
ATTACKS = {
    "fgsm": FGSM,
    "pgd": PGD,
    "pgd without random start": lambda *where: PGD(*where, random_start=False),
    "apgd": lambda *where: APGD(*where, steps=10),
}
every_attack = pytest.mark.parametrize("kind", ATTACKS.values(), ids=list(ATTACKS))
every_norm = pytest.mark.parametrize("norm", ["linf", "l2"])


def linear(factor=1.0):
    net = nn.Linear(6, 2, bias=False)
    net.load_state_dict({"weight": factor * WEIGHTS})
    return net


class Squares(nn.Module):
    """Two classes: within a distance of 3 from the center of the box, or not."""

    def forward(self, inputs):
        distance = (inputs - 8).square().sum(1)
        return torch.stack([9 - distance, distance - 9], 1)


def moved(kind, net, norm="linf", eps=0.05, inputs=INPUTS, targets=TARGETS):
    torch.manual_seed(0)
    return kind(eps, norm, BOX)(net, inputs, targets)[0]


@every_attack
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_linear_margin_falls_by_radius_times_dual_norm(kind, norm, dual):
    net, direction = linear(), WEIGHTS[1] - WEIGHTS[0]
    before, after = (logit_margin(net(rows), TARGETS) for rows in (INPUTS, moved(kind, net, norm)))
    torch.testing.assert_close(after, before - 0.8 * direction.norm(p=dual), rtol=3e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [FGSM, ATTACKS["pgd without random start"]], ids=["fgsm", "pgd"])
@every_norm
def test_box_cuts_a_change_off_at_its_corners(kind, norm):
    corner = torch.tensor([[0.0, 16.0] * 3, [16.0, 0.0] * 3])
    rows = moved(kind, linear(), norm, 0.1, corner, TARGETS[:2])
    Threat(0.1, norm, BOX).check(rows, corner)
    against = (WEIGHTS[1 - TARGETS[:2]] - WEIGHTS[TARGETS[:2]]).sign()
    outward = torch.where(corner == 0, -1.0, 1.0) == against
    assert torch.equal(rows[outward], corner[outward])
    assert (rows[~outward] != corner[~outward]).any()


def test_change_under_l2_lies_along_the_gradient():
    change = moved(FGSM, linear(), "l2") - INPUTS
    direction = (WEIGHTS[1 - TARGETS] - WEIGHTS[TARGETS]) * torch.ones(len(INPUTS), 1)
    torch.testing.assert_close(change, 0.8 * direction / row_norms(direction), rtol=1e-4, atol=1e-5)


@every_norm
def test_steps_leave_a_sphere_by_the_shortest_way(norm):
    ways = torch.nn.functional.normalize(WEIGHTS, dim=1)
    inside = 8 + 2.6 * ways
    rows = moved(ATTACKS["pgd without random start"], Squares(), norm, 0.03, inside, torch.zeros(2, dtype=torch.int64))
    reached = 8 + (2.6 * ways + 0.48 * (ways.sign() if norm == "linf" else ways))
    assert ((rows - 8).norm(dim=1) > 3).all()
    torch.testing.assert_close(rows, reached, rtol=0, atol=1e-3)


@every_attack
@every_norm
def test_module_of_constant_outputs_leaves_rows_within_the_threat(kind, norm):
    rows = moved(kind, linear(0.0), norm)
    Threat(0.05, norm, BOX).check(rows, INPUTS)
    if kind is FGSM:
        assert torch.equal(rows, INPUTS)


class SquareRoot(nn.Module):
    """Its gradient is infinite at a row of zeros and at 0 of any row, its outputs are finite."""

    def forward(self, inputs):
        return torch.stack([inputs.sqrt().sum(1), inputs.sum(1)], 1)


@every_attack
def test_gradient_that_is_not_finite_spoils_no_other_row(kind):
    some = INPUTS.clone()
    some[0, :3] = 0.0
    rows = moved(kind, SquareRoot(), inputs=some)
    assert rows.isfinite().all()
    assert (rows[1:] != some[1:]).any(1).all()


@every_norm
def test_more_steps_are_stronger(norm):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)).requires_grad_(
        False
    )
    targets = net(INPUTS).argmax(1)
    fgsm, pgd, apgd = (
        logit_margin(net(moved(kind, net, norm, 0.1, targets=targets)), targets).mean()
        for kind in (FGSM, PGD, ATTACKS["apgd"])
    )
    assert apgd <= pgd + 1e-3
    assert pgd < fgsm


@every_attack
def test_result_of_a_row_depends_on_no_other_row(kind):
    net, threat = linear(), Threat(0.05, "linf", BOX)
    attacked, attack = AttackedModule(net), kind(0.05, "linf", BOX)
    rows, others = (
        attack.perturb(attacked, "own", inputs, TARGETS, threat, torch.Generator().manual_seed(0))
        for inputs in (INPUTS, torch.cat([INPUTS[:6], 16 - INPUTS[6:]]))
    )
    assert torch.equal(rows[:6], others[:6])


class Watched(nn.Module):
    """A net that draws, normalizes and changes its inputs in place; it raises on demand."""

    def __init__(self, fails=False):
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
        self.layers[1].eval()
        self.layers[3].weight.requires_grad_(False)
        self.fails, self.modes = fails, set()

    def forward(self, inputs):
        self.modes.add(self.layers[2].training)
        if self.fails:
            raise RuntimeError("an error of the module's own")
        return self.layers(inputs)


@every_attack
@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_module_and_inputs_are_left_as_they_were(kind, fails):
    net, inputs = Watched(fails), INPUTS - 8
    net.layers[3].bias.grad = torch.ones(2)
    before, modes = (
        {name: value.clone() for name, value in net.state_dict().items()},
        [m.training for m in net.modules()],
    )
    attack = kind(0.05, "linf", (-8, 8))
    if fails:
        with pytest.raises(RuntimeError, match="of the module's own"):
            attack(net, inputs, TARGETS)
    else:
        attack(net, inputs, TARGETS)
    assert net.modes == {False}
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.layers.parameters()] == [True, True, False, True]
    assert torch.equal(net.layers[3].bias.grad, torch.ones(2))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(inputs, INPUTS - 8)
    assert not inputs.requires_grad


CALLERS = {
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@every_attack
@pytest.mark.parametrize("caller", CALLERS.values(), ids=list(CALLERS))
def test_what_the_caller_has_switched_on_changes_nothing(kind, caller):
    net, expected = linear(), moved(kind, linear())
    with caller():
        rows = moved(kind, net)
    assert torch.equal(rows, expected)
    assert not rows.requires_grad


def test_rows_of_inference_mode_are_attacked():
    with torch.inference_mode():
        inputs = INPUTS.clone()
    assert torch.equal(moved(PGD, linear(), inputs=inputs), moved(PGD, linear()))


def test_module_in_double_precision_is_attacked_in_it():
    net, inputs = linear().double(), INPUTS.double()
    rows = moved(FGSM, net, inputs=inputs)
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.float(), moved(FGSM, linear()))
    assert AttackedModule(net).logits(inputs).dtype == torch.float64


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_gradient_of_any_size_has_a_direction(factor):
    gradient = factor * torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(Threat(0.1, "l2", BOX).direction(gradient), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_layout_in_memory_changes_nothing():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    images = 16 * torch.rand(4, 2, 6, 6)
    plain = moved(PGD, net, inputs=images, targets=TARGETS[:4])
    other = moved(PGD, net, inputs=images.to(memory_format=torch.channels_last), targets=TARGETS[:4])
    torch.testing.assert_close(other, plain)


def test_hooks_of_the_module_may_stay():
    net, seen = linear(), []
    net.register_forward_hook(lambda layer, inputs, outputs: seen.append(len(outputs)))
    net.register_full_backward_hook(lambda layer, *gradients: None)
    assert torch.equal(moved(PGD, net), moved(PGD, linear()))
    assert set(seen) == {len(INPUTS)}


@every_attack
def test_module_without_gradient_is_refused_by_name(kind):
    class Detached(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs).detach()

    with pytest.raises(ValueError, match=r"a gradient of the outputs.*has none.*Square"):
        moved(kind, Detached(6, 2))


@every_attack
def test_batch_without_rows_stays_one(kind):
    assert moved(kind, linear(), inputs=INPUTS[:0], targets=TARGETS[:0]).shape == (0, 6)


FORMS = {
    "frozen": lambda net, inputs: torch.jit.freeze(torch.jit.trace(net.eval(), inputs)),
    "exported": lambda net, inputs: torch.export.export(net.eval(), (inputs,)).module(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
def test_forms_of_a_module_are_attacked_as_itself(form):
    torch.testing.assert_close(moved(PGD, form(linear(), INPUTS)), moved(PGD, linear()))
