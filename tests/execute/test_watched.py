"""An executor of the user's that spins, or returns what is no event of its slices, ends the run with a sentence."""

import time

import pytest

import tuneflow as tn
from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Reported
from tuneflow.execute.inline import InlineExecutor
from tuneflow.train.function_trainer import Function
from tuneflow.types import Report, TrainState


def executor(wait):
    return type("Own", (InlineExecutor,), {"wait": wait})


def event(trial, epoch):
    return Reported(trial, Report(epoch, {"value": 1.0}), TrainState(epoch, {}))


BROKEN = {
    "spins": (lambda self: [], r"Own.wait\(\) returned no event 1000 times in 0.0. s, while 1 of its slices"),
    "None": (lambda self: None, "needs to return a list of events, got None"),
    "no event": (lambda self: ["done"], "Reported or Ended, got 'done'"),
    "unknown trial": (lambda self: [Ended(7, "DONE")], "returned the end as DONE of trial 7, which is not under way"),
    "later epoch": (lambda self: [event(0, 2)], "returned epoch 2 of trial 0, whose next one is 1"),
}


@pytest.mark.parametrize("lag", [None, 1])
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_executor_ends_the_run_with_a_sentence(rule, lag):
    wait, message = BROKEN[rule]
    runtime = tn.Runtime("cpu", executor=executor(wait))
    space = tn.SearchSpace(x=tn.Float(0, 1))
    study = tn.Study(space=space, trainer=Function(float), minimize="value", runtime=runtime, lag=lag, progress=False)
    with pytest.raises(StudyError, match=message):
        study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["PAUSED"]


class Slow(InlineExecutor):
    """Returns nothing for a while before each event, as one that polls does."""

    polls = 0

    def wait(self):
        self.polls += 1
        if self.polls % 1100:
            time.sleep(0.001)
            return []
        return super().wait()


def test_an_executor_that_polls_is_let_be():
    best = tn.minimize(
        lambda x: x, tn.SearchSpace(x=tn.Float(0, 1)), trials=1, runtime=tn.Runtime("cpu", executor=Slow)
    )
    assert best.status == "DONE"
