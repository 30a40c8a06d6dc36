"""Multiplications equal a count by hand, also of quantized and scripted modules; what is not known is named."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers.measured_networks import convnet, quantized
from tuneflow.measure import MACs

CONVNET = 64 * 4 * 9 + 4 * 8 * 2 * 9 + 32 * 10  # positions x outputs x inputs of a group x kernel


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.second(self.first(x).relu())).mean((2, 3)))


RESIDUAL = 16 * 8 * 3 * 9 + 16 * 8 * 8 * 9 + 16 * 8 * 8 + 8 * 5


class Attention(nn.Module):
    def __init__(self, by_hand):
        super().__init__()
        self.mix, self.out, self.by_hand = nn.Linear(8, 24), nn.Linear(8, 8), by_hand

    def forward(self, x):
        query, key, value = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.mix(x).chunk(3, -1))
        if self.by_hand:
            mixed = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


ATTENTION = 6 * 8 * 24 + 2 * (2 * 6 * 6 * 4) + 6 * 8 * 8  # of 6 tokens with 2 heads of 4
ENCODER = ATTENTION + 2 * 6 * 8 * 16


class Last(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


CASES = {
    "convnet": (convnet, (1, 8, 8), CONVNET),
    "residual": (Residual, (3, 8, 8), RESIDUAL),
    "attention by hand": (lambda: Attention(True), (6, 8), ATTENTION),
    "attention": (lambda: Attention(False), (6, 8), ATTENTION),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (6, 8), ENCODER),
    "lstm": (lambda: Last(nn.LSTM(3, 5, bidirectional=True, batch_first=True)), (7, 3), 7 * 2 * (20 * 3 + 20 * 5)),
    "gru": (lambda: Last(nn.GRU(3, 5, batch_first=True)), (7, 3), 7 * (15 * 3 + 15 * 5)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3), (2, 4, 4), 16 * 2 * 3 * 9),
    "bf16": (lambda: nn.Sequential(nn.Linear(4, 3)).bfloat16(), (4,), 12),
}


@pytest.mark.parametrize("name", CASES)
def test_macs_equal_a_count_by_hand_for_any_number_of_rows(name):
    make, shape, expected = CASES[name]
    module = make()
    dtype = next(module.parameters()).dtype
    assert [MACs().of_module(module, torch.randn(rows, *shape, dtype=dtype)) for rows in (1, 5)] == [expected] * 2


def test_int8_and_torchscript_have_the_macs_of_the_module_they_were_made_of():
    x = torch.randn(2, 1, 8, 8)
    int8 = quantized(convnet(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(int8)
        forms = [int8, scripted, torch.jit.freeze(copy.deepcopy(scripted)), torch.jit.trace(convnet().eval(), x)]
    assert [MACs().of_module(form, x) for form in forms] == [CONVNET] * 4


def test_an_exported_module_has_its_macs():
    x = torch.randn(2, 1, 8, 8)
    rows = torch.export.Dim("rows")
    exported = torch.export.export(convnet().eval(), (x,), dynamic_shapes=({0: rows},)).module()
    assert MACs().of_module(exported, x) == CONVNET


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        MACs().of_module(nn.Linear(2, 2), torch.ones(0, 2))


def test_marks_of_the_profiler_are_no_multiplications():
    class Marked(nn.Linear):
        def forward(self, inputs):
            with torch.profiler.record_function("mark"):
                return super().forward(inputs)

    assert MACs().of_module(Marked(3, 2), torch.ones(1, 3)) == 6


def test_the_module_is_as_it_was():
    net = convnet().train()
    before = copy.deepcopy(net.state_dict())
    generator = torch.get_rng_state()
    MACs().of_module(net, torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(part.training for part in net.modules())
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_an_operation_that_is_not_counted_is_named():
    distances = type("Distances", (nn.Module,), {"forward": lambda _, x: torch.cdist(x, x)})()
    with pytest.warns(UserWarning, match=r"_euclidean_dist.*missing from the number.*of_module"):
        assert MACs().of_module(distances, torch.randn(30, 30, 4)) == 0
