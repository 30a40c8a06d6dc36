"""Result: a finished trial together with its trained model."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.score_text import error_of, interval_note, score_of, settings_text
from tuneflow.analysis.selection_bias import optimism
from tuneflow.check.seen_rows import has_seen
from tuneflow.compress.winner import Winner, record_of, recorded, winner_of
from tuneflow.errors import CheckpointError, StudyError, plural, printable
from tuneflow.harden.attack_all import attack
from tuneflow.harden.attack_table import AttackTable
from tuneflow.history.cells import settings_rows
from tuneflow.history.trial import WORTHLESS, Trial
from tuneflow.markup.fragment import fragment, note, pairs
from tuneflow.metrics.measured import Estimate, estimate, number_text
from tuneflow.store.checkpoints import States
from tuneflow.study.attacked_result import settings_of_attack
from tuneflow.study.exported import export_model, few_inputs
from tuneflow.study.learning_curve import Curve, LearningCurve
from tuneflow.study.saved_model import labels_of, save_model
from tuneflow.train.boxed_module import with_box
from tuneflow.train.job import Job, TrainState
from tuneflow.train.module_metrics import reference_of
from tuneflow.train.protocol import TrainerProtocol

Array = NDArray[np.float64]


class Scores(Mapping[str, Estimate]):
    """Metrics of one model on data it has not seen: name to Estimate; prints as a line for each."""

    def __init__(self, estimates: Mapping[str, Estimate]) -> None:
        self._estimates = dict(estimates)

    def __getitem__(self, name: str) -> Estimate:
        return self._estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def __repr__(self) -> str:
        wide = max(map(len, self._estimates), default=0)
        rows = [f"{name:<{wide}}  {value}" for name, value in self._estimates.items()]
        return "\n".join(map(printable, [*rows, *interval_note(self._estimates.items(), "interval")]))

    def _repr_html_(self) -> str:
        rows = list(self._estimates.items())
        return fragment("on data that no trial has seen", pairs(rows), *map(note, interval_note(rows, "interval")))


@dataclass(frozen=True)
class Provenance:
    """The parts of a study that a result's model is made from.

    Attributes:
        job: the trial's job.
        trainer: the study's trainer; None where trials are trained elsewhere.
        states: the study's training states.
        metrics: names of the metrics to show: those that count, then those of the module.
        epoch: the epoch that counts for the trial.
        rivals: of the best trial, the costs of all trials and their standard errors.
        final: returns the state that was trained on all rows for so many epochs; None without cross-validation.
        trainings: number of trials of the configuration, whose mean the score of the best one is.
        curve: trains the configuration on other numbers of rows, under so many seeds.
        keep: keeps what a test has found, of the trial of that number on those data, with the study.
    """

    job: Job
    trainer: TrainerProtocol | None
    states: States
    metrics: tuple[str, ...]
    epoch: int
    rivals: tuple[Array, Array] | None = field(default=None, compare=False)
    final: Callable[[int], TrainState] | None = field(default=None, compare=False)
    curve: Curve | None = field(default=None, compare=False)
    trainings: int = 1
    keep: Callable[[int, Any, Mapping[str, Estimate]], None] | None = field(default=None, compare=False)


@dataclass(frozen=True, repr=False)
class Result(Trial):
    """A finished trial with its trained model; `study.best`, `study.front` and `study.result` give it.

    It has all attributes of a Trial.

    Attributes:
        origin: the study's part in it, which `model`, `test` and `save` need; set by the study.
        confirmed: the scores of its configuration under fresh seeds, where `study.confirm` chose it; None elsewhere.
    """

    origin: Provenance | None = None
    confirmed: Confirmed | None = None

    @property
    def _from(self) -> Provenance:
        if self.origin is None:
            raise StudyError(
                f"trial {self.number} comes without its study; take it from study.best or study.result(number)."
            )
        return self.origin

    @property
    def _trainer(self) -> TrainerProtocol:
        trainer = self._from.trainer
        if trainer is None:
            raise StudyError(
                f"trial {self.number} was trained outside of the study, by ask and tell, and so is its model; load the"
                " one that your own loop saved."
            )
        return trainer

    @property
    def optimism(self) -> float:
        """Estimated bias of the best score for being the best of many noisy ones, in the score's units.

        The estimate supposes that the errors of the trials are independent. Trained and evaluated on the same examples
        they are so in part, and the bias is less. NaN where this is not the best trial, or no error is known.
        """
        return math.nan if self._from.rivals is None else optimism(*self._from.rivals)

    def __repr__(self) -> str:
        return printable(f"{self._headline}, {settings_text(self.config, getattr(self._from.job.model, 'steps', ()))}")

    @override
    def _repr_html_(self) -> str:
        return fragment(self._headline, pairs(settings_rows(self.config)))

    @property
    def _headline(self) -> str:
        """The trial's number, its scores, and in parentheses what they are."""
        origin = self._from
        metrics, errors = (self.confirmed or self).metrics, (self.confirmed or self).errors
        scores = ", ".join(score_of(metric, metrics, errors) for metric in origin.metrics)
        count = getattr(origin.trainer, "folds", 1)  # a study that is asked and told has no trainer
        folds = f"mean of {count} folds" if count > 1 else ""
        again = f"mean of {origin.trainings} trials" if origin.rivals and origin.trainings > 1 else ""
        circumstances = (
            error_of(origin.metrics, errors),
            self._origin_of_score,
            folds,
            again,
            f"epoch {origin.epoch} of {self.epochs}",
            origin.job.runtime.label,
        )
        return f"trial {self.number}: {scores} ({', '.join(filter(None, circumstances))})"

    @property
    def _origin_of_score(self) -> str:
        """The origin of its score in words, such as "best of 8 observed"; empty for a single observed score."""
        origin, main = self._from, self._from.metrics[0]
        if self.confirmed is not None:
            return f"{plural(self.confirmed.seeds, 'fresh seed')}, observed {number_text(self.metrics[main])}"
        if origin.rivals is None or len(origin.rivals[0]) < 2:
            return ""
        too_good = self.optimism
        about = f", optimistic by about {too_good:.2g}" if too_good > 0 else ""
        return f"best of {len(origin.rivals[0])} observed{about}"

    def model(self) -> nn.Module:
        """Return the trained module of the epoch that counts for the trial, in evaluation mode.

        Its input normalizer is inside, and where it learned standardized targets so are their units: it takes raw
        inputs and gives outputs in the targets' units. Every call makes a new one. Its weights are float32, and it
        computes in it, whatever precision it was trained in, unless it is called under torch.autocast.

        With folds it is trained on all rows, for as many epochs as the modules of the folds on average, when it is
        asked for the first time; its state is kept with the study.

        Raises:
            StudyError: the trial diverged or failed, or does so on all rows.
            CheckpointError: the state is not kept (see `keep` of tn.Folder), or is damaged.
        """
        origin, trainer, state = self._from, self._trainer, self._state
        if origin.final is None:
            return self._recorded(trainer.module(origin.job, state))
        return self._recorded(trainer.single.module(origin.job, origin.final(trainer.length(state))))

    def models(self) -> list[nn.Module]:
        """Return the trained module of every fold and replica, as `model` gives one: an ensemble.

        They are those whose mean score is the trial's. Without folds and replicas there is one.

        Raises:
            StudyError, CheckpointError: as `model`.
        """
        return [self._recorded(module) for module in self._trainer.modules(self._from.job, self._state)]

    def winner(self) -> Winner:
        """Return the trained module in its parts, as `tn.Model` takes it: copies, on the CPU.

        With folds it is the one that is trained on all rows.

        Raises:
            StudyError, CheckpointError: as `model`.
        """
        return winner_of(self.model())

    def _recorded(self, module: nn.Module) -> nn.Module:
        """Complete the record of a trained module by the configuration that its builder was called for."""
        job = self._from.job
        if job.model is None or job.model.winner is not None or not isinstance(module, nn.Module):
            return module  # a winner's own builder stays on record, and other trainers may return anything
        labels = labels_of("model", self.config.get("model", {}), job.config.get("model", {}))
        return recorded(module, replace(record_of(module), config=self.config, labels=labels))

    @property
    def _state(self) -> TrainState:
        """The state of the epoch that counts."""
        origin = self._from
        if self.status in WORTHLESS:
            raise StudyError(f"trial {self.number} has no model: it is {self.status} ({self.reason}).")
        if not self._trainer.has_model:
            return TrainState(1, {})
        try:
            return origin.states.get(self.number, origin.epoch)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} A study keeps the states of its best trials only: tn.Folder(path, keep=...) sets how many."
            ) from None

    def test(self, data: Any) -> Scores:
        """Return the metrics of this trial's model on other data, each with its 95 % interval.

        It is evaluated in the runtime's precision. The result is kept with the study, for `study.record` and reports,
        unless more than half of the rows are among those that it trains or validates on; the logger says so.

        Args:
            data: as a Trainer's `valid`, not normalized: the model does that itself.

        Raises:
            StudyError: the trainer has no metrics, or the trial no model.
            CheckpointError: as `model`.
        """
        scores = self._scores(self.model(), data)
        if self._from.keep is not None:
            self._from.keep(self.number, data, scores)
        return scores

    def test_winner(self, data: Any) -> Scores | None:
        """Return what `test` does, of the trained winner that the model was made of; None where there is none.

        Args:
            data: as for `test`.
        """
        winner = reference_of(self._from.job)
        return None if winner is None else self._scores(winner, data)

    def _scores(self, model: nn.Module, data: Any) -> Scores:
        trainer = self._trainer.single
        measured = trainer.test(self._from.job, model, data)
        if measured is None:
            raise StudyError(f"{type(trainer).__name__} has no metrics to test with; use model() and your own.")
        return Scores({name: estimate(value) for name, value in measured.items()})

    def attack(
        self,
        data: Any,
        eps: float | None = None,
        norm: str | None = None,
        box: tuple[float, float] | None = None,
        rows: int | None = None,
    ) -> AttackTable:
        """Attack this trial's model in every way, as `tn.harden.attack` does; row by row the worst counts.

        Args:
            data: as a Trainer's `valid`, not normalized.
            eps: the largest change, as a share of the box's width; None for that of the trainer's metric of robustness.
            norm: "linf" or "l2"; None for the metric's, else "linf".
            box: (low, high) of inputs in raw units; None for the metric's, else the range of the training rows.
            rows: number of rows to attack, drawn evenly and always the same; None for all.

        Raises:
            ValueError: neither `eps` nor a metric says how much may change, or as `tn.harden.attack`.
            TypeError: as `tn.harden.attack`.
            StudyError, CheckpointError: as `model`.
        """
        single: Any = self._trainer.single
        said = settings_of_attack(getattr(single, "metrics", None) or {}, eps=eps, norm=norm, box=box)
        module = self.model()
        if single.inspectable:
            module = with_box(module, single.preparation().fits.box)
        return attack(module, data, **said, rows=rows)

    def learning_curve(self, rows: Sequence[int] | None = None, seeds: int = 3) -> LearningCurve:
        """Train this trial's configuration on fewer rows, and return the scores that tell what more would bring.

        Each number of rows is trained under fresh seeds, for as many epochs as the trial's own model, on rows of which
        more contain fewer; normalizer, scale and class weights are fitted to these. The validation rows stay the same.
        Every training is kept with the study and made only once.

        Args:
            rows: numbers of training rows; None for an eighth, a quarter, a half and all of them.
            seeds: number of trainings at each.

        Raises:
            StudyError: the trainer has no setting `rows`, the trial went on from another trial's state, or from a
                winner that was trained on all rows.
            ValueError, TypeError: a number is not one of rows.
        """
        curve = self._from.curve
        if curve is None or self.status in WORTHLESS:
            why = "the study has no trainer" if curve is None else f"it is {self.status} ({self.reason})"
            raise StudyError(f"trial {self.number} has no learning curve: {why}.")
        single: Any = self._trainer.single
        if single.inspectable and has_seen(self._from.job.model, single.train):
            raise StudyError(
                "learning_curve trains on fewer rows, and the winner was trained on all of them; take the curve of the"
                " study that it comes from."
            )
        return curve(rows, seeds)

    def save(self, path: str | Path) -> None:
        """Write the model to a file that `tn.load` reads, with configuration, normalizer, versions and precision.

        It is a torch file of tensors and plain values, so `torch.load(path)["weights"]` works without tuneflow.

        Args:
            path: the file to write.

        Raises:
            StoreError: the file cannot be written; what was there before stays.
        """
        origin, trainer, model = self._from, self._trainer.single, self.model()
        if trainer.save(model, Path(path)):
            return
        runtime = origin.job.runtime
        facts = {
            "precision": runtime.precision,
            "channels_last": runtime.channels_last,
            "number": self.number,
            "config": self.config,
            "metrics": dict(self.metrics),
        }
        single: Any = trainer
        rows = next(iter(single.train.batches(2)))[0] if single.inspectable else None
        save_model(Path(path), model, facts, rows)

    def export(self, path: str | Path, inputs: Any = None) -> None:
        """Write the model as a program that runs without its builder and without tuneflow, on batches of any size.

        It is called with raw inputs as one argument, as `model` is, and gives the same outputs; before the file is
        written this is checked on training rows. The ending of the path is the format:

        - `.pt2`: `torch.export.load(path).module()(inputs)`;
        - `.pt`: TorchScript, `torch.jit.load(path)(inputs)`, for int8 too;
        - `.onnx`: for onnxruntime and others; needs the packages onnx and onnxscript. Inputs and outputs are named
          `inputs` and `outputs`, those in containers `inputs_key` and `outputs_0`.

        The file also holds `tuneflow.json`, with configuration, metrics, versions and the shapes of the inputs. The
        program is in float32 on the CPU, unless the model was converted.

        Args:
            path: the file to write.
            inputs: a few rows of raw inputs, needed only where the trainer holds no data, as a tn.loop; else its
                training rows are taken. No row is kept in the file.

        Raises:
            ValueError: there is no such format.
            ImportError: the packages for ONNX are missing.
            StudyError: the model cannot be written so, as where its forward branches on values; the message has the
                reason and a way out.
            StoreError: the file cannot be written; what was there before stays.
        """
        single: Any = self._trainer.single
        if inputs is None and not single.inspectable:
            raise StudyError(
                f"export: {type(single).__name__} holds no rows to follow the model's forward with; pass a few of its"
                ' inputs: export("model.pt2", inputs=rows).'
            )
        batches = few_inputs(single.train) if inputs is None else [inputs]
        facts = {"number": self.number, "config": self.config, "metrics": dict(self.metrics)}
        export_model(Path(path), self.model(), batches, facts)
