"""Full training of every trial."""

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start
from tuneflow.space.search_space import SearchSpace


class Full(Scheduler):
    """Trains every trial to the last epoch, one after the other; interrupted ones first.

    Example:
        >>> import tuneflow as tn
        >>> @tn.loop(epochs=3)
        ... def fit(config, run):
        ...     for epoch in run.epochs():
        ...         yield {"loss": config["x"] + 1 / epoch}
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> study = tn.Study(space=space, trainer=fit, scheduler=Full(), minimize="loss", progress=False)
        >>> study.run(trials=2)
        >>> [(trial.epochs, trial.status) for trial in study.trials]
        [(3, 'DONE'), (3, 'DONE')]
    """

    @override
    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        if history.paused:
            return Continue(history.paused[0].number, history.epochs)
        return Start(history.epochs)
