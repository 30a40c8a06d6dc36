"""Limits relative to a result: the bound and its direction, resumed studies, and messages."""

import math
from fractions import Fraction

import pytest

import tuneflow as tn
from tuneflow.errors import FingerprintError
from tuneflow.study.within import more_is_better

SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0))


def study(limits, **more):
    return tn.Study(space=SPACE, limits=limits, progress=False, **({"minimize": "latency"} | more))


def winner(**metrics):
    first = tn.Study(space=SPACE, maximize="accuracy", progress=False)
    first.tell(first.ask(), {"accuracy": 0.5, "latency": 9.0} | metrics)
    return first.best


def limit_of(made):
    (limit,) = made.objective.limits
    return limit.least, limit.most


@pytest.mark.parametrize(
    ("name", "more", "bounds"),
    [
        ("accuracy", {}, (0.4, None)),
        ("latency", {"minimize": "loss"}, (None, 9.1)),
        ("quality", {"maximize": "quality", "minimize": None}, (2.9, None)),
        ("quality", {"minimize": "quality"}, (None, 3.1)),
    ],
)
def test_the_bound_is_on_the_side_that_is_worse(name, more, bounds):
    made = study({name: tn.within(0.1, of=winner(quality=3.0))}, **more)
    assert limit_of(made) == pytest.approx(bounds)


def test_a_metric_says_its_direction_itself():
    class Rank:
        higher_is_better = False

        def __call__(self, outputs, targets):
            return 0.0

    assert more_is_better("rank", {}, Rank()) is False
    assert more_is_better("rank", {}) is None
    assert more_is_better("neg_loss", {}) is None
    assert more_is_better("loss", {"loss": True}) is True


@pytest.mark.parametrize("of", [0.5, 1, Fraction(1, 2)])
def test_a_number_is_enough(of):
    assert limit_of(study({"accuracy": tn.within(0.25, of=of)}))[0] == pytest.approx(float(of) - 0.25)


def test_the_bound_itself_is_within_however_it_was_rounded():
    for rows in (7, 300, 1797):
        for right in range(rows // 2, rows):
            least, _ = tn.within(1 / rows, of=right / rows).bounds("accuracy", True)
            assert (right - 1.001) / rows < least <= (right - 1) / rows


def test_trials_beyond_are_worse_than_any_within():
    made = study({"accuracy": tn.within(0.1, of=winner())})
    for accuracy, latency in ((0.39, 1.0), (0.4, 3.0), (0.6, 5.0)):
        made.tell(made.ask(), {"accuracy": accuracy, "latency": latency})
    assert made.best.number == 1


def test_a_study_goes_on_with_an_equal_winner_and_refuses_another(tmp_path):
    limits = {"accuracy": tn.within(0.1, of=winner())}
    study(limits, folder=tmp_path).close()
    study(limits, folder=tmp_path).close()
    with pytest.raises(FingerprintError, match=r"limits\.accuracy was \[0\.39.*, now \[0\.49"):
        study({"accuracy": tn.within(0.1, of=winner(accuracy=0.6))}, folder=tmp_path)
    (limit,) = tn.open(tmp_path).history.objective.limits
    assert limit.least == pytest.approx(0.4)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf, "0.1", True])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match=r"margin needs to be a number >= 0"):
        tn.within(margin, of=0.5)


def test_what_it_cannot_be_relative_to_is_refused():
    with pytest.raises(TypeError, match=r"got Study; write of=study\.best"):
        tn.within(0.1, of=study(None))
    with pytest.raises(TypeError, match=r"or a number, got str"):
        tn.within(0.1, of="best")
    with pytest.raises(ValueError, match=r"of needs to be finite, got nan"):
        tn.within(0.1, of=math.nan)


def test_a_metric_that_the_result_lacks_is_named_with_those_it_has():
    of = winner(macs=math.nan)
    with pytest.raises(ValueError, match=r'trial 0 has no "latncy"\. Did you mean "latency"\? .* it has accuracy, la'):
        study({"latncy": tn.within(1, of=of)})
    with pytest.raises(ValueError, match=r'trial 0 has "macs" nan; a limit needs a finite number'):
        study({"macs": tn.within(1, of=of)})
    with pytest.raises(ValueError, match=r"limits\['quality'\].*\(1, None\) for the least, 3 for the most"):
        study({"quality": tn.within(1, of=winner(quality=2.0))})
    with pytest.raises(ValueError, match=r"or tn\.within\(margin, of=result\), got \(tn\.within\(0\.1, of=trial 0\)"):
        study({"accuracy": (tn.within(0.1, of=winner()), None)})
