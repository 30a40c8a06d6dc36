"""Many trials as one program against the loops a user would write. Run: python tests/benchmarks/engines.py

Contestants take turns, a few steps of all trials at a time: the default torch loop, the same with torch's fused
optimizer kernels, and ours, traced for all trials at once or replayed for each. Each trial has its own rows in every
step. One thread; CPU time of the process; medians of interleaved rounds. Tracing is not counted, and printed apart.
With --evaluate: all lanes on the same rows as one program, against each module by itself.
"""

import argparse
import itertools
import time
from functools import partial

import torch
from side_by_side import ratio, times
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from tuneflow.fused.lanes import Lanes


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.gru(x.view(-1, 8, 8))[0][:, -1])


class Transformer(nn.Module):
    """Two layers of width 32, four heads, on images of 8 rows."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True)
        self.inner, self.layers, self.head = nn.Linear(8, 32), nn.TransformerEncoder(layer, 2), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.layers(self.inner(x.view(-1, 8, 8))).mean(1))


def mlp(*widths):
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


SMALL = partial(mlp, 64, 128, 64, 10)
PROBLEMS = {  # builder, inputs, batch size, lanes, the ratios to reach
    "MLP 64-128-64-10, batch 32": (SMALL, 64, 32, 16, "4.7 / 3.8"),
    "MLP 64-128-64-10, batch 128": (SMALL, 64, 128, 16, "2.7 / 2.2"),
    "conv 8/16 on 8x8, batch 32": (conv, 64, 32, 16, "2.6 / 2.4"),
    "nn.GRU 8-32 over 8 steps, batch 32": (Recurrent, 64, 32, 16, "3.5 / 3.0"),
    "transformer d32, batch 32, K = 4": (Transformer, 64, 32, 4, "1.5 / 1.25"),
    "MLP 784-256-256-10, batch 32": (partial(mlp, 784, 256, 256, 10), 784, 32, 16, "1.4"),
}
OPTIMIZERS = {"SGD": partial(SGD, lr=0.01, momentum=0.9), "Adam": partial(Adam, lr=0.001)}


def loss_of(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def loop(build, make, lanes, batches):
    """Each trial's module and optimizer step by step, as a user would."""
    modules = [build() for _ in range(lanes)]
    optimizers = [make(module.parameters()) for module in modules]

    def run():
        for inputs, targets in batches:
            for lane, (module, optimizer) in enumerate(zip(modules, optimizers)):
                loss = loss_of(module, (inputs[lane], targets[lane]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()

    return run


def fused(build, make, lanes, batches, kind):
    modules = [build() for _ in range(lanes)]
    stack = Lanes(modules, loss_of, [make(module.parameters()) for module in modules], kind=kind)
    started = time.process_time()
    stack.step(batches[0])
    seconds = time.process_time() - started

    def run():
        for batch in batches:
            stack.step(batch)

    return run, seconds


def evaluations(lanes, build, width, rounds):
    """Ratios of evaluating all lanes on the same rows as one program to each module by itself, by rows."""
    modules = [build() for _ in range(lanes)]
    stack = Lanes(modules, loss_of, [SGD(module.parameters(), lr=0.1) for module in modules])
    for module in modules:
        module.eval()

    def alone(inputs):
        with torch.no_grad():
            return [module(inputs) for module in modules]

    found = {}
    for rows in (32, 128, 384):
        inputs = torch.randn(rows, width)
        contestants = {"plain": partial(alone, inputs), "stacked": partial(stack.outputs, inputs)}
        found[rows] = ratio(times(contestants, rounds, warmup=3), "plain", "stacked")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, help="instead of each problem's own")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4, help="steps of every trial in a turn")
    parser.add_argument("--only", default="")
    parser.add_argument("--evaluate", action="store_true", help="time evaluation instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("ratios to the default torch loop / to the loop with fused=True; K = 16 where nothing else is said")
    for title, (build, width, rows, lanes, floor) in PROBLEMS.items():
        if options.only not in title:
            continue
        lanes = options.lanes or lanes
        if options.evaluate:
            found = evaluations(lanes, build, width, options.rounds)
            print(f"{title:<36} " + "   ".join(f"{rows} rows {value:.2f}" for rows, value in found.items()), flush=True)
            continue
        size = (lanes, rows)
        batches = [(torch.randn(*size, width), torch.randint(10, size)) for _ in range(options.steps)]
        for name, make in OPTIMIZERS.items():
            stacked, seconds = fused(build, make, lanes, batches, "stacked")
            contestants = {
                "plain": loop(build, make, lanes, batches),
                "fused": loop(build, partial(make, fused=True), lanes, batches),
                "stacked": stacked,
                "single": fused(build, make, lanes, batches, "single")[0],
            }
            taken = times(contestants, options.rounds, warmup=3)
            words = [
                f"{kind} {ratio(taken, 'plain', kind):.2f} / {ratio(taken, 'fused', kind):.2f}"
                for kind in ("stacked", "single")
            ]
            print(
                f"{title:<36} {name:<5} {'   '.join(words)}   to reach {floor}   traced in {seconds:.2f} s", flush=True
            )


if __name__ == "__main__":
    main()
