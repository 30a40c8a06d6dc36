# %% [markdown]
"""# Grid, random, Sobol and LeCun search at equal budget.

How good is the best trial, the more you spend? A small convolutional network on handwritten digits. LeCun's measurement
before its first trial is counted in gradients and paid for with trials of its own, so that it has fewer of them than
the others.

    python examples/02_searchers.py              # three seeds: about a minute on two cores
    python examples/02_searchers.py --seeds 10   # narrower intervals
"""

# %%
import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.special import stdtrit
from torch import nn

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--seeds", "10"]

# %% [markdown]
# ## The network and its space
#
# Four parameters, in ranges as you would choose them without knowing the task.

# %%
SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-4, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)
GUESS = math.log(10)
COLORS = ("#666666", "#0b6e99", "#3d7a3d", "#c2571a")


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, 10)),
    )


# %% [markdown]
# ## The searchers
#
# Each may spend what `trials` trials cost. A trial that is worse than a guess counts as a guess.


# %%
def searchers(trials: int) -> dict[str, tn.Searcher]:
    """Four ways to choose `trials` trials; half of the grid's are for momentum, the rest for the learning rate."""
    grid = tn.Grid({"lr": trials // 2, "momentum": [0.0, 0.9], "width": [16], "dropout": [0.1]}, shuffle=True)
    return {"grid": grid, "random": tn.Random(), "sobol": tn.Sobol(), "lecun": tn.LeCun(then=tn.Random())}


def search(study: tn.Study, trials: int) -> int:
    """Spend what `trials` trials cost; how many trials' worth went into measuring beforehand, rounded up."""
    paid = 0
    if isinstance(study.searcher, tn.LeCun):
        study.run(trials=1)
        probe = study.history.probe(study.trials[0].config)  # the one that trial 0 came from; it is kept
        paid = math.ceil(probe.gradients / probe.steps)
    study.run(trials=max(1, trials - paid))
    return paid


def lowest_so_far(study: tn.Study, paid: int, trials: int) -> np.ndarray:
    """The lowest validation loss, or a guess's, when 1, 2, ... trials' cost is spent, shape (trials,); NaN before."""
    losses = np.minimum.accumulate([min(trial.metrics.get("loss", GUESS), GUESS) for trial in study.trials])
    return np.concatenate([np.full(paid, np.nan), losses])[:trials]


# %% [markdown]
# ## Means over seeds
#
# One search is an anecdote: each runs under several seeds, and what you see are means with intervals.


# %%
def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geometric mean over the first axis, the seeds, and its 95 % interval by Student's t."""
    logs, count = np.log(values), len(values)
    middle, half = logs.mean(0), stdtrit(count - 1, 0.975) * logs.std(0, ddof=1) / math.sqrt(count)
    return np.exp(middle), np.exp(middle - half), np.exp(middle + half)


def shown(middle: float, low: float, high: float) -> str:
    return f"{middle:.3g} [{low:.2g}, {high:.2g}]" if math.isfinite(middle) else "no trial yet"


def compare(options: argparse.Namespace) -> str:
    """Run every searcher under every seed and print the table; the curves as an SVG picture."""
    folder, trials = Path(options.folder), options.trials
    train, valid, test = tn.data.digits()
    trainer = tn.Trainer(
        train[: options.rows], valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=options.epochs,
        metrics={"accuracy": tn.metrics.accuracy},
    )  # fmt: skip
    half = (trials + 1) // 2
    print(f"{options.seeds} seeds, each search at the cost of {trials} trials; epochs of a trial: {options.epochs}.")
    print("Validation loss of the best so far, test accuracy of the best: means over the seeds, 95 % intervals.\n")
    print(f"{'searcher':<10}{f'after {half} trials':<26}{f'after {trials} trials':<26}test accuracy")
    curves = {}
    for name in searchers(trials):
        found, accuracies = [], []
        for seed in range(options.seeds):
            study = tn.Study(
                model=tn.Model(convnet), trainer=trainer, space=SPACE, searcher=searchers(trials)[name],
                runtime=tn.Runtime("cpu", threads=1), folder=folder / f"{name}-{seed}", seed=seed, progress=False,
            )  # fmt: skip
            paid = search(study, trials)
            found.append(lowest_so_far(study, paid, trials))
            accuracies.append(study.test(test)["accuracy"].value)
        curves[name] = interval(np.array(found))
        cells = [shown(*(part[spent - 1] for part in curves[name])) for spent in (half, trials)]
        half_width = stdtrit(len(accuracies) - 1, 0.975) * np.std(accuracies, ddof=1) / math.sqrt(len(accuracies))
        print(f"{name:<10}{cells[0]:<26}{cells[1]:<26}{np.mean(accuracies):.3f} +- {half_width:.3f}", flush=True)
    path, drawing = folder / "searchers.svg", picture(curves, trials)
    path.write_text(drawing)
    print(f"\nThe curves over the whole budget: {path}")
    return drawing


# %% [markdown]
# ## The picture, and the command line


# %%
def picture(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], trials: int) -> str:
    """Loss, on a logarithmic axis, over what has been spent; a line and a band for each searcher. SVG text."""
    every = np.clip([bound for curve in curves.values() for bound in curve], 0.02, 3)
    low, high = np.log10(np.nanmin(every)), np.log10(np.nanmax(every))

    def at(number: int, loss: float) -> str:
        share = np.clip((math.log10(loss) - low) / (high - low), 0, 1)
        return f"{60 + 400 * number / max(1, trials - 1):.1f},{280 - 250 * share:.1f}"

    parts = ['<rect width="600" height="330" fill="white"/>', '<path d="M50,20 V285 H470" fill="none" stroke="#888"/>']
    for loss in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2):
        if low <= math.log10(loss) <= high:
            y = at(0, loss).split(",")[1]
            text = f'<text x="44" y="{y}" dy="4" text-anchor="end">{loss}</text>'
            parts.append(f'<path d="M50,{y} H470" stroke="#ddd"/>{text}')
    for number in range(trials):
        x = at(number, 1).split(",")[0]
        parts.append(f'<text x="{x}" y="300" text-anchor="middle">{number + 1}</text>')
    for row, ((name, curve), color) in enumerate(zip(curves.items(), COLORS, strict=True)):
        seen = [number for number in range(trials) if math.isfinite(curve[0][number])]
        line, below, above = ([at(number, part[number]) for number in seen] for part in curve)
        parts.append(f'<polygon points="{" ".join(below + above[::-1])}" fill="{color}" opacity="0.12"/>')
        parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<rect x="490" y="{40 + 20 * row}" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="508" y="{50 + 20 * row}">{name}</text>')
    parts.append('<text x="260" y="320" text-anchor="middle">spent, in trials</text>')
    parts.append('<text x="50" y="14">lowest validation loss so far</text>')
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 330" {style}>{"".join(parts)}</svg>'


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare four searchers at equal budget on handwritten digits.")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, at least 2; default %(default)s")
    parser.add_argument("--trials", type=int, default=8, help="budget of a search, even; default %(default)s")
    parser.add_argument("--epochs", type=int, default=10, help="of each trial; default %(default)s")
    parser.add_argument("--rows", type=int, help="to train on; all 1,077 by default")
    parser.add_argument("--folder", default="runs/searchers", help="for studies and picture; default %(default)s")
    options = parser.parse_args(flags)
    if options.seeds < 2 or options.trials < 4 or options.trials % 2:
        parser.error("--seeds needs to be 2 or more, --trials even and 4 or more")
    return options


# %% [markdown]
# ## The comparison

# %%
if __name__ == "__main__":
    drawing = compare(arguments(FLAGS))

# %% [markdown]
# The picture, in a notebook:

# %%
if "ipykernel" in sys.modules:
    from IPython.display import SVG, display

    display(SVG(drawing))
