"""Arithmetic: a trained module in bf16, in int8 and in channels_last, converted again to the same bits, or refused."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from tuneflow.compress import Arithmetic, StepRows, padding
from tuneflow.compress.completed_form import NormalizedBytes, completed_form
from tuneflow.compress.converted import calibrated, converted
from tuneflow.compress.operations import Convert
from tuneflow.heuristics.input_scaling import NormalizedModule, Normalizer
from tuneflow.measure import Bytes, MACs, Parameters, profile
from tuneflow.measure.structure_key import structure_key
from tuneflow.train.spread import connect


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(x)
        return self.last(functional.adaptive_avg_pool2d(functional.relu(x + self.second(x)), 1).flatten(1))


class Twice(nn.Module):
    """Calls one layer twice, which torch alone converts to wrong numbers."""

    def __init__(self):
        super().__init__()
        self.shared, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm, self.up, self.out = (
            nn.Embedding(20, 16),
            nn.LayerNorm(16),
            nn.Linear(16, 48),
            nn.Linear(16, 20),
        )

    def forward(self, tokens):
        q, k, v = self.up(self.norm(self.table(tokens))).chunk(3, -1)
        return self.out(functional.scaled_dot_product_attention(q, k, v)).softmax(-1)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return functional.log_softmax(functional.linear(x, self.weight, self.bias), -1)


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x, y):
        hidden = torch.relu(self.a(x) + y)
        return {"hidden": hidden, "out": self.b(hidden)}


class Normed(nn.Module):
    """Uses what a norm gives in int8 and in float32: torch alone lets int8 into functions that have none."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        hidden = self.norm(self.first(x))
        return self.last(hidden) + hidden.softmax(-1)


class InPlace(nn.Module):
    """Changes values in place and leaves the results aside, and calls a layer by keyword."""

    def __init__(self):
        super().__init__()
        self.first, self.side = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        self.relu, self.last = nn.LeakyReLU(0.3, inplace=True), nn.Linear(288, 8)

    def forward(self, x):
        hidden, side = self.first(input=x), self.side(x)
        functional.relu(side, inplace=True)
        self.relu(hidden)
        hidden.add_(side)
        hidden.mul_(2).clamp_(-1)
        torch.mul(hidden, 3.0, out=hidden)
        same = hidden
        hidden += side
        return self.last(same.flatten(1))


class Viewed(nn.Module):
    """Views images as rows, which torch alone refuses of those in channels_last."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(288, 8)

    def forward(self, x):
        return self.last(self.first(x).view(x.size(0), -1))


class PartInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.first(x)
        part = hidden.chunk(2, 1)[0]
        part += 3
        return self.last(hidden) + part.mean()


def slopes():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 4))


class ByTransposed(nn.Module):
    """Uses a layer's weight again, transposed."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(8, 16), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(functional.linear(torch.relu(self.inner(x)), self.inner.weight.t()))


def paddings():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(256, 4),
    )  # fmt: skip


def columns():
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3), nn.Softmax(1)
    )


IMAGES, ROWS = (32, 3, 8, 8), (32, 8)
NETS = {
    "residual": (Residual, IMAGES),
    "layer called twice": (Twice, ROWS),
    "PReLU": (slopes, IMAGES),
    "BatchNorm and softmax": (columns, ROWS),
    "norm of two users": (Normed, ROWS),
    "one layer": (lambda: nn.Linear(8, 3), ROWS),
    "functional": (Own, ROWS),
    "in place": (InPlace, IMAGES),
    "computed weight": (ByTransposed, ROWS),
    "paddings": (paddings, IMAGES),
    "tokens": (Tokens, None),
    "several inputs": (Several, ROWS),
}


def trained(name):
    """A net whose BatchNorm has statistics of its own, with inputs for it."""
    torch.manual_seed(0)
    make, shape = NETS[name]
    module = make()
    inputs = torch.randint(0, 20, (32, 6)) if shape is None else torch.randn(shape)
    inputs = (inputs, torch.randn(32, 4)) if name == "several inputs" else inputs
    connect(module, inputs)
    for _ in range(3):
        module(inputs)
    return module.eval(), inputs


def values(outputs):
    return outputs["out"] if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_outputs_are_near_and_come_again_bit_for_bit(name, precision, channels_last):
    module, inputs = trained(name)
    convert, plain = Convert(precision, channels_last), values(module(inputs))
    ours, ranges = calibrated(module, convert, [inputs])
    outputs = values(ours(inputs))
    assert outputs.dtype == torch.float32
    assert (outputs - plain).abs().max() < 0.05 * (plain.max() - plain.min())
    assert not torch.equal(outputs, plain)
    for again in (converted(module, convert, ranges), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(values(again(inputs)), outputs)
    assert torch.equal(values(ours.train()(inputs)), outputs)
    assert torch.equal(values(module(inputs)), plain)  # the trained module is as it was
    assert len(ours.state_dict()) > 0
    assert not any(p.requires_grad for p in ours.parameters())


def test_channels_last_alone_changes_the_layout_only():
    module, inputs = trained("residual")
    ours = converted(module, Convert("fp32", True), {})
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), module(inputs))
    assert ours.module.first[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module.first[0].weight.is_contiguous()


@torch.no_grad()
def test_a_conversion_leaves_the_global_generator():
    module, inputs = Viewed().eval(), torch.randn(IMAGES)
    before = torch.get_rng_state()
    ours, _ = calibrated(module, Convert("int8"), [inputs])
    assert torch.equal(torch.get_rng_state(), before)
    assert (ours(inputs) - module(inputs)).abs().max() < 0.1


def test_statistics_of_batchnorm_stay_in_float32_under_bf16():
    module, _ = trained("residual")
    tensors = converted(module, Convert("bf16"), {}).state_dict()
    assert {tensors[f"module.first.1.{name}"].dtype for name in ("weight", "running_mean", "running_var")} == {
        torch.float32
    }
    assert {tensors[f"module.{name}.weight"].dtype for name in ("first.0", "second.0", "last")} == {torch.bfloat16}


@torch.no_grad()
def test_bytes_go_past_the_normalizer_to_the_same_bits():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)).eval()
    inputs = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    normalizer = Normalizer(torch.full((1, 3, 1, 1), 72.9), torch.full((1, 3, 1, 1), 90.1))
    ours, _ = calibrated(module, Convert("int8"), [normalizer(inputs)])
    form = completed_form(ours, normalizer, None)
    assert type(form) is NormalizedBytes
    assert torch.equal(form(inputs), NormalizedModule(ours, normalizer)(inputs))
    assert torch.equal(form(inputs.float()), form(inputs))
    by_channel = Normalizer(torch.tensor([60.0, 70.0, 90.0]).reshape(1, 3, 1, 1), torch.full((1, 3, 1, 1), 90.1))
    ours, _ = calibrated(module, Convert("int8"), [by_channel(inputs)])
    assert type(completed_form(ours, by_channel, None)) is NormalizedModule
    by_column = Normalizer(torch.zeros(8), torch.ones(8))
    assert not ours.takes_bytes(by_column)


@torch.no_grad()
def test_outputs_do_not_depend_on_the_shapes_that_came_before():
    module, inputs = trained("residual")
    ours, _ = calibrated(module, Convert("int8"), [inputs])
    one = ours(inputs[:1])
    for rows in (4, 4, 1, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1):
        assert torch.equal(ours(inputs[:rows])[:1], one)


def pooled(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width + 1, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(width + 1, 4),
    )  # fmt: skip


@pytest.mark.parametrize(("width", "convolutions"), [(28, [32, 32]), (8, [8, 9]), (43, [43, 64]), (32, [32, 33])])
@torch.no_grad()
def test_padded_channels_change_no_bit(width, convolutions, monkeypatch):
    torch.manual_seed(0)
    module, inputs = pooled(width), torch.randn(IMAGES)
    module(inputs)
    ours, ranges = calibrated(module.eval(), Convert("int8"), [inputs])
    assert [part.out_channels for part in ours.modules() if hasattr(part, "out_channels")] == convolutions
    monkeypatch.setattr(padding, "LEAST", 32)
    plain, plain_ranges = calibrated(module, Convert("int8"), [inputs])
    assert all(torch.equal(ranges[name], plain_ranges[name]) for name in ranges)
    assert torch.equal(ours(inputs), plain(inputs))
    assert (ours(inputs) - module(inputs)).abs().max() < 0.05 * module(inputs).std() * 4


@pytest.mark.parametrize("copied", [lambda module: module, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_padding_counts_in_bytes_alone(copied):
    sizes, keys = [], []
    for width in (28, 30):
        module, inputs = pooled(width).eval(), torch.randn(IMAGES)
        ours = copied(calibrated(module, Convert("int8"), [inputs])[0])
        assert MACs().of_module(ours, inputs) == MACs().of_module(module, inputs)
        assert Parameters().of_module(ours) == Parameters().of_module(module) - 2 * width  # without BatchNorm
        assert sum(layer.parameters for layer in profile(ours, inputs).layers) == Parameters().of_module(ours)
        sizes.append(Bytes().of_module(ours))
        keys.append(structure_key(ours))
    assert sizes[0] == sizes[1]
    assert keys[0] != keys[1]


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(x if x.sum() > 0 else -x)


def hooked():
    module = nn.Sequential(nn.Linear(8, 3))
    module[0].register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("make", "precision", "message"),
    [
        (PartInPlace, "int8", "a part of a tensor in place"),
        (Branch, "int8", "forward can be traced, got Branch .*control flow"),
        (lambda: nn.LayerNorm(8), "int8", "needs a linear layer or a convolution"),
        (hooked, "int8", 'hooks, which a trace leaves out, got some on "0"'),
        (lambda: nn.Linear(8, 3, dtype=torch.float64), "int8", "float32, got .weight. in torch.float64"),
    ],
)
def test_modules_that_cannot_be_converted_are_refused_by_name(make, precision, message):
    torch.manual_seed(0)
    module = make().eval()
    inputs = torch.randn(64, 8, dtype=next(module.parameters()).dtype)
    rows = StepRows(inputs[:2], lambda size, count: iter([(inputs[:size], None)] * count), None)
    with pytest.raises(ValueError, match=message):
        Arithmetic(precision).operations(module, rows)


def test_ranges_of_another_module_are_refused():
    (module, inputs), (other, _) = trained("layer called twice"), trained("residual")
    _, ranges = calibrated(module, Convert("int8"), [inputs])
    with pytest.raises(ValueError, match=r"ranges of \d+ tensors, got"):
        converted(other, Convert("int8"), ranges)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int4"}, ValueError, "got 'int4'. Did you mean \"int8\""),
        ({"channels_last": 1}, TypeError, "True or False, got 1"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        Arithmetic(**arguments)
