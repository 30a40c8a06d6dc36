"""Advice on parameters that scores do not depend on, as far as the trials show: they can be fixed."""

from collections.abc import Iterator, Mapping

from tuneflow.analysis.additive_fit import AdditiveFit
from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.importance import Share, importance_of
from tuneflow.analysis.ranked_trials import RankedTrials, ranked_trials
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.ties import ties_of
from tuneflow.errors import NothingFinished
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.parameters import Choice, Constant, Parameter, Value

FEWEST = 30  # configurations that have ended, below which nothing is said
WEAK = 4.0  # F of a parameter's own effect, above which there is one
UPPER = 0.08  # the upper bound of its share of the differences between ranks
LOW = 0.01  # the lower end of its importance, which counts what it does together with others
SHARE, SHARE_OF_A_CROWD = 0.15, 0.07  # its importance; the latter where a searcher has crowded the trials
EVEN = ("Random", "Sobol", "Grid")  # searchers that do not
SOUND = 0.75  # of the trials have to have a score, or the others outweigh all other differences


def effect_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding for each parameter without an effect, by itself and together with others.

    The value to fix it at is that of the cheapest trial that ties with the best one. Nothing is said of conditional
    parameters, of a choice that has settings below it, and with several objectives.
    """
    if record.objective.several or len(record.space.parameters) < 2:
        return
    ranked = ranked_trials(record.history)
    kinds = Coordinates(record.space)
    if len(ranked) < FEWEST or ranked.scored < SOUND * len(ranked):
        return
    fit = AdditiveFit(ranked, kinds)
    weak = {name: bound for name, bound in _bounds(record, fit, kinds).items() if bound is not None} if fit.able else {}
    shares = _shares(record) if weak else {}
    most = SHARE if str(record.facts.get("searcher", "")).startswith(EVEN) else SHARE_OF_A_CROWD
    for name, bound in weak.items():
        share = shares.get(name)
        if share is not None and share.value <= most and share.low <= LOW:
            yield _finding(record, ranked, name, share, bound)


def _bounds(record: StudyRecord, fit: AdditiveFit, kinds: Coordinates) -> dict[str, float | None]:
    """Return for each parameter the upper bound of its own share; None where it has an effect, or may not be fixed."""
    return {name: _bound(record, fit, kinds, place) for name, place in record.space.parameters.items()}


def _bound(record: StudyRecord, fit: AdditiveFit, kinds: Coordinates, place: int) -> float | None:
    axes = record.space.coordinates
    inner = any(place == above for axis in axes for above, _ in axis.needs)
    if axes[place].needs or inner or axes[place].whole.width > 1 or kinds.levels[place] < 2:
        return None
    ratio, bound = fit.effect(place)
    return bound if ratio < WEAK and bound < UPPER else None


def _shares(record: StudyRecord) -> Mapping[str, Share]:
    try:
        return importance_of(record)
    except NothingFinished:
        return {}


def _finding(record: StudyRecord, ranked: RankedTrials, name: str, share: Share, bound: float) -> Finding:
    ties = ties_of(record)
    trial = ranked.trials[0] if ties is None else ties.cheapest
    value = _short(record.space.values_at(record.space.to_unit(trial.config))[name])
    fact = (
        f"no effect seen of {name}: its share of the differences in score is {share.value:.0%}"
        f" ({share.low:.0%} to {share.high:.0%})"
    )
    of = f"trial {trial.number}, {'the best one' if ties is None else 'the cheapest that ties with the best one'}"
    whole = record.space.coordinates[record.space.parameters[name]].whole
    change = Adjustment(f"fix it at {value!r}, as in {of}", {name: fixed(whole, value)})
    return Finding("no effect", fact, change, {"share": share.value, "high": share.high, "bound": bound}, name)


def _short(value: Value) -> Value:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def fixed(parameter: Parameter, value: Value) -> Parameter:
    """Return a parameter that always has one of its values; a choice between objects keeps that one option."""
    if isinstance(parameter, Choice) and isinstance(parameter.options, Mapping):
        return Choice({value: parameter.options[value]})
    return Constant(value)
