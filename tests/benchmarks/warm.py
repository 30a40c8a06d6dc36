"""What earlier studies are worth to a new one. Run: python tests/benchmarks/warm.py [--suite nasbench201]

Each data set of a suite of tables (see search.py) is searched by tn.GP cold; and by tn.Warm after tn.GP searched
another data set of the suite for 50 trials ("one"), up to four others ("several"), another one of which all scores have
their signs turned ("hostile"), or three others of which one is so turned ("mixed"). Regret 0 is the best there is,
regret 1 the median of random searches of 50 trials: means over data sets and seeds, medians, and means of the decimal
logarithm.
"""

import argparse

import numpy as np
from search_problems import TABLES, Problem, tables

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.seeds import stream

AT = (1, 5, 10, 25)


def searched(searcher: tn.Searcher, problem: Problem, seed: int, trials: int) -> tn.types.History:
    history = tn.types.History(problem.space, Objective((("cost", False),)), seed)
    for number in range(trials):
        rng = stream(seed, "search", number)
        config = problem.space.cast(searcher.suggest(problem.space, history, rng))
        history.record(tn.Trial(number, config, "DONE", metrics={"cost": problem.of(config)}))
    return history


def turned(history: tn.types.History) -> tn.types.History:
    """The same trials with the best scores where the worst were."""
    other = tn.types.History(history.space, history.objective, history.seed)
    for trial in history.trials:
        other.record(tn.Trial(trial.number, trial.config, "DONE", metrics={"cost": -trial.metrics["cost"]}))
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="hpobench", choices=list(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    problems, seeds = tables(chosen.suite), range(chosen.seeds)
    past = {(p.name, seed): searched(tn.GP(), p, seed, 50) for p in problems for seed in seeds}

    def others(problem: Problem, seed: int) -> list[tn.types.History]:
        rest = [past[other.name, seed] for other in problems if other is not problem]
        first = (problems.index(problem) + seed) % len(rest)  # another one for each seed
        return rest[first:] + rest[:first]

    contestants = {
        "cold": lambda problem, seed: tn.GP(),
        "one": lambda problem, seed: tn.Warm(others(problem, seed)[0]),
        "several": lambda problem, seed: tn.Warm(others(problem, seed)[:4]),
        "hostile": lambda problem, seed: tn.Warm(turned(others(problem, seed)[0])),
        "mixed": lambda problem, seed: tn.Warm(_spoilt(others(problem, seed)[:3])),
    }
    print(f"{chosen.suite}: {len(problems)} data sets, {chosen.seeds} seeds; mean, median, log10 of the regret")
    for name, make in contestants.items():
        rows = []
        for problem in problems:
            for seed in seeds:
                costs = searched(make(problem, seed), problem, seed, AT[-1]).costs
                rows.append([problem.regret(cost) for cost in np.minimum.accumulate(costs)])
        found = np.array(rows)
        each = (
            f"@{n} {(r := found[:, n - 1]).mean():6.3f} {np.median(r):6.3f} {np.log10(r + 1e-2).mean():5.2f}"
            for n in AT
        )
        print(f"{name:8}", "   ".join(each), flush=True)


def _spoilt(histories: list[tn.types.History]) -> list[tn.types.History]:
    return [turned(histories[0]), *histories[1:]]


if __name__ == "__main__":
    main()
