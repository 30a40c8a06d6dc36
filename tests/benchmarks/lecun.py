"""The first learning rate: measured, guessed, or searched for. Run: python tests/benchmarks/lecun.py --truth FILE

Regret 0 is the best rate of a fine grid, 1 the constant predictor; see lecun_problems.py, which writes FILE first
(about an hour; classic with --init lecun). Methods: `tn.probe`'s rate, trained for real with several seeds; its rule
alone; the best constant per optimizer, fitted on the other problems; lr 1e-3; the three usual readings of a range test.
Then how many random trials have a best one as good as that first trial, and what five trials by `tn.LeCun` reach beside
20 random and 20 of Optuna's TPE. Last, what the probe costs. Regrets of rates that are not trained here are read off
the truth.
"""

import argparse
import math
import time

import lecun_problems as L
import numpy as np
import optuna
import torch

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.probing.race import range_test
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

INIT = {"classic": "lecun", "wide": "default"}
SENSIBLE = {"SGD": (1e-4, 1.0), "Adam": (1e-5, 1e-1), "AdamW": (1e-5, 1e-1)}  # what one would search without knowing
MOST = 100  # random trials looked at


class Case:
    """One problem and optimizer."""

    def __init__(self, truth, problem, optimizer, init):
        self.truth, self.problem, self.optimizer, self.init = truth, problem, optimizer, init
        curve = truth.curve(problem, optimizer, init)
        self._rates = np.log10(list(curve))
        self._regrets = [max(0.0, truth.regret(problem, optimizer, None, value, init)) for value in curve.values()]

    def expected(self, rate):
        """Regret at any rates, on the mean over seeds; linear in log rate between those of the truth."""
        return np.interp(np.log10(rate), self._rates, self._regrets)

    def probe(self, seed):
        trainer, job = self.problem.trainer(self.optimizer), self.problem.job(1e-3, seed, self.optimizer, self.init)
        return tn.probe(job.model, trainer, job.runtime, config=job.config, seed=seed)

    def trained(self, rate, seed):
        """(regret on the loss, regret on the error, seconds) of a run."""
        started = time.perf_counter()
        loss, accuracy = L.score(self.problem, self.optimizer, rate, seed, self.init)
        seconds = time.perf_counter() - started
        key = (self.problem, self.optimizer, seed)
        on_loss = self.truth.regret(*key, loss, self.init)
        on_error = math.nan if accuracy is None else self.truth.regret(*key, 1 - accuracy, self.init, "error")
        return on_loss, on_error, seconds

    def range_test(self, seed):
        trainer, job = self.problem.trainer(self.optimizer), self.problem.job(1e-6, seed, self.optimizer, self.init)
        return range_test(trainer.configured(job.config), job, steps=120)


def cases(truth, family):
    found = [
        Case(truth, problem, optimizer, INIT[family])
        for problem in L.problems(family)
        for optimizer in problem.optimizers
        if (problem.name, optimizer, INIT[family]) in truth.entries
    ]
    return [case for case in found if truth.learnable(case.problem, case.optimizer, case.init)]


def constants(group):
    """For each case, the rate that is best on the others."""
    rates = 10 ** np.linspace(-5, 1, 73)
    table = np.array([case.expected(rates) for case in group])
    return [rates[np.delete(table, i, 0).mean(0).argmin()] for i in range(len(group))]


def random_worth(group, reached):
    """The smallest number of random trials whose best is as good, on average over cases and 400 searches."""
    rng = np.random.default_rng(0)
    means = np.zeros(MOST)
    for case in group:
        low, high = np.log10(SENSIBLE[case.optimizer])
        drawn = 10 ** rng.uniform(low, high, (400, MOST))
        means += np.minimum.accumulate(case.expected(drawn), 1).mean(0) / len(group)
    enough = np.flatnonzero(means <= reached)
    return int(enough[0]) + 1 if len(enough) else f"> {MOST}"


def searched(case, probe, seed, trials):
    """The best expected regret of `trials` trials by tn.LeCun, random search and TPE."""
    low, high = SENSIBLE[case.optimizer]
    space = tn.SearchSpace(optimizer={"lr": tn.Float(min(low, 1e-5), 10.0, log=True)})
    best = {}
    for then in (tn.Random(), tn.Sobol()):
        history = tn.types.History(space, Objective((("loss", False),)), seed, 1)
        history.prober = lambda config: probe
        searcher, regrets = tn.LeCun(then), []
        for number in range(trials["lecun"]):
            config = proposed(searcher, space, history, stream(seed, "search", number))
            regrets.append(case.expected(config["optimizer"]["lr"]))
            history.record(tn.Trial(number, config, "DONE", metrics={"loss": regrets[-1]}))
        best[f"best of {trials['lecun']} by tn.LeCun({then})"] = min(regrets)
    rng = np.random.default_rng(seed)
    random = [case.expected(10 ** rng.uniform(*np.log10([low, high]))) for _ in range(trials["random"])]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(lambda trial: case.expected(trial.suggest_float("lr", low, high, log=True)), trials["tpe"])
    best[f"best of {trials['random']} random"] = min(random)
    return best | {f"best of {trials['tpe']} by Optuna's TPE": study.best_value}


def shown(name, regrets):
    regrets = np.array([regret for regret in regrets if not math.isnan(regret)])
    print(f"  {name:<34} mean {regrets.mean():.4f}   max {regrets.max():.2f}", flush=True)


def report(family, optimizer, group, seeds):
    print(f"{family}, {optimizer}: {len(group)} problems, {seeds} seeds")
    probes = {(case, seed): case.probe(seed) for case in group for seed in range(seeds)}
    runs = {key: key[0].trained(probe.rate, key[1]) for key, probe in probes.items()}
    reached = np.mean([max(0.0, run[0]) for run in runs.values()])
    shown("tn.probe, trained: loss", [run[0] for run in runs.values()])
    shown("tn.probe, trained: error", [run[1] for run in runs.values()])
    shown("tn.probe, read off: loss", [case.expected(probe.rate) for (case, _), probe in probes.items()])
    shown("the rule alone", [case.expected(p.estimate or 1e-3) for (case, _), p in probes.items()])
    shown("best constant of the others", [c.expected(r) for c, r in zip(group, constants(group), strict=True)])
    shown("lr 1e-3", [case.expected(1e-3) for case in group])
    tests = {key: key[0].range_test(key[1]) for key in probes}
    for reading in ("steepest", "minimum", "valley"):
        shown(f"range test, {reading}", [case.expected(getattr(t, reading)) for (case, _), t in tests.items()])
    print(f"  as good as the best of {random_worth(group, reached)} random trials")
    trials = {"lecun": 5, "random": 20, "tpe": 20}
    best = [searched(case, probe, seed, trials) for (case, seed), probe in probes.items()]
    for name in best[0]:
        shown(name, [found[name] for found in best])
    cost = [(p.gradients, p.gradients / p.steps, p.seconds / runs[key][2], p.steps) for key, p in probes.items()]
    for label, part in (
        ("short", [c for c in cost if c[3] < 3000]),
        ("3,000 steps", [c for c in cost if c[3] >= 3000]),
    ):
        if part:
            gradients, share, seconds, _ = np.median(part, axis=0)
            print(f"  cost, {label}: {gradients:.0f} gradients ({share:.1%} of the run), {seconds:.1%} of its time")
    for case in group:
        every = [(probes[case, seed], runs[case, seed]) for seed in range(seeds)]
        rates = " ".join(f"{probe.rate:.2g}:{run[0]:.3f}" for probe, run in every)
        best_rate = case.truth.best(case.problem, case.optimizer, case.init)[0]
        print(f"    {case.problem.name:<18} best {best_rate:<9.3g} rate:regret {rates}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", required=True, help="what lecun_problems.py --out wrote")
    parser.add_argument("--family", choices=list(INIT))
    parser.add_argument("--seeds", type=int, help="how many; 3 for classic and 2 for wide by default")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    truth = L.Truth.load(asked.truth)
    for family in [asked.family] if asked.family else INIT:
        found = cases(truth, family)
        for optimizer in dict.fromkeys(case.optimizer for case in found):
            group = [case for case in found if case.optimizer == optimizer]
            report(family, optimizer, group, asked.seeds or L.SEEDS[family])


if __name__ == "__main__":
    main()
