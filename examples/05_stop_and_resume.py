# %% [markdown]
"""# A study that is stopped with Ctrl-C, killed, and run again ends with the digits of one that was left alone.

A study with a folder is written down while it runs. Here you train one without a break. Another one starts in a
process of its own; it gets Ctrl-C after a third of the epochs, starts again, is killed (SIGKILL: nothing is cleaned
up) after two thirds, and then goes on to the end. Then you compare configurations, scores and the weights of the best
model.

    python examples/05_stop_and_resume.py              # less than a minute on two cores
    python examples/05_stop_and_resume.py --trials 20  # more to interrupt
"""

# %%
import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--trials", "20"]

# %% [markdown]
# ## The study
#
# `study_in` both makes the study and goes on with it: that is all you do to resume. The searcher is a Gaussian process,
# which looks at every score, so one different digit would lead to other trials.

# %%
SCRIPT = globals().get("__file__", "05_stop_and_resume.py")  # a notebook starts the script that lies beside it
SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)


def convnet(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, 10)),
    )


def study_in(folder: Path, options: argparse.Namespace) -> tn.Study:
    """The study that lies in `folder`, or a new one: the same call makes it and goes on with it."""
    train, valid, _ = tn.data.digits()
    trainer = tn.Trainer(
        train[: options.rows], valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=options.epochs
    )
    return tn.Study(
        model=tn.Model(convnet), trainer=trainer, space=SPACE, searcher=tn.GP(), folder=folder, progress=False,
        runtime=tn.Runtime("cpu", threads=1), callbacks=[announce] if options.child else [],
    )  # fmt: skip


def announce(study: tn.Study, trial: tn.Trial) -> None:
    """A line to the parent for each epoch, and for each end of a trial."""
    print(f"  trial {trial.number}  {trial.status}  epoch {trial.epochs}", flush=True)


# %% [markdown]
# ## Interrupt it
#
# The study runs in a process of its own, which prints a line for each epoch. After so many lines it is ended.


# %%
def stopped(folder: Path, options: argparse.Namespace, after: int, how: str) -> None:
    """Run the study in a process of its own, and end it after so many lines."""
    flags = [f"--{name}={getattr(options, name)}" for name in ("trials", "epochs", "rows")]
    command = [sys.executable, SCRIPT, "--child", "--folder", str(folder), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, 1):
            if count == after:
                print(f"{line.rstrip()}; {how}")
                child.kill() if how == "SIGKILL" else child.send_signal(signal.SIGINT)
    left = tn.open(folder)
    epochs = sum(len(trial.reports) for trial in left.trials)
    states = ", ".join(f"trial {trial.number} {trial.status}" for trial in left.trials if not trial.ended)
    print(
        f"  {how}: the process ended with {child.returncode}; {epochs} epochs are kept; {states or 'none unfinished'}"
    )


def child(options: argparse.Namespace) -> int:
    """Run the study; the exit status of the process."""
    try:
        study_in(Path(options.folder), options).run(trials=options.trials)
    except KeyboardInterrupt:
        return 130  # as shells do; the epoch is finished and written down
    return 0


# %% [markdown]
# ## Compare


# %%
def compared(alone: tn.Study, resumed: tn.Study) -> bool:
    """Print both studies trial by trial; True if everything is the same to the last digit."""
    same = len(alone.trials) == len(resumed.trials)
    print(f"\n{'trial':<7}{'lr':<12}{'loss, left alone':<22}{'loss, interrupted':<22}same")
    for one, other in zip(alone.trials, resumed.trials, strict=False):
        losses = [trial.metrics.get("loss", float("nan")) for trial in (one, other)]
        reports = [[dict(report.metrics) for report in trial.reports] for trial in (one, other)]
        equal = one.config == other.config and one.status == other.status and reports[0] == reports[1]
        same &= equal
        rate = one.config["optimizer"]["lr"]
        print(f"{one.number:<7}{rate:<12.6f}{losses[0]!r:<22}{losses[1]!r:<22}{'yes' if equal else 'NO'}")
    weights = [list(study.best.model().state_dict().values()) for study in (alone, resumed)]
    equal = all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    print(f"weights of the best model: {'the same' if equal else 'DIFFERENT'}")
    return same and equal


def experiment(options: argparse.Namespace) -> bool:
    """Train one study alone and one with interruptions; True if they are the same."""
    folder = Path(options.folder)
    for name in ("alone", "interrupted"):
        shutil.rmtree(folder / name, ignore_errors=True)
    print(f"left alone: {options.trials} trials; epochs of each: {options.epochs}")
    alone = study_in(folder / "alone", options)
    alone.run(trials=options.trials)
    lines = options.trials * (options.epochs + 1)
    print("the same in a process of its own")
    stopped(folder / "interrupted", options, lines // 3, "Ctrl-C")
    stopped(folder / "interrupted", options, lines // 3, "SIGKILL")
    print("run again, to the end")
    resumed = study_in(folder / "interrupted", options)
    resumed.run(trials=options.trials)
    return compared(alone, resumed)


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Interrupt a study, kill it, go on, and compare digits.")
    parser.add_argument("--trials", type=int, default=9, help="of each study; default %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of each trial; default %(default)s")
    parser.add_argument("--rows", type=int, default=1077, help="to train on, of 1,077; default %(default)s")
    parser.add_argument("--folder", default="runs/resumed", help="for the studies; default %(default)s")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(flags)
    if options.trials < 3:
        parser.error("--trials needs to be 3 or more, or there is too little to interrupt")
    return options


# %% [markdown]
# ## The experiment

# %%
if __name__ == "__main__":
    options = arguments(FLAGS)
    if options.child:
        sys.exit(child(options))
    if not experiment(options):
        sys.exit("The two studies differ.")
