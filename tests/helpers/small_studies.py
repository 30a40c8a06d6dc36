"""Studies that take a second: a small net on the digits, or a trainer that reports losses from a table."""

import torch
from torch import nn

import tuneflow as tn

TRAIN, VALID, TEST = tn.data.digits()


def net(width=8, act=nn.ReLU):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), act(), nn.Linear(width, 10))


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def trainer(**settings):
    settings = {
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD,
        "epochs": 3,
        "metrics": {"accuracy": tn.metrics.accuracy},
    } | settings
    return tn.Trainer(TRAIN[:320], VALID, **settings)


SPACE = {"model": {"width": tn.Int(4, 16)}, "optimizer": {"lr": tn.Float(1e-3, 0.5, log=True)}}


def make(space=None, **settings):
    settings = {"model": tn.Model(net), "trainer": trainer(), "maximize": "accuracy", "progress": False} | settings
    space = SPACE if space is None else space
    return tn.Study(space=space if isinstance(space, tn.SearchSpace) else tn.SearchSpace(**space), **settings)


class Scripted(tn.Trainer):
    """Reports the losses that the configuration's `width` picks from a table; trains nothing."""

    table = ([3.0, 1.0, 2.0], [2.0, 2.0, 1.5], [4.0, 3.0, 2.5])

    def __init__(self, folds=None):
        rows = (TRAIN[:4], None if folds else VALID[:4])
        super().__init__(*rows, folds=folds, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=3)

    def init(self, job):
        return tn.types.TrainState(0, {"width": job.config["model"]["width"]})

    def advance(self, job, state, until):
        for epoch in range(state.epoch + 1, until + 1):
            loss = self.table[state.values["width"]][epoch - 1]
            if isinstance(loss, Exception):
                raise loss
            yield tn.types.TrainState(epoch, state.values), tn.types.Report(epoch, {"loss": loss}, {}, 1.0)


def scripted(table=Scripted.table, **settings):
    """A study of as many trials as the table has rows, each with the losses of its row."""
    trainer = Scripted()
    trainer.table = table
    space = tn.SearchSpace(model={"width": tn.Int(0, len(table) - 1)})
    settings = {"searcher": tn.Grid(len(table)), "minimize": "loss", "maximize": None} | settings
    return make(space, trainer=trainer, **settings)


def constant_losses(trials, epochs):
    """A table of losses: trial i has the constant loss i."""
    return [[float(i)] * epochs for i in range(trials)]


def scripted_for(epochs, losses, **settings):
    """A scripted study whose trials train for so many epochs."""
    study = scripted(losses, **settings)
    study.trainer.epochs = study.history.epochs = epochs
    return study
