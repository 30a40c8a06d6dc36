# %% [markdown]
"""# The learning rate, measured before any trial: LeCun's rule, a race, a range test, and the truth beside them.

A small convolutional network on handwritten digits. For each way of choosing a rate you see its cost, in gradients of a
mini-batch, and the validation loss after a whole training at that rate. A grid of rates around them shows what the best
one would have given.

    python examples/03_learning_rate.py                  # about half a minute on two cores
    python examples/03_learning_rate.py --optimizer Adam
"""

# %%
import argparse
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tuneflow as tn
from tuneflow.heuristics.range_test import Suggestions, suggestions, sweep
from tuneflow.markup.axes import standalone
from tuneflow.probing.chart import chart

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--optimizer", "Adam"]

# %%
FIXED = {"SGD": {"momentum": 0.9}, "Adam": {}}
SWEEP = {"SGD": (1e-5, 10.0), "Adam": (1e-6, 1.0)}  # the rates of the range test
TRUTH = {"SGD": (1e-3, 1.0), "Adam": (1e-4, 0.1)}  # those of the grid


def convnet(width: int = 16) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * width, 10)),
    )


# %% [markdown]
# ## A range test in plain PyTorch, to compare with


# %%
def range_test(optimizer: str, data: tn.Data, steps: int) -> Suggestions:
    """Smith's range test in plain PyTorch: one step at each of `steps` growing rates."""
    torch.manual_seed(0)
    net = convnet()
    updater = getattr(torch.optim, optimizer)(net.parameters(), lr=1.0, **FIXED[optimizer])
    batches = itertools.chain.from_iterable(data.batches(32, torch.randperm(len(data))) for _ in itertools.count())

    def step(rate: float) -> float:
        for group in updater.param_groups:
            group["lr"] = rate
        inputs, targets = next(batches)
        loss = nn.functional.cross_entropy(net(inputs), targets)
        updater.zero_grad()
        loss.backward()
        updater.step()
        return loss.item()

    return suggestions(*sweep(step, *SWEEP[optimizer], steps))


# %% [markdown]
# ## The truth: whole trainings at each rate


# %%
def losses(study_at: Callable[[int, tn.Searcher], tn.Study], rates: list[float], seeds: int) -> dict[float, float]:
    """Validation loss after the last epoch at each rate, as the geometric mean over seeds; inf where one diverged."""
    found: dict[float, list[float]] = {rate: [] for rate in rates}
    for seed in range(seeds):
        study = study_at(seed, tn.Grid({"lr": rates}))
        study.run()
        for trial in study.trials:
            loss = trial.metrics["loss"] if trial.status == "DONE" else math.inf
            found[trial.config["optimizer"]["lr"]].append(loss)
    return {rate: float(np.exp(np.mean(np.log(several)))) for rate, several in found.items()}


# %% [markdown]
# ## Measure, then compare


# %%
def compare(options: argparse.Namespace) -> str:
    """Measure rates in five ways and print what each gives; the losses over the rates as an SVG picture."""
    folder, optimizer = Path(options.folder), options.optimizer
    train, valid, _ = tn.data.digits()
    train = train[: options.rows]
    trainer = tn.Trainer(
        train, valid, loss=nn.CrossEntropyLoss(), optimizer=getattr(torch.optim, optimizer), epochs=options.epochs
    )
    runtime = tn.Runtime("cpu", threads=1)

    probe = tn.probe(tn.Model(convnet), trainer, runtime, config={"optimizer": FIXED[optimizer]})
    print(probe)

    mean, spread = train.inputs.mean(), train.inputs.std()  # what tn.Model does to images by itself
    with runtime.active():
        test = range_test(optimizer, tn.Data((train.inputs - mean) / spread, train.targets), options.sweep)

    raced = probe.race.gradients if probe.race else 0
    ways = {
        "rule": (probe.estimate, probe.gradients - raced),
        "rule and race": (probe.rate, probe.gradients),
        "range: valley": (test.valley, options.sweep),
        "range: minimum": (test.minimum, options.sweep),
        "range: steepest": (test.steepest, options.sweep),
    }
    ways = {name: way for name, way in ways.items() if way[0] is not None}

    def study_at(seed: int, searcher: tn.Searcher) -> tn.Study:
        return tn.Study(
            model=tn.Model(convnet), trainer=trainer, searcher=searcher, runtime=runtime, seed=seed, at="last",
            space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-7, 100.0, log=True), **FIXED[optimizer]}),
            progress=False,
        )  # fmt: skip

    grid = np.geomspace(*TRUTH[optimizer], options.points).tolist()
    truth = losses(study_at, sorted({*grid, *(rate for rate, _ in ways.values())}), options.seeds)
    best = min(grid, key=truth.__getitem__)
    print(f"\n{'learning rate from':<20}{'rate':>9}{'loss':>9}{'times best':>12}{'gradients':>11}")
    for name, (rate, cost) in {**ways, "best of the grid": (best, len(grid) * probe.steps)}.items():
        print(f"{name:<20}{rate:>9.3g}{truth[rate]:>9.4f}{truth[rate] / truth[best]:>12.2f}{cost:>11.0f}")
    print(f"loss: on validation, after the last epoch ({options.epochs}); geometric mean over seeds ({options.seeds})")

    path = folder / "learning_rate.svg"
    folder.mkdir(parents=True, exist_ok=True)
    marks = {name: rate for name, (rate, _) in ways.items()}
    line = [(rate, min(truth[rate], 3.0)) for rate in grid]  # what diverged, at the top
    drawing = standalone(chart({"truth": line}, marks, f"learning rate of {optimizer}", "loss after the last epoch"))
    path.write_text(drawing)
    print(f"The truth with all suggestions: {path}")
    return drawing


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare ways to choose a learning rate with the truth.")
    parser.add_argument("--optimizer", choices=sorted(FIXED), default="SGD", help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=10, help="of a whole training; default %(default)s")
    parser.add_argument("--seeds", type=int, default=2, help="of the truth; default %(default)s")
    parser.add_argument("--points", type=int, default=13, help="rates in the truth's grid; default %(default)s")
    parser.add_argument("--sweep", type=int, default=100, help="steps of the range test; default %(default)s")
    parser.add_argument("--rows", type=int, help="to train on; all 1,077 by default")
    parser.add_argument("--folder", default="runs/learning_rate", help="for the picture; default %(default)s")
    return parser.parse_args(flags)


# %%
if __name__ == "__main__":
    drawing = compare(arguments(FLAGS))

# %% [markdown]
# The picture, in a notebook:

# %%
if "ipykernel" in sys.modules:
    from IPython.display import SVG, display

    display(SVG(drawing))
