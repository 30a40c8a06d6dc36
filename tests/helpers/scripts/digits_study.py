"""A small study on the digits, run as a process of its own: digits_study.py FOLDER OPTIMIZER [SECONDS_PER_EPOCH]."""

import sys
import time

import torch
from torch import nn

import tuneflow as tn


def net(width=8, dropout=0.3):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16 * width, 10),
    )


class Slow(tn.Trainer):
    """Takes its time after each epoch, so that a kill can fall anywhere."""

    pause = 0.0

    def advance(self, job, state, until):
        for result in super().advance(job, state, until):
            time.sleep(self.pause)
            yield result


OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def make(folder, optimizer, pause=0.0, checkpoint=0.0, keep=10, memory=2**30, seed=3, **settings):
    train, valid, _ = tn.data.digits()
    trainer = Slow(
        train[:320],
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=OPTIMIZERS[optimizer],
        epochs=4,
        metrics={"accuracy": tn.metrics.accuracy},
    )
    trainer.pause = pause
    extra = {"momentum": tn.Float(0.0, 0.99)} if optimizer == "sgd" else {}
    space = tn.SearchSpace(
        model={"width": tn.Int(4, 12), "dropout": tn.Float(0.1, 0.5)},
        optimizer={"lr": tn.Float(1e-3, 1e-1, log=True), **extra},
    )
    return tn.Study(
        model=tn.Model(net),
        trainer=trainer,
        space=space,
        maximize="accuracy",
        runtime=tn.Runtime("cpu", threads=1),
        folder=tn.Folder(folder, keep=keep, checkpoint=checkpoint, memory=memory),
        seed=seed,
        progress=False,
        **settings,
    )


if __name__ == "__main__":
    study = make(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    study.run(trials=5)
