"""A trial's schedule in fewer steps, for a short training that stands for the trial."""

from dataclasses import dataclass

from tuneflow.train.rates import Fixed, Plateau, Schedule, Torch

READ = 4096  # samples of a schedule at most, to find its highest rate


@dataclass(frozen=True)
class Shortened(Schedule):
    """A schedule for `whole` steps, compressed to fewer.

    Up to its highest rate it keeps the trial's own pace, as long as this leaves half the steps for the rest: a shorter
    warm-up would diverge at rates that the trial bears. The rest is compressed evenly.

    Attributes:
        schedule: the trial's.
        whole: optimizer steps of the trial.
        rise: optimizer steps of the trial before its highest rate.
    """

    schedule: Schedule
    whole: int
    rise: int

    def factor(self, step: int, steps: int) -> float:
        return self.schedule.factor(self._original(step, steps), self.whole)

    def momentum(self, step: int, steps: int) -> float | None:
        return self.schedule.momentum(self._original(step, steps), self.whole)

    def _original(self, step: int, steps: int) -> int:
        """Return the trial's step that corresponds to this one."""
        if steps >= self.whole:
            return min(step, self.whole - 1)
        rise = min(self.rise, steps // 2)
        if step < rise:
            return step * self.rise // rise
        return self.rise + (step - rise) * (self.whole - self.rise) // (steps - rise)


def shortened(schedule: Schedule, whole: int) -> Schedule:
    """Return `schedule` for fewer than `whole` steps; fixed if it moves by the epoch or by a metric."""
    if isinstance(schedule, Fixed | Plateau | Torch):
        return Fixed()
    samples = range(0, whole, max(1, whole // READ))
    return Shortened(schedule, whole, max(samples, key=lambda step: schedule.factor(step, whole)))
