"""Advice on epochs, from the curves of the best trials: overfitting, still falling at the end, or flat for long."""

import math
from collections.abc import Iterator

import numpy as np

from tuneflow.analysis.cost_curves import CostCurves, cost_curves
from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.metrics.measured import number_text
from tuneflow.space.coordinates import Array

GAIN = 0.05  # worth more epochs: a gain to come of this share of the fall so far, and of the score's standard error
SURE = 3.0  # standard errors by which the last quarter has to be better than the third
REST = 0.02  # not worth more epochs: an improvement of this share of the fall so far, or of half a standard error
FLAT = 0.5  # the share of the epochs after which only so little is gained
MARGIN = 1.25  # on the epochs that are enough
RISE = 0.1  # overfitting: the validation loss rises by this share of its fall,
CLEAR = 3.0  # and by so many standard deviations between neighboring epochs


def epochs_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield what the curves of the best trials show: overfitting, and whether more or fewer epochs would do."""
    curves = cost_curves(record)
    if curves is None:
        return
    enough = _enough(curves)
    overfitted = _overfitted(curves, enough)
    if overfitted is not None:
        yield overfitted
    if overfitted is None and not _anneals(record):
        yield from _falling(record, curves)
    if overfitted is None and enough < curves.full:
        fact = (
            f"flat: of {plural(curves.full, 'epoch')} the best {plural(len(curves.costs), 'trial')} gain next to"
            f" nothing after epoch {int(enough / MARGIN)}"
        )
        yield Finding("flat", fact, _fewer(enough), {"epochs": enough, "full": curves.full})


def _fewer(epochs: int) -> Adjustment:
    return Adjustment(f"train to {plural(epochs, 'epoch')}", epochs=epochs)


def _enough(curves: CostCurves) -> int:
    """Return the number of epochs that would have been enough; the full length unless it is far fewer."""
    best = np.minimum.accumulate(curves.costs, axis=1).mean(0)
    noise = _noise(curves.costs) / math.sqrt(len(curves.costs))
    rest = max(REST * curves.drop, 0.5 * curves.error, noise)
    reached = float(curves.epochs[np.argmax(best - best[-1] <= rest)])
    if reached > FLAT * curves.full:
        return curves.full
    return min(curves.full, max(2, math.ceil(MARGIN * reached)))


def _falling(record: StudyRecord, curves: CostCurves) -> Iterator[Finding]:
    points = len(curves.epochs) // 4
    second, third, last = (part.mean(1) for part in np.split(curves.costs[:, -3 * points :], 3, axis=1))
    before, now = float((second - third).mean()), float((third - last).mean())
    error = _noise(curves.costs) * math.sqrt(2 / (points * len(curves.costs)))
    if now <= SURE * error or not before > 0:
        return
    slowing = min(now / before, 1.0)
    gain = now * sum(slowing**quarter for quarter in range(1, 5))
    if gain < max(GAIN * curves.drop, curves.error):
        return
    outlook = "without slowing down" if slowing == 1 else f"and as many again would bring about {number_text(gain)}"
    longer, metric = 2 * curves.full, record.objective.metric
    fact = (
        f"still falling: {metric} of the best {plural(len(curves.costs), 'trial')} became better by {number_text(now)}"
        f" in the last quarter of {plural(curves.full, 'epoch')}, {outlook}"
    )
    way = "" if record.facts.get("trainer") is None else f" (study.extend(epochs={longer}) trains these on)"
    change = Adjustment(f"train to {plural(longer, 'epoch')}{way}", epochs=longer)
    yield Finding("falling", fact, change, {"last_quarter": now, "gain": gain})


def _anneals(record: StudyRecord) -> bool:
    """True where the learning rate falls towards the end, which makes scores better there whatever the length."""
    schedule = (record.facts.get("trainer") or {}).get("schedule", "Fixed()")
    return schedule != "Fixed()" or any(name.startswith("trainer.schedule") for name in record.space.parameters)


def _overfitted(curves: CostCurves, enough: int) -> Finding | None:
    losses, trained = curves.losses, curves.train_losses
    if not np.isfinite(losses).all() or not np.isfinite(trained).all():
        return None
    lowest, rows = losses.argmin(1), np.arange(len(losses))
    least, last = losses[rows, lowest], losses[:, -3:].mean(1)
    rise, noise = last - least, _noise(losses)
    harmed = (rise > np.maximum(RISE * (losses[:, 0] - least), CLEAR * noise)) & (
        trained[:, -1] < trained[rows, lowest]
    )
    if 2 * int(harmed.sum()) <= len(losses):
        return None
    epoch = int(np.median(curves.epochs[lowest[harmed]]))
    numbers = {"epoch": epoch, "least": float(least[harmed].mean()), "last": float(last[harmed].mean())}
    fact = (
        f"overfitting: in {int(harmed.sum())} of the best {plural(len(losses), 'trial')} the validation loss rises from"
        f" {number_text(numbers['least'])} at epoch {epoch} to {number_text(numbers['last'])}, and train_loss falls on"
    )
    words = "regularize (weight_decay, dropout, augment=), or train on more rows"
    if enough < curves.full:
        return Finding(
            "overfitting", fact, Adjustment(f"{words}; train to {plural(enough, 'epoch')}", epochs=enough), numbers
        )
    return Finding("overfitting", fact, Adjustment(words), numbers)


def _noise(curves: Array) -> float:
    """Return the standard deviation of epochs around smooth curves, shape (k, e), by their second differences."""
    bends = np.diff(curves, n=2, axis=1)
    return float(np.median(np.abs(bends[:, bends.shape[1] // 2 :])) / (0.6745 * math.sqrt(6)))
