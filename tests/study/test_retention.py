"""Retention: which states are kept is a function of the history, whatever order the trials end in."""

import itertools

import pytest

import tuneflow as tn
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial, with_reports, with_status
from tuneflow.study.retention import admitted, backed_by_states, selected_epochs, wanted_epochs, would_be_kept

SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0))
BEST = Objective((("loss", False),))


def trial(number, losses, objective=BEST):
    reports = [Report(epoch, {"loss": loss, "size": 1.0 - loss}) for epoch, loss in enumerate(losses, 1)]
    return with_reports(Trial(number, {"x": 0.5}), reports, objective)


def ended(history, limit, order):
    """The numbers kept once trials with losses 0, 0.1, ... have ended in this order, and those dropped."""
    kept, dropped = [], []
    for number in order:
        ending = with_status(trial(number, [number / 10], history.objective), "DONE")
        expected = would_be_kept(ending, history, kept, limit)
        history.record(ending)
        kept, more = admitted(ending, history, kept, limit)
        assert expected == (number in [n for _, n in kept])
        dropped += more
    return sorted(number for _, number in kept), dropped


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_the_best_are_kept_in_whatever_order_trials_end(limit):
    for order in itertools.permutations(range(4)):
        kept, dropped = ended(History(SPACE, BEST), limit, order)
        assert kept == list(range(limit))
        assert sorted(kept + dropped) == list(range(4))


def test_with_several_objectives_the_front_is_kept_whatever_the_limit():
    several = Objective((("loss", False), ("size", False)), at="last")
    assert ended(History(SPACE, several), 1, range(4)) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize("objective", [BEST, Objective((("loss", False), ("size", True)), at="last")])
def test_all_are_kept_where_that_is_asked_for(objective):
    assert ended(History(SPACE, objective), "all", [2, 0, 3, 1]) == ([0, 1, 2, 3], [])
    with pytest.raises(ValueError, match=r'keep needs to be a whole number >= 1, got .*; .*or write "all"'):
        tn.Folder(None, keep="every")


def test_a_diverged_trial_is_dropped_and_the_kept_ones_stay():
    history = History(SPACE, BEST)
    diverged = with_status(trial(0, [0.5]), "DIVERGED")
    history.record(diverged)
    assert not would_be_kept(diverged, history, [], 3)
    assert admitted(diverged, history, [((0.0, 0.2), 7)], 3) == ([((0.0, 0.2), 7)], [0])


def test_a_trial_goes_back_to_the_last_epoch_whose_states_are_all_there():
    whole = trial(0, [0.3, 0.1, 0.2, 0.4])
    assert selected_epochs(whole, BEST) == {2}
    assert backed_by_states(whole, {2, 4}, BEST) == whole
    assert backed_by_states(whole, {2, 3}, BEST).epochs == 3
    assert backed_by_states(whole, {1, 3, 4}, BEST).epochs == 1  # the best epoch's state is lost
    assert backed_by_states(whole, {3, 4}, BEST).epochs == 0


def test_wanted_are_the_epochs_of_this_trial_and_of_the_one_that_was_chosen():
    whole = trial(1, [0.3, 0.1, 0.2])
    assert wanted_epochs(whole, BEST, [(1, 3), (0, 2)], None) == {3}
    assert wanted_epochs(whole, BEST, [(1, 3), (0, 2)], 1) == {2, 3}
