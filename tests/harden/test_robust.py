"""tn.harden.Robust as a metric of one module: its attack, its rows, the kinds of modules and data, and the judge."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.compress.winner import BuildRecord, recorded
from tuneflow.harden import Robust, attack_all, attacked_rows, quick_attack
from tuneflow.heuristics.sanitizing import RoundedInputs

WEIGHTS = torch.tensor([3.0, -1.0, 2.0, -2.0])
INPUTS = torch.rand((60, 4), generator=torch.Generator().manual_seed(0))
INPUTS[0], INPUTS[1] = 0.0, 1.0
TARGETS = ((INPUTS @ WEIGHTS) > 1).long()
DATA, BOX, EPS = tn.Data(INPUTS, TARGETS), (0.0, 1.0), 0.05


class Scores(nn.Module):
    """Logits (-z, z) of a linear score z, after a change of them."""

    def __init__(self, change=lambda logits: logits):
        super().__init__()
        self.weights, self.change = nn.Parameter(WEIGHTS.clone()), change

    def forward(self, inputs):
        score = inputs.float() @ self.weights - 1
        return self.change(torch.stack([-score, score], 1))


def exact_share(radius=EPS):
    """The share of rows that no change by the radius can turn."""
    away = torch.where(TARGETS[:, None] == 1, -1, 1) * WEIGHTS.sign()
    moved = (INPUTS + radius * away).clamp(*BOX)
    return float(((moved @ WEIGHTS > 1).long() == TARGETS).float().mean())


def value_of(module=None, data=DATA, eps=EPS, **settings):
    return Robust(eps, **settings).of_module(Scores() if module is None else module, data)


@pytest.mark.parametrize(
    "change",
    [lambda z: z, lambda z: 1e6 * z, lambda z: 1e-6 * z, lambda z: z.log_softmax(1), lambda z: z[:, 1]],
    ids=["logits", "large", "small", "log-probabilities", "one logit"],
)
def test_share_is_exact_for_a_linear_module_at_any_scale(change):
    measured = value_of(Scores(change))
    assert measured.value == pytest.approx(exact_share())
    assert 0 < measured.value < 1


def test_error_is_binomial():
    measured = value_of()
    assert measured.error == pytest.approx(math.sqrt(measured.value * (1 - measured.value) / 59))


def test_l2_is_weaker_than_linf_of_the_same_radius():
    assert 1 > value_of(norm="l2").value > value_of().value


@pytest.mark.parametrize("change", [torch.Tensor.detach, lambda z: z.round()], ids=["detached", "rounded"])
def test_rows_without_a_gradient_are_searched(change):
    least = 0.5 * (1 - exact_share())
    assert value_of(Scores(change), eps=0.1).value < 1 - least


def test_gradient_that_is_lost_on_the_way_is_searched_on():
    def plateau(logits):
        return torch.where(logits.abs() > 0.5, logits.sign().detach(), logits)

    assert value_of(Scores(plateau)).value < 1


def test_filter_without_a_gradient_is_passed_straight_through():
    rounding = RoundedInputs(*BOX, levels=9)
    away = torch.where(TARGETS[:, None] == 1, -1, 1) * WEIGHTS.sign()
    left = [Scores()(rounding(rows)).argmax(1) == TARGETS for rows in (INPUTS, (INPUTS + 0.1 * away).clamp(*BOX))]
    value = value_of(nn.Sequential(rounding, Scores()), eps=0.1).value
    assert value == pytest.approx(float((left[0] & left[1]).float().mean()), abs=0.02)  # a row has a margin of 0


DIFFERENT = {
    "pair": (INPUTS, TARGETS),
    "dataset": TensorDataset(INPUTS, TARGETS),
    "loader": DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=7),
    "column of classes": (INPUTS, TARGETS[:, None]),
    "floating-point classes": (INPUTS, TARGETS.float()),
    "probabilities": (INPUTS, nn.functional.one_hot(TARGETS).float() * 0.8 + 0.1),
}


@pytest.mark.parametrize("data", DIFFERENT.values(), ids=DIFFERENT)
def test_all_kinds_of_data_give_the_same(data):
    assert value_of(data=data).value == value_of().value


def test_bytes_are_attacked_in_their_units():
    rows = (INPUTS * 255).round()
    module = nn.Sequential(nn.Linear(4, 2, bias=False))
    as_bytes, as_floats = (value_of(Scaled(module), (kind, TARGETS)).value for kind in (rows.byte(), rows))
    assert as_bytes == as_floats


class Scaled(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, inputs):
        return self.module(inputs.float() / 255)


def test_part_of_the_rows_is_that_of_an_attack_on_as_many():
    class Noted(Scores):
        def forward(self, inputs):
            if not noted:
                noted.append(inputs.clone())
            return super().forward(inputs)

    noted = []
    value_of(Noted(), rows=30)
    assert torch.equal(noted[0], INPUTS[attacked_rows.chosen_rows(60, 30)])


def test_all_rows_where_there_are_fewer_or_none_is_said():
    assert value_of(rows=1000) == value_of(rows=None) == value_of()
    assert value_of(rows=None).examples == 60


def test_value_is_the_same_in_chunks(monkeypatch):
    before = value_of().value
    monkeypatch.setattr(attacked_rows, "CHUNK", 7)
    assert value_of().value == before


def test_measuring_repeats_and_leaves_everything_as_it_was():
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with generators_untouched(), torch.inference_mode():
        first = value_of(module)
    assert first == value_of(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_box_of_the_record_holds_and_is_widened():
    module = recorded(Scores(), BuildRecord(box=(0.25, 0.75)))
    assert value_of(module).value == pytest.approx(exact_share(EPS / 2))


def noisy(logits):
    return logits + torch.randn_like(logits)


REFUSED = {
    "regression": (Scores(lambda z: z[:, 1]), (INPUTS, INPUTS[:, 0]), {}, ValueError, "class numbers"),
    "counts": (Scores(lambda z: z[:, 1]), (INPUTS, TARGETS * 7), {}, ValueError, "class numbers from 0 to 1"),
    "ignored rows": (Scores(), (INPUTS, TARGETS * 101 - 100), {}, ValueError, "rows that a loss ignores"),
    "positions": (Scores(lambda z: z[:, :, None]), DATA, {}, ValueError, r"\(rows, classes\)"),
    "several outputs": (Scores(lambda z: (z, z)), DATA, {}, TypeError, r"\(rows, classes\)"),
    "whole numbers": (Scores(), (INPUTS.long(), TARGETS), {}, TypeError, "bytes"),
    "several inputs": (Scores(), ({"a": INPUTS, "b": INPUTS}, TARGETS), {}, TypeError, "one tensor"),
    "box": (Scores(), DATA, {"box": (0, 0.5)}, ValueError, r"Robust: box needs to hold all inputs.*from 0 to 1"),
    "noise": (Scores(noisy), DATA, {}, ValueError, "Robust: the module's outputs for a row"),
}


@pytest.mark.parametrize(("module", "data", "settings", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_other_tasks_are_refused_by_name(module, data, settings, kind, message):
    with pytest.raises(kind, match=message):
        value_of(module, data, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0}, "eps"),
        ({"eps": 2}, "eps.*at most 1"),
        ({"norm": "l1"}, "norm"),
        ({"box": (1, 0)}, "box"),
        ({"every": 0}, "every"),
        ({"rows": 0}, r"rows \(None for all\)"),
        ({"steps": 2.5}, "steps"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=f"Robust: {message}"):
        Robust(**{"eps": 0.1} | settings)


def test_more_steps_leave_fewer_rows():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3))
    data = (INPUTS, net(INPUTS).argmax(1))
    values = [value_of(net, data, eps=0.1, steps=steps).value for steps in (1, 10)]
    assert 1 > values[0] >= values[1] > 0


def test_brief_metric_takes_few_rows_and_one_step():
    assert Robust(0.1, every=3).brief() == replace(Robust(0.1, every=3), rows=8, steps=1)


def test_judge_is_the_union_of_all_attacks_and_warns_of_remarks(monkeypatch):
    monkeypatch.setattr(attack_all, "QUERIES", 50)
    monkeypatch.setattr(attack_all, "STEPS", 5)
    module = Scores(torch.Tensor.detach)
    table = tn.harden.attack(module, DATA, eps=EPS)
    with pytest.warns(UserWarning, match="Robust: no gradient can be taken through the module"):
        judged = Robust(EPS).for_test().of_module(module, DATA)
    assert judged.value == table.robust.value
    assert judged.binary


def test_notes_on_the_box_are_no_warnings(monkeypatch):
    monkeypatch.setattr(attack_all, "QUERIES", 5)
    monkeypatch.setattr(attack_all, "STEPS", 2)
    with warnings.catch_warnings(record=True) as shown:
        Robust(EPS).for_test().of_module(recorded(Scores(), BuildRecord(box=(0.25, 0.75))), DATA)
    assert [str(each.message) for each in shown] == []


def test_rows_with_a_lead_of_two_radii_withstand():
    rows = torch.eye(4).repeat(20, 1) * torch.linspace(0.21, 1.0, 80)[:, None]
    data = (rows, torch.arange(4).repeat(20))
    for eps in (0.05, 0.2, 0.3):
        expected = float((rows.amax(1) > 2 * eps).double().mean())
        assert value_of(nn.Identity(), data, eps=eps, box=BOX).value == pytest.approx(expected, abs=0.02)


def test_scale_of_equal_logits_is_nothing():
    assert torch.equal(quick_attack.at_one_scale(torch.ones(2, 3)), torch.zeros(2, 3))
