# %% [markdown]
"""# A study that is looked at, then adjusted: a report, importance, plots, advice, and the next study made from it.

The space is as one guesses it: its learning rates end too low, and trials are short. You see that in the pictures, the
advice says it with numbers, and `study.adjusted()` makes the next study with those changes. Both are tested on images
that no trial has seen.

    python examples/10_look_and_adjust.py              # about a minute; pages and pictures go to runs/adjusted
    python examples/10_look_and_adjust.py --trials 40  # narrower intervals
"""

# %%
import argparse
import sys
from pathlib import Path

import torch
from torch import nn

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--trials", "40"]

# %% [markdown]
# ## A study with a guessed space

# %%
SPACE = tn.SearchSpace(
    model={"width": tn.Int(4, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-4, 1e-2, log=True), "momentum": tn.Float(0.0, 0.9)},
)


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, 10)),
    )


def show(*things: object) -> None:
    """Show each as a notebook does, in a notebook; print it elsewhere."""
    if "ipykernel" in sys.modules:
        from IPython.display import display

        display(*things)
    else:
        print(*things, sep="\n")


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look at a study, then make the next one from the advice on it.")
    parser.add_argument("--trials", type=int, default=24, help="of each study; default %(default)s")
    parser.add_argument("--epochs", type=int, default=4, help="of each trial; default %(default)s")
    parser.add_argument("--rows", type=int, default=1077, help="to train on, of 1,077; default %(default)s")
    parser.add_argument("--folder", default="runs/adjusted", help="for pages and pictures; default %(default)s")
    return parser.parse_args(flags)


if __name__ == "__main__":
    options = arguments(FLAGS)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    train, valid, test = tn.data.digits()
    study = tn.Study(
        model=tn.Model(convnet),
        trainer=tn.Trainer(
            train[: options.rows],
            valid,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=options.epochs,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=SPACE,
        searcher=tn.TPE(),
        maximize="accuracy",
        runtime=tn.Runtime("cpu", threads=1),
    )
    study.run(trials=options.trials)

# %% [markdown]
# ## What was trained
#
# The table has a row for each trial, `study.curves()` one for each epoch; `to_pandas()` and `to_csv()` take them
# elsewhere.

# %%
if __name__ == "__main__":
    show(study.best, study.table())

# %% [markdown]
# ## Pictures

# %%
if __name__ == "__main__":
    for name in ("history", "slice"):
        axes = getattr(tn.plot, name)(study)
        path = folder / f"{name}.png"
        axes.figure.savefig(path)
        show(axes if "ipykernel" in sys.modules else path)

# %% [markdown]
# ## Which parameters matter
#
# A share of the differences in score for each parameter, with its 90 % interval.

# %%
if __name__ == "__main__":
    show(study.importance())

# %% [markdown]
# ## What to change

# %%
if __name__ == "__main__":
    show(study.advice())

# %% [markdown]
# ## The next study
#
# It starts from the best trials of this one. What it changes is written above its first trial.

# %%
if __name__ == "__main__":
    try:
        better = study.adjusted()
    except tn.errors.StudyError as error:  # from a few trials nothing follows
        print(error)
        better = study
    better.run(trials=options.trials)

# %% [markdown]
# ## Both on images that no trial has seen

# %%
if __name__ == "__main__":
    for name, each in {"guessed": study, "adjusted": better}.items():
        print(f"{name}:\n{each.test(test)}")

# %% [markdown]
# ## Pages to keep
#
# One for the adjusted study, and one for both beside each other. Open them in any browser.

# %%
if __name__ == "__main__":
    print(better.report(folder / "report.html"))
    print(study.report(folder / "compare.html", beside=[better]))
