"""Searchers on tables of 24 and 90 points, where a repetition teaches nothing.

Run: python tests/benchmarks/small_tables.py

    --tables FOLDER    real runs of taskset-dev.npz as the tables' values, instead of a bowl with ripples
    --noise 1          standard error of a cost, in standard deviations of the better half of the table
    --seeds 5          searches of each table
    --trials 24 45     trials on 24 and on 90 points

The noise of a configuration is always the same, as in a paired study. For every searcher: the share of the table's
scores that are better than the best one after half of the trials and after all (0 is the best score), and how many of
the trials were distinct. Run it with another PYTHONPATH, and it measures that version.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

SEARCHERS = {
    "random": tn.Random,
    "sobol": tn.Sobol,
    "tpe": tn.TPE,
    "gp": tn.GP,
    "auto": tn.Auto,
    "evolution": lambda: tn.Evolution(10, 4),
    "nsga2": lambda: tn.NSGA2(10),
    "cmaes": tn.CMAES,
}
SIDES = {24: (4, 3, 2), 90: (6, 5, 3)}
COLUMNS = (6, 0, 7)  # of TaskSet: learning rate, beta1, linear decay


def space_of(points: int) -> tn.SearchSpace:
    first, second, third = SIDES[points]
    labels = [f"k{value}" for value in range(third)]
    return tn.SearchSpace(a=tn.Int(1, first), b=tn.Choice([*range(second)], ordered=True), c=tn.Choice(labels))


def ripples(points: int, task: int) -> np.ndarray:
    """Costs of a bowl with its center somewhere, and ripples on it."""
    rng = np.random.default_rng([points, task])
    grid = np.array(list(product(*(np.linspace(0, 1, side) for side in SIDES[points]))))
    return np.square(grid - rng.random(3)).sum(1) + 0.1 * rng.standard_normal(points)


def real(points: int, settings: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Costs of the runs next to the points of a grid over the ranks of three settings; diverged ones are the worst."""
    final = np.where(np.isfinite(losses[:, -1]), losses[:, -1], np.nanmax(losses[:, -1]))
    ranks = settings[:, COLUMNS].argsort(0).argsort(0) / len(settings)
    grid = product(*((np.arange(side) + 0.5) / side for side in SIDES[points]))
    return np.array([final[np.square(ranks - point).sum(1).argmin()] for point in grid])


def tables_of(points: int, folder: Path | None) -> list[np.ndarray]:
    if folder is None:
        return [ripples(points, task) for task in range(6)]
    data = np.load(folder / "taskset-dev.npz")
    return [real(points, data[name], data["y" + name[1:]]) for name in sorted(data) if name.startswith("x_")]


def search(make, space: tn.SearchSpace, costs: np.ndarray, noise: float, trials: int, seed: int) -> tuple[list, list]:
    """The points that were tried, and after each the share of the table that is better than the best observed."""
    places = {str(config): place for place, config in enumerate(space.grid(100))}
    error = noise * costs[costs <= np.median(costs)].std()
    observed = costs + error * np.random.default_rng(seed).standard_normal(len(costs))
    history, searcher, tried = tn.types.History(space, Objective((("cost", False),)), seed), make(), []
    for number in range(trials):
        config = proposed(searcher, space, history, stream(seed, "search", number))
        if config is None:
            break
        tried.append(places[str(config)])
        metrics, errors = {"cost": float(observed[tried[-1]])}, {"cost": error} if noise else {}
        history.record(tn.Trial(number, config, "DONE", metrics=metrics, errors=errors))
    return tried, [float((observed < best).mean()) for best in np.minimum.accumulate(observed[tried])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs=2, default=(24, 45))
    args = parser.parse_args()
    for points, trials in zip(SIDES, args.trials, strict=True):
        space, tables = space_of(points), tables_of(points, args.tables)
        print(f"\n{points} points, {len(tables)} tables, {args.seeds} seeds, noise {args.noise}")
        print(f"{'':12}{'@' + str(trials // 2):>8}{'@' + str(trials):>8}{'distinct':>10}")
        for name, make in SEARCHERS.items():
            runs = [search(make, space, t, args.noise, trials, seed) for t in tables for seed in range(args.seeds)]
            ats = trials // 2, trials
            half, full = (np.mean([better[min(at, len(better)) - 1] for _, better in runs]) for at in ats)
            distinct = np.mean([len(set(tried)) for tried, _ in runs])
            print(f"{name:12}{half:8.3f}{full:8.3f}{distinct:10.1f}", flush=True)


if __name__ == "__main__":
    main()
