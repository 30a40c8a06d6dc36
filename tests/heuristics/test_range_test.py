"""Range test: what the rules read off curves of known shape, and where a sweep stops."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.global_generators import generators_untouched
from tests.helpers.space_strategies import laws
from tuneflow.heuristics.range_test import suggestions, sweep

LOGS = np.linspace(-6, 1, 141)  # 20 rates to a decade
RATES = (10**LOGS).tolist()


def curve(shape):
    return [shape(log) for log in LOGS]


def bowl(log):
    return (log + 2) ** 2


def slide(log):
    """Falls from 2 to 0, steepest at 10^-3, and rises beyond 10^-1."""
    return 1 - math.tanh(2 * (log + 3)) + max(0.0, 5 * (log + 1)) ** 2


# Closed forms.


def test_minimum_is_a_tenth_of_the_lowest():
    assert suggestions(RATES, curve(bowl), beta=0).minimum == pytest.approx(1e-3)


def test_steepest_is_where_the_loss_falls_fastest_per_factor():
    found = suggestions(RATES, curve(slide), beta=0)
    assert abs(math.log10(found.steepest) + 3) <= 0.05
    assert found.steepest < found.minimum * 10


def test_valley_is_half_way_through_the_longest_fall():
    """Rates 14 to 135 are seen; of them the loss falls from the first to that of 10^-2, number 80."""
    found = suggestions(RATES, curve(bowl), beta=0)
    falls = 80 - 14 + 1
    assert found.valley == RATES[14 + falls // 3 + int(falls / 6)]


def test_longest_fall_wins_over_the_deepest():
    losses = [9.0] * 10 + [5.0] * 20 + [4 - n / 100 for n in range(40)] + [8.0, 0.0] + [9.0] * 28
    rates = RATES[: len(losses)]
    assert rates[30] < suggestions(rates, losses, beta=0).valley < rates[72]


def test_first_tenth_and_last_five_points_are_not_seen():
    losses = curve(bowl)
    losses[3], losses[-2] = -99.0, -99.0
    assert suggestions(RATES, losses, beta=0).minimum == pytest.approx(1e-3)


def test_smoothed_loss_is_the_weighted_mean_of_the_past():
    losses = curve(slide)
    weights = 0.9 ** np.arange(141)
    wanted = [np.average(losses[: n + 1][::-1], weights=weights[: n + 1]) for n in range(141)]
    assert suggestions(RATES, losses, beta=0.9).mean == pytest.approx(wanted)


def test_band_is_mean_and_deviation_over_the_seeds():
    losses = curve(bowl)
    found = suggestions(RATES, losses, [loss + 2 for loss in losses], [loss + 4 for loss in losses])
    alone = suggestions(RATES, [loss + 2 for loss in losses])
    assert found.mean == pytest.approx(alone.mean)
    assert found.spread == pytest.approx([2.0] * 141)
    assert alone.spread == (0.0,) * 141
    assert (found.steepest, found.minimum, found.valley) == (alone.steepest, alone.minimum, alone.valley)


def test_curves_are_cut_to_the_shortest():
    losses = curve(bowl)
    assert suggestions(RATES, losses, losses[:50]).rates == tuple(RATES[:50])
    assert suggestions(RATES[:40], losses).rates == tuple(RATES[:40])


# Laws.


@laws
@given(st.lists(st.floats(-1e3, 1e3), min_size=10, max_size=60), st.floats(0.1, 10), st.floats(-100, 100))
def test_units_of_the_loss_do_not_matter(losses, scale, shift):
    losses = [round(loss, 3) for loss in losses]
    here = suggestions(RATES, losses, beta=0)
    there = suggestions(RATES, [scale * loss for loss in losses], beta=0)
    assert there.valley == here.valley
    assert all(name in RATES for name in (here.steepest, here.valley))


@laws
@given(st.integers(-3, 3))
def test_units_of_the_rate_do_not_matter(power):
    losses, factor = curve(slide), 10.0**power
    here, there = suggestions(RATES, losses), suggestions([rate * factor for rate in RATES], losses)
    for name in ("steepest", "minimum", "valley"):
        assert getattr(there, name) == pytest.approx(factor * getattr(here, name))


def test_constant_curve_still_gives_rates():
    found = suggestions(RATES, [1.0] * 141)
    assert all(math.isfinite(rate) for rate in (found.steepest, found.minimum, found.valley))


def test_result_is_json_able():
    found = suggestions(RATES, curve(bowl))
    assert json.loads(json.dumps(asdict(found)))["mean"] == list(found.mean)


# Sweeps.


def test_rates_grow_by_one_factor_from_end_to_end():
    asked = []
    with generators_untouched():
        rates, losses = sweep(lambda rate: asked.append(rate) or 1.0, 1e-5, 10.0, steps=7)
    assert asked == rates == pytest.approx([10.0**n for n in range(-5, 2)])
    assert losses == [1.0] * 7


def test_sweep_stops_once_the_loss_exceeds_four_times_its_lowest():
    rates, losses = sweep(lambda rate: 2.0 if rate < 1 else 8.0 if rate < 5 else 8.1, 0.01, 100.0, 41, beta=0)
    assert losses[-1] == 8.1
    assert losses.count(8.1) == 1
    assert 5 <= rates[-1] < 10


def test_one_bad_batch_does_not_stop_a_smoothed_sweep():
    waiting = iter([1.0] * 50 + [9.0] + [1.0] * 49)
    assert len(sweep(lambda _: next(waiting), 1e-5, 1.0, 100)[0]) == 100


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_sweep_stops_before_a_loss_that_is_not_finite(bad):
    waiting = iter([3.0, 2.0, bad])
    rates, losses = sweep(lambda _: next(waiting), 1e-5, 1.0, 100)
    assert losses == [3.0, 2.0]
    assert len(rates) == 2


def test_negative_losses_do_not_stop_a_sweep_that_improves():
    waiting = iter([-1.0 - n for n in range(30)] + [999.0] * 70)
    _, losses = sweep(lambda _: next(waiting), 1e-5, 1.0, 100, beta=0)
    assert losses[-2:] == [-30.0, 999.0]


def test_descent_on_a_parabola_stops_above_its_limit_and_suggestions_stay_below():
    """Loss w^2 / 2: a step at rate r multiplies w by 1 - r, which grows above 2."""
    w = [1.0]

    def step(rate):
        loss = w[0] ** 2 / 2
        w[0] *= 1 - rate
        return loss

    rates, losses = sweep(step, 1e-4, 100.0, steps=100)
    assert 2 < rates[-1] < 100
    found = suggestions(rates, losses, beta=0)
    assert all(1e-4 <= rate < 2 for rate in (found.steepest, found.minimum, found.valley))


# Refusals.


@pytest.mark.parametrize(("low", "high", "steps"), [(0, 1, 9), (1, 1, 9), (2, 1, 9), (1, math.inf, 9), (1, 2, 1)])
def test_sweeps_that_go_nowhere_are_refused(low, high, steps):
    with pytest.raises(ValueError, match="low < high"):
        sweep(lambda _: 1.0, low, high, steps)


def test_curves_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="10 losses or more, got 9"):
        suggestions(RATES, [1.0] * 9)
    with pytest.raises(ValueError, match="10 losses"):
        suggestions(RATES)
    with pytest.raises(ValueError, match="ascend"):
        suggestions([1.0] * 20, [1.0] * 20)
