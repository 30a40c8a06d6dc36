"""The demo: an article's fixed settings against grid, random, Sobol and LeCun search on the bundled digits."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tuneflow as tn
from tuneflow.metrics import Estimate

# The fixed settings, and where the searches may look: ranges as one would choose them without knowing the task.
FIXED = tn.SearchSpace(model={"width": 16, "dropout": 0.0}, optimizer={"lr": 0.001, "momentum": 0.9})
SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)

HEADER = ("method", "validation accuracy", "test accuracy", "first trial", "trials", "epochs", "seconds")
NOTES = """\
validation  accuracy of the best trial's best epoch on {valid} images, +- one standard error. The best of many is
            optimistic, the more so the more there were: it was chosen for its score on these very images.
test        accuracy of the same model on {test} images that no trial has seen, with its 95 % interval. It is about
            the choice of these images only, not about the luck of a search: another --seed gives another table.
first trial validation accuracy of trial 0 alone.
epochs      what was trained: {trials} trials of {epochs} epochs for each search; a trial that diverges ends early.
probe       LeCun's search has one trial less, since it measures the model before the first: {gradients:.0f} gradients,
            where a trial takes {steps}. Its seconds include that."""


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    """A small convolutional network: images (n, 1, 8, 8) to logits (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, 10),
    )


@dataclass(frozen=True)
class Row:
    """One line of the table: a method, its study, and its chosen model's accuracy on the test part."""

    method: str
    study: tn.Study
    test: Estimate

    @property
    def score(self) -> float:
        """Validation accuracy of the best trial."""
        return self.study.best.metrics["accuracy"]

    @property
    def probe(self) -> tn.Probe | None:
        """What was measured before the first trial; it is kept with the study, so this measures nothing."""
        if not isinstance(self.study.searcher, tn.LeCun):
            return None
        found: tn.Probe = self.study.history.probe(self.study.trials[0].config)
        return found

    def cells(self) -> tuple[str, ...]:
        trials, probe = self.study.trials, self.probe
        first = trials[0].metrics.get("accuracy")
        return (
            self.method,
            f"{self.score:.4f} +- {self.study.best.errors['accuracy']:.4f}",
            str(self.test),
            trials[0].status if first is None else f"{first:.4f}",
            str(len(trials)),
            str(sum(trial.epochs for trial in trials)),
            f"{sum(trial.seconds for trial in trials) + (probe.seconds if probe else 0.0):.1f}",
        )


def demo(folder: str | Path = "runs/demo", trials: int = 12, epochs: int = 10, seed: int = 0) -> None:
    """Train fixed settings and four searches, print the table, and save the best model.

    Run again with the same arguments it trains nothing and prints the same table; what was interrupted goes on.

    Args:
        folder: everything is written inside: a study for each method, and `best.pt`.
        trials: of each search; a multiple of 4, so that the grid can have exactly as many points. LeCun's has one
            less, for what it measures.
        epochs: of each trial.
        seed: of every study; the split of the digits stays the same.

    Raises:
        ValueError: trials is not a multiple of 4.
        FingerprintError: the folder holds a demo with other epochs or another seed.
    """
    folder = Path(folder)
    train, valid, test = tn.data.digits()
    trainer = tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        epochs=epochs,
        batch_size=32,
        metrics={"accuracy": tn.metrics.accuracy},
    )
    methods = {
        "fixed": (FIXED, tn.Random(), 1),
        "grid": (SPACE, grid_of(trials), trials),
        "random": (SPACE, tn.Random(), trials),
        "sobol": (SPACE, tn.Sobol(), trials),
        "lecun": (SPACE, tn.LeCun(then=tn.Random()), trials - 1),
    }
    rows = []
    for method, (space, searcher, budget) in methods.items():
        study = study_of(trainer, space, searcher, folder / method, seed)
        print(f"{method:<6}  {budget:>2} x {epochs} epochs ...", end="", file=sys.stderr, flush=True)
        study.run(trials=budget)
        rows.append(Row(method, study, study.test(test)["accuracy"]))
        print(f" best validation accuracy {rows[-1].score:.4f}", file=sys.stderr)
    print(table(rows))
    print()
    (probe,) = (row.probe for row in rows if row.probe)
    print(
        NOTES.format(
            valid=len(valid),
            test=len(test),
            trials=trials,
            epochs=epochs,
            gradients=probe.gradients,
            steps=probe.steps,
        )
    )
    print(save(max(rows, key=lambda row: row.score), folder / "best.pt"))


def grid_of(trials: int) -> tn.Grid:
    """A grid of exactly `trials` points; the learning rate, which matters most, has more values than the others."""
    if trials < 4 or trials % 4:
        raise ValueError(f"demo: trials needs to be a multiple of 4, got {trials}; the default is 12.")
    return tn.Grid({"lr": trials // 4, "momentum": [0.0, 0.9], "width": [8, 32], "dropout": [0.25]})


def study_of(trainer: tn.Trainer, space: tn.SearchSpace, searcher: tn.Searcher, folder: Path, seed: int) -> tn.Study:
    """The study of one method, kept in a folder of its own."""
    return tn.Study(
        model=tn.Model(convnet),
        trainer=trainer,
        space=space,
        searcher=searcher,
        maximize="accuracy",
        runtime=tn.Runtime("cpu", threads=1),  # quickest for so small a network, and repeatable to the digit
        folder=folder,
        seed=seed,
        progress=False,
    )


def table(rows: list[Row]) -> str:
    """The rows under their header: words to the left, counts to the right."""
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        words = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        counts = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        lines.append("  ".join([*words, *counts]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def save(winner: Row, path: Path) -> str:
    """Write the winner's model to `path`; how to load it, as text."""
    best = winner.study.best
    best.save(path)
    return f"""
Best by validation accuracy (of equals, the upper row): {winner.method}, trial {best.number}: {settings(best.config)}.
Its model is saved in {path}. To load it:

    import tuneflow as tn
    from tuneflow.demo import convnet

    model = tn.load({str(path)!r}, convnet)  # takes raw images, shape (n, 1, 8, 8)"""


def settings(config: dict[str, Any]) -> str:
    """A configuration's values by name, rounded for reading."""
    return ", ".join(f"{name} {value:.3g}" for section in config.values() for name, value in section.items())
