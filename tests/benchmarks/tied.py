"""Orders and tied parameters: what searchers find among them, beside random draws.

    python tests/benchmarks/tied.py orders --seeds 12 --searchers GP TPE Evolution Random
    python tests/benchmarks/tied.py constraints --seeds 5

Orders: an assignment (quadratic), a round trip and a precedence with weights, of 8 items, 60 trials; as a Permutation,
and as a Choice for each position under a `where=` that forbids repetitions. The score is the share of all orders that
are better than the best that was found. Constraints: the median of the best value after 40 trials.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import tuneflow as tn
from tests.helpers.searching import searched

ITEMS = 8
SEARCHERS: dict[str, Callable[[], tn.Searcher]] = {
    "Random": tn.Random,
    "Evolution": lambda: tn.Evolution(10, 4),
    "NSGA2": lambda: tn.NSGA2(10),
    "CMAES": tn.CMAES,
    "TPE": tn.TPE,
    "GP": tn.GP,
    "Auto": tn.Auto,
}


def order_problems(seed: int) -> dict[str, Callable[[Any], np.ndarray]]:
    """Costs of many orders at once, shape (m, n) to (m,)."""
    rng = np.random.default_rng(seed)
    flows, ways, weights = rng.random((ITEMS, ITEMS)), rng.random((ITEMS, ITEMS)), rng.exponential(size=(ITEMS, ITEMS))
    points, before = rng.random((ITEMS, 2)), np.argsort(rng.permutation(ITEMS))
    lengths = np.linalg.norm(points[:, None] - points, axis=2)
    turned = weights * (before[:, None] < before)

    def precedence(orders: np.ndarray) -> np.ndarray:
        places = np.argsort(orders, axis=1)
        return (turned * (places[:, :, None] > places[:, None])).sum((1, 2))

    return {
        "assignment": lambda orders: (flows * ways[orders[:, :, None], orders[:, None]]).sum((1, 2)),
        "round trip": lambda orders: lengths[orders, np.roll(orders, -1, axis=1)].sum(1),
        "precedence": precedence,
    }


def permutation() -> tuple[tn.SearchSpace, Callable[[Any], list[int]]]:
    return tn.SearchSpace(order=tn.Permutation(list(range(ITEMS)))), lambda config: config["order"]


def choices() -> tuple[tn.SearchSpace, Callable[[Any], list[int]]]:
    places = {f"p{place}": tn.Choice(list(range(ITEMS))) for place in range(ITEMS)}
    space = tn.SearchSpace(where=lambda config: len(set(config.values())) == ITEMS, **places)
    return space, lambda config: list(config.values())


def orders(names: list[str], seeds: int) -> None:
    every = np.array(list(itertools.permutations(range(ITEMS))))
    problems = {seed: order_problems(seed) for seed in range(seeds)}
    ranks = {(seed, name): np.sort(cost(every)) for seed in problems for name, cost in problems[seed].items()}
    for encoding, name in itertools.product((permutation, choices), names):
        shares: dict[str, list[float]] = {}
        started = time.process_time()
        for seed in range(seeds):
            for problem, cost in problems[seed].items():
                space, order_of = encoding()
                costs = searched(SEARCHERS[name](), space, partial(_cost, cost, order_of), 60, seed).costs
                better = np.searchsorted(ranks[seed, problem], np.min(costs) - 1e-9) / len(every)
                shares.setdefault(problem, []).append(100 * better)
        pace = (time.process_time() - started) / seeds / 3 / 60
        means = "  ".join(f"{problem} {np.mean(found):.2f} %" for problem, found in shares.items())
        print(f"{encoding.__name__:<12} {name:<10} {means}  {1000 * pace:.0f} ms", flush=True)


def _cost(cost: Callable[[Any], np.ndarray], order_of: Callable[[Any], list[int]], config: Any) -> float:
    return float(cost(np.array([order_of(config)]))[0])


def ring(config: Any) -> bool:
    return 0.9 < config["x"] ** 2 + config["y"] ** 2 < 1


def constrained_problems() -> dict[str, tuple[tn.SearchSpace, Callable[[Any, int], float]]]:
    """Spaces, and costs of a configuration by the seed, which moves the best one a little."""
    unit, digits = tn.Float(0, 1), [str(digit) for digit in range(6)]
    labels = {f"p{place}": tn.Choice(digits) for place in range(6)}
    bits = {f"b{place}": tn.Choice([0, 1]) for place in range(12)}
    twelve = {name: tn.Int(0, 12) for name in "abc"}
    return {
        "x == y of 100": (
            tn.SearchSpace(where=lambda c: c["x"] == c["y"], x=tn.Int(0, 99), y=tn.Int(0, 99), z=unit),
            lambda c, seed: abs(c["x"] - 37 - seed) / 20 + abs(c["z"] - 0.3),
        ),
        "a + b + c == 12": (
            tn.SearchSpace(where=lambda c: c["a"] + c["b"] + c["c"] == 12, z=unit, **twelve),
            lambda c, seed: abs(c["a"] - 2 - seed % 4) + abs(c["b"] - 7) + 3 * abs(c["z"] - 0.3),
        ),
        "6 labels once": (
            tn.SearchSpace(where=lambda c: len(set(c.values())) == 6, **labels),
            lambda c, seed: sum(
                abs(int(v) - (place * 5 + 2 + seed) % 6) * (1 + place % 3) for place, v in enumerate(c.values())
            ),
        ),
        "corner of 1 in 1,100": (
            tn.SearchSpace(where=lambda c: c["x"] > 0.97 and c["y"] > 0.97, x=unit, y=unit),
            lambda c, seed: abs(c["x"] - 0.98) + abs(c["y"] - 0.975 - 0.002 * seed),
        ),
        "ring": (
            tn.SearchSpace(where=ring, x=tn.Float(-1, 1), y=tn.Float(-1, 1)),
            lambda c, seed: (c["x"] - 0.6 - 0.02 * seed) ** 2 + (c["y"] - 0.75) ** 2,
        ),
        "odd number of 12 bits": (
            tn.SearchSpace(where=lambda c: sum(c.values()) % 2 == 1, **bits),
            lambda c, seed: sum(
                (bit != ((place * 7 + seed) % 3 == 0)) * (1 + place % 4) for place, bit in enumerate(c.values())
            ),
        ),
    }


def constraints(names: list[str], seeds: int) -> None:
    for problem, (space, cost) in constrained_problems().items():
        row = []
        for name in names:
            try:
                SEARCHERS[name]().check(space)
            except ValueError:
                continue
            histories = [
                searched(SEARCHERS[name](), space, partial(cost, seed=seed), 40, seed) for seed in range(seeds)
            ]
            row.append(f"{name} {np.median([history.costs.min() for history in histories]):.3g}")
        print(f"{problem:<22} {'  '.join(row)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["orders", "constraints"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--searchers", nargs="*", default=list(SEARCHERS)[:-1], choices=SEARCHERS)
    options = parser.parse_args()
    (orders if options.part == "orders" else constraints)(options.searchers, options.seeds)


if __name__ == "__main__":
    main()
