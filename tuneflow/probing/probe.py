"""Probe: the record of what was measured before any trial, and the learning rate that follows from it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tuneflow.errors import printable
from tuneflow.harden.exposure import Exposure
from tuneflow.heuristics.health import Health, Units, Weights
from tuneflow.markup.axes import standalone, styled
from tuneflow.markup.fragment import fragment, pairs
from tuneflow.markup.html import Markup
from tuneflow.probing.race import Race
from tuneflow.probing.race_chart import race_chart


@dataclass(frozen=True)
class Probe:
    """The measurements of one structure: a model, its optimizer, batch size and schedule.

    Attributes:
        rate: the learning rate to start with: the race's, or without a race the rule's; NaN if nothing could be
            measured.
        estimate: the rule's rate, from the curvature; None where there is none, see `notes`.
        curvature: the largest positive eigenvalue of the Hessian; for Adam and its kin of the Hessian between
            the inverse roots of Adam's divisor.
        exact: True if the curvature is from double backward, False if from finite differences.
        race: rates, losses and steps of the racers; None if the budget allowed no race.
        optimizer: the class's name.
        momentum: of an SGD that has one.
        batch_size: rows per optimizer step.
        parameters: number of trained parameters.
        steps: optimizer steps of the whole trial.
        loss: mean training loss before the first step.
        prior: loss of the best constant outputs, such as the entropy of the class frequencies; None for a loss without
            a known one.
        noise: the gradient noise scale, in rows: batches well below it gain nearly in proportion from more rows.
        health: gradients, weights and saturated or dead units, layer by layer.
        doubt: standard deviation of the rate, in factors of ten: 0.4, or 0.6 without a race, or 1 if a part of the
            model is frozen or has a rate of its own, or if the best rate of the race is at its edge.
        gradients: the cost, in gradients of a mini-batch.
        seconds: the cost, wall clock.
        screened: reason why the structure cannot be trained; empty if it can.
        notes: remarks for the reader.
        errors: measurements that raised, each with its reason, such as out of memory; the others do without them.
        exposure: how easily the best racer is attacked; None without a race, or where nothing in the training has an
            eps, as attacks have.
    """

    rate: float
    estimate: float | None
    curvature: float | None
    exact: bool
    race: Race | None
    optimizer: str
    momentum: float | None
    batch_size: int
    parameters: int
    steps: int
    loss: float
    prior: float | None
    noise: float | None
    health: Health | None
    doubt: float
    gradients: float
    seconds: float
    screened: str = ""
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    exposure: Exposure | None = None

    @classmethod
    def unmeasured(cls, error: str, seconds: float) -> "Probe":
        """Return the record of a probe that raised before it had measured anything."""
        nan = math.nan
        return cls(
            nan, None, None, True, None, "", None, 0, 0, 0, nan, None, None, None, 1.0, 0.0, seconds, errors=(error,)
        )

    @property
    def failed(self) -> bool:
        """True if nothing could be measured that a learning rate follows from."""
        return math.isnan(self.rate)

    @property
    def reached(self) -> float:
        """The lowest loss of the race's racers; inf without a race."""
        return math.inf if self.race is None else min(self.race.losses)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain numbers, lists and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Probe":
        """Return the probe that `to_json` described."""
        values: dict[str, Any] = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        values |= {name: tuple(data[name]) for name in ("notes", "errors")}
        if (racers := data["race"]) is not None:
            values["race"] = Race(**{**racers, **{name: tuple(racers[name]) for name in ("rates", "losses", "errors")}})
        if (state := data["health"]) is not None:
            weights = tuple(Weights(**one) for one in state["weights"])
            units = tuple(Units(**one) for one in state["units"])
            values["health"] = Health(**{**state, "weights": weights, "units": units})
        if (exposure := data.get("exposure")) is not None:  # older probes have none
            values["exposure"] = Exposure.from_json(exposure)
        return cls(**values)

    def chart(self) -> str:
        """Return a chart of the race as SVG text: the loss at each rate, the rule's rate and the one to start with.

        Raises:
            ValueError: there was no race, or every racer diverged.
        """
        if self.race is None:
            raise ValueError("Probe: chart needs a race, got none; a larger share= of the steps allows one.")
        return standalone(self._race_chart(self.race))

    def _race_chart(self, race: Race) -> Markup:
        return race_chart(race, self.optimizer, self.estimate, self.rate)

    def _repr_html_(self) -> str:
        drawn = self.race is not None and math.isfinite(min(self.race.losses))
        chart = styled(self._race_chart(self.race)) if self.race is not None and drawn else None
        return fragment("Probe", pairs(self.lines), chart)

    def __str__(self) -> str:
        return "\n".join(printable(f"{name:<16}{value}") for name, value in self.lines)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Names of the measurements and their texts, in the order in which they are shown."""
        momentum = "" if self.momentum is None else f", momentum {self.momentum:g}"
        prior = "" if self.prior is None else f"  (best constant {self.prior:.4g})"
        exact = "" if self.exact else ", by finite differences"
        racers = zip(self.race.rates, self.race.losses, strict=True) if self.race else ()
        shorter = f"  ({self.race.best:.3g} in the race; less for the longer run)" if self.race else ""
        lines = [
            ("optimizer", f"{self.optimizer}{momentum}, batch {self.batch_size}, {self.steps:,} steps"),
            ("parameters", f"{self.parameters:,}"),
            ("initial loss", f"{self.loss:.4g}{prior}"),
            ("curvature", "" if self.curvature is None else f"{self.curvature:.4g}{exact}"),
            ("rule's rate", "" if self.estimate is None else f"{self.estimate:.3g}"),
            (
                f"race of {self.race.steps}" if self.race else "",
                "  ".join(f"{r:.2g}: {loss:.3g}" for r, loss in racers),
            ),
            ("noise scale", "" if self.noise is None else f"{self.noise:.3g} rows"),
            ("rate", f"{self.rate:.3g}{shorter}"),
            ("cost", f"{self.gradients:.0f} gradients, {self.seconds:.2f} s"),
            ("under attack", "" if self.exposure is None else f"{self.exposure}, after the race"),
            ("screened", self.screened),
            *(("not measured", error) for error in self.errors),
            *(("note", note) for note in self.notes),
        ]
        return [(name, text) for name, text in lines if text]
