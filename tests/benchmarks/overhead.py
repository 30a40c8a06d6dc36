"""What a trial costs when training costs nothing. Run: python tests/benchmarks/overhead.py

Random search over two parameters, in memory, by tuneflow and by Optuna, in turn in the same run; CPU time of the
process.
"""

import argparse
import time

import optuna
from side_by_side import ratio, times

import tuneflow as tn


def bowl(x, y):
    return (x - 1) ** 2 + y**2


def ours(trials, **settings):
    return tn.minimize(bowl, tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5)), trials=trials, **settings)


def theirs(trials):
    def objective(trial):
        return bowl(trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5))

    optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(objective, n_trials=trials)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for trials in (100, 1_000, 10_000):
        few = rounds if trials < 10_000 else max(1, rounds // 3)
        taken = times({"ours": lambda n=trials: ours(n), "optuna": lambda n=trials: theirs(n)}, few)
        print(
            f"{trials:>6} trials: tuneflow / Optuna, trials per second {ratio(taken, 'optuna', 'ours'):.2f}", flush=True
        )
    started = time.process_time()
    ours(100)
    hundred = (time.process_time() - started) / 100
    started = time.process_time()
    ours(10_000)
    print(f"a trial's cost at 10,000 over its cost at 100: {(time.process_time() - started) / 10_000 / hundred:.2f}")


if __name__ == "__main__":
    main()
