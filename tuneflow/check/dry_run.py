"""The dry run of a Trainer: every branch of the space fits, can be built, and trains for a few steps."""

import copy
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tuneflow.check.batch_parts import check_batch_parts
from tuneflow.check.changed_attributes import changed_attributes
from tuneflow.check.chunks import check_chunks
from tuneflow.check.cut_inputs import cut_inputs
from tuneflow.check.few_rows import Batching, batchings
from tuneflow.check.flat_space import check_sectioned, sections_of
from tuneflow.check.fold_scores import check_fold_scores
from tuneflow.check.hidden_state import check_loop
from tuneflow.check.one_step import NotFiniteLoss, check_step
from tuneflow.check.optimizer_step import check_optimizer
from tuneflow.check.round_trip import check_round_trip
from tuneflow.check.rows_setting import check_rows
from tuneflow.check.samples import SampledPart, check_finite, few, parts_of
from tuneflow.check.seeding import seeded_by_builder
from tuneflow.check.seen_rows import check_seen_rows
from tuneflow.check.step_counters import warn_of_counters
from tuneflow.check.structure_metrics import check_structure_metrics
from tuneflow.check.undefined_metrics import warn_of_undefined
from tuneflow.compress.step import is_ready
from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.errors import did_you_mean, ending_where, exceptions_only, in_one_line, listed, warn
from tuneflow.heuristics.drawn_weights import looks_untrained
from tuneflow.model import OF_BUILDERS, Model
from tuneflow.optim.build import check_settings
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import seeded_globals
from tuneflow.signature import check_complete, check_keywords, name_of
from tuneflow.space.search_space import SearchSpace
from tuneflow.space.values import rounded
from tuneflow.train.augmentation import sees_module
from tuneflow.train.input_fits import InputFits
from tuneflow.train.job import Job, TrainState
from tuneflow.train.loop import Loop
from tuneflow.train.loss_object import has_loss_of, is_class
from tuneflow.train.micro_batch import ROWS as COMPARED
from tuneflow.train.module_metrics import brief
from tuneflow.train.protocol import DryRun, Rehearsal
from tuneflow.train.session import Session
from tuneflow.train.settings import with_section
from tuneflow.train.spread import connect
from tuneflow.train.trainer import Trainer

ROWS = 32  # of the batch whose first step is checked
SMALL, LARGE = 8, 256  # rows of each of the two batches that are trained on; LARGE if SMALL fails


@dataclass(frozen=True)
class StudyDryRun(DryRun):
    """The dry runs that a study offers to its trainer; see TrainerProtocol.check.

    Attributes:
        space: the study's space.
        model: the study's model, if it has one.
        runtime: the study's runtime.
        new: False if the study has trials already: then only names and signatures are checked.
        log: called with each line that is worth showing.
        brief: let a loop's `run.batches` give a few batches only.
    """

    space: SearchSpace
    model: Model | None
    runtime: Runtime
    new: bool
    log: Callable[[str], object] = str  # which shows nothing
    brief: bool = False

    def check_space(self, trainer: Trainer) -> None:
        if self.model is None:
            raise TypeError("Study: a Trainer needs model=, such as tn.Model(builder).")
        for line in check_space(self.space, self.model, trainer, self.runtime, self.new):
            self.log(line)

    def check_loop(self, loop: Loop, job: Job) -> Rehearsal:
        return check_loop(loop, job, self.brief)


def check_space(
    space: SearchSpace, model: Model, trainer: Trainer, runtime: Runtime, dry: bool = True
) -> Collection[str]:
    """Raise unless the space fits and one configuration of each branch trains: on a few rows, for a few steps.

    The steps are taken by a copy of the trainer, on copies of rows, on one thread; trainer, data and the global
    generators are left as they were. Finite numbers and the range of class numbers are checked over all rows of a
    Data, and over 64 of a Dataset.

    Args:
        space: every branch is checked.
        model: makes the module.
        trainer: not changed.
        runtime: device and precision; it is used with one thread.
        dry: False checks names and signatures only, which is enough for a study that has trials.

    Returns:
        Lines about what was settled, such as which arguments of forward the inputs are spread over.

    Raises:
        ValueError: a section is not known, the data, shapes or numbers do not fit, or training does not resume from a
            saved state.
        TypeError: a section holds an argument that its callable does not take, or lacks one it needs; a dtype or a kind
            of object does not fit.
    """
    check_sectioned(space, model, trainer, model.sections)
    check_known_sections(space.entries, "the space", model)
    for config in space.examples():
        check_sections(space.resolve(config), model, trainer)
    check_rows(space, trainer)
    check_seen_rows(model, trainer)
    notes: dict[str, None] = {}
    if not dry:
        return notes
    _warn_of_untrained(model)
    quiet, trainer = copy.copy(runtime), copy.copy(trainer)
    quiet.threads, trainer._prepared = 1, {}  # what is fitted is kept for the dry run only
    with quiet.active(), seeded_globals(0, "check", device=quiet.device):
        parts = parts_of(trainer)
        for part in parts:
            check_finite(part)
        folded, trainer = trainer, trainer.in_fold(0)
        cuts: dict[str, None] = {}
        for config in space.examples():
            ways = batchings(space, config, trainer, parts[0].trained)
            job = Job(model, space.resolve(config), quiet)
            try:
                with exceptions_only("training", ValueError):
                    notes[check_configuration(job, trainer, parts, ways)] = None
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise ending_where(error, kind(f"configuration {rounded(config)}: {_where(error)}{error}")) from None
            with _eagerly():
                warn_of_counters(_run(*_sized(trainer, job, SMALL)))
                cuts[_cut(trainer, job)] = None
        for cut in filter(None, cuts):
            warn(cut)
        example = Job(model, space.resolve(next(iter(space.examples()))), quiet)
        check_fold_scores(folded, example, small(trainer, ROWS))
        if folded.fold_rows is None:
            with _eagerly():
                warn_of_undefined(trainer, lambda: _run(small(trainer, ROWS), example))
        _warn_of_seeding(model, [Job(model, space.resolve(config), quiet) for config in space.examples()])
    return notes


def _cut(trainer: Trainer, job: Job) -> str:
    return cut_inputs(trainer.configured(job.config), lambda: _run(small(trainer, ROWS), job))


def _warn_of_untrained(model: Model) -> None:
    """Warn of a module that was passed in place of the function that makes it."""
    if model.winner is not None and not model.winner.record.rows and looks_untrained(model.winner.module):
        warn(
            f"Model: the {type(model.winner.module).__name__} has weights as torch draws them, not trained, and every"
            " trial starts from these, on inputs and targets as they are; to have it initialized and normalized in each"
            " trial, pass the function that makes it, tn.Model(net) and not tn.Model(net())."
        )


def _warn_of_seeding(model: Model, jobs: Sequence[Job]) -> None:
    """Warn once of a builder that seeds the global generators."""
    sections = [job.config.get("model", {}) for job in jobs]
    builders = [model.builder if isinstance(section, Mapping) else section for section in sections]
    for builder, job in {id(builder): (builder, job) for builder, job in zip(builders, jobs, strict=True)}.values():
        generators = seeded_by_builder(partial(model.build, job.config), job)
        if generators:
            warn(
                f"Model: {name_of(builder)} seeds the generator of {generators} by itself, so all replicas, folds and"
                " seeds of a study begin with the same weights, and study.confirm() has no fresh ones; leave that out:"
                " a study seeds the generators before it calls the builder."
            )
            return


def check_known_sections(names: Iterable[str], what: str, model: Model) -> None:
    """Raise ValueError for a section that nothing takes."""
    for name in names:
        if name in model.sections:
            continue
        if model.winner is not None and name in OF_BUILDERS:
            raise ValueError(
                f'{what} has a section "{name}", and the model is a trained winner, whose structure, weights and'
                f" normalizer are settled; steps change it. Sections are {listed(model.sections)}."
            )
        raise ValueError(
            f'{what} has a section "{name}".{did_you_mean(name, model.sections)} Sections are {listed(model.sections)}.'
        )


def check_configuration(job: Job, trainer: Trainer, parts: list[SampledPart], ways: Sequence[Batching] = ()) -> str:
    """Raise unless `trainer` can train this configuration; return a line about its inputs. See `check_space`."""
    configured = small(trainer, ROWS).configured(job.config)
    _check_new(_built(job), _built(job))
    if job.model is not None and job.model.steps:
        job = replace(job, model=job.model.decided(_run(configured, job).recipe))
    with _eagerly():
        try:
            note = _check_step(configured, job, parts, ways)
        except NotFiniteLoss:  # as where all targets of these rows are left out
            note = _check_step(small(trainer, LARGE).configured(job.config), job, parts, ways)
        if configured.micro_batch is not None:
            check_batch_parts(_run(small(trainer, max(COMPARED, min(LARGE, configured.batch_size))), job), parts)
        for size in sorted({min(SMALL, configured.batch_size), min(LARGE, configured.batch_size)}):
            try:
                check_training(*_sized(trainer, job, size), trainer.valid)
                return note
            except Exception as error:  # once more with larger batches: a loss may need them
                problem = error
    if isinstance(problem, ValueError | TypeError):
        raise problem
    hint = "; an evaluation runs without gradients, and torch.enable_grad() gives some" if _no_grad(problem) else ""
    failure = ValueError(f"training fails: {_where(problem)}{type(problem).__name__}: {problem}{hint}")
    raise ending_where(problem, failure) from None


def _check_step(trainer: Trainer, job: Job, parts: list[SampledPart], ways: Sequence[Batching]) -> str:
    """Check one step of a new module; return a line about its inputs."""
    module = _built(job)
    note = _connected(trainer, job, module)
    check_step(trainer, job, module, parts, ways)
    return note


def _connected(trainer: Trainer, job: Job, module: nn.Module) -> str:
    """Have a dict or tuple of inputs spread as in training; return a line about it, empty where it is not."""
    with job.at_work("check", 0):
        inputs = job.runtime.place(next(iter(trainer.train.batches(2)))[0])
        spread = connect(module, inputs, trainer.train.target)
    return "" if spread is None else spread.describe(module, inputs)


def _where(problem: BaseException) -> str:
    """Return the notes of an error, such as the name of a metric, as the beginning of a message."""
    return "".join(f"{note}: " for note in getattr(problem, "__notes__", ()))


def _no_grad(problem: Exception) -> bool:
    return isinstance(problem, RuntimeError) and "does not require grad" in str(problem)


def check_training(trainer: Trainer, job: Job, valid: Source) -> None:
    """Raise unless two epochs can be trained, and resumed in between.

    Args:
        trainer: one of few rows.
        job: the configuration, with a small batch size.
        valid: the whole validation part, for a metric that needs more than a few rows.
    """
    run = _run(trainer, job)
    check_optimizer(lambda: _run(trainer, job))
    try:
        run.evaluate()
    except Exception:
        trainer.valid = valid
        _run(trainer, job).evaluate()
    check_structure_metrics(trainer, _run(trainer, job), trainer.valid)
    check_chunks(_run(trainer, job))

    def restored(state: TrainState) -> TrainState:
        return trainer.resumed(job, state).state(state.epoch)

    through = restored if type(trainer).advance is Trainer.advance else None
    try:
        check_round_trip(trainer, job, through, dict(run.module.named_buffers()), min(2, trainer.epochs))
    except ValueError as error:
        raise _with_attributes(error, _run(trainer, job)) from None


def _with_attributes(error: ValueError, run: Session) -> ValueError:
    """Return an error of the round trip together with the names of the attributes that training changes."""
    with suppress(Exception):  # a hint for a message
        if names := changed_attributes(run):
            return ValueError(f"{error} An epoch changes {names}.")
    return error


def _sized(trainer: Trainer, job: Job, size: int) -> tuple[Trainer, Job]:
    """Return a copy of `trainer` with two batches of `size` rows, and the job with that batch size."""
    few_rows, section = small(trainer, 2 * size), job.config.get("trainer", {})
    few_rows.batch_size = size
    if "batch_size" in section:
        job = replace(job, config={**job.config, "trainer": {**section, "batch_size": size}})
    return few_rows, job


def small(trainer: Trainer, rows: int) -> Trainer:
    """Return a deep copy of `trainer` with at most `rows` rows of its data, and metrics that take least time."""
    train, valid = few(trainer.train, rows), few(trainer.valid, SMALL)
    try:
        small = copy.deepcopy(trainer, {id(trainer.train): train, id(trainer.valid): valid, id(trainer._prepared): {}})
    except Exception:  # it holds something that cannot be copied, such as a lock
        small = copy.copy(trainer)
    small._fits = trainer._fits or _fits_of(trainer)
    small.train, small.valid, small._prepared = train, valid, {}
    small.fold_rows, small.folds = None, 1
    small.metrics = dict(brief(small.metrics))
    return small


def _fits_of(trainer: Trainer) -> InputFits:
    """Return fits to all rows of a Data, which training uses too, or to as many of a Dataset as are cheap."""
    source = trainer.train
    return trainer.preparation().fits if isinstance(source, Data) else InputFits(few(source, LARGE), {})


def _built(job: Job) -> nn.Module:
    with _building(), job.at_work("init", 0):
        if job.model is None:
            raise TypeError("a Trainer needs a model")
        return job.runtime.place(job.model.build(job.config))


def _run(trainer: Trainer, job: Job) -> Session:
    with _building():
        return trainer.configured(job.config).session(job)


def _eagerly() -> AbstractContextManager[Any]:
    """Return a block in which compiled modules run eagerly: nothing is compiled for a few steps."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _building() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # argparse in a builder exits
        raise ending_where(error, ValueError(f"cannot be built: {_where(error)}{in_one_line(error)}")) from None


def _check_new(module: nn.Module, other: nn.Module) -> None:
    """Raise ValueError if two calls of the builder return the same parameters."""
    there = {id(p) for p in module.parameters()}
    shared = [name for name, p in other.named_parameters() if id(p) in there and p.requires_grad]
    if shared:
        raise ValueError(
            f'the builder needs to make a new module in each call, got the same parameter "{shared[0]}" twice; make the'
            " module inside the builder, or return copy.deepcopy(module)."
        )


def check_sections(resolved: Mapping[str, Any], model: Model, trainer: Trainer) -> None:
    """Raise TypeError unless the resolved sections fit the signatures of their callables."""
    for name in ("init", "trainer"):
        if not isinstance(settings := resolved.get(name, {}), Mapping):
            raise TypeError(f'space section "{name}": needs a dict of settings, got {settings!r}.')
    model.initialization(dict(resolved))
    model.normalization(dict(resolved))
    for name, target, passed in (
        ("model", model.builder, 0),
        *((("normalize", model.normalize, 0),) if isinstance(model.normalize, type | partial) else ()),
        ("optimizer", trainer.optimizer, 1),
        ("loss", trainer.loss, 0 if is_class(trainer.loss) else 2),
        ("augment", trainer.augment, _passed_to(trainer.augment, resolved.get("augment", {}))),
        *((name, step, 0) for name, step in model.steps.items()),
    ):
        section, where = resolved.get(name, {}), f'space section "{name}"'
        if isinstance(section, Mapping):
            _check_arguments(target, section, where, passed, sections_of(section, model, trainer))
            check_settings(target, section, where)
        elif section is None and name in ("augment", *model.steps):  # none
            continue
        elif not (callable(section) or is_ready(section) or (name == "loss" and has_loss_of(section))):
            raise TypeError(f"{where}: needs callables to choose from, got {section!r}.")
        elif name in ("model", "optimizer", *model.steps):
            check_complete(section, (), where, passed)
            check_settings(section, {}, where)


def _passed_to(augment: Any, section: Any) -> int:
    """Return the number of arguments that an augmentation is called with; 0 for a class, which is made first."""
    if augment is None or is_class(augment):
        return 0
    return 3 if sees_module(with_section(augment, section)) else 1


def _check_arguments(
    target: Any, section: Mapping[str, Any], where: str, passed: int, elsewhere: Mapping[str, str]
) -> None:
    if target is None and section:
        raise TypeError(f"{where}: the Trainer has nothing that takes these arguments; pass it there.")
    if section and not is_class(target) and (isinstance(target, nn.Module) or has_loss_of(target)):
        raise TypeError(
            f"{where}: needs a class to give arguments to, got a ready {target!r}; pass the class to the Trainer."
        )
    if section and is_ready(target):
        raise TypeError(f"{where}: needs a class to give arguments to, got a ready {target!r}; pass the class.")
    if callable(target) and not isinstance(target, nn.Module) and not is_ready(target):
        check_keywords(target, section, where, passed, elsewhere)
        check_complete(target, section, where, passed)
