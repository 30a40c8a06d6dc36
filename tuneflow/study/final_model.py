"""Final models: configurations of a cross-validated study trained on all rows, each once, and kept with the study."""

from collections.abc import Callable
from dataclasses import dataclass

from tuneflow.errors import StudyError, plural
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.history.history import History
from tuneflow.history.trial import Slice, Trial
from tuneflow.store.checkpoints import States
from tuneflow.train.job import Job, TrainState
from tuneflow.train.on_all_rows import OnAllRows
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True, eq=False)
class FinalModels:
    """The states that a study's configurations reach on all rows.

    Args:
        states: where they are kept, by trial and number of epochs. Several processes that ask for the same one at once
            train and write the same.
        kept: returns the epochs after which the study's states of a trial are kept.
        trainer: the trainer of one seed and fold.
        history: the study's.
        job: returns the job of a trial.
        executor: makes the executor that they are trained by.
        log: prints a line for each training.
    """

    states: States
    kept: Callable[[int], set[int]]
    trainer: TrainerProtocol
    history: History
    job: Callable[[Trial], Job]
    executor: Callable[[], Executor]
    log: Callable[[str], None]

    def state(self, trial: Trial, epochs: int) -> TrainState:
        """Return the state of a trial's configuration after `epochs` epochs on all rows; train it unless it is kept.

        Raises:
            StudyError: the training does not come to its end.
        """
        if epochs not in self.states.epochs(trial.number):
            self.log(f"final  trial {trial.number}: training on all rows for {plural(epochs, 'epoch')}")
            self.states.put(trial.number, self.train(trial, epochs))
            self.states.flush(trial.number)
            self._prune()
        return self.states.get(trial.number, epochs)

    def _prune(self) -> None:
        """Drop the states of trials that are not among the best any more: without one of theirs, none is asked for."""
        for number in self.states.trials():
            if not self.kept(number):
                self.states.keep(number, ())
        self.states.sweep()

    def train(self, trial: Trial, epochs: int) -> TrainState:
        """Train a trial's configuration on all rows, and keep nothing.

        Raises:
            StudyError: the training does not come to its end.
        """
        state, running = None, self.executor()
        try:
            for part, until in self._descent(trial, epochs):
                start = 0 if state is None else state.epoch
                curve = {report.epoch: report.metrics for report in part.reports}
                trainer, work = OnAllRows(self.trainer, curve), Slice(part.number, start, until)
                running.submit(work, trainer, self.job(part), state)
                state = _last_state(running, trial.number)
        finally:
            running.close()
        if state is None:
            raise StudyError(f"trial {trial.number} has no epoch to train on all rows.")
        return state

    def _descent(self, trial: Trial, epochs: int) -> list[tuple[Trial, int]]:
        """Return the trials that a trial went on from and itself, the first one first, each with its last epoch."""
        parts = [(trial, epochs)]
        while (parent := parts[0][0].parent) is not None:
            parts.insert(0, (self.history.trials[parent[0]], min(parent[1], epochs)))
        return [
            (part, until) for number, (part, until) in enumerate(parts) if number == 0 or until > parts[number - 1][1]
        ]


def _last_state(running: Executor, number: int) -> TrainState | None:
    """Return the state at the end of the only slice under way."""
    state: TrainState | None = None
    while running.busy:
        for event in running.wait():
            if isinstance(event, Reported):
                state = event.state
            elif isinstance(event, Ended) and event.status != "DONE":
                raise StudyError(
                    f"trial {number} ends on all rows: {event.status} ({event.reason}).\n{event.detail}".rstrip()
                )
    return state
