"""The chart of a race: the loss at each learning rate, the rule's rate and the one to start with."""

from tuneflow.markup.html import Markup
from tuneflow.probing.chart import chart
from tuneflow.probing.race import Race


def race_chart(race: Race, optimizer: str, rule: float | None, start: float) -> Markup:
    """Return the chart of a race.

    Args:
        race: its racers.
        optimizer: the name of the class.
        rule: the rate that follows from the curvature; None without one.
        start: the rate to start with.

    Raises:
        ValueError: every racer diverged.
    """
    marks = {"the rule": rule} if rule else {}
    racers = list(zip(race.rates, race.losses, strict=True))
    return chart(
        {"race": racers}, {**marks, "start": start}, f"learning rate of {optimizer}", f"loss after {race.steps} steps"
    )
