"""The latency of a small net in several processes: in milliseconds, and as a ratio to a larger net beside it.

Run: python tests/benchmarks/latency.py

Prints how far apart the processes are, as a share of the smallest value.
"""

import subprocess
import sys

import torch
from torch import nn

import tuneflow as tn

PROCESSES = 8


def net(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


def measure():
    rows = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    small, large, latency = net(8), net(32), tn.measure.Latency(batch=64)
    alone = latency.of_module(small, rows).value
    beside = latency.of_module(small, rows, reference=large, unit=1.0).value
    print(alone, beside)


def main():
    runs = [subprocess.run([sys.executable, __file__, "--once"], capture_output=True, text=True, check=True)
            for _ in range(PROCESSES)]  # fmt: skip
    columns = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    for name, values in zip(("milliseconds", "ratio"), columns, strict=True):
        print(f"{name}: {min(values):.4g} to {max(values):.4g}, apart by {max(values) / min(values) - 1:.0%}")


if __name__ == "__main__":
    measure() if "--once" in sys.argv else main()
