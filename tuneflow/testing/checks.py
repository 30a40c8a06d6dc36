"""Checks for those who write plug-ins: what every searcher, scheduler, trainer, executor and store has to keep.

Each raises AssertionError with what was broken. tuneflow's own pass them.
"""

import dataclasses
import io
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuneflow.errors import Diverged, NothingFinished, StudyError
from tuneflow.execute.executor import Ended, Executor, Reported, Trains
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, Report, Slice, Status, Trial, with_reports, with_status
from tuneflow.nested import copied
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.scheduler import Continue, Fork, Scheduler, Start, Stop, Wait
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import stream
from tuneflow.space.parameters import Choice, Float, Int
from tuneflow.space.priors import Normal
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.store import Store
from tuneflow.train.job import Job, TrainState

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "one dimension": lambda: SearchSpace(x=Float(-1.0, 1.0)),
    "sections": lambda: SearchSpace(
        model={"width": Int(4, 64, log=True)}, optimizer={"lr": Float(1e-4, 1.0, log=True)}
    ),
    "discrete": lambda: SearchSpace(a=Int(0, 9), b=Choice(["x", "y", "z"]), c=Choice([1, 2, 4], ordered=True)),
    "conditional": lambda: SearchSpace(
        kind=Choice({"a": SearchSpace(p=Float(0.0, 1.0), q=Int(1, 5)), "b": SearchSpace(r=Float(1e-3, 1.0, log=True))})
    ),
    "constrained": lambda: SearchSpace(where=_uneven, x=Float(0.0, 1.0), y=Float(0.0, 1.0)),
    "priors": lambda: SearchSpace(
        lr=Float(1e-4, 1.0, log=True, prior=Normal(0.01, 0.5)), kind=Choice({"a": 1, "b": 2}, prior=[0.9, 0.1])
    ),
    "thirty dimensions": lambda: SearchSpace(**{f"x{i}": Float(0.0, 1.0) for i in range(30)}),
}


def _uneven(config: Config) -> bool:
    return bool(config["x"] > config["y"])


def check_searcher(make: Callable[[], Searcher], trials: int = 12) -> None:
    """A searcher proposes what the space allows, from the history and its rng alone.

    Over several kinds of space, and there where trials are told in several ways: one by one with good, equal, diverged
    and failed ones among them; four at once, ended out of order, one of them paused; the first half all failed; all
    equal; with two objectives, unless the searcher asks for the best of several. A fresh searcher proposes what the
    kept one does; proposals pass the space's cast; the seed is obeyed (unless the searcher ends by itself, as a grid);
    its `repr`, the global generators and the history are left alone.

    Args:
        make: returns a new searcher, configured alike each time.
        trials: how many are proposed in each of them.
    """
    for name, space in SPACES.items():
        first = _proposals(make, space(), 0, trials, name, _one_by_one)
        other = _proposals(make, space(), 1, trials, name, _one_by_one)
        ends = _checked(make, space()).ends
        _require(not first or ends or first != other, name, "another seed gave the same proposals: the rng is not used")
    for name in ("discrete", "conditional"):
        for way, tell in WAYS.items():
            _proposals(make, SPACES[name](), 0, trials, f"{name}, {way}", tell)


def _proposals(
    make: Callable[[], Searcher], space: SearchSpace, seed: int, trials: int, name: str, tell: Callable[..., None]
) -> list[Any]:
    goals = (("loss", False), ("size", True)) if tell is _several else (("loss", False),)
    kept, history = make(), History(space, Objective(goals), seed, 1)
    try:
        kept.check(space)
    except ValueError:
        return []
    proposals: list[Any] = []
    for number in range(trials):
        with _untouched(name):
            try:
                config, fresh = (_asked(each, space, history, seed, name) for each in (kept, _checked(make, space)))
            except StudyError as error:
                taken = len(goals) == 1 or isinstance(error, NothingFinished)
                _require(not taken, name, f"it asks for what the study does not have: {error}")
                return proposals
        _require(len(history) == number, name, "the history was changed")
        _require(
            config == fresh,
            name,
            f"a fresh searcher proposed {fresh} for trial {number}, the kept one {config}; a suggestion needs to follow"
            " from space, history and rng alone",
        )
        if config is None:
            break
        proposals.append(config)
        tell(history, number, config, trials)
    _require(repr(kept) == repr(make()), name, f"its settings were changed from {make()!r} to {kept!r}")
    return proposals


def _checked(make: Callable[[], Searcher], space: SearchSpace) -> Searcher:
    searcher = make()
    with suppress(ValueError):
        searcher.check(space)
    return searcher


def _asked(searcher: Searcher, space: SearchSpace, history: History, seed: int, name: str) -> Config | None:
    try:
        return proposed(searcher, space, history, stream(seed, "search", history.number))
    except StudyError:
        raise
    except ValueError as error:
        raise AssertionError(f"{name}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


# How the trials of a made-up study come to their ends; each is told of a proposal as soon as it is made.


def _one_by_one(history: History, number: int, config: Config, trials: int) -> None:
    """Mostly a bowl around the middle; now and then diverged, failed, or equal to others."""
    if number % 5 == 3:
        history.record(Trial(number, config, "DIVERGED" if number % 2 else "FAILED", "made up"))
    else:
        history.record(_done(number, config, loss=1.0 if number % 4 == 2 else _bowl(history, config)))


def _in_batches(history: History, number: int, config: Config, trials: int) -> None:
    history.record(Trial(number, config))
    if number % 4 == 3:
        for place in (2, 0, 3):
            trial = history.trials[number - 3 + place]
            history.record(_done(trial.number, trial.config, loss=_bowl(history, trial.config)))
        waits = history.trials[number - 2]
        history.record(_done(waits.number, waits.config, "PAUSED", loss=_bowl(history, waits.config)))


def _failing(history: History, number: int, config: Config, trials: int) -> None:
    if number < trials // 2:
        history.record(Trial(number, config, "FAILED" if number % 2 else "DIVERGED", "made up"))
    else:
        history.record(_done(number, config, loss=_bowl(history, config)))


def _equal(history: History, number: int, config: Config, trials: int) -> None:
    history.record(_done(number, config, loss=1.0))


def _several(history: History, number: int, config: Config, trials: int) -> None:
    if number % 5 == 3:
        history.record(Trial(number, config, "FAILED", "made up"))
    else:
        size = float(np.nansum(history.space.to_unit(config)))
        history.record(_done(number, config, loss=_bowl(history, config), size=size))


WAYS: dict[str, Callable[..., None]] = {
    "four at once": _in_batches,
    "the first ones failed": _failing,
    "all equal": _equal,
    "two objectives": _several,
}


def _bowl(history: History, config: Config) -> float:
    return float(np.nansum((history.space.to_unit(config) - 0.5) ** 2))


def _done(number: int, config: Config, status: Status = "DONE", **metrics: float) -> Trial:
    return Trial(number, config, status, metrics=metrics, epochs=1, reports=(Report(1, metrics),))


def check_scheduler(make: Callable[[], Scheduler], trials: int = 9, epochs: int = 9, all_start: bool = True) -> None:
    """A scheduler decides what can be done, from the history and its rng alone, until every trial has ended.

    Runs made-up studies of `trials` trials: with one, two and five workers; with trials that fail and diverge; with
    scores that are all equal; with slices that are interrupted on their way; with trials of one epoch; and with two
    objectives. In each of them a fresh scheduler decides what the kept one does; only paused trials are continued, and
    further than they are; only live ones are stopped; nobody is given up without a decision; the study comes to its
    end. Of epochs and objectives it may refuse, by a ValueError of `check`, what it cannot take.

    Args:
        make: returns a new scheduler, configured alike each time.
        trials, epochs: the size of the studies.
        all_start: whether it has to start all of the trials, which a population that has come to its end does not.
    """
    for case in CASES:
        history = _scheduled(make, case, trials, case.epochs or epochs)
        _require(history is not None or case != CASES[0], case.name, f"it refuses trials of {epochs} epochs")
        started = trials if history is None else len(history)
        _require(started == trials or not all_start, case.name, f"only {started} of {trials} trials were started")


@dataclasses.dataclass(frozen=True)
class Case:
    """A made-up study: how many train at once, for how long, and what becomes of them."""

    name: str
    workers: int = 2
    epochs: int | None = None
    broken: bool = False
    equal: bool = False
    interrupted: bool = False
    goals: tuple[tuple[str, bool], ...] = (("loss", False),)


CASES = [
    Case("scheduler"),
    Case("one worker", workers=1),
    Case("five workers", workers=5),
    Case("failures", broken=True),
    Case("equal scores", equal=True),
    Case("interrupted", interrupted=True),
    Case("interrupted failures, five workers", workers=5, broken=True, interrupted=True),
    Case("one epoch", epochs=1),
    Case("two objectives", goals=(("loss", False), ("size", True))),
]


def _scheduled(make: Callable[[], Scheduler], case: Case, trials: int, epochs: int) -> History | None:
    """The history of a made-up study, at its end; None when the scheduler refuses it."""
    history, kept = History(SearchSpace(x=Float(0.0, 1.0)), Objective(case.goals), 0, epochs), make()
    try:
        kept.check(history)
    except ValueError:
        return None
    until: dict[int, int] = {}
    for _ in range(50 * trials * epochs):
        history.remaining = trials - len(history)
        with _untouched(case.name):
            decision, fresh = (_decided(scheduler, history, case) for scheduler in (kept, make()))
        _require(
            decision == fresh,
            case.name,
            f"a fresh scheduler decided {fresh}, the kept one {decision}; a decision needs to follow from space,"
            " history and rng alone",
        )
        if not _carry_out(decision, history, until, case) and not _train(history, until, case):
            break
    else:
        raise AssertionError(f"{case.name}: the study never came to its end")
    left = [trial.number for trial in history.trials if not trial.ended]
    _require(not left, case.name, f"trials {left} never ended")
    return history


def _decided(scheduler: Scheduler, history: History, case: Case) -> Any:
    before = len(history), history.ended
    try:
        decision = scheduler.next(history.space, history, stream(0, "schedule", *before))
    except Exception as error:
        raise AssertionError(f"{case.name}: {type(error).__name__}: {error}") from error
    _require((len(history), history.ended) == before, case.name, "the history was changed")
    return decision


def _carry_out(decision: Any, history: History, until: dict[int, int], case: Case) -> bool:
    """Do what was decided; False when it is to wait, or there is no worker or no trial left for it."""
    known = range(len(history))
    if isinstance(decision, Stop | Continue | Fork):
        _require(decision.trial in known, case.name, f"{decision}: there is no trial of this number")
    if isinstance(decision, Start | Continue | Fork):
        whole = isinstance(decision.until, int | np.integer)
        _require(whole and decision.until > 0, case.name, f"{decision}: until needs to be a whole number above 0")
    if isinstance(decision, Stop):
        trial = history.trials[decision.trial]
        _require(not trial.ended, case.name, f"{decision} stops a trial that has ended")
        until.pop(trial.number, None)
        history.record(dataclasses.replace(trial, status="STOPPED", reason=decision.reason, detail=CUT))
        return True
    if len(until) >= case.workers or isinstance(decision, Wait):
        return False
    if isinstance(decision, Continue):
        trial = history.trials[decision.trial]
        _require(trial.status == "PAUSED", case.name, f"{decision} continues a trial that is {trial.status}")
        _require(decision.until > trial.epochs, case.name, f"{decision} goes no further than epoch {trial.epochs}")
        until[trial.number] = decision.until
        history.record(dataclasses.replace(trial, status="RUNNING"))
        return True
    _require(isinstance(decision, Start | Fork), case.name, f"{decision!r} is not a decision")
    if history.remaining < 1:
        return False
    new = Trial(len(history), {"x": (len(history) * 0.37) % 1.0})
    if isinstance(decision, Fork):
        _require(decision.until > decision.epoch, case.name, f"{decision} goes no further than its parent was")
        came = history.trials[decision.trial].epochs
        _require(came >= decision.epoch, case.name, f"{decision} goes on from epoch {decision.epoch}, there are {came}")
        parent = (decision.trial, decision.epoch)
        new = Trial(len(history), decision.config, epochs=decision.epoch, parent=parent)
    until[new.number] = decision.until
    history.record(new)
    return True


def _train(history: History, until: dict[int, int], case: Case) -> bool:
    """One epoch of everything that runs; False when nothing does."""
    ran = bool(until)
    for number, end in list(until.items()):
        trial = history.trials[number]
        epoch = trial.epochs + 1
        if case.broken and number % 5 == 3 and epoch == 2:
            del until[number]
            history.record(dataclasses.replace(trial, status="FAILED", reason="made up"))
            continue
        loss = 1.0 if case.equal else trial.config["x"] + 1.0 / epoch
        diverged = case.broken and number % 5 == 1 and epoch == 3
        report = Report(epoch, {"loss": math.nan if diverged else loss, "size": float(number % 4)})
        trial = with_reports(trial, (*trial.reports, report), history.objective)
        status: Status = "DONE" if epoch == history.epochs else "PAUSED" if epoch >= end else "RUNNING"
        if case.interrupted and status == "RUNNING" and (number + epoch) % 3 == 0:
            status = "PAUSED"
        if diverged:
            status = "DIVERGED"
        if status != "RUNNING":
            del until[number]
        history.record(with_status(trial, status))
    return ran


def check_trainer(trainer: Trains, job: Job, epochs: int = 3) -> None:
    """A trainer's state is a value: training in pieces, through a saved state, is training at once.

    Compares states and metrics to the last bit; checks that a state is not touched by training on, holds only what
    `torch.load(weights_only=True)` accepts, that epochs are numbered from 1, that the seed is obeyed, and that the
    global generators are left alone.

    Args:
        job: what to train; on the CPU.
    """
    with _untouched("trainer"):
        start = trainer.init(job)
        _require(start.epoch == 0, "trainer", f"init gave a state of epoch {start.epoch}")
        _require(_flat(start.values) == _flat(trainer.init(job).values), "trainer", "init gave another state again")
        before = _flat(start.values)
        whole = list(trainer.advance(job, start, epochs))
        _require(before == _flat(start.values), "trainer", "training on changed the state that it started from")
    _require([r.epoch for _, r in whole] == [*range(1, epochs + 1)], "trainer", "epochs are not 1, 2, 3, ...")
    state, pieces = start, []
    for until in range(1, epochs + 1):
        ((state, report),) = trainer.advance(job, _through_a_file(state), until)
        pieces.append(report.metrics)
    _require(pieces == [r.metrics for _, r in whole], "trainer", f"in pieces it reports {pieces}, at once {whole}")
    _require(_flat(state.values) == _flat(whole[-1][0].values), "trainer", "in pieces it comes to another state")
    other = Job(job.model, job.config, job.runtime, job.seed + 1, job.replica, job.trial)
    *_, (state, report) = trainer.advance(other, trainer.init(other), epochs)
    same = _flat(state.values) == _flat(whole[-1][0].values) and report.metrics == whole[-1][1].metrics
    _require(not same, "trainer", "another seed gave the same: the job's seed is not used")


def _through_a_file(state: TrainState) -> TrainState:
    buffer = io.BytesIO()
    torch.save({"epoch": state.epoch, "values": state.values}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    return TrainState(saved["epoch"], saved["values"])


class Counting:
    """A trainer for checking executors: its state counts epochs; `config` says what happens at which."""

    epochs = 5

    def init(self, job: Job) -> TrainState:
        return TrainState(0, {"count": torch.zeros(())})

    def advance(self, job: Job, state: TrainState, until: int) -> Any:
        values = copied(state.values)
        for epoch in range(state.epoch + 1, until + 1):
            if epoch == job.config.get("fail"):
                raise RuntimeError("made up")
            if epoch == job.config.get("diverge"):
                raise Diverged(epoch, 1, None)
            if epoch == job.config.get("stop"):
                return "had enough"
            values["count"] += 1
            yield TrainState(epoch, copied(values)), Report(epoch, {"loss": 1.0 / epoch})
        return ""

    def module(self, job: Job, state: TrainState) -> torch.nn.Module:
        return torch.nn.Identity()


def check_executor(make: Callable[[], Executor], runtime: Runtime | None = None) -> None:
    """An executor trains every slice it took, reports every epoch in order, and outlives what goes wrong in one.

    Args:
        make: returns a new executor.
    """
    runtime, executor, trainer = runtime or Runtime("cpu"), make(), Counting()
    cases: list[tuple[dict[str, int], int, int, list[int], str]] = [
        ({}, 0, 5, [1, 2, 3, 4, 5], "DONE"),
        ({}, 2, 4, [3, 4], "DONE"),
        ({"fail": 3}, 0, 5, [1, 2], "FAILED"),
        ({"diverge": 1}, 0, 5, [], "DIVERGED"),
        ({"stop": 3}, 0, 5, [1, 2], "STOPPED"),
    ]
    seen: dict[int, list[Any]] = {number: [] for number in range(len(cases))}
    waiting = list(enumerate(cases))
    try:
        _require(executor.free > 0 and executor.busy == 0, "executor", "a new one has to be free and not busy")
        while waiting or executor.busy:
            while waiting and executor.free:
                number, (config, start, until, _, _) = waiting.pop(0)
                state = TrainState(start, {"count": torch.tensor(float(start))}) if start else None
                executor.submit(Slice(number, start, until), trainer, Job(None, config, runtime), state)
            for event in executor.wait():
                seen[event.trial].append(event)
        for number, (_, _, _, epochs, status) in enumerate(cases):
            *reported, last = seen[number]
            _require([e.report.epoch for e in reported] == epochs, "executor", f"epochs of {cases[number]}: {reported}")
            _require(isinstance(last, Ended) and last.status == status, "executor", f"{cases[number]} ended as {last}")
            counts = [float(e.state.values["count"]) for e in reported if isinstance(e, Reported)]
            _require(counts == [float(e) for e in epochs], "executor", f"states of {cases[number]} hold {counts}")
        executor.submit(Slice(9, 0, 5), trainer, Job(None, {}, runtime), None)
        executor.wait()
        executor.stop(9)
        _require(executor.busy == 0, "executor", "a stopped slice still runs")
    finally:
        executor.close()


def check_store(make: Callable[[Path], Store], path: Path) -> None:
    """A store keeps what was committed, gives each number once, and refuses what is written of another's trial.

    Args:
        make: opens the store at a path, or makes it there.
        path: where; nothing may be there yet.
    """
    one, other = make(path), make(path)
    _require(one.describe({"seed": 1}) == {"seed": 1}, "store", "describe gives back what was described")
    _require(other.describe({"seed": 2}) == {"seed": 1}, "store", "the first description has to stay")
    _require(one.recall("a") is None, "store", "recall gave what nobody remembered")
    kept = [one.remember("a", {"b": [1, None]}), other.remember("a", {"b": 2}), other.recall("a")]
    _require(kept == [{"b": [1, None]}] * 3, "store", f"what was remembered first has to stay, got {kept}")
    numbers = [one.claim(math.inf), other.claim(math.inf), one.claim(math.inf), other.claim(3)]
    _require(numbers == [0, 1, 2, None], "store", f"claims gave {numbers}, not 0, 1, 2, None")
    seen = tuple(Report(e, {"loss": 1.0 / e, "acc": math.inf}, {"loss": 0.1}, 0.25) for e in (1, 2, 3))
    best: dict[str, Any] = {"metrics": seen[2].metrics, "errors": seen[2].errors, "epochs": 3, "seconds": 0.75}
    done = Trial(0, {"x": 0.1, "y": {"a": {}}}, "DONE", reports=seen, **best)
    failed = Trial(1, {"x": 0.2, "y": None}, "FAILED", "reason", detail="detail", parent=(0, 1), epochs=1)
    one.put(Trial(0, done.config))
    for report in seen:
        one.report(0, report)
    one.put(done)
    one.put(Trial(2, {"x": 0.3}))
    for report in seen:
        one.report(2, report)
    one.forget(2, after=2)
    _require(one.commit() == [], "store", "one's own trials were called lost")
    other.put(failed)
    other.put(Trial(2, {"x": 9.9}, "DONE"))
    _require(other.commit() == [2], "store", "a write to another owner's trial was taken")
    one.enqueue({"x": 0.4})
    one.enqueue({"x": 0.5})
    queued = [one.next_queued(3), one.next_queued(3), other.next_queued(4), other.next_queued(5)]
    _require(
        queued[0] in ({"x": 0.4}, None) and queued[2:] in ([{"x": 0.5}, None], [None, None]),
        "store",
        f"queue: {queued}",
    )
    again = make(path).changes()
    order = [t.number for t in again]
    _require(order == [0, 2, 1], "store", f"after opening again there are, the latest change last, {again}")
    again.sort(key=lambda trial: trial.number)
    _require(_facts(again[0]) == _facts(done), "store", f"{done} came back as {again[0]}")
    _require(_facts(again[1]) == _facts(failed), "store", f"{failed} came back as {again[1]}")
    _require(again[2].config == {"x": 0.3} and tuple(again[2].reports) == seen[:2], "store", f"came back as {again[2]}")
    one.note("c", {"d": 1})
    one.note("c", {"d": 2})
    one.put(Trial(2, {"x": 0.3}, "PAUSED", reports=seen[:2]))
    one.commit()
    _require(other.recall("c") == {"d": 2}, "store", f"what was noted last has to count, got {other.recall('c')}")
    held = [one.hold(), other.hold(), one.hold()]
    one.let_go()
    held.append(other.hold())
    _require(held == [True, False, True, True], "store", f"one may hold until it lets go, got {held}")
    other.let_go()
    taken = [other.take(2), one.take(2)]
    _require(taken == [True, False], "store", f"a paused trial was taken by {taken}, not by the first alone")
    one.close()
    other.close()


def _facts(trial: Trial) -> list[Any]:
    names = ("number", "config", "status", "reason", "detail", "epochs", "seconds", "parent")
    found = [getattr(trial, name) for name in names]
    return [*found, dict(trial.metrics), dict(trial.errors), tuple(trial.reports)]


def _flat(value: Any) -> list[Any]:
    """Nested tensors and numbers as a list that `==` compares to the last bit, NaN equal to NaN."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *_flat(value[key]))]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in _flat(inner)]
    if isinstance(value, torch.Tensor):
        return [
            str(value.dtype),
            tuple(value.shape),
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist(),
        ]
    return [repr(value)]


@contextmanager
def _untouched(what: str) -> Iterator[None]:
    def states() -> list[Any]:
        legacy = np.random.get_state()  # noqa: NPY002
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            [part if isinstance(part, str | int) else repr(part) for part in legacy],
        ]

    before = states()
    yield
    for name, one, other in zip(("torch", "random", "numpy.random"), before, states(), strict=True):
        _require(one == other, what, f"the global generator of {name} was used or changed")


def _require(condition: bool, what: str, message: str) -> None:
    if not condition:
        raise AssertionError(f"{what}: {message}")
