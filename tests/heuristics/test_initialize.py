"""Initial weights: the variance of each scheme, the data-driven pass, the initial loss, and what is left alone."""

import copy
import dataclasses
import functools
import json
import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tests.helpers.global_generators import drawn_next, generators_untouched
from tests.helpers.hooks import hooks_of
from tuneflow.heuristics.initialize import initialize
from tuneflow.heuristics.schemes import MEASURED, RECTIFIERS, gain
from tuneflow.nn import ScaledTanh

INPUTS = {"vectors": (256, 20), "images": (64, 3, 8, 8)}
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "scaled tanh": ScaledTanh}
SCHEMES = ["lecun", "kaiming", "xavier", "orthogonal"]
every_activation = pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def classes(shares, n=256, seed=0):
    return torch.multinomial(torch.tensor(shares), n, True, generator=torch.Generator().manual_seed(seed))


def mlp(act=nn.ReLU, depth=12, width=48, out=5, features=20, bias=True):
    sizes = [features] + [width] * depth
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b, bias), act())]
    return nn.Sequential(*layers, nn.Linear(width, out, bias))


def cnn(act=nn.ReLU, depth=6, width=12, out=5):
    layers = [part for i in range(depth) for part in (nn.Conv2d(width if i else 3, width, 3, padding=1), act())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, out))


def seeded(module, inputs, seed=99, scheme="lecun", **settings):
    torch.manual_seed(seed)
    return initialize(module, inputs, scheme=scheme, **settings)


def results_of(module, inputs, kinds=(nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
    """What each layer gives, looked at in a way of its own."""
    seen = {}
    hooks = [
        part.register_forward_hook(lambda part, args, result, name=name: seen.__setitem__(name, result.detach()))
        for name, part in module.named_modules()
        if isinstance(part, kinds)
    ]
    module.eval()
    with torch.no_grad():
        module(inputs)
    module.train()
    for hook in hooks:
        hook.remove()
    return seen


def tensors(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def entropy(targets):
    shares = targets.bincount().double() / len(targets)
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


# Draws.


@pytest.mark.parametrize(
    ("act", "g"),
    [
        (nn.Tanh(), 1),
        (ScaledTanh(), 1),
        (nn.Sigmoid(), 1),
        (nn.SELU(), 1),
        (nn.Identity(), 1),
        (nn.ReLU(), math.sqrt(2)),
        (nn.ReLU(inplace=True), math.sqrt(2)),
        (nn.ELU(), math.sqrt(2)),
        (nn.PReLU(init=0.5), math.sqrt(2 / 1.25)),
        (nn.LeakyReLU(0.3), math.sqrt(2 / 1.09)),
        (nn.LeakyReLU(negative_slope=0.1, inplace=True), math.sqrt(2 / 1.01)),
        (nn.RReLU(0.1, 0.3), math.sqrt(2 / 1.04)),
        (nn.Sequential(nn.Dropout(0.5), nn.LayerNorm(500), nn.ReLU()), math.sqrt(2)),
        (nn.GELU(), 1.5335),
        (nn.SiLU(), 1.6765),
        (nn.Mish(), 1.4868),
    ],
    ids=str,
)
def test_variance_times_fan_in_is_the_squared_gain_of_the_activation_that_follows(act, g):
    module = nn.Sequential(nn.Linear(400, 500), act, nn.Linear(500, 3))
    made = seeded(module, normal(16, 400), data_driven=False)
    assert 400 * module[0].weight.var().item() == pytest.approx(g**2, rel=0.02)
    assert made.layers["0"].gain == pytest.approx(g, rel=1e-6)
    assert module[0].weight.mean().abs() < 0.001
    assert not module[0].bias.any()


@pytest.mark.parametrize(
    ("layer", "fan_in", "shape"),
    [
        (nn.Conv1d(60, 300, 5), 300, (2, 60, 9)),
        (nn.Conv2d(40, 200, 3, stride=2), 360, (2, 40, 9, 9)),
        (nn.Conv2d(60, 600, 3, groups=2), 270, (2, 60, 5, 5)),
        (nn.Conv3d(20, 100, 3), 540, (2, 20, 4, 4, 4)),
        (nn.ConvTranspose2d(200, 100, 4, stride=2), 800, (2, 200, 3, 3)),
    ],
    ids=str,
)
def test_fan_in_counts_what_one_output_sums(layer, fan_in, shape):
    module = nn.Sequential(layer, nn.Tanh(), nn.Flatten())
    seeded(module, normal(*shape), data_driven=False)
    assert fan_in * layer.weight.var().item() == pytest.approx(1, rel=0.02)


def test_functional_activations_are_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(9, 9) for _ in range(4))

        def forward(self, x):
            x = F.relu(self.a(x).view(-1, 3, 3)).flatten(1)
            return self.d(F.gelu(self.c(torch.tanh(self.b(x) / 2))))

    made = seeded(Net(), normal(16, 9))
    assert [made.layers[name].follows for name in "abcd"] == ["relu", "tanh", "gelu", "linear"]


def test_xavier_averages_both_fans():
    module = nn.Sequential(nn.Linear(400, 800), nn.Sigmoid())
    seeded(module, normal(16, 400), scheme="xavier", data_driven=False)
    assert 600 * module[0].weight.var().item() == pytest.approx(1, rel=0.02)


def test_kaiming_has_the_textbook_gain():
    module = nn.Sequential(nn.Linear(400, 500), nn.Tanh(), nn.Linear(500, 2))
    seeded(module, normal(16, 400), scheme="kaiming", data_driven=False)
    assert 400 * module[0].weight.var().item() == pytest.approx(nn.init.calculate_gain("tanh") ** 2, rel=0.02)


@pytest.mark.parametrize("layer", [nn.Linear(8, 20), nn.Linear(20, 8), nn.ConvTranspose1d(6, 20, 2)], ids=str)
def test_orthogonal_draws_orthonormal_rows_or_columns(layer):
    module = nn.Sequential(layer, nn.ReLU())
    seeded(module, normal(4, *((6, 5) if layer.weight.ndim == 3 else (layer.in_features,))), scheme="orthogonal")
    seeded(
        module,
        normal(4, *((6, 5) if layer.weight.ndim == 3 else (layer.in_features,))),
        scheme="orthogonal",
        data_driven=False,
    )
    weight = (layer.weight.transpose(0, 1) if layer.weight.ndim == 3 else layer.weight).flatten(1).detach()
    square = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
    torch.testing.assert_close(square, 2 * torch.eye(len(square)), atol=1e-5, rtol=0)


# Gains by integration: two ways that share no code with where the figures came from.


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "glu"])
def test_measured_gain_keeps_the_second_moment(name):
    nodes, weights = np.polynomial.hermite_e.hermegauss(180)
    values = getattr(F, name)(torch.tensor(nodes)).numpy()
    assert gain("lecun", name) == pytest.approx(((values**2 * weights).sum() / weights.sum()) ** -0.5, rel=5e-4)


def test_measured_gain_of_a_gated_unit_keeps_the_second_moment():
    made = F.glu(normal(2000, 400).double(), 1).square().mean()
    assert gain("lecun", "glu") == pytest.approx(float(made) ** -0.5, rel=0.005)


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Mish, nn.SELU], ids=lambda act: act.__name__)
def test_drawn_signals_neither_vanish_nor_explode_over_depth(act):
    module = mlp(act, depth=8, width=400, features=400, out=400)
    made = seeded(module, normal(64, 400), data_driven=False)
    inputs = normal(64, 400) / made.layers["0"].gain  # the rule is for what an activation gives; these are raw
    *hidden, _ = results_of(module, inputs).values()
    for result in hidden:
        assert 0.6 < result.square().mean() < 1.6


def test_rectifiers_with_slope_one_are_linear():
    assert [gain("lecun", name, 1.0) for name in RECTIFIERS] == [1.0] * len(RECTIFIERS)


# The data-driven pass.


@every_activation
@every_scheme
def test_deep_mlp_has_outputs_of_mean_0_and_std_1_after_the_pass(act, scheme):
    module, inputs = mlp(act), normal(*INPUTS["vectors"])
    made = seeded(module, inputs, scheme=scheme)
    *hidden, last = results_of(module, inputs).values()
    for result in hidden:
        assert result.std().item() == pytest.approx(1, abs=0.02)
        assert result.mean(0).abs().max() < 0.01
    assert last.std().item() == pytest.approx(0.1, rel=0.02)
    assert made.layers["0"].after == pytest.approx(1, abs=0.02)
    assert made.failed is None
    assert made.left_alone == {}


@every_activation
def test_deep_cnn_has_channels_of_mean_0_and_std_1_after_the_pass(act):
    module, inputs = cnn(act), normal(*INPUTS["images"]) + normal(64, 3, 1, 1, seed=1)
    seeded(module, inputs)
    *hidden, last = results_of(module, inputs).values()
    for result in hidden:
        assert result.std().item() == pytest.approx(1, abs=0.02)
        assert result.mean((0, 2, 3)).abs().max() < 0.01
    assert last.std().item() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_without_bias_are_scaled_all_the_same(bias):
    module, inputs = mlp(nn.Tanh, bias=bias), normal(*INPUTS["vectors"])
    made = seeded(module, inputs, loss=nn.CrossEntropyLoss(), targets=classes([0.5, 0.2, 0.1, 0.1, 0.1]))
    for result in list(results_of(module, inputs).values())[:-1]:
        assert result.std().item() == pytest.approx(1, abs=0.02)
    assert ("has no bias" in " ".join(made.notes)) is not bias


def test_default_weights_are_scaled_as_the_builder_drew_them():
    module, inputs = mlp(nn.Tanh), normal(*INPUTS["vectors"])
    before = module[0].weight.detach().clone()
    made = seeded(module, inputs, scheme="default")
    ratio = module[0].weight.detach() / before
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert results_of(module, inputs)["4"].std().item() == pytest.approx(1, abs=0.02)
    assert made.layers["0"].scheme == "default"


def test_default_without_the_pass_changes_nothing_and_draws_nothing():
    module, inputs, targets = mlp(), normal(*INPUTS["vectors"]), classes([0.9, 0.1])
    before = tensors(module)
    with generators_untouched():
        made = initialize(
            module, inputs, scheme="default", data_driven=False, loss=nn.CrossEntropyLoss(), targets=targets
        )
    assert same(before, tensors(module))
    assert made.loss_before == made.loss_after > 0


def test_layers_before_a_norm_layer_are_drawn_but_not_scaled():
    module = nn.Sequential(
        nn.Conv2d(3, 50, 3),
        nn.BatchNorm2d(50),
        nn.ReLU(),
        nn.Conv2d(50, 9, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 2),
    )
    inputs = 7 * normal(*INPUTS["images"])
    made = seeded(module, inputs)
    assert made.layers["0"].gain == pytest.approx(math.sqrt(2))
    assert made.layers["0"].after > 5
    assert not module[0].bias.any()
    assert made.layers["3"].after == pytest.approx(1, abs=0.02)
    assert module[1].weight.eq(1).all()


def test_inputs_that_do_not_vary_are_not_blown_up():
    module = mlp(depth=2)
    made = seeded(module, torch.ones(64, 20))
    assert made.failed is None
    assert any("hardly varies" in note for note in made.notes)
    assert module[0].weight.abs().max() < 10


def test_a_few_rows_are_no_reason_to_move_a_mean():
    module = mlp(depth=2)
    made = seeded(module, normal(2, 20))
    assert made.failed is None
    assert not module[0].bias.any()


# The initial loss.


@pytest.mark.parametrize("shares", [[0.2] * 5, [0.9, 0.05, 0.03, 0.01, 0.01], [0.5, 0.5, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn"])
def test_initial_cross_entropy_is_the_entropy_of_the_prior(shares, make):
    inputs = normal(*INPUTS["vectors"]) if make is mlp else normal(256, 3, 8, 8)
    targets = classes(shares)
    module = make()
    made = seeded(module, inputs, loss=nn.CrossEntropyLoss(), targets=targets)
    loss = F.cross_entropy(module(inputs), targets).item()
    assert loss == pytest.approx(entropy(targets), abs=0.02)
    assert made.loss_after == pytest.approx(loss, abs=1e-5)
    assert made.prior_entropy == pytest.approx(entropy(targets), abs=0.01)


@pytest.mark.parametrize("shift", [0, 3])
def test_initial_cross_entropy_is_the_prior_entropy_even_where_classes_lie_far_apart(shift):
    for seed in range(6):
        targets = classes([0.5, 0.5], seed=seed)
        inputs = normal(256, 20, seed=seed) * 0.1 + targets[:, None] * shift
        module = mlp(depth=1, out=2)
        made = seeded(module, inputs, seed=seed, loss=nn.CrossEntropyLoss(), targets=targets)
        assert made.loss_after == pytest.approx(entropy(targets), abs=0.02)
        assert made.notes == ()


LOSSES = {
    "weighted": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0, 4.0])),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.2),
    "both": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0, 4.0]), label_smoothing=0.2),
    "function": F.cross_entropy,
    "partial": functools.partial(F.cross_entropy, label_smoothing=0.2),
    "summed": nn.CrossEntropyLoss(reduction="sum"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_no_constant_outputs_do_better_than_the_prior(loss):
    """The reference: descent on the constants themselves."""
    targets = classes([0.8, 0.05, 0.15])
    rows = 256 if loss is LOSSES["summed"] else 1
    constants = torch.zeros(1, 3, requires_grad=True)
    for _ in range(300):
        value = loss(constants.expand(256, 3), targets) / rows
        (slope,) = torch.autograd.grad(value, constants)
        constants = (constants - 2 * slope).detach().requires_grad_()
    made = seeded(mlp(out=3), normal(256, 20), loss=loss, targets=targets)
    assert made.prior_entropy / rows == pytest.approx(value.item(), abs=0.005)
    assert made.loss_after / rows == pytest.approx(value.item(), abs=0.02)


def test_rows_that_the_loss_ignores_do_not_count():
    targets = classes([0.5, 0.3, 0.2])
    targets[:100] = -100
    module = mlp(out=3)
    made = seeded(module, normal(256, 20), loss=nn.CrossEntropyLoss(), targets=targets)
    assert made.loss_after == pytest.approx(entropy(targets[100:]), abs=0.02)


@pytest.mark.parametrize("out", [1, 4])
@pytest.mark.parametrize("positive", [None, 5.0])
def test_initial_binary_cross_entropy_is_that_of_the_shares(out, positive):
    targets = (torch.rand(256, out, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    loss = nn.BCEWithLogitsLoss(pos_weight=positive and torch.tensor([positive] * out))
    module = mlp(out=out)
    made = seeded(module, normal(256, 20), loss=loss, targets=targets)
    odds = targets.mean(0) / (1 - targets.mean(0)) * (positive or 1)
    assert made.loss_after == pytest.approx(loss(odds.log().expand(256, out), targets).item(), abs=0.02)
    if positive is None:
        assert made.loss_after < 0.4


def test_sigmoid_before_a_loss_of_probabilities_is_looked_through():
    module = nn.Sequential(mlp(out=1), nn.Sigmoid(), nn.Flatten(0))
    targets = (torch.rand(256, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    made = seeded(module, normal(256, 20), loss=nn.BCELoss(), targets=targets)
    assert made.loss_after == pytest.approx(entropy(targets.long()), abs=0.02)


def test_log_softmax_before_a_likelihood_is_looked_through():
    targets = classes([0.8, 0.1, 0.1])
    made = seeded(nn.Sequential(mlp(out=3), nn.LogSoftmax(1)), normal(256, 20), loss=nn.NLLLoss(), targets=targets)
    assert made.loss_after == pytest.approx(entropy(targets), abs=0.02)


def test_balanced_sampler_leaves_the_bias_without_a_prior():
    module, inputs = mlp(), normal(256, 20)
    seeded(module, inputs, loss=nn.CrossEntropyLoss(), targets=classes([0.8, 0.1, 0.05, 0.03, 0.02]), balanced=True)
    assert module(inputs).mean(0).abs().max() < 0.01


def test_regression_starts_at_the_mean_but_for_standardized_targets():
    module, inputs = mlp(out=2), normal(256, 20)
    raw = normal(256, 2, seed=3) * 4 + torch.tensor([30.0, -5.0])
    made = seeded(module, inputs, loss=nn.MSELoss(), targets=raw)
    torch.testing.assert_close(module(inputs).mean(0), raw.mean(0), atol=1e-3, rtol=0)
    assert made.loss_after == pytest.approx(raw.var(0, correction=0).mean().item(), rel=0.02)
    seeded(module, inputs, loss=nn.MSELoss(), targets=(raw - raw.mean(0)) / raw.std(0))
    assert module(inputs).mean(0).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("last", "loss", "words"),
    [
        (nn.Tanh(), nn.CrossEntropyLoss(), "is followed by tanh"),
        (nn.Identity(), nn.MultiMarginLoss(), "no prior is known for MultiMarginLoss"),
        (nn.LayerNorm(5), nn.CrossEntropyLoss(), "not one layer's"),
    ],
    ids=["tanh", "margin", "norm"],
)
def test_outputs_that_no_prior_is_known_for_are_named(last, loss, words):
    made = seeded(nn.Sequential(mlp(), last), normal(256, 20), loss=loss, targets=classes([0.6, 0.1, 0.1, 0.1, 0.1]))
    assert words in " ".join(made.notes)
    assert made.failed is None


def test_outputs_that_do_not_follow_the_bias_keep_it_at_0():
    class Hot(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(out=2)

        def forward(self, x):
            return -30 * self.net(x)

    made = seeded(Hot(), normal(256, 20), loss=nn.CrossEntropyLoss(), targets=classes([0.95, 0.05]))
    assert "keeps the bias 0" in " ".join(made.notes)
    assert made.loss_after < 3


def test_loss_that_cannot_be_computed_is_a_note():
    made = seeded(mlp(), normal(256, 20), loss=nn.CrossEntropyLoss(), targets=normal(3, 3))
    assert made.failed is None
    assert any(note.startswith("The loss could not be computed: ") for note in made.notes)
    assert made.loss_after is None


# Residual streams.


class Block(nn.Module):
    """x + f(x), written in one of the usual ways."""

    def __init__(self, f, way):
        super().__init__()
        self.f, self.way = f, way

    def forward(self, x):
        if self.way == "in place":
            h = self.f(x)
            h += x
            return h
        return {
            "plain": lambda: x + self.f(x),
            "turned": lambda: torch.add(self.f(x), x),
            "scaled": lambda: 1.0 * x + self.f(x),
        }[self.way]()


def dense_block(way):
    return Block(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.3), nn.Linear(64, 32)), way)


def bare_block(way):
    return Block(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)), way)


def conv_block(way):
    return Block(
        nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
        ),
        way,
    )


def attention_block():
    return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)


class Parallel(nn.Module):
    """Two branches of one stream, as in some transformers."""

    def __init__(self):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        h = self.norm(x)
        return x + torch.tanh(self.a(h)) + self.b(h)


WAYS = ["plain", "turned", "in place", "scaled"]
STREAMS = {
    **{f"dense, {way}": (lambda way=way: dense_block(way), (64, 32), 24) for way in WAYS},
    **{f"bare, {way}": (lambda way=way: bare_block(way), (64, 32), 24) for way in WAYS},
    **{f"conv, {way}": (lambda way=way: conv_block(way), (32, 8, 6, 6), 24) for way in WAYS},
    "attention": (attention_block, (16, 8, 32), 48),
    "parallel": (Parallel, (64, 32), 48),
}


@pytest.mark.parametrize("data_driven", [True, False])
@pytest.mark.parametrize(("make", "shape", "branches"), STREAMS.values(), ids=STREAMS.keys())
def test_residual_stream_does_not_grow_with_depth(make, shape, branches, data_driven):
    module, inputs = nn.Sequential(*[make() for _ in range(24)]), normal(*shape)
    made = seeded(module, inputs, data_driven=data_driven)
    wanted = f"{branches} residual branches: the last layer of each ({branches} found)"
    assert any(note.startswith(wanted) for note in made.notes)
    for part in module.modules():  # so that no branch is cut by dropout, and batch norms normalize
        part.training = isinstance(part, nn.BatchNorm2d)
    with torch.no_grad():
        assert 0.9 < module(inputs).std() < 2


def test_naive_draws_make_the_stream_grow():
    """What the rule above is there for: without it the same stack has a standard deviation of about 5."""
    module = nn.Sequential(*[conv_block("plain") for _ in range(24)])
    assert 4.5 < module(normal(32, 8, 6, 6)).std() < 5.5


def test_sums_of_unrelated_tensors_are_no_residuals():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.shift = nn.Linear(9, 9), nn.Linear(9, 9), nn.Parameter(torch.zeros(9))

        def forward(self, x):
            return torch.tanh(self.a(x) + self.b(x + self.shift))

    made = seeded(Gate(), normal(64, 9))
    assert made.notes == ()
    assert [made.layers[name].follows for name in "ab"] == ["tanh", "tanh"]
    assert list(made.left_alone) == ["shift"]


# Embeddings.


class Language(nn.Module):
    def __init__(self, tied, words=100, width=256, bias=False):
        super().__init__()
        self.embed, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
        self.mix = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.tied = tied
        if tied != "functional":
            self.out = nn.Linear(width, words, bias=bias)
        if tied == "module":
            self.out.weight = self.embed.weight

    def forward(self, tokens):
        h = self.norm(self.mix(self.embed(tokens)))
        logits = h @ self.embed.weight.T if self.tied == "functional" else self.out(h)
        return logits.transpose(1, 2)


def tokens(n=32):
    return torch.randint(100, (n, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scheme", ["lecun", "default"])
@pytest.mark.parametrize("tied", ["module", "functional"])
def test_tied_embedding_starts_near_log_of_the_words(tied, scheme):
    torch.manual_seed(0)
    module, targets = Language(tied), tokens()
    made = seeded(module, targets, scheme=scheme, loss=nn.CrossEntropyLoss(), targets=targets.flip(1))
    assert made.loss_before > 15
    assert made.loss_after == pytest.approx(math.log(100), abs=0.1)
    assert module.embed.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert "embed is tied to the output layer: both are drawn from N(0, 0.02^2)." in made.notes
    assert made.layers["embed"].scheme == "tied"
    if tied == "module":
        assert module.out.weight is module.embed.weight


def test_untied_embedding_stays_as_drawn_and_starts_at_log_of_the_words():
    module, targets = Language(None, bias=True), tokens(64)
    before = module.embed.weight.detach().clone()
    made = seeded(module, targets, loss=nn.CrossEntropyLoss(), targets=targets.flip(1))
    assert torch.equal(before, module.embed.weight)
    assert made.left_alone == {"embed": "an embedding of its own stays as its builder drew it"}
    assert made.loss_after == pytest.approx(made.prior_entropy, abs=0.02)
    assert made.layers["out"].after == pytest.approx(0.1, rel=0.02)


# What is left alone.


class Mixed(nn.Module):
    """One of each kind that is left alone."""

    def __init__(self):
        super().__init__()
        self.frozen, self.shared, self.twin, self.other = (nn.Linear(8, 8) for _ in range(4))
        self.other.weight = self.twin.weight
        self.frozen.requires_grad_(False)
        self.normed, self.unused = weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8)
        self.gru, self.scale = nn.GRU(8, 8, batch_first=True), nn.Parameter(torch.ones(8))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.shared(torch.tanh(self.shared(torch.tanh(self.frozen(x))))))
        x = torch.tanh(self.other(torch.tanh(self.twin(x)))) * self.scale
        return self.out(self.gru(torch.tanh(self.normed(x)))[0][:, -1])


def test_what_is_left_alone_is_named_and_unchanged():
    module = Mixed()
    before = tensors(module)
    made = seeded(module, normal(64, 5, 8), loss=nn.CrossEntropyLoss(), targets=classes([0.8, 0.1, 0.1], 64))
    assert made.left_alone == {
        "frozen": "frozen",
        "shared": "runs 2 times in a forward pass",
        "twin": "shares its weight: twin, other",
        "other": "shares its weight: twin, other",
        "normed": "reparametrized (weight norm, spectral norm, pruning or the like)",
        "unused": "does not run in a forward pass",
        "gru": "recurrent: keeps torch's own initialization",
        "scale": "a parameter of Mixed itself, which this does not know",
    }
    assert list(made.layers) == ["out"]
    changed = {name for name, value in tensors(module).items() if not torch.equal(value, before[name])}
    assert changed == {"out.weight", "out.bias"}


def test_subclass_that_runs_in_a_way_of_its_own_is_left_alone():
    class Standardized(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)

    made = seeded(nn.Sequential(Standardized(8, 8), nn.ReLU(), nn.Linear(8, 2)), normal(64, 8))
    assert set(made.left_alone) == {"0.weight", "0.bias"}


# What is put back.


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.passes += 1
        random.random()
        np.random.random()  # noqa: NPY002
        return self.net(x + 0.1 * torch.rand_like(x))


def test_only_weights_are_changed_and_only_the_draws_are_drawn():
    module, inputs = Counting(), normal(64, 8)
    for number, part in enumerate(module.modules()):
        part.training = number % 2 == 0
    modes, parameters = [part.training for part in module.modules()], list(module.parameters())
    buffers, kept = {name: b.clone() for name, b in module.named_buffers()}, inputs.clone()
    torch.manual_seed(0)
    torch.randn(8, 8), torch.randn(3, 8)
    wanted = drawn_next()
    torch.manual_seed(0)
    made = initialize(module, inputs, scheme="lecun")
    assert drawn_next() == wanted
    assert made.failed is None
    assert [part.training for part in module.modules()] == modes
    assert all(one is other for one, other in zip(parameters, module.parameters()))
    assert same(buffers, dict(module.named_buffers()))
    assert torch.equal(inputs, kept)
    assert all(p.grad is None and p.requires_grad for p in parameters)
    assert hooks_of(module) == []


def test_names_of_weights_are_unchanged():
    module = Language("module")
    before = list(module.state_dict())
    seeded(module, tokens())
    assert list(module.state_dict()) == before


@pytest.mark.parametrize("scheme", ["default", *SCHEMES])
def test_the_global_seed_is_obeyed(scheme):
    one, inputs = cnn(), normal(*INPUTS["images"])
    two, three = copy.deepcopy(one), copy.deepcopy(one)
    records = [seeded(module, inputs, seed, scheme) for module, seed in ((one, 1), (two, 1), (three, 2))]
    assert same(tensors(one), tensors(two))
    assert records[0] == records[1]
    assert same(tensors(one), tensors(three)) is (scheme == "default")


class Raises(nn.Module):
    """Fails at a forward pass of one's choice."""

    def __init__(self, at):
        super().__init__()
        self.net, self.at, self.passes = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), at, 0

    def forward(self, x):
        self.passes += 1
        if self.passes >= self.at:
            raise RuntimeError("no more")
        return self.net(x)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_module_that_raises_keeps_its_weights(at):
    module = Raises(at)
    before = tensors(module)
    made = seeded(module, normal(64, 8))
    assert same(before, tensors(module))
    assert made.failed == "RuntimeError: no more"
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_leave_the_weights(value):
    module, inputs = mlp(), normal(64, 20)
    inputs[3, 3] = value
    before = tensors(module)
    made = seeded(module, inputs)
    assert same(before, tensors(module))
    assert made.failed == "ArithmeticError: the output of 0 is not finite"


def test_lazy_module_is_refused_in_the_record():
    made = seeded(nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d()), normal(64, 20))
    assert made.failed.startswith("the module is lazy")


def test_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match=r"needs to be one of default, lecun, .*, got 'he'"):
        initialize(mlp(), normal(64, 20), scheme="he")


# Inputs, outputs, record.


class Pair(nn.Module):
    def __init__(self, key):
        super().__init__()
        self.key, self.a, self.b, self.out = key, nn.Linear(8, 16), nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        a, (b,) = (x["a"], x["rest"]) if self.key else x
        return self.out(torch.cat([torch.relu(self.a(a) + self.b(b))], 1))


@pytest.mark.parametrize("key", [True, False], ids=["dict", "tuple"])
def test_inputs_may_be_nested(key):
    a, b = normal(256, 8), normal(256, 4, seed=1)
    inputs = {"a": a, "rest": [b]} if key else (a, (b,))
    made = seeded(Pair(key), inputs, loss=nn.CrossEntropyLoss(), targets=classes([0.7, 0.2, 0.1]))
    assert made.layers["a"].follows == made.layers["b"].follows == "relu"
    assert made.layers["a"].after == pytest.approx(1, abs=0.02)
    assert made.loss_after == pytest.approx(made.prior_entropy, abs=0.02)


def test_each_of_several_outputs_is_an_output():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x):
            h = torch.tanh(self.body(x))
            return {"a": self.a(h), "more": (self.b(h), h)}

    made = seeded(Heads(), normal(64, 8))
    assert made.layers["body"].after == pytest.approx(1, abs=0.02)
    assert [made.layers[name].after for name in "ab"] == pytest.approx([0.1, 0.1], rel=0.02)


def test_record_is_json():
    made = seeded(Mixed(), normal(64, 5, 8), loss=nn.CrossEntropyLoss(), targets=classes([0.8, 0.1, 0.1], 64))
    text = json.dumps(dataclasses.asdict(made), allow_nan=False)
    assert json.loads(text)["layers"]["out"]["scheme"] == "lecun"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.scheme = "other"


def test_double_precision_stays_double():
    module, inputs = mlp(nn.Tanh).double(), normal(256, 20).double()
    made = seeded(module, inputs, loss=nn.CrossEntropyLoss(), targets=classes([0.2] * 5))
    assert made.failed is None
    assert module[0].weight.dtype == torch.float64


def test_scaled_tanh_passes_through_plus_and_minus_one():
    assert ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx([-1, 0, 1], abs=1e-4)
    assert ScaledTanh()(normal(100_000)).std().item() == pytest.approx(0.867, abs=0.01)
