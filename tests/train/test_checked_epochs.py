"""A trainer of the user's that breaks the protocol fails its trials with a sentence; none crashes or hangs a run."""

import re
import threading

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.types import Report, TrainState


class Plain(TrainerProtocol):
    """Keeps the protocol."""

    epochs = 3

    def init(self, job):
        return TrainState(0, {"n": 0})

    def advance(self, job, state, until):
        for epoch in range(state.epoch + 1, until + 1):
            yield from self.epoch(epoch)
        return ""

    def epoch(self, epoch):
        yield TrainState(epoch, {"n": epoch}), Report(epoch, {"loss": 1.0 / epoch})


def with_epoch(**parts):
    """A trainer that yields for each epoch what these functions make of it: `state`, `values`, `report`, `metrics`."""

    def epoch(self, number):
        state = parts.get("state", lambda e: e)(number)
        values = parts.get("values", lambda e: {"n": e})(number)
        report = parts.get("report", lambda e: e)(number)
        metrics = parts.get("metrics", lambda e: {"loss": 1.0 / e})(number)
        yield TrainState(state, values), Report(report, metrics)

    return type("Own", (Plain,), {"epoch": epoch})()


def yields(*things):
    return type("Own", (Plain,), {"epoch": lambda self, epoch: iter(things)})()


def own(**methods):
    return type("Own", (Plain,), methods)()


GOOD = TrainState(1, {}), Report(1, {"loss": 1.0})
BROKEN = {
    "out of order": (with_epoch(state=lambda e: 4 - e), "Own.advance, epoch 1: got the state of epoch 3"),
    "report out of order": (with_epoch(report=lambda e: 2 * e), "got the report of epoch 2; epochs come one by one"),
    "twice": (yields(GOOD, GOOD), "Own.advance, epoch 2: got the state of epoch 1"),
    "float": (with_epoch(state=float), "got the state of epoch 1.0"),
    "no report": (yields((GOOD[0], {"loss": 1.0})), "yield (TrainState, Report), got (TrainState"),
    "None": (yields(None), "yield (TrainState, Report), got None"),
    "no state": (yields((None, GOOD[1])), "needs a TrainState of an epoch and a dict of values, got None"),
    "no values": (with_epoch(values=lambda e: None), "a dict of values, got TrainState(epoch=1, values=None)"),
    "nothing": (yields(), "the trainer stopped before the end of its slice and gave no reason"),
    "no generator": (own(advance=lambda *_: None), "needs to be a generator that yields"),
    "no metrics": (with_epoch(metrics=lambda e: {}), "needs a dict of numbers"),
    "word": (with_epoch(metrics=lambda e: {"loss": "good"}), "\"loss\" needs to be one number, got 'good'"),
    "other names": (
        with_epoch(metrics=lambda e: {"loss": 1.0} | ({"size": 1.0} if e > 1 else {})),
        "Own.advance, epoch 2: size changed; every epoch reports the same names",
    ),
    "lock": (with_epoch(values=lambda e: {"a": [threading.Lock()]}), "values['a'][0] holds <unlocked"),
    "numpy": (with_epoch(values=lambda e: {"a": np.float64(1)}), "values['a'] holds np.float64(1.0)"),
    "init": (own(init=lambda *_: None), "Own.init: needs a TrainState"),
    "init later": (own(init=lambda *_: TrainState(1, {})), "Own.init: got the state of epoch 1"),
    "reason": (own(advance=lambda *_: (yield from ()) or 5), "Own.advance returned 5; return a string"),
}


def study(trainer, **settings):
    return tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=trainer, progress=False, **settings)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_trainer_fails_its_trials_with_a_sentence(rule, replicas, tmp_path):
    trainer, message = BROKEN[rule]
    broken = study(trainer, replicas=replicas, folder=tmp_path)
    broken.run(trials=2)
    assert [trial.status for trial in broken.trials] == ["FAILED", "FAILED"]
    assert re.search(re.escape(message), broken.trials[0].reason)


@pytest.mark.parametrize(
    "trainer",
    [
        Plain(),
        with_epoch(metrics=lambda e: {"loss": torch.tensor(1.0 / e)}),
        with_epoch(metrics=lambda e: {"loss": np.float32(1.0 / e)}),
        own(advance=lambda self, job, state, until: [*Plain.advance(self, job, state, until)]),
        own(advance=lambda self, job, state, until: Plain.advance(self, job, state, 99)),
    ],
    ids=["plain", "tensor", "numpy", "list", "beyond"],
)
def test_numbers_of_any_kind_and_any_iterable_are_taken(trainer):
    made = study(trainer)
    made.run(trials=1)
    assert [(t.status, t.epochs) for t in made.trials] == [("DONE", 3)]
    assert made.best.metrics == {"loss": pytest.approx(1 / 3)}


def test_a_metric_that_was_never_reported_ends_the_run_with_its_name():
    for goals in ({"minimize": "size"}, {"minimize": ["loss", "size"]}, {"limits": {"size": 1.0}}):
        with pytest.raises(tn.errors.StudyError, match='metric "size" was never reported'):
            study(Plain(), **goals).run(trials=1)


class Stateless(Plain):
    """A trainer with a model, and nothing in its state."""

    def epoch(self, epoch):
        yield TrainState(epoch, {}), Report(epoch, {"loss": 1.0 / epoch})

    def module(self, job, state):
        return nn.Linear(1, state.epoch)


@pytest.mark.parametrize("at", ["best", "last"])
def test_a_model_without_a_state_is_handed_over(at, tmp_path):
    study(Stateless(), at=at, folder=tmp_path).run(trials=2)
    assert study(Stateless(), at=at, folder=tmp_path).best.model().out_features == 3
