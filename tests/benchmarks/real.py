"""Real trainings: how good a model is had after so many epochs, and after so long, beside Optuna.

Run: python tests/benchmarks/real.py [--tasks digits text] [--seeds 5] [--results FOLDER]

Tasks: a ConvNet on the digits, a small transformer on the text of Python's own modules, and with `--fashion FOLDER` the
ConvNet on Fashion-MNIST. Everybody tunes width, dropout, learning rate, momentum (AdamW's first beta), weight decay and
batch size over the same space, and trains by the same Trainer under the same seed; Optuna's objective reports every
epoch, and ends when it is told to. The score is the lowest validation loss of any epoch so far.

An epoch of any trial counts as one. What a probe of tn.LeCun trains counts as gradients x batch size / rows epochs;
the gradients include the curvature's, and a look at validation rows as a third of what training on them costs. A run
ends after 20 full trainings' worth. The clock is CPU time of one thread, from before the study is made; contestants
take turns within a seed, and it is given in full trainings of Optuna without a pruner. With --results what was run is
kept in a folder, and is not run again.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import real_tasks
from real_tasks import Task

import tuneflow as tn
from tuneflow.errors import Diverged
from tuneflow.space.parameters import Choice
from tuneflow.train.job import Job

THEN, SCHEDULER = tn.TPE, tn.Halving  # what a deep model is to be tuned with, LeCun's start before it
TRAININGS, LOOKS = 20, (1, 2, 5, 10, 20)
PLAIN = "Optuna TPE"


class Enough(Exception):
    """The budget is spent."""


class Run:
    """One search under way: what it has spent, and every improvement.

    Attributes:
        epochs: spent, those of probes included; `probed` of them.
        steps: [epochs, CPU seconds, lowest loss] at each improvement and at the end.
    """

    def __init__(self, budget: float) -> None:
        self.budget, self.epochs, self.probed, self.best = budget, 0.0, 0.0, math.inf
        self.steps: list[list[float]] = []
        self._began = time.process_time()

    def probe(self, epochs: float) -> None:
        self.epochs += epochs
        self.probed += epochs

    def epoch(self, loss: float) -> None:
        """One more epoch ended with this loss, NaN where it diverged.

        Raises:
            Enough: it was the last, or one too many, which does not count.
        """
        self.epochs += 1
        if loss < self.best and self.epochs <= self.budget:
            self.best = loss
            self._note()
        if self.epochs >= self.budget:
            self._note()
            raise Enough

    def _note(self) -> None:
        self.steps.append([self.epochs, time.process_time() - self._began, self.best])


# tuneflow.


def ours(searcher, scheduler, lanes=1):
    """A contestant: a study with this searcher and scheduler, both made anew for each run."""

    def search(task: Task, seed: int, run: Run) -> None:
        def ended(study, trial):
            if trial.status in ("RUNNING", "DIVERGED"):  # once for every epoch
                run.epoch(trial.reports[-1].metrics["loss"] if trial.status == "RUNNING" else math.nan)

        runtime = tn.Runtime("cpu", threads=1, lanes=lanes)
        study = tn.Study(
            model=task.model, trainer=task.trainer, space=task.space, searcher=searcher(), scheduler=scheduler(),
            runtime=runtime, seed=seed, callbacks=[ended], progress=False,
        )  # fmt: skip
        study.history.prober = counted(study, run)
        study.run(epochs=math.ceil(run.budget))

    return search


def counted(study: tn.Study, run: Run):
    """The study's prober; what it measures for the first time is counted as epochs."""
    prober, known, rows = study.history.prober, set(), len(study.trainer.train)

    def probe(config):
        found, structure = prober(config), json.dumps(study.space.structure(config), sort_keys=True)
        if structure not in known:
            known.add(structure)
            run.probe(found.gradients * found.batch_size / rows)
        return found

    return probe


# Optuna.


def theirs(pruned: bool):
    """A contestant: Optuna's TPE, with its Hyperband pruner or without one."""

    def search(task: Task, seed: int, run: Run) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        epochs, runtime = task.trainer.epochs, tn.Runtime("cpu", threads=1)
        pruners = optuna.pruners
        pruner = pruners.HyperbandPruner(1, epochs, 3) if pruned else pruners.NopPruner()
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(sampler=sampler, pruner=pruner, study_name=f"seed {seed}")  # names settle brackets

        def objective(trial):
            job = Job(task.model, task.space.resolve(suggested(trial, task.space)), runtime, seed)
            losses = []
            try:
                for _, report in task.trainer.advance(job, task.trainer.init(job), epochs):
                    losses.append(report.metrics["loss"])
                    run.epoch(losses[-1])
                    if not math.isfinite(losses[-1]):
                        raise optuna.TrialPruned
                    trial.report(losses[-1], len(losses))
                    if trial.should_prune():
                        raise optuna.TrialPruned
            except Diverged:
                run.epoch(math.nan)
                raise optuna.TrialPruned from None
            return min(losses)

        study.optimize(objective)

    return search


def suggested(trial, space: tn.SearchSpace) -> dict:
    """What Optuna suggests for every coordinate of the space; an ordered choice by its place."""
    unit = []
    for axis in space.coordinates:
        parameter = axis.parameter
        if isinstance(parameter, Choice):
            value = parameter.values[trial.suggest_int(axis.name, 0, len(parameter.values) - 1)]
        else:
            value = trial.suggest_float(axis.name, parameter.low, parameter.high, log=parameter.log)
        unit.append(parameter.to_unit(value))
    return space.cast(space.from_unit(unit))


DEEP = f"{THEN.__name__}, {SCHEDULER.__name__}"
CONTESTANTS = {
    f"LeCun, {DEEP}": ours(lambda: tn.LeCun(then=THEN()), SCHEDULER),
    f"LeCun, {DEEP}, 8 lanes": ours(lambda: tn.LeCun(then=THEN()), SCHEDULER, lanes=8),
    DEEP: ours(THEN, SCHEDULER),
    "random": ours(tn.Random, tn.Full),
    "Optuna TPE, Hyperband": theirs(pruned=True),
    PLAIN: theirs(pruned=False),
}


def searched(name: str, task: Task, seed: int, trainings: float) -> dict:
    run = Run(trainings * task.trainer.epochs)
    with suppress(Enough):
        CONTESTANTS[name](task, seed, run)
    return {"full": task.trainer.epochs, "probed": run.probed, "steps": run.steps}


@cache
def warm(names: tuple[str, ...]) -> None:
    """Have imported what contestants import on the way, so that it is nobody's time."""
    for name in names:
        with suppress(Enough):
            CONTESTANTS[name](real_tasks.digits(3), 0, Run(4))


def collected(tasks: list[Task], args) -> list[dict[str, list[dict]]]:
    """For each task the runs of every contestant, by seed; those that are kept already are read."""
    runs = [{name: [] for name in args.contestants} for _ in tasks]
    for seed in range(args.seeds):
        for task, found in zip(tasks, runs, strict=True):
            for name in args.contestants:
                kept = args.results / f"{task.name}-{task.trainer.epochs}-{name.replace(' ', '_')}-{seed}.json"
                if not kept.exists():
                    warm(tuple(args.contestants))
                    kept.write_text(json.dumps(searched(name, task, seed, TRAININGS)))
                found[name].append(json.loads(kept.read_text()))
    return runs


# Tables.


def best_at(run: dict, limit: float, clock: int) -> float:
    """The lowest loss when `limit` was spent on this clock: 0 for epochs, 1 for seconds."""
    return min((loss for *spent, loss in run["steps"] if spent[clock] <= limit), default=math.nan)


def table(runs: dict[str, list[dict]], clock: int, units: list[float]) -> None:
    """Scores after so many of each seed's unit: mean and standard error; a dash where a seed has none yet."""
    print(f"{'':30}" + "".join(f"{look:>18}" for look in LOOKS))
    for name, row in runs.items():
        cells = []
        for look in LOOKS:
            best = np.array([best_at(run, look * unit + 1e-9, clock) for run, unit in zip(row, units, strict=True)])
            error = best.std(ddof=1) / math.sqrt(len(best)) if len(best) > 1 else math.nan
            cells.append("-" if np.isnan(best).any() else f"{best.mean():.4f} +- {error:.4f}")
        print(f"{name:30}" + "".join(f"{cell:>18}" for cell in cells))


def sooner(mine: dict, peer: dict, clock: int) -> float:
    """What the peer spent until it had its final score, as a multiple of what `mine` did until as good; 0 for never."""
    final = peer["steps"][-1][2]
    took = next(step[clock] for step in peer["steps"] if step[2] <= final)
    return next((took / step[clock] for step in mine["steps"] if step[2] <= final), 0.0)


def show(task: Task, runs: dict[str, list[dict]]) -> None:
    seeds = len(next(iter(runs.values())))
    print(f"\n{task.name}: lowest validation loss, {seeds} seeds, full trainings of {task.trainer.epochs} epochs")
    for name, row in runs.items():
        if probed := statistics.mean(run["probed"] for run in row):
            print(f"{name}: probes cost {probed:.1f} epochs, {probed / task.trainer.epochs:.2f} full trainings")
    print("after so many full trainings' worth of epochs")
    table(runs, 0, [task.trainer.epochs] * seeds)
    if PLAIN in runs:
        print("after the time that Optuna without a pruner takes for so many")
        table(runs, 1, [run["steps"][-1][1] / TRAININGS for run in runs[PLAIN]])
    for peer in (name for name in runs if name.startswith("Optuna")):
        for name in (name for name in runs if not name.startswith("Optuna")):
            pairs = list(zip(runs[name], runs[peer], strict=True))
            epochs, seconds = ([sooner(mine, other, clock) for mine, other in pairs] for clock in (0, 1))
            reached = sum(ratio > 0 for ratio in epochs)
            print(f"{name} had {peer}'s final score {statistics.median(epochs):.2f} times as soon in epochs,"
                  f" {statistics.median(seconds):.2f} in time; in {reached} of {seeds} seeds at all")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", choices=["digits", "text"], default=["digits", "text"])
    parser.add_argument("--fashion", metavar="FOLDER", help="where the files of Fashion-MNIST are")
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=9, help="of a full training; a power of 3 suits both Hyperbands")
    parser.add_argument("--results", type=Path, help="a folder to keep the runs in")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = [{"digits": real_tasks.digits, "text": real_tasks.chars}[name](args.epochs) for name in args.tasks]
    if args.fashion:
        tasks.append(real_tasks.fashion(args.epochs, args.fashion))
    with tempfile.TemporaryDirectory() as folder:
        args.results = args.results or Path(folder)
        args.results.mkdir(parents=True, exist_ok=True)
        for task, runs in zip(tasks, collected(tasks, args), strict=True):
            show(task, runs)


if __name__ == "__main__":
    main()
