"""How the benchmarks measure: contestants take turns, and only ratios of medians are printed.

The machines are shared and noisy. A time on its own says nothing; what took turns under the same noise can be compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping


def times(contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """CPU seconds of the process for each call: every contestant once a round, in turn, after `warmup` rounds."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + warmup):
        for name, run in contestants.items():
            started = time.process_time()
            run()
            if number >= warmup:
                taken[name].append(time.process_time() - started)
    return taken


def ratio(taken: Mapping[str, list[float]], base: str, ours: str) -> float:
    """How many times faster `ours` is than `base`: the median over the rounds of their quotient in that round."""
    return statistics.median(b / o for b, o in zip(taken[base], taken[ours], strict=True))
