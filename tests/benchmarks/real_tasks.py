"""What real.py tunes: small nets on real data, with their spaces. A full training takes about a second."""

import argparse
import difflib
import inspect
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from lecun_problems import Transformer
from torch import nn

import tuneflow as tn

CONTEXT, WINDOWS = 32, (512, 128)  # characters of a window; windows to train and to validate on
CHARACTERS = "\n" + string.printable[:95]  # all others count as one more
ROWS = (2000, 1000)  # of Fashion-MNIST


@dataclass(frozen=True)
class Task:
    """What is trained and what is tuned; the score is the validation loss."""

    name: str
    builder: Callable[..., nn.Module]
    trainer: tn.Trainer
    space: tn.SearchSpace

    @property
    def model(self) -> tn.Model:
        return tn.Model(self.builder)


def convnet(width=16, dropout=0.0):
    """The README's."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, 10),
    )


class CharTransformer(Transformer):
    """The transformer of lecun_problems.py with dropout before its first block and after its last."""

    def __init__(self, width=32, dropout=0.0):
        super().__init__(len(CHARACTERS) + 1, CONTEXT, width, heads=2, blocks=1)
        self.first, self.last = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, numbers):
        x = self.first(self.characters(numbers) + self.places.weight[: numbers.shape[1]])
        return self.head(self.norm(self.last(self.blocks(x)))).transpose(1, 2)


def adamw(parameters, lr, beta1, weight_decay):
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, 0.99), weight_decay=weight_decay)


@cache
def text() -> tuple[tn.Data, tn.Data]:
    """Windows of the source of two modules of the standard library, and of one more to validate on.

    Inputs are the numbers of CONTEXT characters, targets those of the characters that follow each of them.
    """
    parts = "".join(map(inspect.getsource, (inspect, difflib))), inspect.getsource(argparse)
    train, valid = (_windows(part, count) for part, count in zip(parts, WINDOWS, strict=True))
    return train, valid


def _windows(written: str, count: int) -> tn.Data:
    """`count` windows, evenly spread over what is written."""
    numbers = torch.tensor([CHARACTERS.find(character) % (len(CHARACTERS) + 1) for character in written])
    windows = numbers.unfold(0, CONTEXT + 1, CONTEXT)
    windows = windows[:: len(windows) // count][:count]
    return tn.Data(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())


def _space(**optimizer: tn.Float) -> tn.SearchSpace:
    return tn.SearchSpace(
        model={"width": tn.Choice([8, 16, 32], ordered=True), "dropout": tn.Float(0.0, 0.5)},
        optimizer=optimizer,
        trainer={"batch_size": tn.Choice([16, 32, 64], ordered=True)},
    )


def _trained(train, valid, optimizer, epochs: int) -> tn.Trainer:
    return tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=epochs)


SGD = {
    "lr": tn.Float(1e-4, 1.0, log=True),
    "momentum": tn.Float(0.0, 0.99),
    "weight_decay": tn.Float(1e-6, 1e-2, log=True),
}
ADAMW = {
    "lr": tn.Float(1e-5, 1e-1, log=True),
    "beta1": tn.Float(0.0, 0.99),
    "weight_decay": tn.Float(1e-4, 1.0, log=True),
}


def digits(epochs: int) -> Task:
    train, valid, _ = tn.data.digits()
    return Task("digits", convnet, _trained(train, valid, torch.optim.SGD, epochs), _space(**SGD))


def chars(epochs: int) -> Task:
    return Task("text", CharTransformer, _trained(*text(), adamw, epochs), _space(**ADAMW))


def fashion(epochs: int, folder: str) -> Task:
    """The first images of Fashion-MNIST in `folder`, where the files are."""
    train, valid, _ = tn.data.fashion_mnist(folder)
    trainer = _trained(train[: ROWS[0]], valid[: ROWS[1]], torch.optim.SGD, epochs)
    return Task("fashion", convnet, trainer, _space(**SGD))
