"""An executor with a clock of its own: several slices at once, epochs as long as they are told, and nobody waits."""

import heapq

import numpy as np
import torch

import tuneflow as tn
from tuneflow.execute.inline import InlineExecutor
from tuneflow.train.protocol import TrainerProtocol


class Clockwork:
    """Trains up to `slots` slices at once on a made-up clock.

    Args:
        length: (trial, epoch) to the length of the epoch.

    Attributes:
        now: the clock.
        worked: the sum of the lengths of what was trained.
        order: (trial, epoch) of every epoch trained, as they finished.
        most: how many slices were under way at once.
    """

    def __init__(self, slots, length):
        self.slots, self.length = slots, length
        self.now = self.worked = self.most = 0
        self.order = []
        self._at_work = {}  # trial to its own executor and slice
        self._due = []

    @property
    def free(self):
        return self.slots - len(self._at_work)

    @property
    def busy(self):
        return len(self._at_work)

    def submit(self, work, trainer, job, state):
        assert self.free
        assert work.trial not in self._at_work
        inline = InlineExecutor(job.runtime)
        inline.submit(work, trainer, job, state)
        self._at_work[work.trial] = inline
        self._await(work.trial, work.start + 1, inline)
        self.most = max(self.most, self.busy)

    def wait(self):
        while self._due:
            self.now, trial, epoch, inline = heapq.heappop(self._due)
            if self._at_work.get(trial) is not inline:
                continue  # it was stopped
            events = inline.wait()
            self.worked += self.length(trial, epoch)
            self.order.append((trial, epoch))
            if inline.busy:
                self._await(trial, epoch + 1, inline)
            else:
                del self._at_work[trial]
            return events
        return []

    def stop(self, trial):
        self._at_work.pop(trial, None)

    def close(self):
        self._at_work.clear()
        self._due.clear()

    def _await(self, trial, epoch, inline):
        heapq.heappush(self._due, (self.now + self.length(trial, epoch), trial, epoch, inline))


class Clocked(tn.Runtime):
    """A runtime of such executors; `made` are those that were asked for."""

    def __init__(self, slots, length):
        super().__init__("cpu", threads=1, executor=Clocked.make)
        self.at_once, self.length, self.made = slots, length, []

    def make(self):
        self.made.append(Clockwork(self.at_once, self.length))
        return self.made[-1]


def uneven(seed, between=4.0, within=2.0):
    """Lengths of epochs: each trial has a speed of its own, up to `between` times that of others, each epoch varies."""

    def length(trial, epoch):
        rng = np.random.default_rng([seed, trial])
        speed, *noise = rng.random(epoch + 1)
        return between**speed * within ** noise[-1]

    return length


class Curve(TrainerProtocol):
    """A trainer whose losses fall the faster the nearer `x` is to 0.3, up and down, from the state they start from.

    A configuration with `x` above 0.95 diverges at epoch 2, one below 0.05 fails there.
    """

    def __init__(self, epochs=9):
        self.epochs = epochs

    def init(self, job):
        return tn.types.TrainState(0, {"loss": torch.tensor(1.0, dtype=torch.float64)})

    def advance(self, job, state, until):
        x, loss = job.config["x"], state.values["loss"]
        for epoch in range(state.epoch + 1, until + 1):
            luck = np.random.default_rng([job.seed, epoch]).random()
            loss = loss * (0.6 + 0.4 * abs(x - 0.3) + 0.2 * (luck - 0.5))
            if epoch == 2 and x < 0.05:
                raise RuntimeError("made up")
            if epoch == 2 and x > 0.95:
                raise tn.errors.Diverged(epoch, 1, None)
            yield tn.types.TrainState(epoch, {"loss": loss}), tn.types.Report(epoch, {"loss": loss.item() + 0.3 * luck})

    def module(self, job, state):
        return torch.nn.Identity()
