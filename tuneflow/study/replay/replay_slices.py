"""The slices that a study's trainings fall into: each trial from its start to its end, cut where a state is kept."""

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise

from tuneflow.history.history import History
from tuneflow.history.trial import CUT, Slice, Trial


def slices_of(history: History, kept: Callable[[int], Collection[int]]) -> Iterator[Slice]:
    """Yield the slices of every trial that was trained, by number and epoch.

    A trial that has ended without a single epoch, as one that diverged in the first, is a slice of none.

    Args:
        history: the study's.
        kept: returns the epochs after which states of a trial are kept.
    """
    for trial in history.trials:
        first = first_epoch(trial)
        if trial.epochs > first:
            inside = sorted(epoch for epoch in {*kept(trial.number)} if first < epoch < trial.epochs)
            for start, until in pairwise([first, *inside, trial.epochs]):
                yield Slice(trial.number, start, until)
        elif ends_itself(trial, history):
            yield Slice(trial.number, first, first)


def first_epoch(trial: Trial) -> int:
    """Return the epoch that a trial starts from: 0, or the one of the state that it went on from."""
    return trial.parent[1] if trial.parent else 0


def ends_itself(trial: Trial, history: History) -> bool:
    """True for a trial that its own training ended in the epoch after its last: it diverged, failed, or was patient."""
    if trial.status == "FAILED":
        return bool(trial.detail)  # a process that died leaves no traceback, and would take this one along
    early = trial.epochs < length_of(trial, history)
    return early and (trial.status == "DIVERGED" or (trial.status == "STOPPED" and trial.detail != CUT))


def length_of(trial: Trial, history: History) -> int:
    """Return the full length that a trial was trained for: an extended study had others before."""
    if not history.lengths:
        return history.epochs
    extended = [t for t in history.trials if t.extends and t.number <= trial.number]
    lengths = [history.lengths[0], *(t.epochs for t in extended if t.status == "DONE")]
    if trial.extends and trial.status != "DONE":
        lengths.append(min((length for length in history.lengths if length > first_epoch(trial)), default=0))
    return max(lengths)
