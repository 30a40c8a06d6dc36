"""The regret of tn.GP by ask and tell, with and without known errors. Run: python tests/benchmarks/told_errors.py

The synthetic functions of search_problems.py, seen with Gaussian noise. Its standard error differs from trial to trial:
it is drawn between a tenth of a unit of regret and `--most` units, evenly on a logarithmic scale, as of trials that
were scored on more or fewer rows. Both searches see the same noise, and one of them is told its size by `errors=`.
Their choice is the trial with the best expected score; its regret is that of the function without noise: 0 is the best
there is, 1 the median of random searches of 50 trials. The p-value is Wilcoxon's of the pairs.
"""

import argparse

import numpy as np
from scipy.stats import wilcoxon
from search_problems import Problem, synthetic

import tuneflow as tn
from tuneflow.seeds import stream


def regret_of(problem: Problem, seed: int, trials: int, most: float, told: bool) -> float:
    """The regret of the choice after so many trials."""
    study = tn.Study(space=problem.space, searcher=tn.GP(), minimize="cost", seed=seed, progress=False)
    for number in range(trials):
        rng = stream(seed, "noise", problem.name, number)
        error = problem.unit * 0.1 * (10 * most) ** rng.random()
        trial = study.ask()
        cost = problem.of(trial.config) + error * rng.standard_normal()
        study.tell(trial, cost, errors=error if told else None)
    best = study.searcher.ranked(study.space, study.history)[0]
    return problem.regret(problem.of(study.trials[best].config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--most", type=float, default=3.0, help="the largest error, in units of regret")
    args = parser.parse_args()
    pairs = []
    for problem in synthetic():
        for seed in range(args.seeds):
            pair = [regret_of(problem, seed, args.trials, args.most, told) for told in (True, False)]
            pairs.append(pair)
            print(f"{problem.name:20} seed {seed}: {pair[0]:.3f} with errors, {pair[1]:.3f} without", flush=True)
    regrets = np.array(pairs)
    better, worse = (regrets[:, 0] < regrets[:, 1]).sum(), (regrets[:, 0] > regrets[:, 1]).sum()
    means, medians = regrets.mean(0), np.median(regrets, 0)
    print(f"{len(pairs)} pairs, {args.trials} trials: mean regret {means[0]:.3f} with errors, {means[1]:.3f} without;"
          f" median {medians[0]:.3f} and {medians[1]:.3f}; better in {better}, worse in {worse},"
          f" p = {wilcoxon(*regrets.T).pvalue:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
