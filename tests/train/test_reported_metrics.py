"""A reported metric is a number, or a pair of a number and its standard error."""

import math

import numpy as np
import pytest
import torch

import tuneflow as tn
from tuneflow.metrics.measured import Measured
from tuneflow.train.reported_metrics import measured_of, numbers_of


@pytest.mark.parametrize(
    ("value", "metric", "error"),
    [
        (0.5, 0.5, None),
        ((0.5, 0.25), 0.5, 0.25),
        ((0.5, 0), 0.5, 0.0),
        ((torch.tensor(0.5), np.float32(0.25)), 0.5, 0.25),
        ((-math.inf, math.nan), -math.inf, None),
        ((math.nan, math.nan), math.nan, None),
        (Measured(0.5, 0.25, 100), 0.5, 0.25),
        (Measured(0.5), 0.5, None),
    ],
)
def test_a_metric_comes_alone_or_with_its_error(value, metric, error):
    metrics, errors = numbers_of({"loss": value}, "here")
    assert metrics == pytest.approx({"loss": metric}, nan_ok=True)
    assert errors == ({} if error is None else {"loss": error})


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ((0.5, -0.1), ValueError, r'here: "loss" needs a standard error >= 0, got -0.1; leave the error out'),
        ((0.5, math.nan), ValueError, "standard error >= 0, got nan"),
        ((0.5, math.inf), ValueError, "standard error >= 0, got inf"),
        ((0.5, "low"), TypeError, "here: \"loss\" needs a number as its standard error, got 'low'"),
        ((0.5, True), TypeError, "as its standard error, got True"),
        (("low", 0.5), TypeError, r"needs to be one number, got \('low', 0.5\)"),
        ((1.0, 2.0, 3.0), TypeError, r"needs to be one number, got \(1.0, 2.0, 3.0\)"),
        ([0.5, 0.1], TypeError, r"needs to be one number, got \[0.5, 0.1\]; .* or report a pair"),
    ],
)
def test_an_error_that_is_none_is_refused(value, kind, words):
    with pytest.raises(kind, match=words):
        numbers_of({"loss": value}, "here")


@pytest.mark.parametrize("result", [(3.0, 0.5), {"value": (3.0, 0.5)}, {"value": (3.0, 0.5), "size": 7}])
def test_a_function_may_return_its_error(result):
    best = tn.minimize(lambda x: result, tn.SearchSpace(x=tn.Float(0, 1)), trials=1)
    assert (best.metrics["value"], dict(best.errors)) == (3.0, {"value": 0.5})


def test_a_loop_may_yield_errors():
    @tn.loop(epochs=2)
    def fit(config, run):
        for epoch in run.epochs():
            yield {"loss": (1 / epoch, 0.1 / epoch), "size": 3}

    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, minimize="loss", progress=False)
    study.run(trials=1)
    assert [dict(report.errors) for report in study.trials[0].reports] == [{"loss": 0.1}, {"loss": 0.05}]
    assert study.history.errors.tolist() == [0.05]


def test_evaluate_may_return_errors():
    measured = measured_of({"loss": (0.5, 0.1), "accuracy": 0.9})
    assert (measured["loss"].error, math.isnan(measured["accuracy"].error)) == (0.1, True)
