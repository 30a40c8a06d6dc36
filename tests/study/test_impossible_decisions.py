"""A decision that cannot be carried out ends the run with a sentence, and does not keep it busy for ever."""

import pytest

import tuneflow as tn
from tests.helpers.small_studies import scripted
from tuneflow.errors import StudyError
from tuneflow.schedule import Continue, Fork, Start, Stop


class Decides(tn.Scheduler):
    """Trains one trial to its end, and then decides the same again and again."""

    def __init__(self, decision):
        self.decision = decision

    def next(self, space, history, rng):
        return self.decision if history.ended else Start(history.epochs)


IMPOSSIBLE = {
    "Continue needs a paused trial, and trial 0 is DONE": Continue(0, 3),
    "Stop needs a running or paused trial, and trial 0 is DONE": Stop(0, "worse"),
    "there is no such trial, as the study has 1 trial": Stop(7, "worse"),
    "Fork needs an epoch that was trained, and trial 0 has trained 3": Fork(0, 4, {}, 5),
    "until needs to be a whole number above 0": Start(0),
    "until needs to be a whole number above 2": Fork(0, 2, {}, 2),
    "it needs to be Start, Continue, Fork, Stop or Wait": "stop",
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_an_impossible_decision_is_an_error(reason):
    study = scripted(scheduler=Decides(IMPOSSIBLE[reason]))
    with pytest.raises(StudyError, match=rf"Decides\(.*\) decided .*; {reason}\."):
        study.run(trials=3)
    assert [trial.status for trial in study.trials] == ["DONE"]
