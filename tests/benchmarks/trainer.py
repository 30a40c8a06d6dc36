"""An epoch of tuneflow's Trainer against the loops that a user would write. Run: python tests/benchmarks/trainer.py

Contestants take turns epoch by epoch. Same module, optimizer flags, batch size, loss, metric and evaluation after the
epoch; one thread; CPU time; medians of interleaved rounds. A ratio above 1 says that the Trainer is faster.
"""

import argparse

import torch
from side_by_side import ratio, times
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tuneflow.train.evaluate import chunk_of


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def convnet():
    """The article's ConvNet on 3x32x32."""
    layers, channels = [], 3
    for width in (64, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 512), nn.ReLU(), nn.Linear(512, 10))


def evaluate(model, loss, inputs, targets):
    rows = chunk_of(tn.Data(inputs, targets))  # the Trainer's own
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in inputs.split(rows)])
        value = loss(outputs, targets).item()
        accuracy = (outputs.argmax(1) == targets).float().mean().item()
    model.train()
    return value, accuracy


def step(model, loss, optimizer, inputs, targets):
    value = loss(model(inputs), targets)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


def slicing(builder, train, valid):
    """A plain loop over slices of a shuffled tensor."""
    model, loss = builder(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    while True:
        order = torch.randperm(len(train))
        total = 0.0
        for start in range(0, len(train), 32):
            rows = order[start : start + 32]
            total += step(model, loss, optimizer, train.inputs[rows], train.targets[rows])
        yield evaluate(model, loss, valid.inputs, valid.targets), total


def loader(builder, train, valid):
    """The usual loop over a DataLoader."""
    model, loss = builder(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    batches = DataLoader(TensorDataset(train.inputs, train.targets), batch_size=32, shuffle=True)
    while True:
        total = 0.0
        for inputs, targets in batches:
            total += step(model, loss, optimizer, inputs, targets)
        yield evaluate(model, loss, valid.inputs, valid.targets), total


def trainer(builder, train, valid):
    """Ours: a state and a report after every epoch."""
    ours = tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        metrics={"accuracy": tn.metrics.accuracy},
    )
    job = tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.01, "momentum": 0.9}}, tn.Runtime("cpu"))
    return ours.advance(job, ours.init(job), until=10**9)


def compare(title, builder, train, valid, rounds):
    loops = {"Trainer": trainer, "slicing loop": slicing, "DataLoader loop": loader}
    taken = {name: [] for name in loops}
    for _ in range(3):  # made anew: where memory happens to lie is part of the noise
        epochs = {name: loop(builder, train, valid).__next__ for name, loop in loops.items()}
        for name, seconds in times(epochs, rounds // 3).items():
            taken[name] += seconds
    for base in ("slicing loop", "DataLoader loop"):
        print(f"{title:<36} Trainer / {base:<16} {ratio(taken, base, 'Trainer'):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    train, valid, _ = tn.data.digits()
    scaled = [tn.Data(part.inputs / 8 - 1, part.targets) for part in (train, valid)]
    compare("MLP 64-128-64-10, batch 32, digits", mlp, *scaled, 4 * rounds)
    big = [tn.Data(nn.functional.interpolate(p.inputs, 32).repeat(1, 3, 1, 1)[:640], p.targets[:640]) for p in scaled]
    compare("ConvNet 64-64-128, batch 32, 3x32x32", convnet, *big, rounds)


if __name__ == "__main__":
    main()
