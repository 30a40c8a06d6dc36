# %% [markdown]
"""# Your own searcher, and one that wraps others, checked and compared with random search on the digits.

A searcher is one method: from the space, the trials so far and a random generator to the next configuration.

    python examples/06_custom_searcher.py              # three seeds: about a minute on two cores
    python examples/06_custom_searcher.py --seeds 10   # narrower intervals
"""

# %%
import argparse
import math
import sys

import numpy as np
import torch
from scipy.special import stdtrit
from torch import nn

import tuneflow as tn
from tuneflow.testing import check_searcher

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--seeds", "10"]

# %%
SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-4, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)
GUESS = math.log(10)


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, 10)),
    )


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check your own searchers, and compare them on handwritten digits.")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, at least 2; default %(default)s")
    parser.add_argument("--trials", type=int, default=12, help="of each search; default %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="of each trial; default %(default)s")
    parser.add_argument("--rows", type=int, help="to train on; all 1,077 by default")
    options = parser.parse_args(flags)
    if options.seeds < 2 or options.trials < 2:
        parser.error("--seeds and --trials need to be 2 or more")
    return options


# %% [markdown]
# ## A searcher


# %%
class Climb(tn.Searcher):
    """Random until `start` trials have a score, then a step of about `width` from the best one.

    It works in the unit cube, where every parameter goes from 0 to 1, logarithms and labels included, so it needs to
    know nothing of them. It keeps nothing on itself but its settings: what it knows is in the history.
    """

    def __init__(self, start: int = 4, width: float = 0.1) -> None:
        self.start, self.width = start, width

    def suggest(self, space: tn.SearchSpace, history: tn.types.History, rng: np.random.Generator) -> dict:
        if np.isfinite(history.values).sum() < self.start:  # NaN where a trial failed, diverged or is under way
            return space.sample(rng)
        best = space.to_unit(history.best.config)  # NaN where a parameter is not active
        return space.from_unit((best + self.width * rng.standard_normal(len(space))).clip(0, 1))


# %% [markdown]
# ## A searcher of searchers
#
# It ends when one of them has nothing left to propose, and refuses a space that one of them refuses.


# %%
class Turns(tn.Searcher):
    """Several searchers take turns; each of them learns from all trials."""

    def __init__(self, *searchers: tn.Searcher) -> None:
        self.searchers = searchers

    @property
    def ends(self) -> bool:  # type: ignore[override]
        return any(searcher.ends for searcher in self.searchers)

    def check(self, space: tn.SearchSpace) -> None:
        for searcher in self.searchers:
            searcher.check(space)

    def suggest(self, space: tn.SearchSpace, history: tn.types.History, rng: np.random.Generator) -> dict | None:
        return self.searchers[history.number % len(self.searchers)].suggest(space, history, rng)


SEARCHERS = {
    "random": tn.Random,
    "climb": Climb,
    "turns": lambda: Turns(Climb(), tn.TPE(start=4)),
}


# %% [markdown]
# ## The checks
#
# `check_searcher` asks each searcher on many spaces: does it keep to the space, obey the random generator, and decide
# the same after a resume?

# %%
if __name__ == "__main__":
    options = arguments(FLAGS)
    for make in SEARCHERS.values():
        check_searcher(make)
        print(f"{make()!r} passes check_searcher")


# %% [markdown]
# ## The comparison


# %%
def lowest_so_far(study: tn.Study) -> list[float]:
    """The lowest validation loss, or a guess's, after each trial."""
    losses = [min(trial.metrics.get("loss", GUESS), GUESS) for trial in study.trials]
    return np.minimum.accumulate(losses).tolist()


def interval(values: np.ndarray) -> str:
    """Geometric mean of one value for each seed, and its 95 % interval by Student's t."""
    logs = np.log(values)
    half = stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs))
    return f"{np.exp(logs.mean()):.3g} [{np.exp(logs.mean() - half):.2g}, {np.exp(logs.mean() + half):.2g}]"


def compare(options: argparse.Namespace) -> None:
    """Run every searcher under every seed and print the table."""
    train, valid, test = tn.data.digits()
    trainer = tn.Trainer(
        train[: options.rows], valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=options.epochs,
        metrics={"accuracy": tn.metrics.accuracy},
    )  # fmt: skip
    half = (options.trials + 1) // 2
    print(f"\n{options.seeds} seeds, {options.trials} trials; epochs of a trial: {options.epochs}. Lowest loss so far:")
    print(f"{'searcher':<10}{f'after {half} trials':<24}{f'after {options.trials} trials':<24}test accuracy")
    for name, make in SEARCHERS.items():
        curves, accuracies = [], []
        for seed in range(options.seeds):
            study = tn.Study(
                model=tn.Model(convnet), trainer=trainer, space=SPACE, searcher=make(), seed=seed, progress=False,
                runtime=tn.Runtime("cpu", threads=1),
            )  # fmt: skip
            study.run(trials=options.trials)
            curves.append(lowest_so_far(study))
            accuracies.append(study.test(test)["accuracy"].value)
        found = np.array(curves)
        cells = f"{interval(found[:, half - 1]):<24}{interval(found[:, -1]):<24}"
        print(f"{name:<10}{cells}{np.mean(accuracies):.3f}", flush=True)


# %%
if __name__ == "__main__":
    compare(options)
