"""From process start to the first optimizer step. Run: python tests/benchmarks/startup.py

The README's quick start against a bare torch script that makes the same module and optimizer and takes one step; wall
seconds, in turn, medians of their difference. The dry run before trial 0 is part of it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

HEAD = """
import os
import time
import torch
from torch import nn

def convnet(width=16, dropout=0.0):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width, 10))

torch.set_num_threads(1)
"""

BARE = (
    HEAD
    + """
net = convnet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loss = nn.functional.cross_entropy(net(torch.randn(32, 1, 8, 8)), torch.randint(0, 10, (32,)))
loss.backward()
optimizer.step()
print(time.time())
"""
)

OURS = (
    HEAD
    + """
import tuneflow as tn

class Timed(tn.Trainer):
    def advance(self, job, state, until):
        if len(self.train) > 1000:  # not the dry run's few rows
            step = torch.optim.SGD.step
            torch.optim.SGD.step = lambda *a, **k: (step(*a, **k), print(time.time(), flush=True), os._exit(0))
        return super().advance(job, state, until)

train, valid, test = tn.data.digits()
study = tn.Study(
    model=tn.Model(convnet),
    trainer=Timed(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD,
                  epochs=10, batch_size=32, metrics={"accuracy": tn.metrics.accuracy}),
    space=tn.SearchSpace(model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
                         optimizer={"lr": tn.Float(1e-4, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)}),
    searcher=tn.Random(), maximize="accuracy", runtime=tn.Runtime(threads=1), folder="runs/digits", seed=0)
study.run(trials=32)
"""
)


def seconds(code):
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        return float(ran.stdout.split()[-1]) - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    pairs = [(seconds(BARE), seconds(OURS)) for _ in range(parser.parse_args().rounds)]
    more = statistics.median(ours - bare for bare, ours in pairs)
    times = statistics.median(ours / bare for bare, ours in pairs)
    print(f"first step: {more:.2f} s after that of the bare script, {times:.2f} times")


if __name__ == "__main__":
    main()
