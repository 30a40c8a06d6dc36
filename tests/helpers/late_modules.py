"""Modules whose tensors change shape, appear, or get their shape while they are trained."""

import torch
import torch.ao.quantization as quantization
from torch import nn
from torch.nn.utils import parametrizations, prune

generator = torch.Generator().manual_seed(0)
INPUTS = torch.randn(48, 6, generator=generator)
TARGETS = torch.arange(48) % 3


class Centered(nn.Module):
    """Two layers, and between them a running mean of the hidden units that a subclass keeps in `mean`."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.hidden(inputs)
        self.prepare(hidden)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return self.out(hidden - self.mean)


class FilledLater(Centered):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)

    def prepare(self, hidden):
        self.mean = torch.zeros(8) if self.mean is None else self.mean


class Appearing(Centered):
    def prepare(self, hidden):
        if not hasattr(self, "mean"):
            self.register_buffer("mean", torch.zeros(8), persistent=False)


class Resized(Centered):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))

    def prepare(self, hidden):
        if not self.mean.numel():
            self.mean.resize_(8).zero_()


class OtherDtype(Centered):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8, dtype=torch.int64))

    def prepare(self, hidden):
        self.mean = self.mean.float()


class Queue(Centered):
    def __init__(self):
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, 8))

    def prepare(self, hidden):
        if self.training:
            self.bank = torch.cat([self.bank, hidden.detach()])[-20:]

    @property
    def mean(self):
        return self.bank.mean(0) if len(self.bank) else 0.0

    @mean.setter
    def mean(self, _):
        pass


class Table(nn.Module):
    """A table of positions that grows to the longest sequence."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 3)
        self.register_buffer("table", torch.zeros(2))

    def forward(self, inputs):
        if len(self.table) < inputs.shape[1]:
            self.table = torch.arange(inputs.shape[1]) / 10
        return self.out(inputs + self.table[: inputs.shape[1]])


def two_layers():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def first(change):
    """A builder of two layers, the first of them changed."""

    def build():
        module = two_layers()
        module[0] = change(module[0])
        return module

    return build


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))


def lazy_images():
    layers = nn.LazyConv1d(4, 3), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    return nn.Sequential(nn.Unflatten(1, (1, 6)), *layers)


def observed():
    module = nn.Sequential(quantization.QuantStub(), *two_layers(), quantization.DeQuantStub()).train()
    module.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(module)


def tied():
    module = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    module[1].weight = module[0].weight
    return module


def frozen_numbers():
    module = first(lambda layer: nn.Sequential(layer))()
    module[0].order = nn.Parameter(torch.arange(8), requires_grad=False)
    module[0].kept = nn.Parameter(torch.ones(8, dtype=torch.bool), requires_grad=False)
    return module


LATE = {
    "buffer None": FilledLater,
    "buffer that appears": Appearing,
    "buffer resized in place": Resized,
    "buffer of another dtype": OtherDtype,
    "queue": Queue,
    "table": Table,
    "observers": observed,
    "lazy": lazy,
    "lazy convolution": lazy_images,
}
PLAIN = {
    "weight norm": first(parametrizations.weight_norm),
    "spectral norm": first(parametrizations.spectral_norm),
    "orthogonal": first(parametrizations.orthogonal),
    "pruned": first(lambda layer: prune.l1_unstructured(layer, "weight", amount=0.3)),
    "tied": tied,
    "frozen integers": frozen_numbers,
}
