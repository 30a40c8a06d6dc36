"""The demo of techniques: one network trained on the digits, made smaller, faster and harder to attack."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tuneflow as tn
from tuneflow.demo import RUNTIME, convnet
from tuneflow.errors import plural

WIDTH, RATE, BATCH, EPS = 64, 0.05, 64, 0.1
HARDENED: dict[str, Any] = {"fast": {"eps": EPS}}
TECHNIQUES: dict[str, dict[str, dict[str, Any]]] = {
    "none": {},
    "channels_last": {"arithmetic": {"channels_last": True}},
    "bf16": {"arithmetic": {"precision": "bf16", "channels_last": True}},
    "int8": {"arithmetic": {"precision": "int8"}},
    "low rank": {"low_rank": {"keep": 0.5}},
    "narrowed": {"narrow": {"macs": 4.0}},
    "narrowed, int8": {"narrow": {"macs": 4.0}, "arithmetic": {"precision": "int8"}},
    "hardened": {"augment": HARDENED},
    "hardened, int8": {"augment": HARDENED, "arithmetic": {"precision": "int8"}},
}
OFF: dict[str, dict[str, Any]] = {
    "narrow": {"macs": 1.0},
    "low_rank": {"keep": 1.0},
    "arithmetic": {"precision": "fp32", "channels_last": False},
}
SPACE = tn.SearchSpace(
    narrow={"macs": tn.Choice([1.0, 4.0])},
    low_rank={"keep": tn.Choice([1.0, 0.5])},
    arithmetic={"precision": tn.Choice(["fp32", "bf16", "int8"]), "channels_last": tn.Choice([False, True])},
    augment=tn.Choice({"none": None, "fast": tn.call(tn.harden.Fast, eps=EPS)}),
    optimizer={"lr": tn.Constant(RATE / 5), "momentum": tn.Constant(0.9)},
)
HEADER = ("technique", "test accuracy", "robust", "parameters", "MACs", "ms", "times as fast")
NOTES = """\
technique      every row starts from the same trained network ({epochs} on {rows} images), and is trained on for {more}
               after the technique, the first row too.
test accuracy  on {test} images that no training has seen, with its 95 % interval.
robust         share of validation images that stay right under short attacks, which change each pixel by a
               tenth of its range at most: an upper bound.
parameters     weights and biases, without the zeros by which int8 pads channels where that is faster.
MACs           multiplications for one image, without these zeros.
ms             of a forward pass of {batch} images on one thread: median with its standard error, measured in turns with
               the trained network. int8 and bf16 are fast where the processor has instructions for them.
bf16           in channels_last, as int8 is.
low rank       two thin layers in place of one, until half of the weights are left.
hardened       trained on against attacks of one step. More epochs of it, and from the start, bring more.
narrowed       to a quarter of the multiplications, by the second derivatives of the loss; other channels stand in.

One network, one seed, one machine. The table does not say what a small network reaches that is trained from scratch
for as many epochs, nor what another network loses. Accuracies whose intervals overlap are not told apart by it.
The models are kept in {folder}; docs/howto/smaller_faster.md and
docs/howto/hardening.md say how to make, load and export such.
To look at: python -m tuneflow report {folder}/techniques"""


class InTurn(tn.Searcher):
    """The techniques, one for each trial."""

    def suggest(self, space: tn.SearchSpace, history: Any, rng: Any) -> dict[str, Any] | None:
        del space, rng
        configs = [config_of(technique) for technique in TECHNIQUES.values()]
        return configs[history.number] if history.number < len(configs) else None


def config_of(technique: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the configuration of a technique: every other step is off."""
    steps = {name: {**off, **technique.get(name, {})} for name, off in OFF.items()}
    return {**steps, "augment": technique.get("augment", "none"), "optimizer": {"lr": RATE / 5, "momentum": 0.9}}


def demo_techniques(
    folder: str | Path = "runs/demo", epochs: int = 8, more: int = 2, seconds: float = 1.0, seed: int = 0
) -> None:
    """Train a network, apply each technique to a fork of it, and print the table.

    Run again with the same arguments it trains and measures nothing and prints the same table.

    Args:
        folder: everything is written inside: a study for the network, and one for its forks.
        epochs: of the network.
        more: of each fork.
        seconds: that each latency may be measured for.
        seed: of both studies; the split of the digits stays the same.

    Raises:
        FingerprintError: the folder holds a demo with other epochs or seconds.
    """
    folder = Path(folder)
    train, valid, test = tn.data.digits()

    def study_of(name: str, length: int, **settings: Any) -> tn.Study:
        trainer = tn.Trainer(
            train,
            valid,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=length,
            metrics={
                "accuracy": tn.metrics.accuracy,
                "robust": tn.harden.Robust(eps=EPS, every=length),
                "parameters": tn.measure.Parameters(),
                "macs": tn.measure.MACs(),
                "latency": tn.measure.Latency(batch=BATCH, seconds=seconds),
            },
        )
        shared: dict[str, Any] = {"maximize": "accuracy", "at": "last", "runtime": RUNTIME, "progress": False}
        return tn.Study(trainer=trainer, folder=tn.Folder(folder / name, keep="all"), seed=seed, **shared, **settings)

    print(f"training a network for {plural(epochs, 'epoch')} ...", file=sys.stderr, flush=True)
    fixed = tn.SearchSpace(model={"width": WIDTH}, optimizer={"lr": RATE, "momentum": 0.9})
    winner = study_of("winner", epochs, model=tn.Model(convnet), space=fixed)
    winner.run(trials=1)
    steps = {"narrow": tn.compress.Narrow, "low_rank": tn.compress.LowRank, "arithmetic": tn.compress.Arithmetic}
    model = tn.Model(winner.best, steps=steps)
    forks = study_of("techniques", more, model=model, space=SPACE, searcher=InTurn())
    for number, name in enumerate(TECHNIQUES, 1):
        print(f"{name} ...", file=sys.stderr, flush=True)
        forks.run(trials=number)
    print(table(forks, test), end="\n\n")
    words = {"epochs": plural(epochs, "epoch"), "more": plural(more, "epoch"), "batch": BATCH, "folder": folder}
    print(NOTES.format(rows=len(train), test=len(test), **words))


def table(study: tn.Study, test: tn.Data) -> str:
    """The techniques under their header: words to the left, counts to the right."""
    cells = [HEADER, *(tuple(_cells(name, study, number, test)) for number, name in enumerate(TECHNIQUES))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        words = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        counts = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *counts]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cells(name: str, study: tn.Study, number: int, test: tn.Data) -> Iterator[str]:
    """The columns under HEADER; words in place of figures where the technique does not run here."""
    trial = study.trials[number]
    if trial.status != "DONE":
        yield from (name, f"{trial.status}: {trial.reason}"[:60], "-", "-", "-", "-", "-")
        return
    metrics, first = trial.metrics, study.trials[0].metrics
    hits = tn.metrics.accuracy(study.result(number).model()(test.inputs), test.targets)
    estimate = tn.metrics.estimate(tn.metrics.measure(hits))
    yield from (
        name,
        str(estimate),
        f"{metrics['robust']:.2f}",
        f"{metrics['parameters']:,.0f}",
        f"{metrics['macs']:,.0f}",
    )
    yield f"{metrics['latency']:.2f} +- {trial.errors.get('latency', 0.0):.2f}"
    yield f"{first['latency'] / metrics['latency']:.1f}"
