"""Runtime(lanes="auto") against training one by one, on nets that do not gain; and how full Halving keeps the lanes.

Run: python tests/benchmarks/lanes.py [--only NET]

The same slices on each executor in turn, CPU time on one thread, with states, reports and evaluation. The first
round, in which the engine is measured and chosen, is printed apart: it costs once for each structure of a study. A/A,
the plain executor against a second one, shows the noise of the machine.
"""

import argparse
import statistics
import time
from functools import partial

import torch
from torch import nn
from trainer import convnet

import tuneflow as tn
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.lanes import lane_stack as stack
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.lanes.executor import LaneExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.job import Job

LANES = tn.Runtime("cpu", threads=1, lanes="auto")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, inputs):
        return torch.relu(inputs + self.layers(inputs))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, images):
        return self.head(self.lstm(images.flatten(1).view(-1, 8, 8))[0][:, -1])


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, images):
        outputs = self.layers(images)
        return outputs * 2 if outputs.mean() > 100 else outputs


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def conv():
    sizes = [(1, 16), (16, 32), (32, 64)]
    layers = [layer for a, b in sizes for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 10))


def residual():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


def images(size, channels=1, rows=128):
    train, valid, _ = tn.data.digits()
    grown = (nn.functional.interpolate(part.inputs / 8 - 1, size).repeat(1, channels, 1, 1) for part in (train, valid))
    return [tn.Data(inputs[:rows], part.targets[:rows]) for inputs, part in zip(grown, (train, valid), strict=True)]


NETS = {  # name: builder, data, slices of a round
    "ConvNet 64-64-128, 3x32x32": (convnet, partial(images, 32, 3, 64), 4),
    "conv 16/32/64, 28x28": (conv, partial(images, 28), 8),
    "residual net with BatchNorm, 16x16": (residual, partial(images, 16), 8),
    "LSTM 8-32, 8 steps": (Recurrent, partial(images, 8, rows=512), 8),
    "data-dependent branch, MLP": (Branching, partial(images, 8, rows=1077), 8),
    "MLP 64-128-64-10": (mlp, partial(images, 8, rows=1077), 16),
}


def train(executor, trainer, model, slices):
    """CPU seconds for so many slices of one epoch."""
    waiting, started = list(range(slices)), time.process_time()
    while waiting or executor.busy:
        while waiting and executor.free:
            job = Job(model, {"optimizer": {"lr": 0.01, "momentum": 0.9}}, LANES)
            executor.submit(Slice(waiting.pop(), 0, 1), trainer, job, None)
        executor.wait()
    return time.process_time() - started


def compare(rounds, only):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "batch_size": 32}
    for name, (builder, data, slices) in NETS.items():
        if only not in name:
            continue
        trainer, model = tn.Trainer(*data(), **settings), tn.Model(builder)
        lanes = LaneExecutor(LANES)
        lanes.engines = EngineCache(to_come=lambda: float("inf"))
        executors = {"plain": InlineExecutor(LANES), "lanes": lanes, "again": InlineExecutor(LANES)}
        taken = {which: [train(each, trainer, model, slices)] for which, each in executors.items()}
        for _ in range(rounds):
            for which, executor in executors.items():
                taken[which].append(train(executor, trainer, model, slices))
        pairs = {which: zip(taken["plain"][1:], taken[which][1:], strict=True) for which in ("lanes", "again")}
        ratios = {which: statistics.median(plain / other for plain, other in pair) for which, pair in pairs.items()}
        (pace,) = (found["kind"] for found in lanes.notes._own.values())
        first = taken["lanes"][0] / statistics.median(taken["plain"])
        print(
            f"{name:<36} plain / auto {ratios['lanes']:.3f}  (A/A {ratios['again']:.3f})  chosen: {pace:<8}"
            f" the first round took {first:.1f} rounds",
            flush=True,
        )


def usage(trials, lanes):
    """The share of the lanes' steps that trained something, under Halving."""
    counts, step = [0, 0], stack.Lanes.step

    def counting(self, batch, only=None):
        if only is not None:  # else it is the measurement
            counts[0] += sum(live and moves for live, moves in zip(self.live, only, strict=True))
            counts[1] += len(self.live)
        return step(self, batch, only)

    stack.Lanes.step = counting
    study = tn.Study(
        model=tn.Model(mlp),
        trainer=tn.Trainer(
            *images(8, rows=1077), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=27, batch_size=32
        ),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)}),
        scheduler=tn.Halving(factor=3, first=1),
        runtime=tn.Runtime("cpu", threads=1, lanes=lanes),
        progress=False,
    )
    study.run(trials=trials)
    stack.Lanes.step = step
    return counts[0] / counts[1], sum(trial.epochs for trial in study.trials)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compare(options.rounds, options.only)
    if not options.only:
        for trials in (200, 400):
            share, epochs = usage(trials, 16)
            print(f"Halving, {trials} trials ({epochs} epochs), 16 lanes: useful lane-steps / (steps x K) {share:.3f}")


if __name__ == "__main__":
    main()
