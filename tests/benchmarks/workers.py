"""Worker processes with one thread each: two against one, one against none, and with 16 lanes in each.

Run: python tests/benchmarks/workers.py

The same slices on each executor in turn; wall-clock time, the processes started and warm before. Wants two cores to
itself: what else runs on them shows in the first ratio. The least of the rounds is printed beside the median, as the
ratio of the rounds that were disturbed least.
"""

import argparse
import statistics
import time

import torch
from side_by_side import ratio
from torch import nn
from trainer import convnet, mlp

import tuneflow as tn
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.lanes.executor import LaneExecutor
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.job import Job

ONE, SIXTEEN = tn.Runtime("cpu", threads=1), tn.Runtime("cpu", threads=1, lanes=16)


def train(executor, trainer, model, slices, epochs):
    """Wall-clock seconds for so many slices."""
    job = Job(model, {"optimizer": {"lr": 0.01, "momentum": 0.9}}, ONE)
    started, waiting = time.perf_counter(), list(range(slices))
    while waiting or executor.busy:
        while waiting and executor.free:
            executor.submit(Slice(waiting.pop(), 0, epochs), trainer, job, None)
        executor.wait()
    return time.perf_counter() - started


PAIRS = (("one worker", "two workers"), ("inline", "one worker"))
LANES = (
    ("lanes here", "lanes, one worker"),
    ("lanes, one worker", "lanes, two workers"),
    ("two workers", "lanes, two workers"),
)


def compare(title, executors, trainer, model, rounds, epochs, slices=4, pairs=PAIRS):
    taken = {name: [] for name in executors}
    for number in range(rounds + 1):
        for name, executor in executors.items():
            seconds = train(executor, trainer, model, slices, epochs)
            if number:
                taken[name].append(seconds)
    for base, ours in pairs:
        least = min(taken[base]) / min(taken[ours])
        print(f"{title:<38} {ours:<18} / {base:<17} {ratio(taken, base, ours):.3f} (least {least:.3f})", flush=True)
    epoch = statistics.median(taken[pairs[-1][0]]) / slices / epochs
    print(f"{title:<38} an epoch takes {1000 * epoch:.1f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    train_data, valid, _ = tn.data.digits()
    scaled = [tn.Data(part.inputs / 8 - 1, part.targets) for part in (train_data, valid)]
    big = [tn.Data(nn.functional.interpolate(p.inputs, 32).repeat(1, 3, 1, 1)[:320], p.targets[:320]) for p in scaled]
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 100}
    executors = {
        "two workers": ProcessExecutor(ONE, 2),
        "one worker": ProcessExecutor(ONE, 1),
        "inline": InlineExecutor(ONE),
    }
    stacked = {"lanes here": LaneExecutor(SIXTEEN), "lanes, one worker": ProcessExecutor(SIXTEEN, 1)}
    stacked["lanes, two workers"] = ProcessExecutor(SIXTEEN, 2)
    for executor in stacked.values():
        executor.engines = EngineCache(to_come=lambda: float("inf"))
    try:
        conv = tn.Trainer(*big, **settings)
        compare("ConvNet 64-64-128, batch 32, 3x32x32", executors, conv, tn.Model(convnet), rounds, epochs=1)
        small = tn.Trainer(*scaled, **settings)
        compare("MLP 64-128-64-10, batch 32, digits", executors, small, tn.Model(mlp), rounds, epochs=10)
        stacked["two workers"] = executors["two workers"]
        compare("the same, 64 trials", stacked, small, tn.Model(mlp), rounds, epochs=5, slices=64, pairs=LANES)
    finally:
        for executor in (executors | stacked).values():
            executor.close()


if __name__ == "__main__":
    main()
