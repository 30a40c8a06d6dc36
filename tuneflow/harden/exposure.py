"""Exposure: how easily a module is attacked, to first order, as probes measure and studies store it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tuneflow.data.sources import Source
from tuneflow.harden.layer_gains import spectral_norms
from tuneflow.harden.linear_gain import ROUNDS
from tuneflow.harden.row_margins import margins
from tuneflow.validate import is_number

ROWS = 128  # that are measured


@dataclass(frozen=True)
class Exposure:
    """The first-order margins of some rows, and the layers in which a change of inputs grows most.

    Attributes:
        eps: the change that margins are compared with, as a share of the box's width.
        norm: of the change, "linf" or "l2".
        below: share of the rows that are wrong or have a margin below eps.
        median: of the margins, as a share of the box's width.
        gains: spectral norms of the linear layers, by name, in the order in which they run.
    """

    eps: float
    norm: str
    below: float
    median: float
    gains: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        share = f"{100 * self.below:.0f} % of rows have a first-order margin below {self.eps:g} ({self.norm})"
        if not self.gains:
            return f"{share}, half of them below {self.median:.3g}"
        name, gain = max(self.gains, key=lambda pair: pair[1])
        return f'{share}, half of them below {self.median:.3g}; the largest gain is {gain:.3g}, of "{name}"'

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Exposure":
        """Return the exposure whose fields are in a dict of plain values."""
        return cls(**{**data, "gains": tuple((name, gain) for name, gain in data["gains"])})


def settings_of_threat(objects: Iterable[Any]) -> dict[str, Any] | None:
    """Return eps, norm and box of the first object that has them, such as an attack; None where there is none.

    Args:
        objects: those of a training, such as its augmentation, its loss and its metrics.
    """
    for each in objects:
        if getattr(each, "uses_box", False) and is_number(getattr(each, "eps", None)):
            return {"eps": each.eps, "norm": getattr(each, "norm", "linf"), "box": getattr(each, "box", None)}
    return None


def exposure_of(module: nn.Module, source: Source, threat: Mapping[str, Any]) -> Exposure:
    """Return the exposure of a module on the same rows at every call.

    Args:
        module: takes raw inputs.
        source: rows and their classes.
        threat: eps, norm and box, as `settings_of_threat` returns them.
    """
    measured = margins(module, source, rows=ROWS, **threat)
    gains = tuple((layer.name, layer.norm) for layer in spectral_norms(module, source).layers)
    below = 0.0 if measured.below is None else measured.below.value
    return Exposure(threat["eps"], threat["norm"], below, measured.median, gains)


def cost_of_exposure(rows: int, batch_size: int) -> float:
    """Return the cost of `exposure_of` in gradients of a mini-batch, of data with so many rows."""
    return (min(ROWS, rows) + ROUNDS) / batch_size
