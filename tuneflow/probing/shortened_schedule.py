"""A run's schedule in fewer steps, for a training that stands for the run."""

from dataclasses import dataclass

from tuneflow.train.rates import Fixed, Plateau, Schedule, Torch

READ = 4096  # places at most where a schedule is read to find its highest


@dataclass(frozen=True)
class Shortened(Schedule):
    """`schedule`, made for `whole` steps, in fewer.

    Up to its highest rate it goes at the run's own pace, as long as this leaves half the steps for what comes after:
    a warm-up that lasts a few steps only would diverge at rates that the run bears. The rest is compressed evenly.

    Attributes:
        rise: steps of the run before its highest rate.
    """

    schedule: Schedule
    whole: int
    rise: int

    def factor(self, step: int, steps: int) -> float:
        return self.schedule.factor(self._place(step, steps), self.whole)

    def momentum(self, step: int, steps: int) -> float | None:
        return self.schedule.momentum(self._place(step, steps), self.whole)

    def _place(self, step: int, steps: int) -> int:
        """The run's step that stands for this one."""
        if steps >= self.whole:
            return min(step, self.whole - 1)
        rise = min(self.rise, steps // 2)
        if step < rise:
            return step * self.rise // rise
        return self.rise + (step - rise) * (self.whole - self.rise) // (steps - rise)


def shortened(schedule: Schedule, whole: int) -> Schedule:
    """`schedule` for fewer than `whole` steps; constant where it moves by the epoch or by what is measured."""
    if isinstance(schedule, Fixed | Plateau | Torch):
        return Fixed()
    places = range(0, whole, max(1, whole // READ))
    return Shortened(schedule, whole, max(places, key=lambda step: schedule.factor(step, whole)))
