"""Findings: pieces of advice on a study, each with its numbers and the change that it asks for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tuneflow.errors import printable
from tuneflow.markup.fragment import fragment, note
from tuneflow.markup.html import element
from tuneflow.space.parameters import Parameter


@dataclass(frozen=True)
class Adjustment:
    """A change of a study's settings.

    Attributes:
        text: the change as one would write or do it.
        parameters: dotted name of a parameter to the one that takes its place in the space.
        epochs: the new full length of trials; None for that of before.
        replicas: the new number of seeds for each configuration; None for that of before.
    """

    text: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    epochs: int | None = None
    replicas: int | None = None

    @property
    def automatic(self) -> bool:
        """True if `study.adjusted` carries it out; False for what is left to the user."""
        return bool(self.parameters or self.epochs or self.replicas)


@dataclass(frozen=True)
class Finding:
    """One piece of advice.

    Attributes:
        rule: the name of the rule that found it: "failures", "edge", "overfitting", "falling", "noise", "speed",
            "no effect", "flat" or "luck".
        fact: the observation with its numbers, without a full stop.
        change: the change that would help.
        numbers: the numbers of the observation, by name.
        parameter: the dotted name of the parameter that it is on; empty for none.
    """

    rule: str
    fact: str
    change: Adjustment
    numbers: Mapping[str, float] = field(default_factory=dict)
    parameter: str = ""

    def __str__(self) -> str:
        return printable(f"{self.fact}: {self.change.text}")


class Advice(tuple[Finding, ...]):
    """Findings on a study, the most valuable first; prints as a line for each.

    Args:
        findings: the findings.
        silent: what could not be judged yet, in words; empty for nothing.
    """

    silent: str

    def __new__(cls, findings: Iterable[Finding] = (), silent: str = "") -> "Advice":
        advice = super().__new__(cls, findings)
        advice.silent = silent
        return advice

    def __repr__(self) -> str:
        lines = list(map(str, self)) or ["no advice"]
        return "\n".join([*lines, *([printable(self.silent)] if self.silent else [])])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        items = (element("li", str(finding)) for finding in self)
        return fragment("advice" if self else "no advice", element("ul", *items) if self else None, note(self.silent))
