"""Every trial to its full length."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start
from tuneflow.space.search_space import SearchSpace


class Full(Scheduler):
    """Trains every trial to the last epoch, one after the other; what was interrupted goes on first."""

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        if history.paused:
            return Continue(history.paused[0].number, history.epochs)
        return Start(history.epochs)
