"""A dry run in one line, for its tests: data, modules, and `check`."""

from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset

import tuneflow as tn
from tuneflow.check.dry_run import check_space

generator = torch.Generator().manual_seed(0)
ROWS = 97
IMAGES = torch.randn(ROWS, 3, 8, 8, generator=generator)
CLASSES = torch.arange(ROWS) % 10
TOKENS = torch.randint(50, (ROWS, 12), generator=generator)
BYTES = torch.randint(256, (ROWS, 3, 8, 8), generator=generator, dtype=torch.uint8)
SHARE = (CLASSES > 4).float()
NAN, INF = float("nan"), float("inf")
RATE = {"optimizer": {"lr": tn.Float(0.001, 0.1)}}


def linear(outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, outputs))


ONE = partial(linear, 1)


def check(
    builder=linear, data=(IMAGES, CLASSES), *, valid=None, space=RATE, normalize=True, kind=tn.Trainer, **settings
):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "batch_size": 32} | settings
    trainer = kind(data, data if valid is None else valid, **settings)
    check_space(tn.SearchSpace(**space), tn.Model(builder, normalize=normalize), trainer, tn.Runtime("cpu"))


def changed(rows, values, data=CLASSES):
    data = data.clone()
    data[rows] = values
    return data


class Net(nn.Module):
    """A module of one function of its layer's inputs."""

    def __init__(self, forward, layer=None):
        super().__init__()
        self.layer = linear() if layer is None else layer
        self.function = forward

    def forward(self, inputs):
        return self.function(self, inputs)


def net(forward, layer=None):
    return lambda: Net(forward, None if layer is None else layer())


class Rows(Dataset):
    def __init__(self, inputs=IMAGES, targets=CLASSES, change=lambda x: x):
        self.inputs, self.targets, self.change = inputs, targets, change

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, row):
        return self.change(self.inputs[row]), self.targets[row]
