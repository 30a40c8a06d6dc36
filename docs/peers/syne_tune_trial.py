"""A trial of the job in Syne Tune, a process of its own."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from job import EPOCHS, accuracy, convnet, train_epoch
from syne_tune import Reporter

parser = ArgumentParser()
parser.add_argument("--width", type=int)
parser.add_argument("--dropout", type=float)
parser.add_argument("--lr", type=float)
parser.add_argument("--st_checkpoint_dir")
settings, _ = parser.parse_known_args()
folder = Path(settings.st_checkpoint_dir)
folder.mkdir(parents=True, exist_ok=True)
model = convnet(settings.width, settings.dropout)
optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
report = Reporter()
for epoch in range(EPOCHS):
    train_epoch(model, optimizer)
    torch.save(model.state_dict(), folder / "model.pt")
    report(epoch=epoch + 1, accuracy=accuracy(model))
