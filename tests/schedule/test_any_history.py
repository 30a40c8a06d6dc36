"""Any history, any fate of trials: every scheduler decides what can be done, and brings the study to its end."""

import time
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tuneflow as tn
from tests.helpers.fuzzing import accepts, examples
from tests.helpers.history_strategies import Records, metrics_of, records, scores
from tuneflow.history.trial import CUT, Report, Trial, with_reports, with_status
from tuneflow.runtime.environment import USUAL
from tuneflow.schedule.impossible import impossible
from tuneflow.seeds import stream

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
SECONDS = 20.0  # of CPU for a study of some trials
MORE = 12  # trials at most, beside those of the history

SCHEDULERS = {
    "full": lambda draw: tn.Full(),
    "halving": lambda draw: tn.Halving(draw(st.integers(2, 4)), draw(st.integers(1, 3))),
    "hyperband": lambda draw: tn.Hyperband(draw(st.integers(2, 4)), draw(st.integers(1, 3))),
    "median": lambda draw: tn.Median(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
    "population": lambda draw: tn.Population(
        draw(st.integers(4, 6)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0.01, 0.25, 0.5])),
        draw(st.sampled_from([0.1, 100.0])),
    ),
}


@dataclass
class Fates:
    """A study of `limit` trials whose trials report, pause, end and fail at random."""

    study: Records
    history: tn.types.History
    scheduler: tn.Scheduler
    pool: list
    limit: int
    workers: int
    rng: np.random.Generator
    until: dict = field(default_factory=dict)  # the epoch to which each running trial is trained

    def run(self, again):
        """Carry out decisions until there is nothing to do; `again` makes a scheduler like this one."""
        for number in range(len(self.history)):
            if self.history.trials[number].status == "CLAIMED":
                self._record(Trial(number, self.study.space.sample(self.rng)))
        self.until = {t.number: self.history.epochs for t in self.history.running if not t.extends}
        for _ in range(40 * (self.limit + len(self.history)) * self.study.epochs + 100):
            decision = self._decided(again)
            if not self._carried_out(decision) and not self._trained():
                return
        raise AssertionError("the study never came to its end")

    def _decided(self, again):
        history = self.history
        history.number, history.remaining = len(history), max(0, self.limit - len(history))
        with warnings.catch_warnings(), np.errstate(**USUAL):
            warnings.simplefilter("error")
            decision, fresh = (
                each.next(history.space, history, stream(history.seed, "schedule", len(history), history.ended))
                for each in (self.scheduler, again())
            )
        assert decision == fresh
        assert impossible(decision, history) == ""
        return decision

    def _carried_out(self, decision):
        """Apply a decision; False where it is to wait, or has neither worker nor trial."""
        history = self.history
        if isinstance(decision, tn.schedule.Stop):
            self.until.pop(decision.trial, None)
            self._record(with_status(history.trials[decision.trial], "STOPPED", decision.reason, CUT))
            return True
        if isinstance(decision, tn.schedule.Wait) or len(self.until) >= self.workers:
            return False
        if isinstance(decision, tn.schedule.Continue):
            self._record(with_status(history.trials[decision.trial], "RUNNING"))
            self.until[decision.trial] = decision.until
            return True
        if history.remaining < 1:
            return False
        self.until[len(history)] = decision.until
        self._record(self._new(decision))
        return True

    def _new(self, decision):
        number = len(self.history)
        if isinstance(decision, tn.schedule.Start):
            return Trial(number, self.study.space.sample(self.rng))
        config = self.study.space.cast(decision.config)
        return Trial(number, config, epochs=decision.epoch, parent=(decision.trial, decision.epoch))

    def _trained(self):
        """Train a running trial for an epoch, or end it; False when none runs."""
        if not self.until:
            return False
        number = int(self.rng.choice(list(self.until)))
        trial, fate = self.history.trials[number], self.rng.random()
        if fate < 0.1:
            return self._end(with_status(trial, "FAILED" if fate < 0.05 else "DIVERGED", "made up"))
        if fate < 0.2:
            return self._end(with_status(trial, "PAUSED", "interrupted"))
        if trial.epochs < self.history.epochs:
            metrics = metrics_of(self.study, trial.epochs + 1, self.pool, self.rng)
            reports = (*trial.reports, Report(trial.epochs + 1, metrics))
            trial = with_reports(trial, reports, self.history.objective)
        if trial.epochs >= self.history.epochs or fate < 0.22:
            return self._end(with_status(trial, "DONE"))
        if trial.epochs >= self.until[number]:
            return self._end(with_status(trial, "PAUSED"))
        self._record(trial)
        return True

    def _end(self, trial):
        del self.until[trial.number]
        self._record(trial)
        return True

    def _record(self, trial):
        self.history.record(trial)


@pytest.mark.parametrize("name", SCHEDULERS)
@examples(6)
@given(study=records(most=12), pool=st.lists(scores, min_size=1, max_size=6), begun=st.booleans(), data=st.data())
def test_schedulers_end_any_study(name, study, pool, begun, data):
    make, seed = SCHEDULERS[name](data.draw), data.draw(st.integers(0, 2**32))
    study = study if begun else replace(study, trials=())
    history = study.history()
    assume(accepts(make, history))
    limit = len(history) + data.draw(st.integers(0, MORE))
    fates = Fates(study, history, make, pool, limit, data.draw(st.integers(1, 5)), np.random.default_rng(seed))
    begun = time.process_time()
    fates.run(lambda: type(make)(**{k: v for k, v in vars(make).items() if not k.startswith("_")}))
    assert time.process_time() - begun < SECONDS
    left = [trial for trial in history.trials if not trial.ended and not trial.extends]
    assert left == []
