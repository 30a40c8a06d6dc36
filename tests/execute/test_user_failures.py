"""Whatever user code raises ends its trial as FAILED and nothing else; Ctrl-C alone ends the run."""

import asyncio

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, linear
from tuneflow.errors import StudyError
from tuneflow.execute.lanes import structure_group
from tuneflow.execute.lanes.engine_cache import EngineTiming
from tuneflow.train.function_trainer import Function


class Own(BaseException):
    """An exception that `except Exception` does not catch."""


RAISED = {
    "SystemExit: 3": SystemExit(3),
    "SystemExit": SystemExit(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError: late": asyncio.CancelledError("late"),
    "Own: bad": Own("bad"),
}


def score(i, error):
    if i == 2:
        raise error
    return {"loss": float(i)}


def a_loop(error):
    @tn.loop(epochs=1)
    def fit(config, run):
        for _ in run.epochs():
            yield score(**config, error=error)

    return fit


@pytest.mark.parametrize("reason", RAISED)
@pytest.mark.parametrize("kind", ["function", "loop", "replicas"])
def test_a_trial_whose_code_raises_has_failed_and_the_others_go_on(kind, reason):
    error = RAISED[reason]
    trainer = Function(lambda i: score(i, error)) if kind == "function" else a_loop(error)
    space = tn.SearchSpace(i=tn.Int(0, 2))
    replicas = 2 if kind == "replicas" else 1
    study = tn.Study(space=space, trainer=trainer, searcher=tn.Grid(3), replicas=replicas, progress=False)
    study.run()
    assert {t.config["i"]: t.status for t in study.trials} == {0: "DONE", 1: "DONE", 2: "FAILED"}
    failed = study.trials[2]
    assert failed.reason == (f"{reason} (in replica 0)" if replicas > 1 else reason)
    assert "raise error" in failed.detail


def test_ctrl_c_in_user_code_ends_the_run_and_fails_no_trial():
    study = tn.Study(
        space=tn.SearchSpace(i=tn.Int(0, 2)), trainer=a_loop(KeyboardInterrupt()), searcher=tn.Grid(3),
        progress=False,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert [t.status for t in study.trials] == ["DONE", "DONE", "PAUSED"]


class Fuse:
    """Raises SystemExit at its uses from the first report of a study on: once, or each time."""

    lit = False

    def __init__(self, once=True):
        self.once = once

    def light(self, study, trial):
        self.lit |= not trial.ended and sum(t.epochs for t in study.trials) == 1

    def __call__(self, *arguments):
        if self.lit:
            self.lit = not self.once
            raise SystemExit(2)
        return arguments[0] if len(arguments) == 1 else tn.metrics.accuracy(*arguments)


class Cut(nn.Module):
    def __init__(self, fuse):
        super().__init__()
        self.net, self.fuse = linear(), fuse

    def forward(self, inputs):
        return self.fuse(self.net(inputs))


PLACES = {
    "augment": lambda fuse: {"augment": fuse},
    "metric": lambda fuse: {"metrics": {"accuracy": fuse}},
    "loss": lambda fuse: {"loss": lambda outputs, targets: fuse(nn.functional.cross_entropy(outputs, targets))},
    "optimizer": lambda fuse: {"optimizer": lambda parameters, lr: fuse(torch.optim.SGD(parameters, lr))},
    "builder": lambda fuse: {"model": tn.Model(lambda: fuse(linear()))},
    "forward": lambda fuse: {"model": tn.Model(lambda: Cut(fuse))},
}


@pytest.fixture
def stacked(monkeypatch):
    """Lanes are stacked at once."""
    monkeypatch.setattr(structure_group, "TRACING", 0.0)
    monkeypatch.setattr(structure_group, "TRIED", 0)
    monkeypatch.setattr(structure_group, "time_alone", lambda lane: 1.0)
    monkeypatch.setattr(
        structure_group, "measure", lambda lanes, slots, programs, alone: EngineTiming("stacked", slots, alone, alone)
    )


@pytest.mark.filterwarnings("ignore:lanes")
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_an_exit_in_any_part_of_a_trainer_fails_at_most_its_trial(place, lanes, stacked):
    fuse = Fuse()
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD} | PLACES[place](fuse)
    model = settings.pop("model", tn.Model(linear))
    study = tn.Study(
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        model=model,
        trainer=tn.Trainer(TRAIN[:64], VALID[:32], epochs=2, **settings),
        runtime=tn.Runtime("cpu", threads=1, lanes=lanes),
        callbacks=[fuse.light],
        progress=False,
    )
    study.run(trials=3)
    statuses = [t.status for t in study.trials]
    assert not fuse.lit
    assert statuses.count("FAILED") <= 1
    assert statuses.count("DONE") == 3 - statuses.count("FAILED")
    assert all(t.reason == "SystemExit: 2" for t in study.trials if t.status == "FAILED")
    if lanes == 1:
        assert "FAILED" in statuses


@pytest.mark.parametrize("place", ["augment", "metric", "loss", "optimizer", "builder", "forward"])
def test_an_exit_in_the_dry_run_is_an_error_that_names_the_configuration(place):
    fuse = Fuse(once=False)
    fuse.lit = True
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD} | PLACES[place](fuse)
    model = settings.pop("model", tn.Model(linear))
    with pytest.raises(ValueError, match=r"configuration \{'optimizer'.*SystemExit: 2"):
        tn.Study(
            space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
            model=model,
            trainer=tn.Trainer(TRAIN[:64], VALID[:32], epochs=2, **settings),
            progress=False,
        )


def test_an_exit_while_a_loop_is_rehearsed_is_an_error():
    study = tn.Study(space=tn.SearchSpace(i=tn.Choice([2])), trainer=a_loop(SystemExit(3)), progress=False)
    with pytest.raises(ValueError, match=r"configuration \{'i': 2\}: the loop fails: SystemExit: 3"):
        study.run(trials=1)


class ExitingSearcher(tn.Searcher):
    def suggest(self, space, history, rng):
        raise SystemExit("no license")


class ExitingScheduler(tn.Scheduler):
    def next(self, space, history, rng):
        raise GeneratorExit


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"searcher": ExitingSearcher()}, r"ExitingSearcher\(\) raised SystemExit: no license"),
        ({"scheduler": ExitingScheduler()}, r"ExitingScheduler\(\) raised GeneratorExit"),
    ],
)
def test_an_exit_of_searcher_or_scheduler_is_an_error_of_the_run(part, message):
    study = tn.Study(space=tn.SearchSpace(i=tn.Choice([0, 1])), trainer=a_loop(None), progress=False, **part)
    with pytest.raises(StudyError, match=message):
        study.run(trials=2)
