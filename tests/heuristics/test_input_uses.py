"""Uses of inputs before any layer with weights: what is looked at by value, and what only seems to be."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tuneflow.heuristics.input_uses import uses_of

INPUTS = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) * 3


class Applied(nn.Module):
    """Applies a function to its inputs, and a linear layer to some of what that returns."""

    def __init__(self, function, width=4):
        super().__init__()
        self.function, self.linear = function, nn.Linear(width, 2)
        self.register_buffer("mean", torch.full((4,), 0.5))

    def forward(self, x):
        return self.linear(self.function(self, x).float().reshape(len(x), -1)[:, : self.linear.in_features])


def embedded(numbers):
    return functional.embedding(numbers % 5, torch.zeros(5, 4))


def in_python(x):
    return x if x.max() > 1 else x * 2


def by_rows(x):
    return torch.stack([row if int(row[0]) % 2 else row + 1 for row in x])


def assigned(tensor, x):
    tensor[:, :2] = x[:, :2]
    return tensor


LOOKS = {
    "long": lambda _, x: embedded(x.long()),
    "int": lambda _, x: x.int(),
    "to": lambda _, x: x.to(torch.int64),
    "to by keyword": lambda _, x: x.to(dtype=torch.int32),
    "type": lambda _, x: x.type(torch.LongTensor),
    "type of a name": lambda _, x: x.type("torch.LongTensor"),
    "bool": lambda _, x: x.bool(),
    "byte": lambda _, x: x.byte(),
    "equal to": lambda _, x: x == 0,
    "unequal": lambda _, x: x * (x != 0),
    "method": lambda _, x: x.gt(1.0),
    "function": lambda _, x: torch.le(x, 2),
    "compared on the right": lambda _, x: 0 < x,  # noqa: SIM300
    "compared with a buffer": lambda self, x: x >= self.mean,
    "compared columns": lambda _, x: x[:, :1] == x[:, 1:],
    "compared after shaping": lambda _, x: x.unsqueeze(0).flatten(0, 1).clone() == 0,
    "compared after adding": lambda _, x: (x + 1).abs() > 2,
    "close": lambda _, x: torch.isclose(x, torch.zeros(())),
    "round": lambda _, x: x.round(),
    "in place": lambda _, x: x.clone().floor_(),
    "sign": lambda _, x: torch.sign(x),
    "remainder": lambda _, x: x % 2,
    "whole quotient": lambda _, x: x // 2,
    "one hot": lambda _, x: functional.one_hot(x.long() % 3),
    "bucketize": lambda _, x: torch.bucketize(x, torch.tensor([1.0, 2.0])),
    "searchsorted": lambda _, x: torch.searchsorted(torch.tensor([1.0, 2.0]), x),
    "unique": lambda _, x: x.unique().sum().expand(3, 4),
    "nonzero": lambda _, x: x.nonzero()[:3].repeat(1, 2),
    "any": lambda _, x: x.any(1, keepdim=True).expand(3, 4),
    "where": lambda _, x: torch.where(x == 0, 1.0, x),
    "masked": lambda _, x: x.masked_fill(x.eq(0), 9.0),
    "a pad value counted": lambda _, x: (x != 0).sum(1, keepdim=True).expand(3, 4),
    "logarithm": lambda _, x: torch.log1p(x),
    "square root": lambda _, x: x.sqrt(),
    "chance": lambda _, x: torch.bernoulli(x / x.max()),
    "threshold": lambda _, x: functional.threshold(x, 1.0, 0.0),
    "sine": lambda _, x: torch.sin(x),
    "cosine of hours": lambda _, x: (x + 1).cos_(),
    "turned": lambda _, x: torch.exp(1j * x).real,
    "from angles": lambda _, x: torch.polar(torch.ones(3, 4), x).real,
    "root": lambda _, x: x**0.5,
    "root in place": lambda _, x: x.clone().pow_(1.5),
    "root of columns": lambda _, x: torch.float_power(x, torch.tensor([1.0, 2.0, 0.5, 1.0])),
    "inverse": lambda _, x: 1 / x,
    "inverse square": lambda _, x: x.pow(exponent=-2),
    "raised to itself": lambda _, x: x**x,
    "entropy": lambda _, x: torch.special.entr(x),
    "x log x": lambda _, x: torch.xlogy(x, x),
    "logarithm by its special name": lambda _, x: torch.special.log1p(x),
    "log of a factorial": lambda _, x: torch.lgamma(x + 1),
    "share of a sum": lambda _, x: x / x.sum(1, keepdim=True),
    "sum in place": lambda _, x: x.clone().div_(x.amax()),
    "unit length": lambda _, x: functional.normalize(x),
    "ratio of columns": lambda _, x: x[:, :1] / x[:, 1:],
    "outputs over an input": lambda self, x: self.linear(x) / x[:, :1],
    "a mask among inputs": lambda _, x: x.floor().clamp(0, 1)[:, :1] * x,
    "vmap": lambda _, x: torch.vmap(lambda row: embedded(row.long()))(x),
    "in Python": lambda _, x: in_python(x),
    "row by row": lambda _, x: by_rows(x),
    "number": lambda _, x: x + x[0, 0].item(),
    "put into whole numbers": lambda _, x: assigned(torch.zeros(3, 4, dtype=torch.int64), x),
    "put into another tensor": lambda _, x: assigned(torch.zeros_like(x), x) == 0,
    "counted": lambda _, x: x + torch.count_nonzero(x, 1)[:, None],
    "tensor of whole numbers": lambda _, x: torch.zeros(3, 4, dtype=torch.int64).copy_(x),
    "range asserted": lambda _, x: x if (x >= 0).all() else None,
}

NONE = {
    "nothing": lambda _, x: x,
    "cast of floats": lambda _, x: x.float().to(torch.float64).float(),
    "relu": lambda _, x: functional.relu(x),
    "clamp": lambda _, x: x.clamp(min=0),
    "sigmoid": lambda _, x: torch.sigmoid(x),
    "mask of dropout": lambda _, x: x * (torch.rand_like(x) > 0.5),
    "mask of another tensor": lambda _, x: x * (torch.rand(4) > 0.5),
    "new tensor": lambda _, x: torch.where(x.new_ones(4) == 1, x, 0.0),
    "shapes": lambda _, x: x.view(x.size(0), -1)[:, : x.shape[1]],
    "dimensions asserted": lambda _, x: x if x.dim() == 2 and x.dtype == torch.float32 and len(x) > 0 else None,
    "finite asserted": lambda _, x: x if torch.isfinite(x).all() and not x.isnan().any() else None,
    "not a number": lambda _, x: torch.where(torch.isnan(x), 0.0, x),
    "not a number by itself": lambda _, x: x * (x == x),
    "compared among themselves": lambda _, x: x * (x > x.mean()),
    "order": lambda _, x: x.sort(1).values + x.argmax(1, keepdim=True) * 0,
    "largest": lambda _, x: x.topk(4).values,
    "noise": lambda _, x: x + 0.1 * torch.randn_like(x),
    "after weights": lambda self, x: self.linear(x).repeat(1, 2) > 0,
    "embedding after weights": lambda self, x: embedded(self.linear(x).argmax(1)),
    "after a norm": lambda _, x: functional.layer_norm(x, (4,)) > 0,
    "dropout": lambda _, x: functional.dropout(x, 0.5),
    "padded": lambda _, x: functional.pad(x, (1, 1)),
    "put beside weights": lambda self, x: assigned(torch.zeros(3, 4), self.linear(x)) > 0,
    "softmax": lambda _, x: x.softmax(1),
    "square": lambda _, x: x**2 + x.pow(3.0),
    "power of two": lambda _, x: 2**x,
    "interaction": lambda _, x: x[:, :1] * x[:, 1:],
    "constant over an embedding": lambda self, x: 1 / (1 + self.linear(x).square()),
    "sine after weights": lambda self, x: self.linear(x).sin(),
    "numbers counted in vmap": lambda _, x: torch.vmap(lambda row: row + len(row))(x),
}


@pytest.mark.parametrize("function", LOOKS.values(), ids=LOOKS.keys())
def test_calls_that_look_at_inputs_by_value(function):
    assert uses_of(Applied(function), INPUTS).looks


@pytest.mark.parametrize("function", NONE.values(), ids=NONE.keys())
def test_calls_that_do_not_look_at_inputs_by_value(function):
    uses = uses_of(Applied(function), INPUTS)
    assert (uses.looks, uses.scales) == ([], False)


SCALES = {
    "divided": lambda _, x: x / 255,
    "cast and divided": lambda _, x: x.float().div(255.0),
    "shifted by a buffer": lambda self, x: (x - self.mean) / 2,
    "to plus or minus one": lambda _, x: x * 2 - 1,
    "by constants of its own": lambda _, x: x.clone().sub_(torch.tensor([0.1])).div_(torch.tensor([0.3])),
    "by its sum": lambda _, x: x / x.sum(1, keepdim=True),
    "row by row": lambda _, x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    "to unit length": lambda _, x: functional.normalize(x),
    "then compared": lambda _, x: x / 3 > 0.5,
}


@pytest.mark.parametrize("function", SCALES.values(), ids=SCALES.keys())
def test_module_that_scales_its_inputs_by_itself(function):
    assert uses_of(Applied(function), INPUTS).scales


COLUMNS = {
    "first": (lambda _, x: embedded(x[:, 0].long()), [0]),
    "last": (lambda _, x: embedded(x[..., -1].int()), [3]),
    "list": (lambda _, x: x[:, [1, 3]].long(), [1, 3]),
    "split": (lambda _, x: torch.cat([x.split([1, 3], 1)[0].long(), x[:, 1:]], 1), [0]),
    "chunk": (lambda _, x: x.chunk(2, 1)[1].round(), [2, 3]),
    "unbind": (lambda _, x: embedded(x.unbind(1)[2].long()), [2]),
    "narrow": (lambda _, x: x.narrow(1, 1, 2) == 0, [1, 2]),
    "property": (lambda _, x: x.T[1] == 0, [1]),
    "transposed": (lambda _, x: x.t()[1] == 0, [1]),
    "two calls": (lambda _, x: embedded(x[:, 0].long()) + embedded(x[:, 3].long()), [0, 3]),
    "scaled in between": (lambda _, x: embedded((x[:, 1] + 1).long()), [1]),
    "mixed": (lambda _, x: embedded(x.cumsum(1)[:, 0].long()), [0, 1, 2, 3]),
    "vmap": (lambda _, x: torch.vmap(lambda row: embedded(row[3].long()))(x), [3]),
    "ratio": (lambda _, x: torch.cat([x[:, 2:3] / x[:, 1:2], x], 1), [1, 2]),
    "select by index": (lambda _, x: embedded(x.index_select(1, torch.tensor([2]))[:, 0].long()), [2]),
}


@pytest.mark.parametrize(("function", "columns"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns_that_are_looked_at(function, columns):
    assert uses_of(Applied(function, 1), INPUTS).columns(4) == columns


def test_look_names_the_call_and_its_line():
    (look,) = uses_of(Applied(LOOKS["equal to"]), INPUTS).looks
    assert look.call == "=="
    assert look.where.startswith(" (test_input_uses.py, line ")


MASKED = torch.tensor([[0.4, 1.0], [0.7, 0.0]])
MASKS = {
    "times the mask": lambda _, x: (x[:, :1] * x[:, 1:]).expand(2, 4),
    "times two columns": lambda _, x: torch.einsum("n,nd->nd", x[:, 1], x[:, :1]).expand(2, 4),
    "hidden times the mask": lambda self, x: (self.linear(x.repeat(1, 2)) * x[:, 1:]).repeat(1, 2),
    "mean of what is there": lambda self, x: (self.linear(x.repeat(1, 2)) / x[:, 1:].sum()).repeat(1, 2),
}


@pytest.mark.parametrize("function", MASKS.values(), ids=MASKS.keys())
def test_column_of_zeros_and_ones_that_is_multiplied_is_looked_at(function):
    assert uses_of(Applied(function), MASKED).columns(2) == [1]


def first_code(x):
    return x[:, 0].long()


class Coded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 4)

    def forward(self, x):
        return self.embedding(x[:, 0].long())


def scripted_layer():
    coded = torch.jit.script(Coded())
    return Applied(lambda _, x: coded(x))


def scripted_function():
    code = torch.jit.script(first_code)
    return Applied(lambda _, x: embedded(code(x)))


SCRIPTED = {
    "function": (scripted_function, [0]),
    "layer": (scripted_layer, [0]),
    "module": (lambda: torch.jit.script(Coded()), [0]),
    "weights": (lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Softshrink())), []),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(("build", "columns"), SCRIPTED.values(), ids=SCRIPTED.keys())
def test_scripted_code_is_looked_into(build, columns):
    assert uses_of(build(), INPUTS).columns(4) == columns


def test_lstm_and_attention_are_layers_with_weights():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.attend = nn.LSTM(4, 4, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            outputs, _ = self.lstm(x)
            attended, _ = self.attend(outputs, outputs, outputs)
            return attended[attended > 0]

    assert uses_of(Recurrent(), torch.rand(3, 5, 4)).looks == []
