"""First-order margins: exact for linear modules, smallest over forms, and said in the table of attacks."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.compress.winner import BuildRecord, recorded
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.first_order import first_order_margins

INPUTS = 16 * torch.rand((50, 6), generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(50) % 3


def linear(scale=1.0, classes=3):
    torch.manual_seed(1)
    module = nn.Linear(6, classes)
    with torch.no_grad():
        module.weight.mul_(scale), module.bias.mul_(scale)
    return module


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)], ids=["linf", "l2"])
def test_margin_of_a_linear_module_is_the_distance_to_the_nearest_boundary_of_its_second_class(norm, order):
    module = linear()
    logits = module(INPUTS).detach()
    own, second = TARGETS, logits.scatter(1, TARGETS[:, None], -torch.inf).argmax(1)
    leads = logits.gather(1, own[:, None])[:, 0] - logits.gather(1, second[:, None])[:, 0]
    steepness = (module.weight[own] - module.weight[second]).detach().norm(order, dim=1)
    values = tn.harden.margins(module, (INPUTS, TARGETS), norm=norm, box=(0, 32)).values
    torch.testing.assert_close(values, leads / steepness / 32)
    assert torch.equal(values < 0, logits.argmax(1) != TARGETS)


def test_rows_of_a_linear_module_of_two_classes_withstand_exactly_what_their_margins_say():
    module, box = linear(classes=2), (-1000.0, 1000.0)  # far from the box's ends
    data = (INPUTS, module(INPUTS).argmax(1))
    table = tn.harden.attack(module, data, eps=0.001, box=box, rows=30)
    assert 0 < table.margins.below.value < 1
    assert torch.equal(table.survived, table.margins.values >= 0.001)
    assert f"{100 * table.margins.below.value:.1f} % of rows have a first-order margin below 0.001" in str(table)


def test_large_logits_do_not_change_margins():
    plain, large = (tn.harden.margins(linear(scale), (INPUTS, TARGETS)).values for scale in (1, 1000))
    torch.testing.assert_close(plain, large)


def test_margins_do_not_depend_on_the_number_of_rows_measured_at_once(monkeypatch):
    whole = tn.harden.margins(linear(), (INPUTS, TARGETS)).values
    monkeypatch.setattr("tuneflow.harden.attacked_rows.CHUNK", 7)
    torch.testing.assert_close(tn.harden.margins(linear(), (INPUTS, TARGETS)).values, whole)


def test_of_several_forms_the_smallest_change_counts():
    attacked = AttackedModule(linear())
    attacked.forms["steeper"] = nn.Sequential(linear(), Steeper())
    own = first_order_margins(attacked, ["own"], INPUTS, TARGETS, "linf")
    both = first_order_margins(attacked, ["own", "steeper"], INPUTS, TARGETS, "linf")
    torch.testing.assert_close(both, own / 2)


class Steeper(nn.Module):
    """Logits as they are, of twice the gradient."""

    def forward(self, logits):
        return 2 * logits - logits.detach()


def test_flat_rows_have_no_margin():
    class Rounded(nn.Module):
        def forward(self, inputs):
            logits = torch.stack([inputs[:, 0].round(), inputs[:, 1]], 1)
            return torch.where(inputs[:, :1] > 8, logits, torch.stack([inputs[:, 0] * 0 + 1, inputs[:, 1] * 0], 1))

    inputs = torch.tensor([[9.0, 3.0], [1.0, 2.0], [1.0, 3.0]])
    result = tn.harden.margins(Rounded(), (inputs, torch.tensor([0, 0, 1])), eps=0.5)
    assert result.values.tolist() == [6 / 8, torch.inf, -torch.inf]
    assert "33.3 % of rows have a gradient of 0, and no margin" in str(result)


def test_gradients_that_are_not_finite_are_told_from_those_of_0():
    class Branches(nn.Module):
        def forward(self, inputs):
            return torch.where(inputs > 2, inputs, inputs * (inputs - 2).sqrt().nan_to_num(1.0))

    inputs = torch.tensor([[9.0, 3.0], [2.0, 3.0]])
    result = tn.harden.margins(Branches(), (inputs, torch.tensor([0, 1])), box=(0, 10), eps=0.5)
    assert result.values.isnan().tolist() == [False, True]
    assert "50.0 % of rows have a gradient that is not finite, and no margin" in str(result)
    assert "of 0" not in str(result)


def test_box_is_the_one_that_was_said_or_of_the_training_rows_or_of_the_data():
    data, module = (INPUTS, TARGETS), linear()
    width = float(INPUTS.max() - INPUTS.min())
    of_data = tn.harden.margins(module, data).values * width
    torch.testing.assert_close(tn.harden.margins(module, data, box=(-10, 30)).values * 40, of_data)
    trained = recorded(module, BuildRecord(box=(0.0, 8.0)))  # narrower than the data
    torch.testing.assert_close(tn.harden.margins(trained, data, eps=0.1).values * 8, of_data)


def test_quantiles_and_the_share_below_eps_are_printed():
    result = tn.harden.margins(linear(), (INPUTS, TARGETS), eps=0.01)
    assert result.below.value == float((result.values < 0.01).double().mean())
    assert result.below.low < result.below.value < result.below.high
    assert str(result).startswith("50 rows, linf  5 %: -")
    assert result.median == float(result.values.sort().values[24])
    assert tn.harden.margins(linear(), (INPUTS, TARGETS)).below is None


def test_chosen_rows_are_those_of_attacks_and_nothing_changes():
    module = nn.Sequential(linear(), nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with generators_untouched():
        some = tn.harden.margins(module, (INPUTS, TARGETS), rows=8).values
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    every = tn.harden.margins(module, (INPUTS, TARGETS)).values
    assert torch.isclose(some[:, None], every).any(1).all()


class Detached(nn.Module):
    def forward(self, inputs):
        return inputs.detach()[:, :3] * 1


class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, inputs):
        return self.inner(inputs.detach())


class Summed(nn.Module):
    def forward(self, inputs):
        return inputs[:, :3] + inputs.sum()


REFUSED = {
    "a module without gradients": (Detached(), {}, ValueError, "no gradient can be taken"),
    "a module that cuts the graph": (Cut(), {}, ValueError, "no gradient can be taken"),
    "rows that see each other": (Summed(), {}, ValueError, "margins: the module's outputs for a row"),
    "a box that does not hold the data": (linear(), {"box": (0, 1)}, ValueError, "margins: box needs to hold"),
    "no positive eps": (linear(), {"eps": 0}, ValueError, "margins: eps"),
    "no known norm": (linear(), {"norm": "l1"}, ValueError, "margins: norm"),
    "no module": ("net", {}, TypeError, "margins: module needs to be a torch module, got a str"),
    "no rows": (linear(), {"rows": 0}, ValueError, "margins: rows"),
}


@pytest.mark.parametrize(("module", "settings", "kind", "text"), REFUSED.values(), ids=list(REFUSED))
def test_margins_refuse_by_name(module, settings, kind, text):
    with pytest.raises(kind, match=text):
        tn.harden.margins(module, (INPUTS, TARGETS), **settings)
