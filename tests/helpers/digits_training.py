"""Training on the digits in one line: a trainer, a job, its epochs, and results as plain numbers to compare."""

import torch
from torch import nn

import tuneflow as tn

TRAIN, VALID, TEST = tn.data.digits()


def net(width=16, dropout=0.2):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    )


def trainer(train=TRAIN, valid=VALID, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 4} | settings
    return tn.Trainer(train, valid, metrics={"accuracy": tn.metrics.accuracy}, **settings)


def job(config=None, builder=net, **settings):
    config = {"optimizer": {"lr": 0.05, "momentum": 0.9}} if config is None else config
    return tn.types.Job(tn.Model(builder), config, tn.Runtime("cpu"), **settings)


def run(trainer, job, until, state=None):
    """(last state, reports) of training on to `until`."""
    reports = []
    for reached, report in trainer.advance(job, trainer.init(job) if state is None else state, until):
        state = reached
        reports.append(report)
    return state, reports


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def flat(value):
    """The leaves of nested values and the keys above them, tensors as lists of numbers."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in [key, *flat(value[key])]]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in flat(inner)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


def facts(reports):
    """Everything in reports but seconds."""
    return [(r.epoch, r.metrics, r.errors) for r in reports]
