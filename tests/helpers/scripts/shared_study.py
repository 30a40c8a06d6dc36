"""A study of a plain function, run by several processes at once: shared_study.py FOLDER SEARCHER TRIALS."""

import sys
import time

import tuneflow as tn
from tuneflow.train.function_trainer import Function

SEARCHERS = {"grid": lambda: tn.Grid(20), "random": tn.Random, "sobol": tn.Sobol}
SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Float(0.0, 1.0))


def bowl(x, y):
    time.sleep(0.002)
    return (x - 0.3) ** 2 + (y - 0.6) ** 2


def make(folder, searcher):
    return tn.Study(
        space=SPACE,
        trainer=Function(bowl),
        searcher=SEARCHERS[searcher](),
        minimize="value",
        folder=folder,
        progress=False,
    )


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2]).run(trials=int(sys.argv[3]))
