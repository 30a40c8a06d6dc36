"""No setting of the caller's process or thread changes a score, and each is as before after training."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import TRAIN, VALID
from tuneflow.runtime.environment import USUAL


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.Linear(8, 10))


def study_of(searcher=None, parts=(TRAIN[:96], VALID[:64]), **more):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 32}
    return tn.Study(
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1.0, log=True)}),
        model=tn.Model(net),
        trainer=tn.Trainer(*parts, **settings),
        searcher=searcher,
        runtime=tn.Runtime("cpu", threads=1),
        progress=False,
        **more,
    )


def scores(study):
    return [(trial.status, trial.config, trial.metrics) for trial in study.trials]


def trained(study):
    study.run(trials=2)
    return scores(study), study.test(VALID[64:96])["loss"].value


@pytest.fixture(scope="module")
def usual():
    return trained(study_of())


@contextmanager
def raising_numpy():
    with np.errstate(all="raise"):
        yield


@contextmanager
def in_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def on_another_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def settings():
    kinds = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    return kinds, torch.get_default_dtype(), torch.get_default_device(), np.geterr(), torch.get_num_threads()


AROUND = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "NumPy raises": raising_numpy,
    "default dtype": in_float64,
    "default device": on_another_device,
    "device block": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_is_set_around_a_run_changes_no_score(name, usual):
    study = study_of()
    with AROUND[name]():
        before = settings()
        study.run(trials=2)
        assert settings() == before
    assert (scores(study), study.test(VALID[64:96])["loss"].value) == usual


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "autocast", "NumPy raises"])
def test_a_whole_script_may_stand_in_such_a_block(name, usual):
    with AROUND[name]():
        assert trained(study_of()) == usual


@pytest.mark.parametrize("searcher", [tn.Auto, tn.TPE, tn.GP], ids=lambda kind: kind.__name__)
def test_numpy_may_raise_while_a_searcher_works(searcher):
    one, other = study_of(searcher()), study_of(searcher())
    one.run(trials=4)
    with raising_numpy():
        other.run(trials=4)
    assert scores(other) == scores(one)


def test_a_study_trains_in_the_dtype_that_it_was_made_under():
    with in_float64():
        study = study_of(parts=[tn.Data(part.inputs.double(), part.targets) for part in (TRAIN[:96], VALID[:64])])
    study.run(trials=1)
    assert study.runtime.describe()["dtype"] == "float64"
    assert next(study.best.model().parameters()).dtype is torch.float64
    assert torch.get_default_dtype() is torch.float32


def test_a_builder_that_sets_the_default_dtype_changes_no_other_trial(usual):
    def careless():
        module = net()
        torch.set_default_dtype(torch.float64)
        return module

    job = tn.types.Job(tn.Model(careless), {}, tn.Runtime("cpu", threads=1))
    study_of().trainer.init(job)
    assert torch.get_default_dtype() is torch.float32


def test_two_studies_in_two_threads_have_the_scores_of_each_alone(usual):
    studies = [study_of() for _ in range(2)]
    threads = [threading.Thread(target=study.run, kwargs={"trials": 2}) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [scores(study) for study in studies] == [usual[0]] * 2


def test_a_block_in_a_block_leaves_gradients_as_they_are():
    runtime = tn.Runtime("cpu", threads=1)
    with runtime.active(), torch.no_grad(), runtime.active():
        assert not torch.is_grad_enabled()
        assert np.geterr() == USUAL


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad])
def test_a_loop_that_yields_without_gradients_leaves_the_callers_mode(around):
    @tn.loop(epochs=2)
    def fit(config, run):
        for _ in run.epochs(module=nn.Linear(1, 1)):
            with torch.no_grad():
                yield {"loss": 0.0}

    job = tn.types.Job(None, {}, tn.Runtime("cpu", threads=1))
    with around():
        before = torch.is_grad_enabled()
        modes = [torch.is_grad_enabled() for _ in fit.advance(job, fit.init(job), 2)]
        assert [*modes, torch.is_grad_enabled()] == [before] * 3
