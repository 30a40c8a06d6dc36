"""Gaussian processes over random points, with random widths and noise."""

import numpy as np

from tuneflow.search.gp.gaussian_process import GaussianProcess


def some_processes(rng, objectives, draws=2, size=9, dimensions=3):
    """For each draw a process for each objective, over the same points."""
    features = rng.random((size, dimensions))
    return [
        [
            GaussianProcess(
                np.concatenate([np.log(rng.uniform(0.3, 1, dimensions)), [0.3, np.log(1e-2)]]),
                np.arange(dimensions),
                features,
                rng.standard_normal(size),
                0.1 * rng.random(size),
            )
            for _ in range(objectives)
        ]
        for _ in range(draws)
    ]
