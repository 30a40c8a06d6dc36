"""Memory that validating a language model takes. Run: python tests/benchmarks/evaluation_peak.py

Each contestant runs in a process of its own: the resident memory at its peak less that after a first, small evaluation.
A row has 64 tokens of 512, so its outputs take 128 KiB and its inputs 512 bytes.
"""

import argparse
import resource
import statistics
import subprocess
import sys

import torch
from torch import nn

import tuneflow as tn

WORDS, LENGTH = 512, 64


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, 8), nn.Linear(8, WORDS)

    def forward(self, tokens):
        return self.head(self.embedding(tokens)).transpose(1, 2)


def data(rows):
    tokens = torch.randint(0, WORDS, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
    return tn.Data(tokens, tokens)


def chunked(module, rows):
    trainer = tn.Trainer(
        data(8),
        data(8),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        metrics={"accuracy": tn.metrics.accuracy},
    )
    return lambda: trainer.evaluate(module, data(rows))


def joined(module, rows):
    """A plain loop that keeps the outputs of all rows."""

    def evaluate():
        valid, loss = data(rows), nn.CrossEntropyLoss()
        outputs = torch.cat([module(part) for part in valid.inputs.split(128)])
        return loss(outputs, valid.targets).item(), tn.metrics.accuracy(outputs, valid.targets).mean().item()

    return evaluate


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB


def measure(kind, rows):
    torch.set_num_threads(1)
    module = Language().eval()
    with torch.no_grad():
        kind(module, 8)()
        before = peak()
        kind(module, rows)()
    print(peak() - before)


def in_a_process(kind, rows):
    ran = subprocess.run([sys.executable, __file__, kind, str(rows)], capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", choices=["chunked", "joined"])
    parser.add_argument("rows", nargs="?", type=int)
    given = parser.parse_args()
    if given.kind:
        measure({"chunked": chunked, "joined": joined}[given.kind], given.rows)
        return
    rounds = [{(kind, rows): in_a_process(kind, rows) for kind in ("chunked", "joined") for rows in (128, 2048)}
              for _ in range(3)]  # fmt: skip
    medians = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    one = medians["chunked", 128]
    for (kind, rows), value in medians.items():
        print(f"{kind:8} {rows:5} rows: {value:6.0f} MiB, {value / one:5.2f} times one chunk of the trainer's")


if __name__ == "__main__":
    main()
