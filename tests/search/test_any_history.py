"""Any history over any space: every searcher proposes what the space allows, from the history and its rng alone."""

import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tuneflow as tn
from tests.helpers.fuzzing import accepts, examples
from tests.helpers.history_strategies import records
from tuneflow.probing.probe import Probe
from tuneflow.runtime.environment import USUAL
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
SECONDS = 20.0  # of CPU for one proposal: a loop that hardly ends, not a slow machine


def probed(rate, screened=""):
    """A prober that measures this rate of every structure."""
    probe = Probe(rate, None, None, True, None, "SGD", 0.9, 32, 100, 50, 2.3, 2.3, None, None, 0.4, 0.0, 0.0, screened)
    return lambda config: Probe.unmeasured("no memory", 0.0) if math.isnan(rate) else probe


PROBERS = {
    "none": None,
    "usual": probed(0.1),
    "tiny": probed(1e-300),
    "failed": probed(math.nan),
    "screened": probed(0.1, "loss is flat"),
}

MODELS = {  # which take a hundredth of a second for a proposal
    "auto": tn.Auto,
    "gp": tn.GP,
    "gp repeats": lambda: tn.GP(repeats=True),
    "lecun gp": lambda: tn.LeCun(then=tn.GP()),
}
SEARCHERS = {
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(4, 2),
    "grid": lambda: tn.Grid(2),
    "shuffled grid": lambda: tn.Grid(3, shuffle=True),
    "lecun": lambda: tn.LeCun(then=tn.TPE(start=2)),
    "nsga2": lambda: tn.NSGA2(4),
    "random": tn.Random,
    "sobol": tn.Sobol,
    "tpe": lambda: tn.TPE(start=2),
}


def asked(searcher, history, number, once, prober):
    """The configuration of trial `number`, and the ranks of the trials with one objective."""
    history.number, history.prober = number, prober
    rng, begun = stream(history.seed, "search", number), time.process_time()
    with warnings.catch_warnings(), np.errstate(**USUAL):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="LeCun: ")  # the measured rate lies beyond the range
        config = proposed(searcher, history.space, history, rng, once)
        ranks = None if history.objective.several else searcher.ranked(history.space, history)
    assert time.process_time() - begun < SECONDS
    return config, ranks


def accepted(make, space):
    """A new searcher that takes the space; the example is left where that is refused."""
    searcher = make()
    assume(accepts(searcher, space))
    return searcher


def check_laws(make, study, data):
    """A kept searcher, asked as the history grows, proposes what a fresh one does, and it is in the space."""
    kept, once = accepted(make, study.space), data.draw(st.booleans())
    prober = PROBERS[data.draw(st.sampled_from(sorted(PROBERS)))]
    history, ahead = study.history(0), data.draw(st.integers(0, 2))
    middle = data.draw(st.integers(0, len(study.trials)))
    for start, stop in ((0, middle), (middle, len(study.trials))):
        for trial in study.trials[start:stop]:
            history.record(trial)
        number = len(history) + ahead
        config, ranks = asked(kept, history, number, once, prober)
        assert (config, ranks) == asked(accepted(make, study.space), study.history(stop), number, once, prober)
        if config is not None:
            assert study.space.cast(config) == config
        if ranks is not None:
            scored = {trial.number for trial in history.finished if history.cost(trial) < math.inf}
            assert len(set(ranks)) == len(ranks)
            assert set(ranks) <= scored


@pytest.mark.parametrize("name", SEARCHERS)
@examples(6)
@given(study=records(), data=st.data())
def test_searchers_propose_what_the_space_allows(name, study, data):
    check_laws(SEARCHERS[name], study, data)


@pytest.mark.parametrize("name", MODELS)
@examples(3)
@given(study=records(), data=st.data())
def test_searchers_with_a_model_propose_what_the_space_allows(name, study, data):
    check_laws(MODELS[name], study, data)


@pytest.mark.parametrize("then", ["gp", "tpe", "grid"])
@examples(2)
@given(study=records(), earlier=records(), same=st.booleans(), data=st.data())
def test_warm_takes_any_earlier_study(then, study, earlier, same, data):
    source = (study if same else earlier).history()
    assume(np.isfinite(source.comparable_costs[source.observed.numbers]).any())
    check_laws(lambda: tn.Warm([source], then=(MODELS | SEARCHERS)[then]()), study, data)
