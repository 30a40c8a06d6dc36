"""tn.harden.attack: every attack on a module, by row the worst; boxes, data and modules of every kind."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tuneflow.compress.winner import BuildRecord, recorded
from tuneflow.harden import attack, attack_all, attacked_rows, margins

WEIGHTS = torch.tensor([3.0, -1.0, 2.0, -2.0])  # their absolute values add up to 8
INPUTS = torch.rand((60, 4), generator=torch.Generator().manual_seed(0))
INPUTS[0], INPUTS[1] = 0.0, 1.0
TARGETS = ((INPUTS @ WEIGHTS) > 1).long()
DATA = tn.Data(INPUTS, TARGETS)
BOX = (0.0, 1.0)


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch):
    monkeypatch.setattr(attack_all, "QUERIES", 60)


class Scores(nn.Module):
    """Logits (-z, z) of a linear score z, after a change of them."""

    def __init__(self, change=lambda logits: logits):
        super().__init__()
        self.weights, self.change = nn.Parameter(WEIGHTS.clone()), change

    def forward(self, inputs):
        score = inputs.float() @ self.weights - 1
        return self.change(torch.stack([-score, score], 1))


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, inputs):
        return inputs + self.by


def detached(logits):
    return logits.detach()


def with_noise(logits):
    return logits + torch.randn_like(logits)


def share_left(radius):
    """The share of rows that no change by the radius can turn."""
    away = torch.where(TARGETS[:, None] == 1, -1, 1) * WEIGHTS.sign()  # the direction in which each value helps
    moved = (INPUTS + radius * away).clamp(*BOX)
    return float(((moved @ WEIGHTS > 1).long() == TARGETS).float().mean())


def test_linear_module_withstands_what_its_margins_allow():
    table = attack(Scores(), DATA, eps=0.05)
    assert table.clean.value == 1
    assert table.robust.value == pytest.approx(share_left(0.05))
    assert 0 < table.robust.value < 1
    assert table.remarks == ()


def test_each_attack_has_a_line_and_the_worst_counts_by_row():
    table = attack(Scores(), DATA, eps=0.05, norm="l2")
    assert [each.name for each in table.attacks] == list(attack_all.battery(table.threat))
    assert torch.equal(table.survived, torch.stack([each.survived for each in table.attacks]).all(0))
    assert table.seconds == sum(each.seconds for each in table.attacks) > 0
    assert table.robust.low < table.robust.value < table.robust.high


def test_table_prints_every_attack_and_its_conditions():
    text = repr(attack(Scores(), DATA, eps=0.05, rows=20)).splitlines()
    assert text[0].split() == ["right", "95", "%", "interval", "seconds"]
    assert text[1].startswith("clean")
    assert text[-3].startswith("worst")
    assert text[-2] == "[20 rows; each value changed by at most 0.05 within 0 to 1]"
    assert "rows have a first-order margin below 0.05" in text[-1]


def test_masked_gradient_hides_nothing_and_is_named():
    plain, masked = (attack(Scores(change), DATA, eps=0.05) for change in (lambda z: z, lambda z: 1e6 * z))
    assert masked.robust.value <= plain.robust.value + 0.02
    assert "APGD-CE, rescaled" in repr(masked)
    assert "rescaled" not in repr(plain)
    assert any("exactly 0" in remark for remark in masked.remarks)
    assert any("gradient of the cross-entropy is masked" in remark for remark in masked.remarks)


def test_module_without_gradient_is_attacked_by_logits():
    table = attack(Scores(detached), DATA, eps=0.05)
    assert [each.name for each in table.attacks] == ["Square"]
    assert table.robust.value == pytest.approx(share_left(0.05), abs=0.05)
    assert "no gradient can be taken through the module" in table.remarks[0]


def test_rows_count_by_the_converted_module_and_gradients_are_those_of_the_float_one():
    converted = recorded(Scores(lambda z: z.detach().round()), BuildRecord(trained=Scores()))
    table = attack(converted, DATA, eps=0.05)
    assert {each.form for each in table.attacks} == {"float", ""}
    assert torch.equal(table.right, converted(INPUTS).argmax(1) == TARGETS)
    assert not table.right.all()
    assert "through the module in float" in table.notes[0]


@pytest.mark.parametrize(
    "data",
    [
        (INPUTS, TARGETS),
        TensorDataset(INPUTS, TARGETS),
        DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=7),
        (INPUTS, nn.functional.one_hot(TARGETS).float()),
        (INPUTS, TARGETS[:, None]),
    ],
    ids=["pair", "dataset", "loader", "shares of classes", "column"],
)
def test_data_of_any_kind_give_the_same_rows(data):
    assert torch.equal(attack(Scores(), data, eps=0.05).survived, attack(Scores(), DATA, eps=0.05).survived)


def test_one_logit_is_attacked_as_two():
    single = Scores(lambda logits: 2 * logits[:, 1])
    assert attack(single, DATA, eps=0.05).robust.value == pytest.approx(share_left(0.05))


def test_bytes_are_attacked_in_their_units():
    data = tn.Data((16 * INPUTS).round().to(torch.uint8), TARGETS)
    table = attack(Scores(lambda logits: logits / 16), data, eps=0.05)
    assert table.threat.box == (0, 16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_rows_have_the_type_of_the_module(dtype):
    module = nn.Linear(4, 2, bias=False, dtype=dtype)
    module.weight.data = torch.stack([-WEIGHTS, WEIGHTS]).to(dtype)
    table = attack(module, (INPUTS, (INPUTS @ WEIGHTS > 0).long()), eps=0.05)
    assert 0 < table.robust.value < table.clean.value


def test_lazy_module_is_attacked():
    assert len(attack(nn.LazyLinear(2), DATA, eps=0.05, rows=2).survived) == 2


def test_one_row_of_one_value_is_attacked_within_a_box():
    assert len(attack(Scores(), (torch.ones(1, 4), TARGETS[:1]), eps=0.05, box=(0, 2)).survived) == 1


def test_module_made_in_inference_mode_is_refused_by_name():
    with torch.inference_mode():
        module = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="made within"):
        attack(module, DATA, eps=0.05)
    attack(copy.deepcopy(module), DATA, eps=0.05, rows=2)


def test_module_of_one_class_is_named():
    table = attack(nn.Sequential(Scores(), Shift(torch.tensor([0.0, 99.0]))), DATA, eps=0.05)
    assert "each of the 60 rows gets class 1, where 2 classes occur" in table.remarks[0]


def test_outputs_like_probabilities_are_named():
    single = nn.Sequential(Scores(lambda logits: logits[:, 1]), nn.Sigmoid())
    assert any("between 0 and 1" in remark for remark in attack(single, DATA, eps=0.05).remarks)


def test_same_seed_gives_the_same_rows_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    first, again = (attack(Scores(), DATA, eps=0.05, seed=3) for _ in range(2))
    assert torch.equal(first.survived, again.survived)
    assert torch.equal(torch.get_rng_state(), before)


def test_module_is_left_as_it_was():
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    module[2].weight.requires_grad_(False)
    inputs = INPUTS - 0.5
    attack(module, (inputs, TARGETS), eps=0.05)
    assert all(part.training for part in module.modules())
    assert [p.requires_grad for p in module.parameters()] == [False, True]
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(inputs, INPUTS - 0.5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_values_far_from_zero_are_attacked_as_exactly_as_they_can_be(norm):
    shifted = nn.Sequential(Shift(-4096.0), Scores())
    near, far = (
        attack(net, data, eps=0.05, norm=norm) for net, data in ((Scores(), DATA), (shifted, (INPUTS + 4096, TARGETS)))
    )
    assert far.robust.value == pytest.approx(near.robust.value, abs=0.04)


def test_caller_may_have_switched_gradients_off():
    module = Scores()
    with torch.inference_mode():
        table = attack(module, (INPUTS.clone(), TARGETS.clone()), eps=0.05)
    assert table.robust.value == pytest.approx(share_left(0.05))


def test_rows_are_always_the_same_ones_in_their_order():
    chosen = attacked_rows.chosen_rows(100, 10)
    assert torch.equal(chosen, attacked_rows.chosen_rows(100, 10))
    assert torch.equal(chosen, chosen.sort().values)
    assert torch.equal(attacked_rows.chosen_rows(5, 10), torch.arange(5))
    assert len(attack(Scores(), DATA, eps=0.05, rows=10).survived) == 10


def test_chunks_cover_all_rows(monkeypatch):
    monkeypatch.setattr(attacked_rows, "CHUNK", 25)
    assert attack(Scores(), DATA, eps=0.05).robust.value == pytest.approx(share_left(0.05))


def test_box_of_the_training_rows_is_widened_where_it_does_not_hold_the_data():
    module = recorded(Scores(), BuildRecord(box=(0.25, 0.75)))
    table = attack(module, DATA, eps=0.1)
    assert table.threat.box == (0, 1)
    assert table.threat.radius == pytest.approx(0.05)
    assert "0 to 1 lie outside of the range of the training rows, 0.25 to 0.75" in table.notes[0]
    measured = margins(module, DATA, eps=0.1)
    assert (table.margins.eps, table.margins.below) == (0.1, measured.below)
    assert torch.allclose(table.margins.values, measured.values)


def test_box_far_beyond_the_data_is_named():
    assert "the data fill 1 % of the box" in attack(Scores(), DATA, eps=0.001, box=(0, 100)).remarks[0]


REFUSED = {
    "box": (Scores(), DATA, {"box": (0, 0.5)}, ValueError, r"hold all inputs.*\(0, 0.5\).*from 0 to 1"),
    "eps": (Scores(), DATA, {"eps": 0}, ValueError, "attack: eps"),
    "norm": (Scores(), DATA, {"norm": "l1"}, ValueError, "attack: norm"),
    "rows": (Scores(), DATA, {"rows": 0}, ValueError, "attack: rows needs to be a whole number >= 1, got 0"),
    "function": (lambda x: x, DATA, {}, TypeError, "needs to be a torch module, got a function"),
    "seed": (Scores(), DATA, {"seed": 1.5}, TypeError, "seed needs to be a whole number, got 1.5"),
    "not finite": (
        Scores(),
        (INPUTS / 0, TARGETS),
        {"box": BOX},
        ValueError,
        "inputs that are finite, got values from nan",
    ),
    "labels": (Scores(), (INPUTS, torch.ones(60, 2)), {}, ValueError, "sums are 2 to 2; with several labels"),
    "no class": (Scores(), (INPUTS, INPUTS[:, :2] / 0), {}, ValueError, "shares of classes, each at least 0"),
    "regression": (nn.Linear(4, 1), (INPUTS, INPUTS[:, :1]), {}, ValueError, "class numbers"),
    "ignored": (Scores(), (INPUTS, TARGETS - 1), {}, ValueError, "class numbers from 0 to 1"),
    "tokens": (Scores(), ((INPUTS * 9).long(), TARGETS), {}, TypeError, "floating-point numbers or bytes"),
    "several": (Scores(), ((INPUTS, INPUTS), TARGETS), {}, TypeError, "one tensor"),
    "noise": (Scores(with_noise), DATA, {}, ValueError, "from call to call"),
    "batch": (Scores(lambda z: z - z.mean(0)), DATA, {}, ValueError, "the rows beside it"),
    "constant": (Scores(), (torch.ones(4, 4), TARGETS[:4]), {}, ValueError, "more than one value, got 1 alone"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_refusal_names_the_rule(case):
    module, data, settings, kind, message = case
    with pytest.raises(kind, match=message):
        attack(module, data, **{"eps": 0.1} | settings)


def test_outputs_that_are_not_finite_are_wrong():
    def not_finite(logits):
        return torch.where(logits[:, :1] > 0, torch.nan, logits)

    table = attack(Scores(not_finite), DATA, eps=0.05)
    assert table.clean.value == pytest.approx(float(TARGETS.float().mean()))
