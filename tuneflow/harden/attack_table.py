"""The table of attacks on a module: the share of rows that withstands each, and all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import fill

from torch import Tensor

from tuneflow.errors import plural
from tuneflow.harden.row_margins import Margins
from tuneflow.harden.threat import Threat
from tuneflow.metrics.measured import Estimate, estimate, mean_of

WIDE = 110  # letters of a line with a remark
HEAD = ("", "right", "95 % interval", "seconds")


@dataclass(frozen=True, eq=False)
class AttackScore:
    """The rows that withstand one attack.

    Attributes:
        name: of the attack, such as "APGD-CE".
        form: the form of the module that gradients were taken through: "own", "straight-through", "float" or
            "rescaled"; empty for an attack without gradients.
        survived: True for each row that is right, and was so under the attack; shape (rows,).
        seconds: that the attack took.
    """

    name: str
    form: str
    survived: Tensor
    seconds: float

    @property
    def robust(self) -> Estimate:
        """The share of rows that withstand it, with its interval."""
        return estimate(mean_of(self.survived))

    @property
    def label(self) -> str:
        """Name and form in words."""
        return f"{self.name}, {self.form}" if self.form not in ("", "own") else self.name


@dataclass(frozen=True, eq=False, repr=False)
class AttackTable:
    """The attacks on a module and the rows that withstood them; prints as a table with notes and remarks below.

    Attributes:
        threat: the changes that were allowed.
        right: True for each row that is right without an attack; shape (rows,).
        attacks: one by one.
        remarks: sentences on what makes these numbers doubtful, such as a masked gradient.
        margins: first-order margins of the same rows; None where no gradient can be taken.
        notes: sentences on how they were measured, such as a box that was widened.
    """

    threat: Threat
    right: Tensor
    attacks: Sequence[AttackScore]
    remarks: tuple[str, ...] = field(default=())
    margins: Margins | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def clean(self) -> Estimate:
        """The share of rows that are right without an attack, with its interval."""
        return estimate(mean_of(self.right))

    @property
    def survived(self) -> Tensor:
        """True for each row that withstands every attack; boolean, shape (rows,)."""
        survived = self.right.clone()
        for attack in self.attacks:
            survived &= attack.survived
        return survived

    @property
    def robust(self) -> Estimate:
        """The share of rows that withstand every attack, with its interval."""
        return estimate(mean_of(self.survived))

    @property
    def seconds(self) -> float:
        """The time that all attacks took."""
        return sum(attack.seconds for attack in self.attacks)

    def __repr__(self) -> str:
        rows = [("clean", self.clean, None), *((each.label, each.robust, each.seconds) for each in self.attacks)]
        lines = _aligned([HEAD, *(_cells(*row) for row in (*rows, ("worst", self.robust, self.seconds)))])
        margins = [] if self.margins is None else self.margins.lines
        notes = [fill(text, WIDE, subsequent_indent="  ") for text in (*margins, *self.notes, *self.remarks)]
        return "\n".join([*lines, self._conditions, *notes])

    @property
    def _conditions(self) -> str:
        """The rows and the threat in words."""
        low, high = self.threat.box
        norm = "each value" if self.threat.norm == "linf" else "the l2 norm of a row"
        return (
            f"[{plural(len(self.right), 'row')}; {norm} changed by at most {self.threat.radius:.4g} within"
            f" {low:.4g} to {high:.4g}]"
        )


def _cells(label: str, share: Estimate, seconds: float | None) -> tuple[str, ...]:
    interval = f"[{share.low:.4f}, {share.high:.4f}]"
    return label, f"{share.value:.4f}", interval, "" if seconds is None else f"{seconds:.2f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of cells as lines, the last column flush right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([*map(str.ljust, row[:-1], wide), row[-1].rjust(wide[-1])]).rstrip() for row in rows]
