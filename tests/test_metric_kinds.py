"""Metrics of several guesses, of numbers, and objects that are updated."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import VALID, job
from tests.helpers.trainer_runs import run
from tuneflow.metrics import accuracy, r2, rmse, top_k
from tuneflow.metrics.adapters import Accumulated, as_metric
from tuneflow.metrics.measured import measure

laws = settings(max_examples=50, deadline=None)
NAN = float("nan")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The k largest.


@laws
@given(st.integers(1, 20), st.integers(2, 6), st.integers(0, 1000), st.booleans())
def test_first_guess_is_accuracy(rows, classes, seed, ties):
    outputs = normal(rows, classes, seed=seed)
    outputs = outputs.round() if ties else outputs
    targets = torch.arange(rows) % classes
    assert torch.equal(top_k(1)(outputs, targets), accuracy(outputs, targets))


@laws
@given(st.integers(1, 20), st.integers(2, 6), st.integers(0, 1000))
def test_share_of_rows_that_are_right_grows_by_one_class_per_guess(rows, classes, seed):
    outputs = normal(rows, classes, seed=seed)
    every = torch.stack(
        [
            torch.stack([top_k(k)(outputs, torch.full((rows,), c)) for c in range(classes)]).sum(0)
            for k in range(1, classes)
        ]
    )
    assert torch.equal(every, torch.arange(1.0, classes)[:, None].expand(-1, rows))


def test_guesses_are_those_of_topk():
    outputs, targets = normal(50, 7), torch.arange(50) % 7
    wanted = (outputs.topk(3).indices == targets[:, None]).any(1).float()
    assert torch.equal(top_k(3)(outputs, targets), wanted)
    assert measure(top_k(3)(outputs, targets)).binary


def test_guesses_for_pixels_are_averaged_within_an_example():
    outputs, targets = normal(3, 4, 5, 6), torch.arange(90).reshape(3, 5, 6) % 4
    pixels = top_k(2)(outputs.movedim(1, -1).reshape(-1, 4), targets.flatten())
    assert torch.equal(top_k(2)(outputs, targets), pixels.reshape(3, -1).mean(1))


def test_outputs_that_do_not_differ_are_not_all_right():
    assert top_k(2)(torch.zeros(4, 4), torch.arange(4)).tolist() == [1, 1, 0, 0]
    assert top_k(2)(torch.tensor([[NAN, 1.0, 0.0]]), torch.tensor([1])).tolist() == [0]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2"])
def test_number_of_guesses_is_checked(k):
    with pytest.raises(ValueError, match=f"top_k: k needs to be a whole number >= 1, got {k!r}"):
        top_k(k)


@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 2), (4,)), ((4,), (4,)), ((4, 5), (4, 1)), ((4, 5), (4, 5)), ((4, 5), (5,))]
)
def test_guesses_need_enough_outputs_and_class_numbers(outputs, targets):
    with pytest.raises(ValueError, match=r"k=2 needs outputs of shape .* got"):
        top_k(2)(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64))


# Numbers.


def test_r2_in_closed_form():
    targets = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert r2(targets, targets) == 1
    assert r2(torch.full((4,), 3.0), targets) == 0  # their mean
    assert r2(torch.tensor([2.0, 2.0, 3.0, 6.0]), targets).item() == pytest.approx(1 - 1 / 14)
    assert r2(-targets, targets) < -5


@laws
@given(st.integers(3, 30), st.integers(0, 1000))
def test_r2_of_the_best_line_is_the_squared_correlation(rows, seed):
    x, y = normal(rows, seed=seed), normal(rows, seed=seed + 1)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    line = y.mean() + slope * (x - x.mean())
    assert r2(line, y).item() == pytest.approx(torch.corrcoef(torch.stack([x, y]))[0, 1].item() ** 2, abs=1e-9)


def test_r2_of_several_numbers_is_the_mean_over_them():
    outputs, targets = normal(9, 3), normal(9, 3, seed=1)
    each = [r2(outputs[:, i], targets[:, i]).item() for i in range(3)]
    assert r2(outputs, targets).item() == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize("rows", range(1, 12))
def test_constant_targets_are_met_or_not(rows):
    same = torch.full((rows,), 0.1, dtype=torch.float64)  # of which the mean is not always 0.1
    assert r2(same, same) == 1
    assert r2(same + 1e-3, same) == 0


def test_rmse_in_closed_form():
    assert rmse(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, 1.0])).item() == pytest.approx((8 / 3) ** 0.5)


@pytest.mark.parametrize("metric", [r2, rmse])
@pytest.mark.parametrize("outputs", [(9,), (9, 1)])
@pytest.mark.parametrize("targets", [(9,), (9, 1)])
def test_columns_are_read_as_rows_of_one_number(metric, outputs, targets):
    one, other = normal(9), normal(9, seed=1)
    assert metric(one.reshape(outputs), other.reshape(targets)) == metric(one, other)
    assert metric(one, other).ndim == 0


def test_data_far_from_zero_keep_their_digits():
    targets = 1e4 + torch.arange(4.0)
    assert r2(targets + 0.5, targets).item() == pytest.approx(1 - 4 * 0.25 / 5)


# Objects that are updated.


class Share:
    """As torchmetrics has them: counts over all that it was given since its reset."""

    def __init__(self):
        self.right = self.count = 7

    def update(self, outputs, targets):
        self.right += int((outputs.argmax(1) == targets).sum())
        self.count += len(targets)

    def compute(self):
        return torch.tensor(self.right / self.count)

    def reset(self):
        self.right = self.count = 0


class Moved(Share):
    def to(self, device):
        moved = copy.copy(self)
        moved.device = device
        return moved

    def update(self, outputs, targets):
        assert self.device == outputs.device
        super().update(outputs, targets)


class Each(Share):
    def compute(self):
        return torch.zeros(3)


@pytest.mark.parametrize("kind", [Share, Moved])
def test_object_is_updated_afresh_in_every_epoch(kind):
    share = kind()
    ours = tn.Trainer(
        VALID,
        VALID,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        metrics={"share": share, "accuracy": accuracy},
    )
    _, reports = run(ours, job(), 2)
    assert [r.metrics["share"] for r in reports] == pytest.approx([r.metrics["accuracy"] for r in reports])
    assert reports[0].metrics["share"] != reports[1].metrics["share"]
    assert "share" not in reports[0].errors
    assert (share.right, share.count) == (7, 7)


def test_object_that_computes_several_numbers_is_refused():
    with pytest.raises(TypeError, match=r"compute\(\) needs to return one number, got shape \(3,\)"):
        as_metric(Each())(torch.zeros(2, 3), torch.zeros(2))


def test_metric_is_made_of_an_object_once():
    share = Share()
    assert as_metric(as_metric(share)) == as_metric(share) == Accumulated(share)
    assert as_metric(accuracy) is accuracy


BAD = {
    "class": (Share, 'metric "m" needs an instance, got the class Share; add parentheses'),
    "number": (3, 'metric "m" needs to be callable, or to have update, compute and reset, got 3'),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_metric_is_named(name):
    metric, message = BAD[name]
    with pytest.raises(TypeError, match=message):
        tn.Trainer(VALID, VALID, loss=nn.MSELoss(), optimizer=torch.optim.SGD, metrics={"m": metric})


@pytest.mark.parametrize("name", ["loss", "train_loss"])
def test_names_that_are_always_reported_are_taken(name):
    with pytest.raises(TypeError, match=f'metric "{name}" has the name of one that is always reported'):
        tn.Trainer(VALID, VALID, loss=nn.MSELoss(), optimizer=torch.optim.SGD, metrics={name: accuracy})


def test_metric_that_fails_is_named():
    def broken(outputs, targets):
        raise KeyError("x")

    ours = tn.Trainer(VALID, VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, metrics={"mine": broken})
    with pytest.raises(KeyError) as caught:
        run(ours, job(), 1)
    assert caught.value.__notes__ == ['metric "mine"']
