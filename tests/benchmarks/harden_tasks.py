"""What harden.py trains: small nets on images, and the space of methods that a study tunes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

import tuneflow as tn

SGD = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4)


@dataclass(frozen=True)
class Task:
    """Rows, a net, and the size of its study.

    Attributes:
        parts: train, valid and test.
        builder: of the net, by its width.
        width: of nets that are not tuned.
        widths: of those that are.
        plain_epochs: of plain training.
        epochs: the full length of hardened training.
        first: epochs of the first rung.
        every: epochs from one measurement of robust accuracy to the next.
        trials: of the study.
        margins: how much less accurate a hardened net may be, by the size of the attack.
    """

    name: str
    parts: tuple[tn.Data, tn.Data, tn.Data]
    builder: Callable[..., nn.Module]
    width: int
    widths: tuple[int, int]
    plain_epochs: int
    epochs: int
    first: int
    every: int
    trials: int
    margins: dict[float, float]

    def trainer(self, epochs, metrics, loss=None, augment=None):
        train, valid, _ = self.parts
        return tn.Trainer(
            train,
            valid,
            loss=loss or nn.CrossEntropyLoss(),
            augment=augment,
            optimizer=SGD,
            epochs=epochs,
            batch_size=64,
            schedule=tn.rates.OneCycle(peak=0.2, low=None, high=None),
            metrics=metrics,
        )

    def space(self, eps, fork=False):
        """Return the space of methods and their settings; a fork has the width of its winner."""
        width = {} if fork else {"model": {"width": tn.Int(*self.widths, log=True)}}
        pgd = tn.call(tn.harden.PGD, eps=eps, steps=tn.Int(2, 5))
        trades = tn.call(tn.harden.TRADES, eps=eps, beta=tn.Float(1.0, 10.0, log=True), steps=tn.Int(2, 5))
        return tn.SearchSpace(
            where=one_method,
            optimizer={"lr": tn.Float(0.02, 0.2, log=True)},
            augment=tn.Choice({"none": None, "fast": tn.call(tn.harden.Fast, eps=eps), "pgd": pgd}),
            loss=tn.Choice({"cross-entropy": nn.CrossEntropyLoss, "trades": trades}),
            **width,
        )


def one_method(config):
    """True where either an attack changes batches or TRADES is the loss."""
    return (config["augment"] == "none") == ("trades" in config["loss"])


def digits():
    return Task(
        "digits", tn.data.digits(), small_net, width=32, widths=(12, 32), plain_epochs=20, epochs=40, first=5,
        every=5, trials=24, margins={0.1: 0.01},
    )  # fmt: skip


def fashion():
    counts = (12_000, 2_000, 2_000)
    train, valid, test = (part[:count] for part, count in zip(tn.data.fashion_mnist(), counts, strict=True))
    return Task(
        "fashion", (train, valid, test), strided_net, width=16, widths=(8, 24), plain_epochs=12, epochs=18, first=2,
        every=2, trials=15, margins={0.05: 0.03, 0.1: 0.08},
    )  # fmt: skip


def small_net(width=32):
    """Three convolutions: (n, 1, 8, 8) to logits (n, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * width, 10)),
    )


def strided_net(width=16):
    """Three convolutions, two of them with strides: (n, 1, 28, 28) to logits (n, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(18 * width, 10)),
    )


TASKS = {"digits": digits, "fashion": fashion}
