"""A plain function as a trainer: called once, with the configuration, for a number."""

import math
import pickle
import random
from collections import namedtuple

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.errors import StudyError
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.function_trainer import Function


def job(config=None, **settings):
    return tn.types.Job(None, {"x": 3.0, "y": -1.0} if config is None else config, tn.Runtime("cpu"), **settings)


def bowl(x, y):
    return (x - 1) ** 2 + y**2


def noisy(x, y):
    return torch.rand(()).item() + random.random() + np.random.random()  # noqa: NPY002


def called(f, job):
    """The metrics of the one report."""
    trainer = Function(f)
    ((state, report),) = trainer.advance(job, trainer.init(job), 1)
    assert (state.epoch, state.values, report.epoch, report.errors) == (1, {}, 1, {})
    assert report.seconds >= 0
    return report.metrics


def test_a_function_is_called_with_the_configuration_and_reports_its_value():
    assert called(bowl, job()) == {"value": 5.0}


def test_a_function_is_called_once():
    calls = []
    trainer = Function(lambda x: calls.append(x) or 1.0)
    ((state, _),) = trainer.advance(job({"x": 2}), trainer.init(job({"x": 2})), 5)
    assert list(trainer.advance(job({"x": 2}), state, 5)) == []
    assert list(trainer.advance(job({"x": 2}), trainer.init(job({"x": 2})), 0)) == []
    assert calls == [2]


def test_the_same_job_gives_the_same_draws_and_another_others():
    values = [called(noisy, job(**setting))["value"] for setting in ({}, {"seed": 1}, {"replica": 1}, {"trial": 2})]
    assert values[0] == called(noisy, job())["value"]
    assert len(set(values)) == 4


def test_the_global_generators_are_left_alone_and_put_back_after_a_failure():
    def fails(x, y):
        noisy(x, y)
        raise KeyError("no")

    with generators_untouched():
        called(noisy, job())
    with generators_untouched(), pytest.raises(KeyError):
        called(fails, job())


def test_what_a_function_does_to_its_arguments_stays_there():
    config = {"layers": [1, 2], "optimizer": {"lr": 0.1}}
    assert called(lambda layers, optimizer: layers.pop() + optimizer.pop("lr"), job(config)) == {"value": 2.1}
    assert config == {"layers": [1, 2], "optimizer": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (2, 2.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.array([3]), 3.0),
        (torch.tensor(4), 4.0),
        (-math.inf, -math.inf),
    ],
)
def test_any_one_number_is_a_value(result, value):
    metrics = called(lambda: result, job({}))
    assert metrics == {"value": value}
    assert type(metrics["value"]) is float


def test_nan_is_passed_on():
    assert math.isnan(called(lambda: math.nan, job({}))["value"])
    assert math.isnan(called(lambda: {"loss": np.nan, "a": 1}, job({}))["loss"])


def test_a_dict_of_numbers_is_reported_as_it_is():
    metrics = called(lambda x: {"loss": torch.tensor(x, requires_grad=True), "size": np.int64(3)}, job({"x": 0.5}))
    assert metrics == {"loss": 0.5, "size": 3.0}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "f returned None; it needs to return a number, or a dict of numbers such as"),
        ("0.5", "f returned '0.5'; it needs to return a number"),
        ((1.0, 2.0, 3.0), r"f returned \(1.0, 2.0, 3.0\); it needs .*, or a pair \(value, standard error\)"),
        ([1.0], r"f returned \[1.0\]; it needs"),
        (1j, "f returned 1j; it needs"),
        (torch.ones(2), r"f returned a Tensor of shape \(2,\); it needs"),
        (np.ones(3), r"f returned a ndarray of shape \(3,\); it needs"),
        ({}, "f: needs a dict of numbers .*, got {}"),
        ({"loss": None}, 'f: "loss" needs to be one number, got None'),
        ({"a": {"b": 1.0}}, 'f: "a" needs to be one number'),
    ],
)
def test_a_result_that_is_no_number_is_an_error_that_says_what_it_was(result, words):
    def f():
        return result

    with pytest.raises(TypeError, match=words):
        called(f, job({}))


@pytest.mark.parametrize(("thing", "words"), [(3, "needs to be callable, got 3"), (None, "needs to be callable")])
def test_only_what_can_be_called_is_a_function(thing, words):
    with pytest.raises(TypeError, match=words):
        Function(thing)


def test_a_function_that_yields_is_sent_to_the_loop():
    def trains(x):
        yield {"loss": x}

    with pytest.raises(TypeError, match=r"trains yields; a training loop becomes a trainer by @tn.loop\(epochs=...\)"):
        Function(trains)


def test_a_plain_function_has_no_model():
    trainer = Function(bowl)
    with pytest.raises(StudyError, match="bowl is a plain function, so there is no model"):
        trainer.module(job(), trainer.init(job()))


def test_a_function_says_what_it_is_and_travels():
    trainer = pickle.loads(pickle.dumps(Function(bowl)))
    assert (trainer.epochs, trainer.describe()) == (1, {"function": "bowl", "epochs": 1})
    assert repr(trainer) == "Function(bowl)"
    assert trainer.f is bowl


def test_the_executor_takes_a_function():
    executor = InlineExecutor(tn.Runtime("cpu"))
    executor.submit(Slice(0, 0, 1), Function(bowl), job(), None)
    reported, ended = executor.wait()
    assert (reported.report.metrics, ended.status) == ({"value": 5.0}, "DONE")
    executor.submit(Slice(1, 0, 1), Function(lambda x, y: None), job(), None)
    (failed,) = executor.wait()
    assert (failed.status, failed.reason[:9]) == ("FAILED", "TypeError")


@pytest.mark.parametrize("metric", [["a", "b"], None, 3])
@pytest.mark.parametrize("way", [tn.minimize, tn.maximize])
def test_a_metric_that_is_no_name_is_refused_before_the_first_call(way, metric):
    with pytest.raises(TypeError, match=rf"tn.{way.__name__}: metric needs the name of one number, got"):
        way(pytest.fail, tn.SearchSpace(reason=tn.Choice(["called"])), trials=1, metric=metric)


def test_a_named_tuple_of_the_configuration_reaches_the_function_as_one():
    Pair = namedtuple("Pair", "low high")
    trainer = Function(lambda pair, x: pair.high - pair.low if isinstance(x, tuple) else 0)
    given = job({"pair": Pair(1.0, 3.0), "x": (1, 2)})
    (_, report), *_ = trainer.advance(given, trainer.init(given), 1)
    assert report.metrics == {"value": 2.0}


class Leaving(BaseException):
    """No error, as SystemExit is none."""


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, Leaving])
def test_a_function_that_wants_to_leave_fails_its_trial_and_leaves_when_the_others_ran(kind, tmp_path):
    def f(i):
        if i == 1:
            raise kind(3)
        return float(i)

    run = lambda: tn.minimize(
        f, tn.SearchSpace(i=tn.Choice([0, 1, 2, 3])), trials=4, searcher=tn.Grid(), folder=tmp_path
    )
    with (
        pytest.warns(UserWarning, match="raised .*3, which is raised again now.* The best is trial 0"),
        pytest.raises(kind),
    ):
        run()
    assert [trial.status for trial in tn.open(tmp_path).trials] == ["DONE", "FAILED", "DONE", "DONE"]
    assert run().number == 0
