"""The demo: fixed settings, nearest neighbors, and four searches on the bundled digits, under three seeds."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tuneflow as tn
from tuneflow.errors import plural
from tuneflow.metrics.classes import accuracy

# The fixed settings, and the searches' ranges: as you would choose them without knowing the task.
FIXED = tn.SearchSpace(model={"width": 16, "dropout": 0.0}, optimizer={"lr": 0.001, "momentum": 0.9})
SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)
SEEDS = 3
RUNTIME = tn.Runtime("cpu", threads=1)  # quickest for so small a network, and repeatable to the digit

HEADER = ("method", "validation", "test accuracy", "against best", "first trial", "trials", "epochs", "seconds")
NOTES = """\
validation    accuracy of the best trial's best epoch on {valid} images, mean over {seeds} seeds. Optimistic, the
              more so the more trials there were: the trial was chosen for its score on these very images.
test          accuracy of the chosen models on {test} images that no trial has seen: mean over the seeds, +- one
              standard error over images and seeds.
against best  difference in test accuracy from the best row; "tie" within two of its standard errors, paired by image
              and seed.
first trial   validation accuracy of trial 0 alone, mean over the seeds; 0 for one that diverged.
neighbors     the majority of the 3 nearest training images: two lines of torch, and nothing to tune.
fixed         an article's settings. Their learning rate, 0.001, is meant for many more steps than these {steps}.
lecun         one trial less for each seed, since it measures the model first: {gradients:.0f} gradients, where a trial
              takes {steps}. Its seconds include that."""


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    """A small convolutional network: images (n, 1, 8, 8) to logits (n, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, 10)),
    )


def neighbors(train: tn.Data, data: tn.Data) -> Tensor:
    """1.0 where most of the 3 nearest training images show the digit of an image, else 0.0: shape (n,)."""
    nearest = torch.cdist(data.inputs.flatten(1), train.inputs.flatten(1)).topk(3, largest=False).indices
    return accuracy(nn.functional.one_hot(train.targets[nearest]).sum(1), data.targets)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        method: its name.
        score: validation accuracy, mean over the seeds.
        hits: 1.0 where a test image is named rightly, else 0.0: shape (seeds, images).
        studies: one for each seed; none for the neighbors.
    """

    method: str
    score: float
    hits: Tensor
    studies: Sequence[tn.Study] = ()

    @property
    def probes(self) -> list[tn.Probe]:
        """The measurements before the first trial; they are kept with the study, so this measures nothing."""
        measured = [study for study in self.studies if isinstance(study.searcher, tn.LeCun)]
        return [study.history.probe(study.trials[0].config) for study in measured]

    def cells(self, best: "Row") -> Iterator[str]:
        """The columns under HEADER."""
        gap = best.hits - self.hits
        tied = gap.mean() <= 2 * standard_error(gap)
        yield from (self.method, f"{self.score:.4f}")
        yield f"{self.hits.mean():.4f} +- {standard_error(self.hits):.4f}"
        yield "best" if self is best else "tie" if tied else f"{-gap.mean():.4f}"
        if not self.studies:
            yield from "----"
            return
        trials = [trial for study in self.studies for trial in study.trials]
        firsts = [study.trials[0].metrics.get("accuracy", 0.0) for study in self.studies]
        yield f"{sum(firsts) / len(firsts):.4f}"
        yield from (str(len(trials)), str(sum(trial.epochs for trial in trials)))
        yield f"{sum(trial.seconds for trial in trials) + sum(probe.seconds for probe in self.probes):.1f}"


def standard_error(hits: Tensor) -> float:
    """Standard error of the mean of `hits`, shape (seeds, images), over the choice of images and of seeds."""
    seeds, images = hits.shape
    return math.hypot(hits.mean(0).std() / math.sqrt(images), hits.mean(1).std() / math.sqrt(seeds))


def demo(folder: str | Path = "runs/demo", trials: int = 8, epochs: int = 5, seed: int = 0) -> None:
    """Train fixed settings and four searches under three seeds, print the table, write pages, and save the best model.

    Run again with the same arguments it trains nothing and prints the same table; what was interrupted goes on.

    Args:
        folder: everything is written inside: a study for each method and seed, `best.pt`, `report.html` and
            `compare.html`.
        trials: of each search; even and at least 4, so that the grid can have exactly as many points. LeCun's has one
            less, for what it measures.
        epochs: of each trial.
        seed: the first of the seeds; the split of the digits stays the same.

    Raises:
        ValueError: trials is odd, or less than 4.
        FingerprintError: the folder holds a demo with other epochs.
    """
    folder = Path(folder)
    train, valid, test = tn.data.digits()
    trainer = tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        epochs=epochs,
        metrics={"accuracy": accuracy},
    )
    shared: dict[str, Any] = {"model": tn.Model(convnet), "trainer": trainer, "maximize": "accuracy"}
    shared |= {"runtime": RUNTIME, "progress": False}
    methods = {
        "fixed": (FIXED, tn.Random(), 1),
        "grid": (SPACE, grid_of(trials), trials),
        "random": (SPACE, tn.Random(), trials),
        "sobol": (SPACE, tn.Sobol(), trials),
        "lecun": (SPACE, tn.LeCun(then=tn.Random()), trials - 1),
    }
    rows = [Row("neighbors", neighbors(train, valid).mean().item(), neighbors(train, test).expand(SEEDS, -1))]
    for method, (space, searcher, budget) in methods.items():
        print(f"{method:<6}  {SEEDS} x {budget} x {plural(epochs, 'epoch')} ...", end="", file=sys.stderr, flush=True)
        studies = [
            tn.Study(space=space, searcher=searcher, folder=folder / f"{method}-{number}", seed=number, **shared)
            for number in range(seed, seed + SEEDS)
        ]
        for study in studies:
            study.run(trials=budget)
        score = sum(study.best.metrics["accuracy"] for study in studies) / SEEDS
        rows.append(Row(method, score, torch.stack([hits(study, test) for study in studies]), studies))
        print(f" mean validation accuracy {score:.4f}", file=sys.stderr)
    print(table(rows), end="\n\n")
    (probe, *_) = rows[-1].probes
    print(NOTES.format(valid=len(valid), test=len(test), seeds=SEEDS, steps=probe.steps, gradients=probe.gradients))
    winner = max((study for row in rows for study in row.studies), key=lambda study: study.best.metrics["accuracy"])
    (method,) = (row.method for row in rows if winner in row.studies)
    print(f"\n{reports(rows, folder)}")
    print(save(method, winner, test, folder / "best.pt"))


def grid_of(trials: int) -> tn.Grid:
    """A grid of exactly `trials` points; the learning rate, which matters most, has more values than the others."""
    if trials < 4 or trials % 2:
        raise ValueError(f"demo: trials needs to be even and at least 4, got {trials}; the default is 8.")
    return tn.Grid({"lr": trials // 2, "momentum": [0.0, 0.9], "width": [16], "dropout": [0.25]})


def hits(study: tn.Study, data: tn.Data) -> Tensor:
    """1.0 where the study's best model names an image rightly, else 0.0: shape (n,)."""
    with RUNTIME.active(), torch.no_grad():
        return accuracy(study.best.model()(data.inputs), data.targets)


def table(rows: list[Row]) -> str:
    """The rows under their header: words to the left, counts to the right."""
    best = max(rows, key=lambda row: row.hits.mean())
    cells = [HEADER, *(tuple(row.cells(best)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        words = [cell.ljust(width) for cell, width in zip(line[:4], widths[:4], strict=True)]
        counts = [cell.rjust(width) for cell, width in zip(line[4:], widths[4:], strict=True)]
        lines.append("  ".join([*words, *counts]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def save(method: str, study: tn.Study, test: tn.Data, path: Path) -> str:
    """Write the study's best model to `path`; return how to load it, as text."""
    best = study.best
    best.save(path)
    return f"""
Best network by validation accuracy (of equals, the upper row): {method}, seed {study.seed}, trial {best.number}:
{settings(best.config)}. Test accuracy {study.test(test)["accuracy"]} (95 % interval).
It is saved in {path}. To load it:

    import tuneflow as tn
    from tuneflow.demo import convnet

    model = tn.load({str(path)!r}, convnet)  # takes raw images, shape (n, 1, 8, 8)"""


def reports(rows: Sequence[Row], folder: Path) -> str:
    """Write the page of the best search and the one of all searches; return where they are, as text."""
    searches = [study for row in rows for study in row.studies if len(study.trials) > 1]
    best = max(searches, key=lambda study: study.best.metrics["accuracy"])
    alone = best.report(folder / "report.html")
    together = searches[0].report(folder / "compare.html", beside=searches[1:])
    return f"To look at: {alone}, the search in {best.folder}; {together}, all searches beside each other."


def settings(config: dict[str, Any]) -> str:
    """A configuration's values by name, rounded for reading."""
    return ", ".join(f"{name} {value:.3g}" for section in config.values() for name, value in section.items())
