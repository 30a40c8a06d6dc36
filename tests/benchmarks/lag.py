"""What Study(lag=) costs: the useful share of four workers' time. Run: python tests/benchmarks/lag.py

On a made-up clock, so that the figures are the same everywhere: 81 trials of up to 27 epochs, random search, the mean
of some seeds. An epoch is useful that counts in a trial; the rest is waiting, and what was trained beyond a stop. Each
trial has a speed of its own, up to `between` times that of others, and each epoch takes up to `within` times as long as
others of the trial. `epochs` is how many were trained, as a multiple of those without a lag.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import tuneflow as tn
from tests.helpers.simulated_clock import Clocked, Curve, uneven

WORKERS, TRIALS, EPOCHS = 4, 81, 27
LAGS = (None, 4, 8, 16)
SCHEDULERS = {"Halving": lambda: tn.Halving(3), "Median": tn.Median, "Full": tn.Full}
UNEVEN = ((1.0, 1.2), (2.0, 1.5), (4.0, 1.5), (10.0, 2.0))


def share(scheduler, lag, between, within, seed):
    """(useful share of the workers' time, epochs trained)."""
    runtime = Clocked(WORKERS, uneven(seed, between, within))
    study = tn.Study(
        space=tn.SearchSpace(x=tn.Float(0.06, 0.94)),
        trainer=Curve(EPOCHS),
        scheduler=scheduler(),
        runtime=runtime,
        lag=lag,
        seed=seed,
        progress=False,
    )
    study.run(trials=TRIALS)
    (clock,) = runtime.made
    counted = [(trial.number, report.epoch) for trial in study.trials for report in trial.reports]
    return sum(runtime.length(*each) for each in counted) / (WORKERS * clock.now), len(counted)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    for name, scheduler in SCHEDULERS.items():
        for between, within in UNEVEN:
            print(f"{name:<8} trials {between:>4}, epochs {within}:", end="", flush=True)
            base = 0.0
            for lag in LAGS:
                found = [share(scheduler, lag, between, within, seed) for seed in seeds]
                useful, epochs = (statistics.mean(column) for column in zip(*found, strict=True))
                base = base or epochs
                print(f"  lag {lag}: {useful:.2f} (epochs {epochs / base:.2f})", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
