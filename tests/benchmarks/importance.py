"""Importances against functions whose importances are known. Run: python tests/benchmarks/importance.py [--seeds 20]

Each function is evaluated at configurations that tn.Random or tn.TPE proposes, with normal noise of so many standard
deviations of the function, and the same data go to study.importance(), to the two evaluators of Optuna that rank
parameters by variance (`pip install optuna`), and to a random forest, permuted over the whole space, with a bootstrap
(`pip install scikit-learn`). Optuna's evaluators leave failed trials out, and conditional parameters too.

top: how often the most important parameter is named. Optuna's evaluators are also right with the one that explains the
most alone, as that is what they estimate. cover: how many total effects are in their 90 % intervals. off: mean distance
of the values from the total effects. sure: how often study.importance() had no doubt which one is first, and how often
it was right then. CPU seconds of one call.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from importance_problems import FUNCTIONS, KnownFunction

import tuneflow as tn
from tuneflow.analysis.importance import OFTEN, importance_of
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.total_effects import _bounded, _changed, _effects
from tuneflow.history.objective import Objective
from tuneflow.search.gp.features import FeatureMap
from tuneflow.seeds import stream

PLACES = 128  # of which the forest changes one parameter after the other


class Estimates(NamedTuple):
    """Values by parameter, the ends of their intervals, and how often each was first, where these are known."""

    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    first: np.ndarray | None = None


def searched(function: KnownFunction, searcher: tn.Searcher, trials: int, noise: float, seed: int) -> tn.types.History:
    history = tn.types.History(function.space, Objective((("cost", False),)), seed)
    luck = np.random.default_rng(seed)
    for number in range(trials):
        config = function.space.cast(searcher.suggest(function.space, history, stream(seed, "search", number)))
        cost = function.of(function.space.to_unit(config)[None])[0] + noise * function.spread * luck.standard_normal()
        status = "DONE" if np.isfinite(cost) else "DIVERGED"
        history.record(tn.Trial(number, config, status, metrics={"cost": float(cost)}))
    return history


def ours(history: tn.types.History) -> Estimates:
    importance = importance_of(StudyRecord("", {}, history.space, history))
    shares = [importance[name] for name in history.space.parameters]
    return Estimates(*(np.array([getattr(share, of) for share in shares]) for of in Estimates._fields))


def forest(history: tn.types.History) -> Estimates:
    """Total effects of forests of 16 extremely randomized trees, each forest on a bootstrap sample."""
    from sklearn.ensemble import ExtraTreesRegressor

    layout, rng = FeatureMap(history.space), np.random.default_rng(history.seed)
    features, costs = layout.features(history.units), history.costs.copy()
    costs[~np.isfinite(costs)] = costs[np.isfinite(costs)].max()
    costs = _bounded(costs[:, None])[:, 0]
    parameters, drawn = len(history.space.parameters), []
    for _ in range(16):
        rows = rng.integers(0, len(costs), len(costs))
        trees = ExtraTreesRegressor(16, max_features=1.0, random_state=int(rng.integers(1 << 31)))
        trees.fit(features[rows], costs[rows])
        points = _changed(layout, rng.random((PLACES, 2 * len(history.space))))
        values = trees.predict(layout.features(points))
        drawn.append(_effects(values.reshape(parameters + 1, PLACES, 1))[0])
    return Estimates(np.mean(drawn, axis=0), *np.quantile(drawn, [0.05, 0.95], axis=0))


def optuna_by(name: str) -> Callable[[tn.types.History], Estimates]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    evaluator = getattr(optuna.importance, name)
    uniform = optuna.distributions.FloatDistribution(0.0, 1.0)

    def estimate(history: tn.types.History) -> Estimates:
        study, names = optuna.create_study(), history.space.names
        for unit, cost in zip(history.units.tolist(), history.costs.tolist(), strict=True):
            active = {name: place for name, place in zip(names, unit, strict=True) if place == place}
            if np.isfinite(cost):
                study.add_trial(
                    optuna.trial.create_trial(params=active, distributions=dict.fromkeys(active, uniform), value=cost)
                )
        seeded = evaluator(seed=history.seed) if name == "FanovaImportanceEvaluator" else evaluator()
        values = optuna.importance.get_param_importances(study, evaluator=seeded)
        return Estimates(np.array([values.get(name, 0.0) for name in names]))

    return estimate


@dataclass
class Score:
    """How one contestant did on one set of data."""

    top: bool
    cover: float
    wide: float
    off: float
    sure: float
    seconds: float


def score(function: KnownFunction, estimate: Callable[[tn.types.History], Estimates], history) -> Score:
    started = time.process_time()
    values, low, high, first = estimate(history)
    seconds, truth = time.process_time() - started, function.total_effects
    right = {int(truth.argmax())} | ({int(function.main_effects.argmax())} if low is None else set())
    cover = wide = np.nan
    if low is not None:
        cover, wide = ((low <= truth + 0.005) & (truth - 0.005 <= high)).mean(), (high - low).mean()
    sure = np.nan if first is None else float(first[values.argmax()] >= OFTEN)
    return Score(int(values.argmax()) in right, cover, wide, np.abs(values - truth).mean(), sure, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--searcher", default="Random", choices=["Random", "TPE", "GP"])
    parser.add_argument("--ours", action="store_true", help="no other contestant")
    chosen = parser.parse_args()
    contestants = {"importance()": ours}
    if not chosen.ours:
        contestants |= {"fANOVA": optuna_by("FanovaImportanceEvaluator")}
        contestants |= {"PED-ANOVA": optuna_by("PedAnovaImportanceEvaluator"), "forest": forest}
    print(f"tn.{chosen.searcher}, {chosen.trials} trials, noise {chosen.noise}, {chosen.seeds} seeds")
    all_scores: dict[str, list[Score]] = {name: [] for name in contestants}
    for function in FUNCTIONS.values():
        searcher, seeds = getattr(tn, chosen.searcher), range(chosen.first_seed, chosen.first_seed + chosen.seeds)
        histories = [searched(function, searcher(), chosen.trials, chosen.noise, seed) for seed in seeds]
        print(f"{function.name}: {np.round(function.total_effects, 2)}, alone {np.round(function.main_effects, 2)}")
        for name, estimate in contestants.items():
            scores = [score(function, estimate, history) for history in histories]
            all_scores[name] += scores
            print(line(name, scores), flush=True)
    print("all functions")
    for name, scores in all_scores.items():
        print(line(name, scores))


def line(name: str, scores: list[Score]) -> str:
    top, cover, wide, off, sure, seconds = (
        np.mean([getattr(one, of) for one in scores]) for of in ("top", "cover", "wide", "off", "sure", "seconds")
    )
    of_these = [one.top for one in scores if one.sure == 1.0]
    words = f"top {top:4.0%}  off {off:.3f}  {seconds:.3f} s"
    words += f"  cover {cover:4.0%}  wide {wide:.2f}" if cover == cover else ""
    words += f"  sure {sure:4.0%}, right then {np.mean(of_these):.0%}" if of_these else ""
    return f"  {name:12}  {words}"


if __name__ == "__main__":
    main()
