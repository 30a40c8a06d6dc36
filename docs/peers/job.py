"""The job of every script here: its data, its network, and a loop that four of the five users have already."""

import torch
from torch import nn

import tuneflow as tn

TRIALS, EPOCHS = 20, 5
train, valid, test = tn.data.digits()


def convnet(width=16, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width, 10),
    )  # fmt: skip


def train_epoch(model, optimizer):
    model.train()
    for rows in torch.randperm(len(train)).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train.inputs[rows] / 16), train.targets[rows]).backward()
        optimizer.step()


def right(outputs, targets):
    return outputs.argmax(1) == targets


def accuracy(model):
    model.eval()
    with torch.no_grad():
        return right(model(valid.inputs / 16), valid.targets).float().mean().item()
