"""Advice on a study: everything that its trials say about its settings, the most valuable first."""

from collections.abc import Callable, Iterator

from tuneflow.analysis.edge_advice import edge_advice
from tuneflow.analysis.effect_advice import effect_advice
from tuneflow.analysis.epochs_advice import epochs_advice
from tuneflow.analysis.failure_advice import failure_advice
from tuneflow.analysis.finding import Advice, Finding
from tuneflow.analysis.noise_advice import luck_advice, noise_advice
from tuneflow.analysis.record import StudyRecord

Rule = Callable[[StudyRecord], Iterator[Finding]]

RULES: tuple[Rule, ...] = (failure_advice, edge_advice, epochs_advice, noise_advice, effect_advice, luck_advice)
ORDER = ("failures", "edge", "overfitting", "falling", "noise", "speed", "no effect", "flat", "luck")


# Findings that are not believed where trials fail, nothing but noise tells them apart, or one range outweighs the rest.
HIDDEN_BY = {"failures": {"no effect"}, "noise": {"edge", "no effect"}, "edge": {"no effect"}}


def advice_of(record: StudyRecord) -> Advice:
    """Return the findings on a study, the most valuable first; nothing is measured or trained for it.

    Of several on one parameter the first one stays.
    """
    findings = sorted((found for rule in RULES for found in rule(record)), key=lambda found: ORDER.index(found.rule))
    hidden = {rule for finding in findings for rule in HIDDEN_BY.get(finding.rule, ())}
    first: dict[str, Finding] = {}
    for finding in findings:
        if finding.rule not in hidden:
            first.setdefault(finding.parameter or finding.rule, finding)
    return Advice(first.values())
