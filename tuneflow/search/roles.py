"""Roles: find the learning rate, the momentum and their kin by name, and the values that are usual for them."""

import math

from tuneflow.space.nodes import Coordinate

# Role: (scale, likeliest value, standard deviation on that scale). Conventions of the field, not measurements.
USUAL: dict[str, tuple[str, float, float]] = {
    "momentum": ("rest", 0.9, 0.5),
    "beta1": ("rest", 0.9, 0.4),
    "beta2": ("rest", 0.999, 0.7),
    "dropout": ("", 0.1, 0.15),
    "label_smoothing": ("", 0.05, 0.08),
    "warmup": ("", 0.05, 0.08),
}
ROLES = ("lr", "weight_decay", "batch_size", *USUAL)

_SECTION = {
    **dict.fromkeys(("lr", "momentum", "weight_decay", "beta1", "beta2"), "optimizer"),
    "dropout": "model",
    "label_smoothing": "loss",
    "warmup": "trainer",
    "batch_size": "trainer",
}
_ALIASES = {"learning_rate": "lr", "drop": "dropout", "drop_rate": "dropout", "p_drop": "dropout", "share": "warmup"}


def role_of(axis: Coordinate) -> str | None:
    """Return the role of a parameter by its section and name; None where these do not show it.

    The rate of a group of parameters has none: what is measured is the common rate.
    """
    name = _ALIASES.get(axis.path[-1], axis.path[-1])
    if name == "lr" and len(axis.path) - 2 > len(axis.needs):  # deeper than choices alone would put it
        return None
    return name if _SECTION.get(name) == axis.path[0] else None


def is_group_rate(axis: Coordinate, common: Coordinate) -> bool:
    """True if `axis` is the rate of a group of parameters beside the `common` rate."""
    return (*axis.path[:-2], axis.path[-1]) == common.path and role_of(axis) is None


def scaled(scale: str, value: float) -> float:
    """Return `value` on the scale where differences matter alike: "log" is log10, "rest" log10 of 1 - value."""
    if scale == "log":
        return math.log10(max(value, 1e-30))
    return -math.log10(max(1 - value, 1e-6)) if scale == "rest" else value
