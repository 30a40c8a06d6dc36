"""A trial that fails by an exception named in `retries=` goes on from its last epoch, as if it had not failed."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, job, linear, net
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.retrying import RetryingExecutor
from tuneflow.runtime.retries import OUT_OF_MEMORY, names_of
from tuneflow.testing import check_executor


class Lost(ConnectionError):
    """An error of a class that derives from a retried one."""


errors = []  # raised one after the other, at the second epoch of any trial


@tn.loop(epochs=3)
def fit(config, run):
    weight = torch.zeros(3).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=config["lr"], momentum=0.9)
    for epoch in run.epochs(weight=weight, optimizer=optimizer):
        loss = (weight - torch.randn(3)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch == 2:
            fail()
        yield {"loss": loss}


def fail():
    if errors:
        raise errors.pop(0)


def studied(*raised, retries=None, lanes=1, **settings):
    runtime = tn.Runtime("cpu", threads=1, lanes=lanes, retries=retries)
    space = tn.SearchSpace(lr=tn.Float(0.01, 0.2))
    study = tn.Study(space=space, trainer=fit, runtime=runtime, progress=False, seed=2, **settings)
    study.run(trials=1)  # past the rehearsal
    errors[:] = raised
    study.run(trials=5)
    return study


def table(study):
    return [(t.config, t.status, t.reason, [(r.epoch, r.metrics) for r in t.reports]) for t in study.trials]


@pytest.mark.parametrize(
    ("retries", "settings"),
    [
        (ConnectionError, {}),
        ((OSError,), {"lag": 3}),
        ({KeyError: 2, ConnectionError: 1}, {"lanes": 2, "lag": 2}),
        ([Lost, ValueError], {"replicas": 2}),
    ],
    ids=str,
)
def test_a_trial_that_is_tried_again_has_the_scores_of_one_that_never_failed(retries, settings, caplog):
    found = studied(Lost("peer"), retries=retries, **settings)
    assert table(found) == table(studied(**settings))
    where = " (in replica 0)" if "replicas" in settings else ""
    assert f"epoch 2: Lost: peer{where}; goes on from epoch 1 (retry 1 of 1)" in caplog.text


@pytest.mark.parametrize(
    ("raised", "retries", "reason"),
    [
        ([Lost("a"), Lost("b"), Lost("c")], {ConnectionError: 2}, "Lost: c (after 2 retries)"),
        ([Lost("a"), Lost("b")], OSError, "Lost: b (after 1 retry)"),
        ([ValueError("bad")], {ConnectionError: 2}, "ValueError: bad"),
        ([Lost("a"), ValueError("bad")], {ConnectionError: 2}, "ValueError: bad"),
        ([Lost("a")], None, "Lost: a"),
    ],
)
def test_after_all_its_retries_a_trial_has_failed_as_before(raised, retries, reason):
    study = studied(*raised, retries=retries)
    assert [(t.status, t.reason, t.epochs) for t in study.trials if t.status != "DONE"] == [("FAILED", reason, 1)]
    assert not errors


def test_retries_are_counted_for_each_trial_and_class_and_anew_in_each_run():
    study = studied(Lost("a"), TimeoutError("b"), retries={ConnectionError: 1, TimeoutError: 1})
    errors[:] = [Lost("c")]
    study.run(trials=6)
    assert {t.status for t in study.trials} == {"DONE"}


def test_confirmation_tries_again_too():
    wanted = studied(at="last").confirm(top=1, seeds=1).metrics
    study = studied(retries=ConnectionError, at="last")
    errors[:] = [Lost("fresh")]
    assert study.confirm(top=1, seeds=1).metrics == wanted
    assert not errors


def test_the_retrying_executor_passes():
    runtime = tn.Runtime("cpu")
    check_executor(lambda: RetryingExecutor(InlineExecutor(runtime), {"builtins.KeyError": 1}), runtime)


# Arguments.


@pytest.mark.parametrize(
    ("retries", "kind", "message"),
    [
        (3, TypeError, "needs classes of exceptions, .* got 3"),
        ("ConnectionError", TypeError, "needs classes of exceptions"),
        (ConnectionError("x"), TypeError, "write ConnectionError"),
        ([ConnectionError, int], TypeError, "got <class 'int'>"),
        ({ConnectionError: 0}, ValueError, r"retries\[ConnectionError\] needs to be a whole number >= 1"),
        (KeyboardInterrupt, ValueError, "Ctrl-C"),
        (tn.errors.Diverged, ValueError, "diverges again"),
    ],
)
def test_retries_that_are_no_classes_are_refused(retries, kind, message):
    with pytest.raises(kind, match=message):
        tn.Runtime("cpu", retries=retries)


def test_every_error_for_want_of_memory_counts_as_one():
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError()):
        assert OUT_OF_MEMORY in names_of(error)
    assert OUT_OF_MEMORY not in names_of(RuntimeError("shape"))


# Less memory.


class Hungry(nn.Module):
    """A linear module that runs out of memory with more than `rows` rows in training."""

    rows = 10**6

    def __init__(self, inside=linear):
        super().__init__()
        self.net = inside()

    def forward(self, inputs):
        if self.training and len(inputs) > Hungry.rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.net(inputs)


def normed():
    return Hungry(net)


def tuned(monkeypatch, builder=Hungry, rows=10**6, lanes=1, retries=None, **settings):
    """A study whose modules run out of memory with more than so many rows, once it has begun."""
    monkeypatch.setattr(Hungry, "rows", 10**6)
    settings = {"loss": nn.CrossEntropyLoss(), "batch_size": 32} | settings
    study = tn.Study(
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        model=tn.Model(builder),
        trainer=tn.Trainer(TRAIN[:96], VALID[:64], optimizer=torch.optim.SGD, epochs=2, **settings),
        runtime=tn.Runtime("cpu", threads=1, lanes=lanes, retries=retries),
        progress=False,
    )
    monkeypatch.setattr(Hungry, "rows", rows)
    study.run(trials=2)
    return study


@pytest.mark.filterwarnings("ignore:lanes")
@pytest.mark.parametrize("lanes", [1, 2])
def test_after_running_out_of_memory_a_trial_takes_micro_batches_with_the_same_scores(lanes, monkeypatch, caplog):
    found = tuned(monkeypatch, rows=10, retries={torch.OutOfMemoryError: 2}, lanes=lanes)
    whole = tuned(monkeypatch)
    for trial, wanted in zip(found.trials, whole.trials, strict=True):
        assert (trial.status, trial.epochs) == ("DONE", 2)
        assert trial.metrics == pytest.approx(wanted.metrics, rel=1e-5)
    assert "with micro_batch=16 (retry 1 of 2)" in caplog.text
    assert "with micro_batch=8 (retry 2 of 2)" in caplog.text


def test_too_few_retries_for_the_memory_there_is_fail_the_trial(monkeypatch):
    found = tuned(monkeypatch, rows=10, retries=torch.OutOfMemoryError)
    assert {t.reason for t in found.trials} == {"OutOfMemoryError: CUDA out of memory. (after 1 retry)"}


def test_a_layer_across_rows_is_not_given_less_rows(monkeypatch, caplog):
    found = tuned(monkeypatch, builder=normed, rows=10, retries=torch.OutOfMemoryError)
    assert {t.status for t in found.trials} == {"FAILED"}
    assert "micro_batch" not in caplog.text


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "half"), [(32, None, 16), (5, None, 3), (32, 8, 4), (8, 32, 4), (1, None, None)]
)
def test_the_smaller_job_has_micro_batches_of_half_as_many_rows(batch_size, micro_batch, half):
    trainer = tn.Trainer(
        TRAIN[:96], VALID[:64], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, batch_size=batch_size,
        micro_batch=micro_batch,
    )  # fmt: skip
    smaller = trainer.smaller(job({}, linear))
    assert (None if smaller is None else smaller.config["trainer"]) == (half and {"micro_batch": half})


def hardest(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none").topk(3).values.mean()


def test_a_loss_whose_parts_do_not_add_up_is_not_trained_in_parts(monkeypatch):
    monkeypatch.setattr(Hungry, "rows", 10**6)
    trainer = tn.Trainer(TRAIN[:96], VALID[:64], loss=hardest, optimizer=torch.optim.SGD, epochs=2)
    whole = job({"optimizer": {"lr": 0.1}}, linear)
    ((state, _),) = trainer.advance(whole, trainer.init(whole), 1)
    with pytest.raises(ValueError, match="micro_batch=16 needs a loss whose parts add up"):
        next(trainer.advance(trainer.smaller(whole), state, 2))


def test_a_class_that_is_defined_in_a_function_has_the_same_name_after_it_was_sent():
    class Inner(Exception):
        pass

    sent = type("Inner", (Exception,), {"__module__": __name__})  # as it is made again from its parts
    assert names_of(sent("x")) == names_of(Inner("x"))


def test_a_runtime_shows_its_retries_as_they_are_written():
    assert "retries={ConnectionError: 1}" in repr(tn.Runtime("cpu", retries={ConnectionError: 1}))
