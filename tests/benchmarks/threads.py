"""How far training drifts with another number of threads. Run: python tests/benchmarks/threads.py

A small ConvNet on the digits, trained with one thread and with two from the same seed: the distance of the weights
after some epochs, as a share of their norm. Not a time: the same on a quiet and on a busy machine.
"""

import torch
from torch import nn

import tuneflow as tn


def net():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def weights(threads, epochs=20):
    train, valid, _ = tn.data.digits()
    trainer = tn.Trainer(
        train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=epochs, batch_size=256
    )
    job = tn.types.Job(tn.Model(net), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu", threads=threads))
    for state, _ in trainer.advance(job, trainer.init(job), epochs):
        yield nn.utils.parameters_to_vector(trainer.module(job, state).parameters()).detach().double()


def main():
    for epoch, (one, two) in enumerate(zip(weights(1), weights(2), strict=True), 1):
        if epoch in (1, 2, 5, 10, 20):
            print(f"epoch {epoch:>2}: distance of one thread and two: {float((one - two).norm() / one.norm()):.1e}")


if __name__ == "__main__":
    main()
