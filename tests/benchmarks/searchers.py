"""Searchers against their peers, on functions that cost nothing. Run: python tests/benchmarks/searchers.py tpe

    tpe [--tables FOLDER]    TPE and Evolution against Optuna's TPE and random search
    cmaes                    CMA-ES against the package cmaes, in the same cube from the same start
    nsga2                    NSGA-II against Optuna's: hypervolume
    fronts                   GP with several objectives against Optuna's, NSGA-II and random search: hypervolume
    limits                   searchers under limits: the best loss within them, and how many trials were within
    asks                     CPU milliseconds of an ask after 100, 1,000 and 10,000 trials

Seeds are shared by all contestants. Regret is the best cost so far less the least there is, given as its decimal
logarithm, lower is better; below 1e-4 (cmaes: 1e-8) it counts as that. FOLDER holds taskset-dev.npz: real training
runs, of which the nearest counts; cost is the share of all runs that ended better. The functions have their best point
within the middle half of every range, but for Branin's, Hartmann's and Rosenbrock's own;
ZDT's fronts lie on the cube's border.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cmaes
import numpy as np
import optuna
from functions import ackley, branin, ellipsoid, hartmann, rastrigin, rosenbrock, sphere
from optuna._hypervolume import compute_hypervolume

import tuneflow as tn
from tuneflow.history.objective import Limit, Objective
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream


@dataclass(frozen=True)
class Problem:
    """A space, a function of a configuration to minimize (or several), and the least value there is."""

    space: tn.SearchSpace
    cost: Callable[[dict], float | tuple[float, ...]]
    least: float = 0.0


def cube(d: int, low: float, high: float) -> tn.SearchSpace:
    return tn.SearchSpace(**{f"x{i}": tn.Float(low, high) for i in range(d)})


def of_vector(function: Callable[[np.ndarray], float]) -> Callable[[dict], float]:
    return lambda config: float(function(np.array(list(config.values()))))


def shifted(function: Callable[[np.ndarray], float], d: int) -> Callable[[np.ndarray], float]:
    """With its optimum away from the middle of the cube: by up to a fifth of a range of 10, the same for all."""
    offset = np.random.default_rng(7).uniform(-2, 2, d)
    return lambda x: function(x - offset)


def mixed(config):
    """Numbers whose best place depends on a label, whole numbers, and an ordered choice."""
    center = {"a": -2.0, "b": 1.0, "c": 3.0}[config["kind"]]
    height = {"a": 0.0, "b": 1.0, "c": 2.0}[config["kind"]]
    rate = math.log10(config["lr"]) + 2.5
    whole = (config["width"] - 37) ** 2 / 400 + (config["depth"] - 4) ** 2 / 4
    return height + (config["x"] - center) ** 2 + rate**2 + whole + abs(math.log2(config["batch"] / 64)) / 2


MIXED = {
    "x": tn.Float(-5, 5),
    "lr": tn.Float(1e-5, 1.0, log=True),
    "kind": tn.Choice(["c", "a", "b"]),
    "width": tn.Int(1, 128, log=True),
    "depth": tn.Int(1, 10),
    "batch": tn.Choice([16, 32, 64, 128, 256], ordered=True),
}


def conditional(config):
    (kind, own), layers = next(iter(config["optimizer"].items())), config["layers"]
    rate = math.log10(own["lr"])
    if kind == "sgd":
        return 0.2 + (rate + 1) ** 2 + 4 * (own["momentum"] - 0.9) ** 2 + (layers - 3) ** 2 / 8
    if kind == "adam":
        return (rate + 3) ** 2 + (math.log10(own["eps"]) + 6) ** 2 / 16 + (layers - 5) ** 2 / 8
    return 0.6 + (rate + 2) ** 2 + (layers - 2) ** 2 / 8


CONDITIONAL = {
    "optimizer": tn.Choice(
        {
            "sgd": tn.SearchSpace(lr=tn.Float(1e-5, 1.0, log=True), momentum=tn.Float(0.0, 0.99)),
            "adam": tn.SearchSpace(lr=tn.Float(1e-5, 1.0, log=True), eps=tn.Float(1e-10, 1e-2, log=True)),
            "plain": tn.SearchSpace(lr=tn.Float(1e-5, 1.0, log=True)),
        }
    ),
    "layers": tn.Int(1, 8),
}


def grid_cost(config):
    """Whole numbers and labels alone, with an interaction."""
    apart = abs(config["a"] - config["b"]) + (config["a"] - 6) ** 2 / 4 + (config["d"] - 3) ** 2
    return apart + (0.0 if config["c"] == "q" else 2.0)


SYNTHETIC = {
    "sphere 5": Problem(cube(5, -5, 5), of_vector(shifted(sphere, 5))),
    "sphere 20": Problem(cube(20, -5, 5), of_vector(shifted(sphere, 20))),
    "ellipsoid 10": Problem(cube(10, -5, 5), of_vector(shifted(ellipsoid, 10))),
    "rosenbrock 5": Problem(cube(5, -2, 2), of_vector(rosenbrock)),
    "rastrigin 5": Problem(cube(5, -5, 5), of_vector(shifted(rastrigin, 5))),
    "ackley 10": Problem(cube(10, -5, 5), of_vector(shifted(ackley, 10))),
    "branin": Problem(tn.SearchSpace(x=tn.Float(-5, 10), y=tn.Float(0, 15)), of_vector(branin), 0.39788735772973816),
    "hartmann 6": Problem(cube(6, 0, 1), of_vector(hartmann), -3.322368011415515),
    "mixed": Problem(tn.SearchSpace(**MIXED), mixed),
    "conditional": Problem(tn.SearchSpace(**CONDITIONAL), conditional),
    "discrete": Problem(
        tn.SearchSpace(a=tn.Int(0, 9), b=tn.Int(0, 9), c=tn.Choice(["p", "q", "r"]), d=tn.Int(1, 5)), grid_cost
    ),
}


def tables(folder: Path) -> dict[str, Problem]:
    """Final losses of real runs: a configuration counts as the nearest of the 1,000 that were run, by ranks."""
    data = np.load(folder / "taskset-dev.npz")
    problems = {}
    for key in sorted(k for k in data.files if k.startswith("x_")):
        x, y = data[key], data["y_" + key[2:]]
        ranks = x.argsort(0).argsort(0) / (len(x) - 1)
        final = np.where(np.isfinite(y[:, -1]), y[:, -1], np.inf)
        shares = final.argsort().argsort() / len(final)  # the share of the pool that is better
        space = cube(x.shape[1], 0, 1)
        problems[key[2:]] = Problem(
            space, of_vector(lambda u, ranks=ranks, shares=shares: shares[((ranks - u) ** 2).sum(1).argmin()])
        )
    return problems


class Ours:
    """One of tuneflow's searchers, asked and told without a study around it."""

    def __init__(self, searcher: tn.Searcher, problem: Problem, seed: int, goals: int = 1) -> None:
        self.searcher, self.problem = searcher, problem
        self.names = [f"f{i}" for i in range(goals)]
        self.history = tn.types.History(problem.space, Objective(tuple((name, False) for name in self.names)), seed)

    def ask(self) -> dict:
        rng = stream(self.history.seed, "search", len(self.history))
        return proposed(self.searcher, self.problem.space, self.history, rng)

    def tell(self, config: dict, costs: tuple[float, ...]) -> None:
        metrics = dict(zip(self.names, costs, strict=True))
        self.history.record(tn.Trial(len(self.history), config, "DONE", metrics=metrics))


class Peer:
    """One of Optuna's samplers on the same space."""

    def __init__(self, sampler: optuna.samplers.BaseSampler, problem: Problem, goals: int = 1) -> None:
        self.space = problem.space
        self.study = optuna.create_study(sampler=sampler, directions=["minimize"] * goals)

    def ask(self) -> dict:
        self.trial = self.study.ask()
        unit = np.full(len(self.space), np.nan)
        for place, axis in enumerate(self.space.coordinates):
            chosen = ((self.space.coordinates[parent].parameter, unit[parent], label) for parent, label in axis.needs)
            if all(u == u and p.from_unit(u) == label for p, u, label in chosen):
                unit[place] = axis.parameter.to_unit(self._value(axis.name, axis.parameter))
        return self.space.from_unit(np.nan_to_num(unit, nan=0.5))

    def _value(self, name, parameter):
        if isinstance(parameter, tn.Choice):
            return self.trial.suggest_categorical(name, parameter.values)
        suggest = self.trial.suggest_float if isinstance(parameter, tn.Float) else self.trial.suggest_int
        return suggest(name, parameter.low, parameter.high, log=parameter.log)

    def tell(self, config: dict, costs: tuple[float, ...]) -> None:
        self.study.tell(self.trial, list(costs))


def course(contestant, problem: Problem, trials: int) -> tuple[np.ndarray, float]:
    """All costs, shape (trials, goals), and CPU seconds per ask."""
    costs, seconds = [], 0.0
    for _ in range(trials):
        started = time.process_time()
        config = contestant.ask()
        seconds += time.process_time() - started
        value = problem.cost(config)
        costs.append(value if isinstance(value, tuple) else (value,))
        contestant.tell(config, costs[-1])
    return np.array(costs), seconds / trials


def zdt(number: int, d: int = 12) -> Problem:
    def cost(config):
        x = np.array(list(config.values()))
        g = 1 + 9 * x[1:].mean()
        ratio = x[0] / g
        bent = {1: 1 - math.sqrt(ratio), 2: 1 - ratio**2}.get(number)
        return float(x[0]), float(
            g * (1 - math.sqrt(ratio) - ratio * math.sin(10 * math.pi * x[0]) if bent is None else bent)
        )

    return Problem(cube(d, 0, 1), cost)


def dtlz2(d: int = 8) -> Problem:
    def cost(config):
        x = np.array(list(config.values()))
        a, b, g = x[0] * math.pi / 2, x[1] * math.pi / 2, 1 + ((x[2:] - 0.5) ** 2).sum()
        return (
            float(g * math.cos(a) * math.cos(b)),
            float(g * math.cos(a) * math.sin(b)),
            float(g * math.sin(a)),
        )

    return Problem(cube(d, 0, 1), cost)


def mixed_front(config):
    """What a network costs against how well it does: labels, whole numbers and a rate."""
    size = config["width"] * config["depth"] / 1280
    loss = mixed(config)
    return float(loss + 2 / (1 + 10 * size)), float(size)


FRONTS = {
    "zdt1": (zdt(1), (1.1, 6.0)),
    "zdt2": (zdt(2), (1.1, 6.0)),
    "zdt3": (zdt(3), (1.1, 6.0)),
    "dtlz2": (dtlz2(), (2.0, 2.0, 2.0)),
    "mixed front": (Problem(tn.SearchSpace(**MIXED), mixed_front), (10.0, 1.0)),
}


def bowl(config):
    x = np.array(list(config.values()))
    away = float(np.linalg.norm(x - 0.8))
    return {"loss": float(((x - 0.3) ** 2).sum()), "sum": float(x.sum()), "away": away}


def waves(config):
    x, y = 6 * config["x0"], 6 * config["x1"]
    return {"loss": math.cos(2 * x) * math.cos(y) + math.sin(x), "tilt": math.cos(x + y)}


def islands(config):
    x, y = 6 * config["x0"], 6 * config["x1"]
    return {"loss": math.sin(x) + y, "tilt": math.sin(x) * math.sin(y)}


# Space, metrics, limits. The last two are those of Gardner et al., ICML 2014.
LIMITED = {
    "bowl, sum >= 2": (cube(3, 0, 1), bowl, (Limit("sum", least=2.0),)),
    "bowl, in a ball": (cube(3, 0, 1), bowl, (Limit("away", most=0.3),)),
    "bowl, in both": (cube(3, 0, 1), bowl, (Limit("sum", 1.8, 2.0), Limit("away", most=0.5))),
    "waves": (cube(2, 0, 1), waves, (Limit("tilt", most=0.5),)),
    "islands": (cube(2, 0, 1), islands, (Limit("tilt", most=-0.95),)),
}


Run = Callable[[Problem, int, int], np.ndarray]  # (problem, seed, trials) -> costs, shape (trials, goals)


def ours(make: Callable[[], tn.Searcher]) -> Run:
    return lambda problem, seed, trials: course(Ours(make(), problem, seed, goals(problem)), problem, trials)[0]


def peer(make: Callable[[int], optuna.samplers.BaseSampler]) -> Run:
    return lambda problem, seed, trials: course(Peer(make(seed), problem, goals(problem)), problem, trials)[0]


def goals(problem: Problem) -> int:
    value = problem.cost(problem.space.from_unit(np.full(len(problem.space), 0.5)))
    return len(value) if isinstance(value, tuple) else 1


def package(sigma: float) -> Run:
    """The package cmaes in the unit cube, from its middle; asked and told by generations."""

    def run(problem: Problem, seed: int, trials: int) -> np.ndarray:
        d = len(problem.space)
        optimizer, costs, told = cmaes.CMA(np.full(d, 0.5), sigma, bounds=np.array([[0, 1]] * d), seed=seed), [], []
        for _ in range(trials):
            x = optimizer.ask()
            costs.append(problem.cost(problem.space.from_unit(x)))
            told.append((x, costs[-1]))
            if len(told) == optimizer.population_size:
                optimizer.tell(told)
                told = []
        return np.array(costs)[:, None]

    return run


def compare(
    contestants: Mapping[str, Run], problems: Mapping[str, Problem], seeds: int, at: list[int], least: float
) -> None:
    """Prints the log regret after each of `at` trials: over all, and for each problem after the last."""
    figures = {name: np.empty((len(problems), seeds, len(at))) for name in contestants}
    for row, problem in enumerate(problems.values()):
        for seed in range(seeds):
            for name, run in contestants.items():
                best = np.minimum.accumulate(run(problem, seed, at[-1])[:, 0]) - problem.least
                figures[name][row, seed] = np.log10(np.maximum(best[np.array(at) - 1], least))
    print(f"log10 regret, {len(problems)} problems, {seeds} seeds; mean and median over both, the mean of each problem")
    for name, own in figures.items():
        for column, trials in enumerate(at):
            taken = own[..., column]
            print(f"  {name:<24} {trials:>5} trials  mean {taken.mean():+.3f}  median {np.median(taken):+.3f}")
    first, *others = figures
    for other in others:
        apart = (figures[first] - figures[other])[..., -1]
        error = apart.mean(1).std(ddof=1) / math.sqrt(len(apart))
        better, worse = (apart.mean(1) < -0.01).sum(), (apart.mean(1) > 0.01).sum()
        print(
            f"  {first} less {other}: {apart.mean():+.3f} +- {error:.3f} over problems, {better} better, {worse} worse"
        )
    for row, problem in enumerate(problems):
        print(f"  {problem:<34}", "  ".join(f"{name} {own[row, :, -1].mean():+.2f}" for name, own in figures.items()))


def compare_fronts(contestants: Mapping[str, Run], seeds: int, at: list[int]) -> None:
    print(f"hypervolume as a share of the best contestant's after {at[-1]} trials, mean of {seeds} seeds")
    for title, (problem, corner) in FRONTS.items():
        figures = {}
        for name, run in contestants.items():
            found = [run(problem, seed, at[-1]) for seed in range(seeds)]
            figures[name] = np.mean([[_volume(costs[:n], corner) for n in at] for costs in found], axis=0)
        most = max(own[-1] for own in figures.values())
        for name, own in figures.items():
            print(f"  {title:<12} {name:<24}", "  ".join(f"{n}: {v / most:.3f}" for n, v in zip(at, own, strict=True)))


def compare_limited(makers: Mapping[str, Callable[[], tn.Searcher]], seeds: int, trials: int) -> None:
    print(f"after {trials} trials, {seeds} seeds: median and worst of the best loss within limits, mean number within")
    for title, (space, measure, limits) in LIMITED.items():
        for name, make in makers.items():
            bests, counts = [], []
            for seed in range(seeds):
                history, searcher = tn.types.History(space, Objective((("loss", False),), limits=limits), seed), make()
                for number in range(trials):
                    config = proposed(searcher, space, history, stream(seed, "search", number))
                    history.record(tn.Trial(number, config, "DONE", metrics=measure(config)))
                within = [trial for trial in history.trials if history.within(trial)]
                bests.append(min((trial.metrics["loss"] for trial in within), default=math.inf))
                counts.append(len(within))
            print(f"  {title:<16} {name:<10} {np.median(bests):+.4f} {max(bests):+.4f}  {np.mean(counts):.1f}")


def _volume(costs: np.ndarray, corner: tuple[float, ...]) -> float:
    inside = costs[(costs < np.array(corner)).all(1)]
    return float(compute_hypervolume(inside, np.array(corner))) if len(inside) else 0.0


def asks(makers: Mapping[str, Callable[[], tn.Searcher]], counts: list[int], dimensions: list[int]) -> None:
    """Prints the CPU milliseconds of an ask: the mean of 29, each after one more trial was told."""
    for d in dimensions:
        problem = Problem(cube(d, -5, 5), of_vector(sphere))
        for name, make in makers.items():
            taken = []
            for count in counts:
                contestant, times = Ours(make(), problem, 0), []
                for number in range(count + 30):
                    if number < count:
                        config = problem.space.sample(stream(0, "filled", number))
                    else:
                        started = time.process_time()
                        config = contestant.ask()
                        times.append(time.process_time() - started)
                    contestant.tell(config, (problem.cost(config),))
                taken.append(1000 * float(np.mean(times[1:])))  # the first one reads the whole history
            print(
                f"  {d:>2} parameters  {name:<12}",
                "  ".join(f"{n}: {t:.2f}" for n, t in zip(counts, taken, strict=True)),
            )
        peers = {"optuna tpe": optuna.samplers.TPESampler(seed=0), "optuna cma": optuna.samplers.CmaEsSampler(seed=0)}
        for name, sampler in peers.items():
            contestant, times = Peer(sampler, problem), []
            for _ in range(130):
                started = time.process_time()
                config = contestant.ask()
                times.append(time.process_time() - started)
                contestant.tell(config, (problem.cost(config),))
            print(f"  {d:>2} parameters  {name:<12} 100: {1000 * float(np.mean(times[100:])):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tpe", "cmaes", "nsga2", "fronts", "limits", "asks"])
    parser.add_argument("--tables", type=Path, help="folder of taskset-dev.npz")
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if chosen.what == "tpe":
        contestants = {
            "tpe": ours(tn.TPE),
            "optuna tpe": peer(lambda seed: optuna.samplers.TPESampler(seed=seed)),
            "evolution": ours(tn.Evolution),
            "random": ours(tn.Random),
        }
        problems = SYNTHETIC | (tables(chosen.tables) if chosen.tables else {})
        compare(contestants, problems, chosen.seeds, [25, 50, 100], 1e-4)
    elif chosen.what == "cmaes":
        problems = {name: p for name, p in SYNTHETIC.items() if name not in ("mixed", "conditional", "discrete")}
        compare({"cmaes": ours(tn.CMAES), "package": package(0.2)}, problems, chosen.seeds, [200, 1000], 1e-8)
        problems = {name: SYNTHETIC[name] for name in ("mixed", "conditional", "discrete")}
        peers = {"optuna's": peer(lambda seed: optuna.samplers.CmaEsSampler(seed=seed)), "tpe": ours(tn.TPE)}
        compare({"cmaes": ours(tn.CMAES)} | peers | {"random": ours(tn.Random)}, problems, chosen.seeds, [200], 1e-4)
    elif chosen.what == "nsga2":
        contestants = {
            "nsga2": ours(tn.NSGA2),
            "optuna's (30)": peer(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=30)),
            "optuna's (50, default)": peer(lambda seed: optuna.samplers.NSGAIISampler(seed=seed)),
            "random": ours(tn.Random),
        }
        compare_fronts(contestants, chosen.seeds, [100, 200, 400])
    elif chosen.what == "fronts":
        contestants = {
            "gp": ours(tn.GP),
            "optuna gp": peer(lambda seed: optuna.samplers.GPSampler(seed=seed)),
            "nsga2": ours(tn.NSGA2),
            "optuna nsga2 (30)": peer(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=30)),
            "random": ours(tn.Random),
        }
        compare_fronts(contestants, chosen.seeds, [25, 50, 100])
    elif chosen.what == "limits":
        makers = {"tpe": tn.TPE, "cmaes": tn.CMAES, "evolution": lambda: tn.Evolution(10, 4)}
        makers = {"gp": tn.GP} | makers | {"nsga2": lambda: tn.NSGA2(10), "random": tn.Random}
        compare_limited(makers, chosen.seeds, 40)
    else:
        makers = {"tpe": tn.TPE, "cmaes": tn.CMAES, "evolution": tn.Evolution, "nsga2": tn.NSGA2, "sobol": tn.Sobol}
        asks(makers, [100, 1_000, 10_000], [5, 10, 30])


if __name__ == "__main__":
    main()
