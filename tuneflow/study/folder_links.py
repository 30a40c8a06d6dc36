"""Links in a study's folder: from trial to trial, and between trials and what is kept of them or beside them."""

from collections.abc import Iterator, Mapping
from typing import Any

from tuneflow.errors import in_one_line, plural
from tuneflow.history.trial import Trial
from tuneflow.store.checkpoints import States
from tuneflow.study.archive import Archive
from tuneflow.study.confirmed_front import FRONT
from tuneflow.study.folder_result import states_in
from tuneflow.study.kept_tests import TEST
from tuneflow.study.ledger import CHOICE, TURNS
from tuneflow.study.retention import origin_state, selected_epochs


def broken_links(trial: Trial, trials: Mapping[int, Trial]) -> Iterator[str]:
    """Yield what is wrong with the trials that a trial goes on from, or repeats.

    Args:
        trial: the trial.
        trials: those that are sound, by number.
    """
    if trial.parent is not None:
        yield from _broken_origin(trial, trial.parent, trials)
    if trial.repeats is not None:
        repeated = trials.get(trial.repeats)
        if repeated is None:
            yield f"it repeats trial {trial.repeats}, which is not there"
        elif repeated.config != trial.config:
            yield f"it repeats trial {trial.repeats}, which has another configuration"


def _broken_origin(trial: Trial, origin: tuple[int, int], trials: Mapping[int, Trial]) -> Iterator[str]:
    number, epoch = origin
    parent = trials.get(number)
    if parent is None:
        yield f"it goes on from trial {number}, which is not there"
    elif parent.ended and parent.epochs < epoch:
        yield f"it goes on from epoch {epoch} of trial {number}, which has {parent.epochs}"
    elif trial.extends and parent.config != trial.config:
        yield f"it extends trial {number}, which has another configuration"


def strange_numbers(kept: Mapping[str, Mapping[str, Any]], count: int) -> Iterator[str]:
    """Yield which of the values that are kept with a study name trials that it does not have.

    Args:
        kept: the values, by key.
        count: number of the study's trials.
    """
    for key, value in kept.items():
        try:
            strange = [number for number in _numbers_in(key, value) if not 0 <= number < count]
        except (LookupError, TypeError, ValueError) as error:
            yield f"what is kept as {key!r} cannot be read ({in_one_line(error)})"
        else:
            yield from (f"what is kept as {key!r} is of trial {number}, which is not there" for number in strange)


def _numbers_in(key: str, value: Mapping[str, Any]) -> list[int]:
    """Return the numbers of trials in a value that is kept with a study."""
    if key.startswith(TEST):
        return [value["trial"]]
    if key == CHOICE:
        return [value["number"]]
    if key == FRONT:
        return [member["number"] for member in value["members"]]
    return [number for number, _ in value["turns"]] if key == TURNS else []


def missing_states(archive: Archive) -> Iterator[str]:
    """Yield which states are not there that a study needs; of a tn.Trainer only, and where nothing runs."""
    if "data" not in (archive.facts["trainer"] or {}) or archive.history.running:
        return
    kept, best = states_in(archive.folder / "states"), archive.record().best
    if best is not None and not _has_model(archive, best.number, kept):
        yield f"the state of trial {best.number}, the best, is not there; it has no model any more"
    for trial in archive.trials:
        origin = None if trial.ended or kept.epochs(trial.number) else _origin(archive, trial, kept)
        if origin is not None and origin[1] not in kept.epochs(origin[0]):
            number, epoch = origin
            yield f"trial {trial.number} begins with the state of trial {number} after epoch {epoch}, which is gone"


def _has_model(archive: Archive, number: int, kept: States) -> bool:
    numbers = archive.history.trainings.numbers(archive.trials[number])
    trainings = [archive.trials[number] for number in numbers]
    return any(selected_epochs(trial, archive.history.objective) & kept.epochs(trial.number) for trial in trainings)


def _origin(archive: Archive, trial: Trial, kept: States) -> tuple[int, int] | None:
    return origin_state(trial, archive.trials, kept.epochs)


def strange_state(trial: int, epoch: int, archive: Archive) -> str:
    """Return what is wrong with a state of a trial after an epoch, by the rows; empty where nothing is."""
    if trial >= len(archive.trials):
        return f"there is no trial {trial}, so its row is lost or the file is another study's"
    row = archive.trials[trial]
    return f"trial {trial} has {plural(row.epochs, 'epoch')}" if row.ended and row.epochs < epoch else ""
