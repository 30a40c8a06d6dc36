"""Small nets, batches and the plain loop, for the tests of fused training."""

import copy
import math
from functools import partial
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW

from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache

ROWS = 12
PROGRAMS = ProgramCache()  # of tests of optimizers: a net is traced once, whatever it is trained with


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.inner, self.head = kind(16, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.inner(x.view(-1, 4, 16))[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(8, 16), nn.Linear(16, 10)
        self.qkv, self.norm = nn.Linear(16, 48), nn.LayerNorm(16)

    def forward(self, x):
        x = self.inner(x.view(-1, 8, 8))
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.head((x + (q @ k.transpose(1, 2) / 4).softmax(-1) @ v).mean(1))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.unused = nn.Linear(64, 16), nn.Linear(16, 10), nn.Linear(3, 3)
        self.body.weight.requires_grad_(False)

    def forward(self, x):
        return self.head(F.gelu(self.body(x)))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(20, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.bag((x[:, :8].abs() * 10).long().clamp(max=19)).tanh())


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(64, 10)

    def forward(self, x):
        x = x.view(-1, 8, 8)
        return self.head(self.attention(x, x, x, need_weights=False)[0].flatten(1))


class Factored(nn.Module):
    """The gradient of each weight is a product with the other, large, so that they have to move after both."""

    def __init__(self):
        super().__init__()
        self.left = nn.Parameter(torch.randn(64, 300) / 8)
        self.right = nn.Parameter(torch.randn(300, 100) / 17)

    def forward(self, x):
        return (x @ (self.left @ self.right)).tanh()[:, :10]


NETS = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    ),
    "layernorm": lambda: nn.Sequential(nn.Linear(64, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 10)),
    "batchnorm": lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)),
    "batchnorm2d": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    ),
    "gru": Recurrent,
    "tied": Tied,
    "attention": Transformer,
    "unrolled": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)),  # vmap has no rule for it
    "frozen": Frozen,
    "wide": lambda: nn.Sequential(nn.Linear(64, 600), nn.ReLU(), nn.Linear(600, 10)),  # its gradient stays a product
    "lstm": partial(Recurrent, nn.LSTM),
    "factored": Factored,
    "bag": Bag,
    "fused attention": Attending,
}  # fmt: skip


class FunctionalDropout(nn.Module):
    """Dropout that no layer makes: in place, of other functions, of a permuted input, with a probability of 0 and 1."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = F.dropout(self.first(x), 0.2, self.training)
        x = F.dropout(x.view(-1, 8, 8).transpose(1, 2), 0.3, self.training)
        x = torch.feature_dropout(F.dropout1d(x, 0.1), 0.1, self.training)
        x = F.dropout(x, 0.0) + F.dropout(x, 1.0) + F.dropout(x, 0.5, False)
        return self.second(F.dropout(torch.dropout(x.flatten(1) * 1.5, 0.1, True), inplace=True))


DROPPING_NETS = {
    "layers": lambda: nn.Sequential(
        nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 10)
    ),
    "features": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), nn.Dropout2d(0.4), nn.Unflatten(2, (1, 6)),
        nn.Dropout3d(0.2), nn.Flatten(2), nn.Dropout1d(0.2), nn.Flatten(), nn.Linear(216, 10),
    ),
    "functions": FunctionalDropout,
}  # fmt: skip


def grouped(kind, head, **settings):
    """A maker of an optimizer with two groups: weights, and the rest, with settings of their own in `head`."""

    def make(parameters):
        parts = list(parameters)
        weights, rest = [p for p in parts if p.dim() > 1], [p for p in parts if p.dim() <= 1]
        return kind([{"params": weights}, {"params": rest, **head}], **settings)

    return make


OPTIMIZERS = {
    "sgd": [partial(SGD, lr=0.1), partial(SGD, lr=0.03, weight_decay=0.01), partial(SGD, lr=0.2)],
    "momentum": [partial(SGD, lr=0.05 / n, momentum=1 - 0.1 * n, weight_decay=0.001 * n) for n in (1, 2, 5)],
    "mixed": [
        partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
        partial(SGD, lr=0.1, momentum=0.8, dampening=0.5, weight_decay=0.01),
        partial(SGD, lr=0.001, maximize=True),
    ],
    "adam": [
        partial(Adam, lr=0.001 * n, betas=(0.8 + 0.04 * n, 0.99), eps=10.0**-n, weight_decay=0.01 * n)
        for n in (2, 3, 4)
    ],
    "adamw": [
        partial(AdamW, lr=0.003 * n, betas=(0.9, 0.999 - 0.01 * n), eps=1e-4, weight_decay=0.1 * n) for n in (0.5, 1, 2)
    ],
    "sgd in groups": [
        grouped(SGD, {"lr": 0.02 * n, "weight_decay": 0.0}, lr=0.05, momentum=0.8, weight_decay=0.01 * n)
        for n in (1, 2, 3)
    ],
    "adam in groups": [grouped(Adam, {"lr": 0.001 * n, "eps": 1e-5}, lr=0.004, betas=(0.8, 0.99)) for n in (1, 2, 3)],
    "adamw in groups": [
        grouped(AdamW, {"weight_decay": 0.0, "betas": (0.7 + 0.05 * n, 0.99)}, lr=0.004 / n, weight_decay=0.1 * n)
        for n in (1, 2, 3)
    ],
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def loss_of(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def made(net, lanes, dtype=torch.float64):
    """So many modules of a net, alike in what they freeze."""
    torch.manual_seed(0)
    return [net().to(dtype) for _ in range(lanes)]


def batches(lanes, steps, dtype=torch.float64, rows=ROWS, seed=1):
    """Batches of stacked lanes, each with rows of its own; the last one is short."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [rows] * (steps - 1) + [rows - 5]
    return [
        (torch.randn(lanes, n, 64, generator=draw, dtype=dtype), torch.randint(10, (lanes, n), generator=draw))
        for n in sizes
    ]


def train_alone(module, optimizer, lane, steps, clip=None, loss_of=loss_of):
    """The plain loop, on one lane's rows."""
    losses = []
    for inputs, targets in steps:
        loss = loss_of(module, (inputs[lane], targets[lane]))
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def tensors(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def distance(a, b):
    """The norm of the difference of two modules' floating-point tensors."""
    pairs = [(x, tensors(b)[name]) for name, x in tensors(a).items() if x.is_floating_point()]
    return math.sqrt(sum(float((x.detach() - y.detach()).double().square().sum()) for x, y in pairs))


def assert_equal(a, b):
    """Bit for bit."""
    assert all(torch.equal(x, tensors(b)[name]) for name, x in tensors(a).items())


def assert_same_training(fused, alone, start, tolerance):
    moved = distance(alone, start)
    assert moved > 0
    assert distance(fused, alone) <= tolerance * moved
    whole = [(name, x) for name, x in tensors(alone).items() if not x.is_floating_point()]
    assert all(torch.equal(x, tensors(fused)[name]) for name, x in whole)


def optimizers_of(modules, makers):
    return [make(module.parameters()) for make, module in zip(makers, modules)]


def lanes_of(modules, makers=None, loss_of=loss_of, **settings):
    """Lanes of these modules, by default with plain SGD."""
    return Lanes(modules, loss_of, optimizers_of(modules, makers or repeat(partial(SGD, lr=0.1))), **settings)


def kept_lanes(lanes, kept, modules, optimizers, **settings):
    """Lanes of some of these modules and their optimizers, which go on from where `lanes` has brought them."""
    for lane in kept:
        lanes.unload(lane)
    return Lanes([modules[lane] for lane in kept], loss_of, [optimizers[lane] for lane in kept], **settings)


def compare(net, makers, dtype=torch.float64, kind="stacked", clips=(None, None, None), steps=16):
    """Train fused and alone; assert that each lane ends at the same place with the same losses."""
    start = made(net, len(makers), dtype)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes = lanes_of(fused, makers, kind=kind, clips=clips, programs=PROGRAMS)
    theirs = optimizers_of(alone, makers)
    steps = batches(len(makers), steps, dtype)
    losses = [lanes.step(batch) for batch in steps]
    for lane in range(len(makers)):
        expected = train_alone(alone[lane], theirs[lane], lane, steps, clips[lane])
        lanes.unload(lane)
        assert [row[lane] for row in losses] == pytest.approx(expected, rel=TOLERANCE[dtype] * 10)
        assert_same_training(fused[lane], alone[lane], start[lane], TOLERANCE[dtype])
