"""FolderResult: a trial of a folder that was opened, whose trained module is made from the state that is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from tuneflow.analysis.score_text import error_of, score_of, settings_text
from tuneflow.errors import CheckpointError, StudyError, in_use, printable
from tuneflow.history.trial import WORTHLESS, Trial
from tuneflow.model import Model
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.checkpoints import States
from tuneflow.study.saved_model import labels_of, module_of
from tuneflow.train.job import TrainState
from tuneflow.train.repeated import repeated_length, repetitions_of
from tuneflow.train.surroundings import saved_content


@dataclass(frozen=True)
class KeptState:
    """The place of a trial's state, and the facts of its study that its module is made by.

    Attributes:
        folder: the study's.
        epoch: the epoch that counts for the trial; 0 without a score.
        space: the study's, with names in the place of objects.
        data: digests of the rows, from the trainer's facts.
        metrics: names of the metrics that count.
        function: True if the trial is the call of a function, which leaves no state.
    """

    folder: Path
    epoch: int
    space: SearchSpace
    data: dict[str, Any]
    metrics: tuple[str, ...] = ()
    function: bool = False


@dataclass(frozen=True)
class FolderResult(Trial):
    """A trial of a study's folder; `best`, `front` and `result` of `tn.open(folder)` return it.

    It has all attributes of a Trial, and gives the trained module where the state is kept.

    Attributes:
        kept: the place of its state, which `model` needs; set by tn.open.
    """

    kept: KeptState | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        names = self.metrics if self.kept is None else self.kept.metrics
        scores = ", ".join(score_of(name, self.metrics, self.errors) for name in names)
        epoch = f"epoch {self.kept.epoch} of {self.epochs}" if self.kept is not None and self.kept.epoch else ""
        ended = "" if self.status == "DONE" else " ".join(filter(None, [self.status, self.reason]))
        remarks = ", ".join(filter(None, [error_of(names, self.errors), epoch, ended]))
        return printable(f"trial {self.number}: {scores} ({remarks}), {settings_text(self.config)}")

    def model(self, builder: Callable[..., nn.Module] | Model, space: SearchSpace | None = None) -> nn.Module:
        """Return the trained module of the epoch that counts, in evaluation mode on the CPU, as `Result.model` does.

        It is made from the state in the folder, without the data and without the study's code: what the builder makes
        gets the saved tensors, with normalizer, scale of the targets and steps as they were. With folds it is the one
        that was trained on all rows, when `study.best.model()` was called.

        Args:
            builder: the function or tn.Model that made the module, of a fork of a winner the one that made the winner;
                see `tn.load`.
            space: the space of the study, needed only where its section `model` holds labels that stand for objects.

        Raises:
            StudyError: the trial has no model, only the study's code can make it, or it comes without its folder.
            CheckpointError: its state is not kept, or is damaged.
            TypeError, ValueError: as `tn.load`.
        """
        if self.kept is None:
            raise StudyError(f"trial {self.number} comes without its folder; take it from tn.open(folder).")
        where = f"{self.kept.folder}: trial {self.number}"
        if self.status in WORTHLESS or not self.kept.epoch:
            raise StudyError(f"{where} has no model: it is {self.status}{self.reason and f' ({self.reason})'}.")
        if self.kept.function:
            raise StudyError(
                f"{where} has no model: it was not trained by a tn.Trainer, but is a score of a function's."
            )
        try:
            with in_use(f"{where}: its state", RuntimeError):
                content = saved_content(self._state(self.kept), self._built(self.kept))
        except ValueError as error:
            raise StudyError(
                f"{where} {error}. Make the tn.Study again with this folder; its best.model(), and best.save for a file"
                " that tn.load reads, have all they need."
            ) from None
        content["rows"] = [*content["rows"], *filter(None, [self.kept.data.get("train")])]
        return module_of(content, builder, space, where)

    def _built(self, kept: KeptState) -> dict[str, Any]:
        resolved = kept.space.resolve(self.config)
        labels = labels_of("model", self.config.get("model", {}), resolved.get("model", {}))
        return {"config": self.config, "labels": labels}

    def _state(self, kept: KeptState) -> TrainState:
        """Return the state of one training: the first replica's, or the one on all rows where there are folds."""
        states = states_in(kept.folder / "states")
        if kept.epoch not in states.epochs(self.number):
            raise CheckpointError(
                f"{kept.folder}: the state of trial {self.number} after epoch {kept.epoch} is not kept. A study keeps"
                " the states of its best trials only: tn.Folder(path, keep=...) sets how many."
            )
        state = states.get(self.number, kept.epoch)
        if "repetitions" not in state.values:
            return state
        return (
            self._on_all_rows(kept, repeated_length(state)) if "folds" in kept.data else repetitions_of(state)[0].state
        )

    def _on_all_rows(self, kept: KeptState, epochs: int) -> TrainState:
        try:
            return states_in(kept.folder / "final").get(self.number, epochs)
        except CheckpointError:
            raise CheckpointError(
                f"{kept.folder}: trial {self.number} was trained on folds, and not yet on all rows. Make the tn.Study"
                " again with this folder and call best.model() once; it is kept from then on."
            ) from None


def folder_result(trial: Trial, kept: KeptState) -> FolderResult:
    """Return a trial with the place of its state."""
    return FolderResult(**{each.name: getattr(trial, each.name) for each in fields(trial)}, kept=kept)


def states_in(folder: Path) -> States:
    """Return the states in a folder; none where it is not there."""
    return States(folder) if folder.is_dir() else States(None)
