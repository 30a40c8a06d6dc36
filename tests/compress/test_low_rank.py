"""LowRank: which layers become two, how thin, and that nothing is lost at full rank."""

import copy

import pytest
import torch
from torch import nn

from tuneflow.compress import Factorize, LowRank, StepRows
from tuneflow.compress.operations import apply_all, operations_of


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


def rows_of(inputs):
    return StepRows(inputs, lambda size, count: iter([(inputs, None)]), lambda module, batch: module(batch[0]).mean())


ROWS = rows_of(INPUTS)


@pytest.mark.parametrize(("layer", "rank"), [("0", 16), ("3", 24), ("5", 32), ("7", 2)])
def test_full_rank_gives_the_same_outputs(layer, rank):
    before = net().eval()
    after = apply_all([Factorize(layer, rank)], copy.deepcopy(before))
    assert torch.allclose(after(INPUTS), before(INPUTS), atol=1e-5)


@pytest.mark.parametrize("keep", [0.8, 0.5, 0.3, 0.1])
@pytest.mark.parametrize("rows", [ROWS, None])
def test_the_layers_together_keep_their_share(keep, rows):
    module = net()
    operations = LowRank(keep).operations(module, rows)
    before = sum(module.get_submodule(name).weight.numel() for name in ("0", "3", "5", "7"))
    aside = module[2].weight.numel()
    after = weights(apply_all(operations, copy.deepcopy(module))) - aside
    assert keep * before - (24 * 8 * 4 + 32) <= after <= keep * before


def test_layers_that_cost_more_when_they_are_two_stay():
    operations = LowRank(0.5).operations(net(), ROWS)
    for each in operations:
        if isinstance(each, Factorize):
            out, into = net().get_submodule(each.layer).weight.flatten(1).shape
            assert each.rank * (out + into) < out * into


def test_a_layer_whose_outputs_have_few_directions_goes_before_others():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False))
    module[0].weight.data = torch.randn(32, 2) @ torch.randn(2, 32)
    ranks = {each.layer: each.rank for each in LowRank(0.6).operations(module) if isinstance(each, Factorize)}
    assert ranks == {"0": 2} or ranks["0"] <= 6 < ranks.get("1", 32)


def test_size_follows_keep_closely():
    module = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 100))
    shares = [
        weights(apply_all(LowRank(k).operations(module), copy.deepcopy(module))) / 30_000 for k in (0.1, 0.4, 0.9)
    ]
    assert shares == pytest.approx([0.1, 0.4, 0.9], abs=0.012)


def test_all_that_is_kept_is_nothing_changed():
    assert LowRank(1.0).operations(net(), ROWS) == []


def test_only_names_the_layers():
    operations = LowRank(0.5, only=["5"]).operations(net())
    assert [each.layer for each in operations] == ["5", "5.0", "5.1"]


def test_an_error_that_falls_with_the_rank():
    module = net().eval()
    errors = []
    for keep in (0.1, 0.3, 0.6):
        changed = apply_all(LowRank(keep, only=["5"]).operations(module), copy.deepcopy(module))
        errors.append(float((changed(INPUTS) - module(INPUTS)).detach().norm()))
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("layer", ["0", "3", "5"])
def test_no_directions_fit_the_training_rows_better(layer):
    module = net().eval()
    seen = {}
    watch = module.get_submodule(layer).register_forward_hook(
        lambda _, args, outputs: seen.update(inputs=args[0], outputs=outputs)
    )
    with torch.no_grad():
        module(INPUTS)
    watch.remove()
    step, errors = LowRank(0.3, only=[layer]), []
    for rows in (ROWS, None):
        pair = apply_all(step.operations(module, rows), copy.deepcopy(module)).get_submodule(layer)
        with torch.no_grad():
            errors.append(float((pair(seen["inputs"]) - seen["outputs"]).norm()))
    assert 0 <= errors[0] < errors[1]


def test_outputs_of_few_directions_are_kept_by_as_few():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(40, 30)).eval()
    inputs = torch.randn(64, 3) @ torch.randn(3, 40)
    operations = LowRank(0.25).operations(module, rows_of(inputs))
    result = apply_all(operations, copy.deepcopy(module))
    assert result[0][0].out_features == 4
    assert torch.allclose(result(inputs), module(inputs), atol=1e-4)
    again = apply_all(operations_of([each.to_values() for each in operations]), copy.deepcopy(module))
    assert [tensor.shape for tensor in again.parameters()] == [tensor.shape for tensor in result.parameters()]


@pytest.mark.parametrize("layer", ["0", "5"])
def test_a_replay_computes_no_decomposition_and_draws_nothing(layer, monkeypatch):
    module, recipe = net(), [Factorize(layer, 4).to_values()]
    bias, before = module.get_submodule(layer).bias, torch.get_rng_state()
    monkeypatch.setattr(torch.linalg, "svd", None)
    into, out = apply_all(operations_of(recipe), module).get_submodule(layer)
    assert (into.weight.shape[0], out.weight.shape[1]) == (4, 4)
    assert torch.equal(out.bias, bias)
    assert torch.equal(before, torch.get_rng_state())


class Peeking(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, inputs):
        return self.inner(inputs) + inputs @ self.inner.weight


class Unasked(Peeking):
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
        (Unasked(), ["inner"], "its forward is not called"),
        (Peeking(), None, "it looks into one of them; name the others"),
    ],
)
def test_layers_that_cannot_become_two_are_refused_by_name(module, only, message):
    with pytest.raises(ValueError, match=message):
        LowRank(0.3, only=only).operations(module, rows_of(torch.randn(4, 16)))


def hooked():
    module = nn.Sequential(nn.Linear(16, 16))
    module[0].register_forward_hook(lambda *_: None)
    return module


def with_a_layer_in_it():
    module = nn.Sequential(nn.Linear(16, 16))
    module[0].side = nn.Linear(3, 3)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (tied(), '"0": it or its weight is used in two places'),
        (nn.TransformerEncoderLayer(16, 2), '"linear1": its weight is looked at'),
        (nn.Sequential(nn.Linear(16, 16, dtype=torch.complex64)), '"0": its weight is torch.complex64'),
        (hooked(), "it has hooks"),
        (nn.Sequential(nn.Conv1d(3, 3, 1)), "it is a Conv1d"),
        (nn.ReLU(), "none with weights"),
    ],
)
def test_a_module_without_such_layers_is_refused(module, message):
    with pytest.raises(ValueError, match=f"no layer can become two.*{message}"):
        LowRank(0.3).operations(module)


class OfOneVector(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.vector = nn.Linear(16, 16), nn.Parameter(torch.ones(16))

    def forward(self, inputs):
        return inputs + self.inner(self.vector)


def test_a_layer_that_takes_one_vector_becomes_two():
    operations = LowRank(0.3).operations(OfOneVector(), rows_of(torch.randn(4, 16)))
    assert [each.rank for each in operations if isinstance(each, Factorize)] == [2]


def test_outputs_that_are_not_finite_are_named():
    with pytest.raises(FloatingPointError, match='"0" on training rows are not finite'):
        LowRank(0.3).operations(nn.Sequential(nn.Linear(16, 16)), rows_of(torch.full((4, 16), 1e30)))


def test_layers_that_cannot_become_two_stay_where_others_can():
    module = nn.Sequential(*hooked(), nn.ReLU(), *twice(), *with_a_layer_in_it(), nn.Linear(16, 16))
    assert {each.layer for each in LowRank(0.3).operations(module)} == {"5", "5.0", "5.1"}


def test_two_layers_train_as_the_one_did():
    module = net()
    module[0].weight.requires_grad_(False)
    module[5].bias.requires_grad_(False)
    pairs = [each for each in apply_all([Factorize("0", 3), Factorize("5", 3)], module) if type(each) is nn.Sequential]
    assert [[p.requires_grad for p in pair.parameters()] for pair in pairs] == [
        [False, False, True],
        [True, True, False],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 0}, "above 0"),
        ({"keep": 1.2}, "at most 1"),
        ({"keep": True}, "share"),
        ({"only": "fc"}, "list of names"),
        ({"only": []}, "at least one name"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LowRank(**arguments)
