"""Metrics, and how far a measured number can be trusted."""

import math
import statistics
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tuneflow as tn
from tests.helpers.space_strategies import laws
from tuneflow.metrics import accuracy, mae
from tuneflow.metrics.measured import Measured, estimate, measure
from tuneflow.train.evaluate import Evaluator
from tuneflow.train.evaluation_plan import Measures

NAN, INF = math.nan, math.inf
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 1.0], [9.0, 0.0, 1.0]])
CLASSES = torch.tensor([0, 1, 2, 1])
RIGHT = [1.0, 1.0, 1.0, 0.0]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Accuracy.


def test_accuracy_of_class_numbers():
    assert accuracy(LOGITS, CLASSES).tolist() == RIGHT
    assert accuracy(LOGITS, CLASSES.int()).tolist() == RIGHT


def test_accuracy_of_probabilities():
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7], [0.1, 0.9, 0.0]])
    assert accuracy(LOGITS, soft).tolist() == RIGHT


@pytest.mark.parametrize("outputs", [(4,), (4, 1)], ids=str)
@pytest.mark.parametrize("targets", [(4,), (4, 1)], ids=str)
@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool, torch.uint8], ids=str)
def test_accuracy_of_two_classes_in_every_shape(outputs, targets, kind):
    logits = torch.tensor([3.0, -0.1, 0.1, -2.0]).reshape(outputs)
    wanted = torch.tensor([1, 0, 0, 1]).reshape(targets).to(kind)
    assert accuracy(logits, wanted).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("inner", [(5,), (4, 5), (2, 4, 5)], ids=str)
def test_accuracy_averages_extra_dimensions_within_an_example(inner):
    outputs = normal(6, 3, *inner)
    targets = torch.randint(3, (6, *inner), generator=torch.Generator().manual_seed(1))
    each = (outputs.argmax(1) == targets).float().reshape(6, -1).mean(1)
    assert torch.equal(accuracy(outputs, targets), each)
    soft = nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    assert torch.equal(accuracy(outputs, soft), each)


@laws
@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 1000))
def test_accuracy_is_one_for_the_largest_output_and_one_number_per_example(rows, classes, seed):
    outputs = normal(rows, classes, seed=seed)
    best = accuracy(outputs, outputs.argmax(1))
    worst = accuracy(outputs, outputs.argmin(1))
    assert best.shape == worst.shape == (rows,)
    assert best.min() == 1
    assert worst.max() == 0


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_outputs_that_are_not_finite_are_wrong(bad):
    outputs = LOGITS.clone()
    outputs[0, 0] = bad
    outputs[1, 2] = bad
    assert accuracy(outputs, CLASSES).tolist() == [0, 0, 1, 0]
    assert accuracy(torch.tensor([bad, 1.0]), torch.tensor([1, 1])).tolist() == [0, 1]
    assert accuracy(torch.tensor([[bad], [-1.0]]), torch.tensor([0, 0])).tolist() == [0, 1]


def test_pixel_that_is_not_finite_spoils_itself_alone():
    outputs = torch.zeros(1, 2, 2, 2)
    outputs[:, 1] = 1
    outputs[0, 0, 0, 0] = NAN
    assert accuracy(outputs, torch.ones(1, 2, 2, dtype=torch.int64)).tolist() == [0.75]


@pytest.mark.parametrize("targets", [CLASSES[:, None], nn.functional.one_hot(CLASSES, 4)], ids=["column", "one-hot"])
def test_accuracy_never_compares_every_example_with_every_other(targets):
    outputs = torch.cat([LOGITS, torch.full((4, 1), -9.0)], 1)
    with suppress(ValueError):  # right or refused, never silently something else
        assert accuracy(outputs, targets).tolist() == RIGHT


# Mean absolute error.


@pytest.mark.parametrize("shape", [(3,), (3, 1)], ids=str)
@pytest.mark.parametrize("targets", [(3,), (3, 1)], ids=str)
def test_mae_of_one_number_per_example(shape, targets):
    outputs = torch.tensor([1.0, 2.0, -3.0]).reshape(shape)
    assert mae(outputs, torch.tensor([1.5, 2.0, 3.0]).reshape(targets)).tolist() == [0.5, 0.0, 6.0]


def test_mae_averages_within_an_example():
    outputs, targets = normal(4, 2, 3), normal(4, 2, 3, seed=1)
    assert mae(outputs, targets).tolist() == pytest.approx((outputs - targets).abs().mean((1, 2)).tolist())


# What a metric returned.


@pytest.mark.parametrize("number", [0.25, np.float32(0.25), np.float64(0.25), torch.tensor(0.25), torch.tensor([0.25])])
def test_one_number_has_no_error(number):
    measured = measure(number)
    assert measured.value == 0.25
    assert math.isnan(measured.error)
    assert measured.examples == 0
    assert type(measured.value) is float


@laws
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_vector_is_its_mean_with_the_standard_error(values):
    measured = measure(torch.tensor(values, dtype=torch.float64))
    assert measured.value == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert measured.error == pytest.approx(statistics.stdev(values) / math.sqrt(len(values)), abs=1e-9)
    assert measured.examples == len(values)


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0], [True, False, True], [1, 1, 0]])
def test_zeros_and_ones_are_binary(values):
    assert measure(torch.tensor(values)).binary


def test_other_values_are_not_binary():
    assert not measure(torch.tensor([0.0, 1.0, 0.5])).binary
    assert not measure(torch.tensor([0.0, 1.0, 2.0])).binary


@pytest.mark.parametrize(
    ("result", "shown"),
    [(None, "NoneType"), ("high", "str"), ((1.0, 2.0), "tuple"), (torch.ones(2, 3), "(2, 3)"), ({"a": 1}, "dict")],
)
def test_metric_that_returns_no_number_is_told_what_it_returned(result, shown):
    with pytest.raises(TypeError) as caught:
        measure(result)
    assert "a number or one number per example" in str(caught.value)
    assert shown in str(caught.value)


# Losses.

LOSSES = [
    (nn.CrossEntropyLoss(), normal(9, 3), torch.arange(9) % 3),
    (nn.CrossEntropyLoss(label_smoothing=0.1), normal(9, 3), torch.arange(9) % 3),
    (nn.CrossEntropyLoss(weight=torch.ones(3)), normal(9, 3), torch.arange(9) % 3),
    (
        nn.CrossEntropyLoss(),
        normal(9, 3, 4, 5),
        torch.randint(3, (9, 4, 5), generator=torch.Generator().manual_seed(0)),
    ),
    (nn.MSELoss(), normal(9, 4), normal(9, 4, seed=1)),
    (nn.L1Loss(), normal(9), normal(9, seed=1)),
    (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])), normal(9, 1), (normal(9, 1, seed=1) > 0).float()),
]


def measure_loss(loss, outputs, targets):
    """The validation loss of a module that gives these outputs."""
    return Evaluator(Measures(loss, {}), {}).evaluate(nn.Identity(), tn.Data(outputs, targets))["loss"]


@pytest.mark.parametrize(("loss", "outputs", "targets"), LOSSES)
def test_loss_is_exactly_its_own_with_the_error_of_the_examples(loss, outputs, targets):
    each = [loss(outputs[i : i + 1], targets[i : i + 1]).item() for i in range(9)]
    measured = measure_loss(loss, outputs, targets)
    assert measured.value == pytest.approx(loss(outputs, targets).item(), rel=1e-6)
    assert measured.error == pytest.approx(statistics.stdev(each) / 3, rel=1e-5)
    assert measured.examples == 9
    assert loss.reduction == "mean"


def worst_of(outputs, targets):
    return (outputs - targets).abs().max()


WEIGHTED = [
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0])), [1.0, 2.0, 5.0]),
    (nn.CrossEntropyLoss(ignore_index=0), [0.0, 1.0, 1.0]),
    (nn.functional.cross_entropy, [1.0, 1.0, 1.0]),
]


@pytest.mark.parametrize(("loss", "weights"), WEIGHTED)
def test_loss_of_rows_that_weigh_differently_has_the_error_of_a_ratio(loss, weights):
    outputs, targets = normal(9, 3), torch.arange(9) % 3
    weights = torch.tensor(weights)[targets]
    each = weights * nn.functional.cross_entropy(outputs, targets, reduction="none")
    value = each.sum() / weights.sum()
    error = ((each - value * weights).square().sum() * 9 / 8).sqrt() / weights.sum()
    measured = measure_loss(loss, outputs, targets)
    assert measured.value == pytest.approx(loss(outputs, targets).item(), rel=1e-6)
    assert measured.error == pytest.approx(error.item(), rel=1e-5)


NO_ERROR = [
    (nn.CrossEntropyLoss(reduction="sum"), normal(9, 3), torch.arange(9) % 3),
    (nn.CrossEntropyLoss(), normal(1, 3), torch.tensor([1])),
    (worst_of, normal(9), normal(9, seed=1)),
]


@pytest.mark.parametrize(("loss", "outputs", "targets"), NO_ERROR)
def test_loss_that_is_no_mean_over_examples_has_no_error(loss, outputs, targets):
    measured = measure_loss(loss, outputs, targets)
    assert measured.value == pytest.approx(loss(outputs, targets).item(), rel=1e-6)
    assert math.isnan(measured.error)


def test_loss_that_is_not_finite_stays_so():
    measured = measure_loss(nn.MSELoss(), torch.tensor([1.0, NAN]), torch.zeros(2))
    assert math.isnan(measured.value)


# Intervals.


@laws
@given(st.integers(1, 1000), st.data())
def test_wilson_interval_has_the_ends_where_the_true_share_would_be_z_errors_away(n, data):
    right = data.draw(st.integers(0, n))
    p = right / n
    made = estimate(Measured(p, 0.0, n, binary=True))
    assert 0 <= made.low <= p + 1e-12
    assert p - 1e-12 <= made.high <= 1
    for end in (made.low, made.high):
        assert abs(p - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-7)


# Counts and bounds from Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
WILSON = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize(("right", "n", "low", "high"), WILSON)
def test_wilson_interval_is_the_published_one(right, n, low, high):
    made = estimate(measure(torch.tensor([1.0] * right + [0.0] * (n - right))))
    assert (round(made.low, 4), round(made.high, 4)) == (low, high)
    assert made.value == pytest.approx(right / n)
    assert made.examples == n


def test_interval_of_other_numbers_is_the_normal_one():
    made = estimate(Measured(5.0, 0.5, 100))
    assert (made.low, made.high) == pytest.approx((5 - 0.979982, 5 + 0.979982))
    assert str(made) == "5.0000 [4.0200, 5.9800]"


def test_number_without_error_has_no_interval():
    made = estimate(Measured(0.25))
    assert math.isnan(made.low)
    assert math.isnan(made.high)
    assert str(made) == "0.2500"


def test_metrics_are_public():
    assert tn.metrics.accuracy is accuracy
    assert tn.metrics.mae is mae
