"""Classic functions to minimize, of a vector each; what is known of them stands where they are used."""

import math

import numpy as np


def sphere(x):
    return (x**2).sum()


def ellipsoid(x):
    return (1000.0 ** (np.arange(len(x)) / (len(x) - 1)) * x**2).sum()


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def rastrigin(x):
    return 10 * len(x) + (x**2 - 10 * np.cos(2 * math.pi * x)).sum()


def ackley(x):
    return 20 + math.e - 20 * np.exp(-0.2 * np.sqrt((x**2).mean())) - np.exp(np.cos(2 * math.pi * x).mean())


def branin(x):
    a, b = 5.1 / (4 * math.pi**2), 5 / math.pi
    return (x[1] - a * x[0] ** 2 + b * x[0] - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * np.cos(x[0]) + 10


HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x):
    return -(np.array([1, 1.2, 3, 3.2]) * np.exp(-(HARTMANN_A * (x - HARTMANN_P) ** 2).sum(1))).sum()
