"""AUC, average precision and F1 in closed form, the bootstrap, and functions in sklearn's order."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import tuneflow as tn
from tuneflow.metrics import auc, average_precision, f1, r2, rmse
from tuneflow.metrics.adapters import as_metric
from tuneflow.metrics.bootstrap import resampled
from tuneflow.metrics.measured import Measured, estimate, measure

DRAW = torch.Generator().manual_seed(0)
SCORES = torch.randn(60, generator=DRAW).mul(2).round() / 2  # with ties
LABELS = (torch.rand(60, generator=DRAW) < 0.4).long()


def pairs(scores, labels):
    above = [(a > b) + (a == b) / 2 for a in scores[labels == 1].tolist() for b in scores[labels == 0].tolist()]
    return sum(above) / len(above)


def test_auc_is_the_share_of_pairs_and_ties_are_half():
    assert auc(SCORES, LABELS).item() == pytest.approx(pairs(SCORES, LABELS))
    assert auc(torch.zeros(4), torch.tensor([0, 1, 0, 1])) == 0.5
    assert math.isnan(auc(SCORES, torch.ones(60)))
    assert math.isnan(auc(torch.full((4,), math.nan), torch.tensor([0, 1, 0, 1])))


@pytest.mark.parametrize("metric", [auc, average_precision, f1])
def test_two_classes_have_one_value_in_every_shape(metric):
    two = torch.stack([torch.zeros(60), SCORES], 1)
    value = metric(SCORES, LABELS).item()
    assert metric(SCORES[:, None], LABELS[:, None].float()).item() == pytest.approx(value)
    assert metric(two, LABELS).item() == pytest.approx(value)


def test_several_classes_are_averaged_each_against_the_rest():
    outputs = torch.randn(60, 3, generator=DRAW)
    classes = torch.arange(60) % 3
    each = [pairs(outputs.softmax(1)[:, c], (classes == c).long()) for c in range(3)]
    assert auc(outputs, classes).item() == pytest.approx(sum(each) / 3)
    labels = (torch.rand(60, 2, generator=DRAW) < 0.5).float()
    columns = [pairs(outputs[:, c], labels[:, c].long()) for c in range(2)]
    assert auc(outputs[:, :2], labels).item() == pytest.approx(sum(columns) / 2)


def test_average_precision_takes_rows_of_equal_outputs_together():
    thresholds = sorted(set(SCORES.tolist()), reverse=True)
    total, before, value = LABELS.sum().item(), 0, 0.0
    for threshold in thresholds:
        passed = threshold <= SCORES
        hits = LABELS[passed].sum().item()
        value += (hits - before) / total * hits / passed.sum().item()
        before = hits
    assert average_precision(SCORES, LABELS).item() == pytest.approx(value)


def test_f1_is_the_harmonic_mean_and_leaves_padding_out():
    outputs, classes = torch.eye(3)[[0, 0, 1, 2, 2]] * 5, torch.tensor([0, 1, 1, 2, 0])
    assert f1(outputs, classes).item() == pytest.approx((2 / 4 + 2 / 3 + 2 / 3) / 3)
    more = torch.cat([outputs, outputs[:1]]), torch.cat([classes, torch.tensor([-100])])
    assert f1(*more) == f1(outputs, classes)
    assert f1(torch.tensor([-1.0, -1.0]), torch.tensor([1, 0])) == 0


def test_class_numbers_below_0_do_not_count_in_accuracy():
    outputs, classes = (
        torch.eye(3)[torch.tensor([[0, 1, 2], [2, 2, 2]])].transpose(1, 2),
        torch.tensor([[0, 0, -100], [2, -100, -100]]),
    )
    assert tn.metrics.accuracy(outputs, classes).tolist() == [0.5, 1.0]
    assert tn.metrics.top_k(1)(outputs, classes).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("metric", [auc, average_precision, f1])
def test_shapes_that_do_not_fit_are_named(metric):
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(5,\)"):
        metric(torch.zeros(4, 3), torch.zeros(5, dtype=torch.int64))


# Intervals.


@pytest.mark.parametrize("metric", [rmse, r2])
def test_bootstrap_has_the_error_of_many_samples_and_is_seeded(metric):
    def drawn(seed):
        targets = torch.randn(200, generator=torch.Generator().manual_seed(seed))
        return targets + 0.5 * torch.randn(200, generator=torch.Generator().manual_seed(seed + 10_000)), targets

    spread = torch.stack([metric(*drawn(seed)) for seed in range(300)]).std().item()
    outputs, targets = drawn(0)
    value = measure(metric(outputs, targets))
    measured = resampled(metric, outputs, targets, 200, value)
    assert measured == resampled(metric, outputs, targets, 200, value)
    assert measured.error == pytest.approx(spread, rel=0.5)
    shown = estimate(measured)
    assert shown.low < shown.value < shown.high
    assert shown.high - shown.low == pytest.approx(4 * measured.error, rel=0.2)


def test_one_row_has_no_interval():
    value = resampled(rmse, SCORES[:1], LABELS[:1], 1, Measured(0.3))
    assert math.isnan(value.error)
    assert math.isnan(estimate(value).low)


def test_metric_that_is_not_defined_for_samples_has_no_interval():
    value = Measured(0.5)
    assert resampled(lambda o, t: math.nan, SCORES, LABELS, 60, value) == value


@pytest.mark.parametrize(
    ("result", "way"),
    [(torch.ones(8, 1), r".squeeze\(1\)"), (torch.ones(5), "for 8 examples"), (torch.ones(8, 2), r".flatten\(1\)")],
)
def test_result_of_another_shape_names_the_way_out(result, way):
    with pytest.raises(TypeError, match=way):
        measure(result, 8)


def test_arrays_and_lists_are_one_number_per_example():
    rows = [0.0, 1.0, 1.0]
    assert measure(rows) == measure(torch.tensor(rows)) == measure(torch.tensor(rows).numpy())


# The order of sklearn.


def of_sklearn(module, name="score"):
    def score(targets, outputs, factor=1):
        return SimpleNamespace(targets=targets.tolist(), outputs=outputs.tolist())

    score.__module__, score.__name__ = f"sklearn.metrics.{module}", name
    return score


LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0]])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (of_sklearn("_classification"), [0, 1]),
        (partial(of_sklearn("_classification"), factor=2), [0, 1]),
        (of_sklearn("_classification", "log_loss"), LOGITS.double().softmax(1)[:, 1].tolist()),
        (of_sklearn("_ranking"), LOGITS.double().softmax(1)[:, 1].tolist()),
        (of_sklearn("_regression"), LOGITS.tolist()),
    ],
)
def test_functions_of_sklearn_get_targets_first_and_what_they_take(function, expected):
    called = as_metric(function)(LOGITS, torch.tensor([1, 0]))
    assert called.targets == [1, 0]
    assert called.outputs == expected


def test_sklearn_agrees_where_it_is_installed():
    metrics = pytest.importorskip("sklearn.metrics")
    outputs, classes = torch.randn(60, 3, generator=DRAW), torch.arange(60) % 3
    for ours, theirs in (
        (auc, partial(metrics.roc_auc_score, multi_class="ovr")),
        (f1, partial(metrics.f1_score, average="macro")),
    ):
        assert ours(outputs, classes).item() == pytest.approx(as_metric(theirs)(outputs, classes))
    assert average_precision(SCORES, LABELS).item() == pytest.approx(
        as_metric(metrics.average_precision_score)(SCORES, LABELS)
    )


# Directions.


@pytest.mark.parametrize(
    ("goal", "other"),
    [({"maximize": "loss"}, 'minimize="loss"'), ({"minimize": "accuracy"}, 'maximize="accuracy"')],
)
def test_a_loss_to_maximize_and_a_score_to_minimize_warn(goal, other):
    with pytest.warns(UserWarning, match=other):
        tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), **goal)


def test_an_epoch_that_is_not_finite_does_not_throw_the_others_away():
    values = [1.0, math.nan, 2.0]

    @tn.loop(epochs=3)
    def fit(config, run):
        for epoch in run.epochs():
            yield {"train_loss": 1.0, "loss": values[epoch - 1]}

    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, progress=False, runtime=tn.Runtime("cpu"))
    study.run(trials=1)
    assert (study.best.number, study.best.metrics["loss"]) == (0, 1.0)
