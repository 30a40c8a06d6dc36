"""Advice on a study: everything that its trials say about its settings, the most valuable first."""

from collections.abc import Callable, Iterator

from tuneflow.analysis.cost_curves import POINTS
from tuneflow.analysis.edge_advice import FEWEST as FOR_RANGES
from tuneflow.analysis.edge_advice import edge_advice
from tuneflow.analysis.effect_advice import FEWEST as FOR_EFFECTS
from tuneflow.analysis.effect_advice import effect_advice
from tuneflow.analysis.epochs_advice import epochs_advice
from tuneflow.analysis.failure_advice import failure_advice
from tuneflow.analysis.finding import Advice, Finding
from tuneflow.analysis.noise_advice import luck_advice, noise_advice
from tuneflow.analysis.once import once
from tuneflow.analysis.ranked_trials import ranked_trials
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.speed_advice import speed_advice
from tuneflow.errors import listed

Rule = Callable[[StudyRecord], Iterator[Finding]]

RULES: tuple[Rule, ...] = (failure_advice, edge_advice, epochs_advice, noise_advice, speed_advice, luck_advice)
ORDER = ("failures", "edge", "overfitting", "falling", "noise", "speed", "no effect", "flat", "luck")
OVERSHADOWED = {"edge": {"noise"}, "no effect": {"failures", "noise", "edge"}}  # not believed beside one of these
MOST = 3  # findings at the end of a run


@once
def advice_of(record: StudyRecord) -> Advice:
    """Return the findings on a study, the most valuable first; nothing is measured or trained for it.

    Of several on one parameter the first one stays.
    """
    findings = quick_findings(record)
    if not {finding.rule for finding in findings} & OVERSHADOWED["no effect"]:
        findings = _in_order([*findings, *effect_advice(record)])
    return Advice(findings, _silent(record))


def _silent(record: StudyRecord) -> str:
    """Return what there are too few trials or epochs for; empty for nothing, and with several objectives."""
    if record.objective.several:
        return ""
    ranked, epochs = ranked_trials(record.history), record.history.epochs
    needs = [
        ("ranges", ranked.scored, FOR_RANGES, "trials"),
        ("effects", len(ranked), FOR_EFFECTS, "trials"),
        *([("epochs", epochs, POINTS, "epochs")] if epochs > 1 else []),
    ]
    words = [f"{rule} ({has} of {least} {unit})" for rule, has, least, unit in needs if has < least]
    return f"too little to judge {listed(words)}" if words else ""


def first_advice(record: StudyRecord) -> Advice:
    """Return the first three findings, without the rule that takes a model of the scores, for the end of a run."""
    return Advice(quick_findings(record)[:MOST])


def quick_findings(record: StudyRecord) -> list[Finding]:
    """Return the findings of all rules that take no model of the scores, the most valuable first."""
    findings = [finding for rule in RULES for finding in rule(record)]
    rules = {finding.rule for finding in findings}
    return _in_order([one for one in findings if not rules & OVERSHADOWED.get(one.rule, set())])


def _in_order(findings: list[Finding]) -> list[Finding]:
    """Return findings by the order of their rules, the first one of each parameter."""
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: ORDER.index(finding.rule)):
        first.setdefault(finding.parameter or finding.rule, finding)
    return list(first.values())
