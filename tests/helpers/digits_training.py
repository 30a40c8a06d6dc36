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


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
