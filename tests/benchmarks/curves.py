"""Schedulers and searchers on real learning curves. Run: python tests/benchmarks/curves.py FOLDER [NAME ...]

FOLDER holds taskset-dev.npz: for each of 6 tasks, 1,000 settings of Adam and the validation loss at 51 points of the
run, the first of them before training. Without a NAME all contestants run.

A study trains with one worker and pays one unit for each point; to resume costs nothing more. A proposal counts as the
nearest run that was not taken yet, by the ranks of each setting, and the searcher is told that run's ranks. A run that
diverged is not a number from there on. The incumbent is the least loss observed at any point of any run.

Regret is given after the points of 1, 2, 5, 10 and 20 whole runs: 0 is the least loss of all runs at any point, 1 the
median of what 20 whole runs at random have seen. Tuneflow's classes decide as in a study that is limited by epochs,
over a History without a trainer. Optuna is given the same runs; what it prunes does not go on.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, with_reports, with_status
from tuneflow.schedule.scheduler import Decision
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

AT = (1, 2, 5, 10, 20)  # whole runs


class Task:
    """The runs of a task, and the scale of its regret."""

    def __init__(self, settings: np.ndarray, curves: np.ndarray) -> None:
        self.curves, self.points = curves, curves.shape[1]
        self.ranks = settings.argsort(0).argsort(0) / (len(settings) - 1)
        self.space = tn.SearchSpace(**{f"x{i}": tn.Float(0.0, 1.0) for i in range(settings.shape[1])})
        best, rng = np.nanmin(curves, 1), np.random.default_rng(0)
        self.least = best.min()
        self.one = np.median([rng.choice(best, 20, replace=False).min() for _ in range(10_000)]) - self.least

    def regret(self, losses: list[float]) -> np.ndarray:
        """After as many points as AT says, of the losses in the order in which they were paid for."""
        seen = np.fmin.accumulate(losses)
        return (seen[np.array(AT) * self.points - 1] - self.least) / self.one


class Pool:
    """The runs of a task of which each is taken once."""

    def __init__(self, task: Task) -> None:
        self.task, self._left = task, np.ones(len(task.ranks), dtype=bool)

    def take(self, unit: np.ndarray) -> int:
        """The run nearest to a point of the unit cube."""
        apart = np.where(self._left, ((self.task.ranks - unit) ** 2).sum(1), np.inf)
        self._left[apart.argmin()] = False
        return int(apart.argmin())


class Studied:
    """A study without a trainer: one worker, decisions as tn.Study takes them."""

    def __init__(self, task: Task, searcher: tn.Searcher, scheduler: tn.Scheduler, seed: int) -> None:
        self.task, self.searcher, self.scheduler = task, searcher, scheduler
        self.history = tn.types.History(task.space, Objective((("loss", False),)), seed, task.points)
        self.history.number = 0
        self.scheduler.check(self.history)
        self._pool, self._runs = Pool(task), list[int]()

    def losses(self) -> Iterator[float]:
        """The loss of every point that is trained, without an end."""
        while True:
            decision = self._decision()
            if isinstance(decision, tn.schedule.Stop):
                self._stop(decision)
            elif isinstance(decision, tn.schedule.Start):
                yield from self._train(self._new(), decision.until)
            elif isinstance(decision, tn.schedule.Continue):
                self.history.record(with_status(self.history.trials[decision.trial], "RUNNING"))
                yield from self._train(decision.trial, decision.until)
            else:
                raise NotImplementedError(f"{decision}")

    def _decision(self) -> Decision:
        history = self.history
        history.number = len(history)
        return self.scheduler.next(
            history.space, history, stream(history.seed, "schedule", len(history), history.ended)
        )

    def _stop(self, decision: tn.schedule.Stop) -> None:
        self.history.record(with_status(self.history.trials[decision.trial], "STOPPED", decision.reason, CUT))

    def _new(self) -> int:
        history, space = self.history, self.history.space
        config = proposed(self.searcher, space, history, stream(history.seed, "search", history.number))
        self._runs.append(self._pool.take(space.to_unit(config)))
        history.record(tn.Trial(len(history), space.from_unit(self.task.ranks[self._runs[-1]])))
        return self._runs.index(self._runs[-1])

    def _train(self, number: int, until: int) -> Iterator[float]:
        history, curve = self.history, self.task.curves[self._runs[number]]
        while history.trials[number].status == "RUNNING":
            trial = history.trials[number]
            loss = float(curve[trial.epochs])
            yield loss
            trial = with_reports(
                trial, [*trial.reports, tn.types.Report(trial.epochs + 1, {"loss": loss})], history.objective
            )
            if math.isnan(loss):
                trial = with_status(trial, "DIVERGED", "not a number")
            elif trial.epochs >= until:
                trial = with_status(trial, "DONE" if trial.epochs == history.epochs else "PAUSED")
            history.record(trial)
            if trial.status == "RUNNING" and isinstance(self.scheduler, tn.Median):  # the others stop nobody who runs
                decision = self._decision()
                if isinstance(decision, tn.schedule.Stop):
                    self._stop(decision)


def ours(searcher: Callable[[], tn.Searcher], scheduler: Callable[[], tn.Scheduler]) -> Callable:
    return lambda task, seed: Studied(task, searcher(), scheduler(), seed).losses()


def pruned(pruner: Callable[[Task], optuna.pruners.BasePruner]) -> Callable:
    """Optuna's TPE with one of its pruners."""

    def losses(task: Task, seed: int) -> Iterator[float]:
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(sampler=sampler, pruner=pruner(task), study_name=f"seed {seed}")
        pool, ranges = Pool(task), {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in task.space.names}
        while True:
            asked = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            asked.number = len(study.trials)
            unit = [sampler.sample_independent(study, asked, name, ranges[name]) for name in ranges]
            run = pool.take(np.array(unit))
            # Asked again, so that the study holds the run that was taken, as ours does.
            study.enqueue_trial(dict(zip(ranges, task.ranks[run].tolist(), strict=True)))
            trial = study.ask(ranges)
            for epoch, loss in enumerate(task.curves[run].tolist(), 1):
                yield loss
                if math.isnan(loss):
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    break
                trial.report(loss, epoch)
                if trial.should_prune():
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    break
            else:
                study.tell(trial, float(np.min(task.curves[run])))

    return losses


CONTESTANTS = {
    "random": ours(tn.Random, tn.Full),
    "random, median": ours(tn.Random, lambda: tn.Median(epochs=5)),
    "random, halving": ours(tn.Random, lambda: tn.Halving(first=2)),
    "random, hyperband": ours(tn.Random, tn.Hyperband),
    "tpe": ours(tn.TPE, tn.Full),
    "tpe, median": ours(tn.TPE, lambda: tn.Median(epochs=5)),
    "tpe, halving": ours(tn.TPE, lambda: tn.Halving(first=2)),
    "tpe, hyperband": ours(tn.TPE, tn.Hyperband),
    "gp": ours(tn.GP, tn.Full),
    "gp, median": ours(tn.GP, lambda: tn.Median(epochs=5)),
    "gp, halving": ours(tn.GP, lambda: tn.Halving(first=2)),
    "gp, hyperband": ours(tn.GP, tn.Hyperband),
    "optuna tpe, hyperband": pruned(lambda task: optuna.pruners.HyperbandPruner(2, task.points, 3)),
    "optuna tpe, median": pruned(lambda task: optuna.pruners.MedianPruner(n_warmup_steps=5)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *CONTESTANTS], default=[])
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = np.load(chosen.folder / "taskset-dev.npz")
    tasks = [Task(data[key], data["y_" + key[2:]]) for key in sorted(data.files) if key.startswith("x_")]
    print(f"regret after {AT} whole runs' points, over {len(tasks)} tasks and {chosen.seeds} seeds; the last, by task")
    for name in chosen.names or CONTESTANTS:
        started = time.process_time()
        regrets = np.empty((len(tasks), chosen.seeds, len(AT)))
        for row, task in enumerate(tasks):
            for seed in range(chosen.seeds):
                course = CONTESTANTS[name](task, seed)
                regrets[row, seed] = task.regret([next(course) for _ in range(AT[-1] * task.points)])
        seconds = (time.process_time() - started) / regrets[..., 0].size
        for word, own in (("mean", regrets.mean((0, 1))), ("median", np.median(regrets, (0, 1)))):
            print(f"{name:<22} {word:<7}", "  ".join(f"{value:.2f}" for value in own), end="   ")
        print(
            "  ".join(f"{value:.2f}" for value in regrets[..., -1].mean(1)), f"  {seconds:.1f} CPU s each", flush=True
        )


if __name__ == "__main__":
    main()
