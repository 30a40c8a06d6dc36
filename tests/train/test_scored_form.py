"""The scored form: with a step that converts, every score is that of the converted module, and that is handed over."""

import copy
import pickle

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.scaled import scaled
from tests.helpers.trainer_runs import flat
from tuneflow.compress import Arithmetic
from tuneflow.compress.converted import is_converted
from tuneflow.compress.winner import record_of
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.structure import unfit_lane
from tuneflow.history.trial import Slice
from tuneflow.study.saved_model import module_of, save_model
from tuneflow.train.surroundings import saved_content
from tuneflow.types import Job

KINDS = [("fp32", True), ("bf16", False), ("bf16", True), ("int8", False)]


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(64, 10),
    )  # fmt: skip


def trainer(outputs=None, **arguments):
    train, valid, _ = tn.data.digits()
    settings = {
        "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2,
        "metrics": {"accuracy": tn.metrics.accuracy},
    }  # fmt: skip
    return tn.Trainer(train[:192], valid[:96], **settings | arguments)


def job_of(precision, channels_last=False, runtime=None, model=net):
    config = {"optimizer": {"lr": 0.05}, "arithmetic": {"precision": precision, "channels_last": channels_last}}
    return Job(tn.Model(model(), steps={"arithmetic": Arithmetic}), config, runtime or tn.Runtime("cpu"))


def epochs(ours, job, state=None):
    return list(ours.advance(job, state or ours.init(job), ours.epochs))


def loss_of(module, data, loss=None):
    with torch.no_grad():
        return float((loss or nn.CrossEntropyLoss())(module(data.inputs), data.targets))


@pytest.mark.parametrize(("precision", "channels_last"), KINDS)
def test_scores_are_those_of_the_module_that_is_handed_over(precision, channels_last):
    ours, job = trainer(), job_of(precision, channels_last)
    for state, report in epochs(ours, job):
        module = ours.module(job, state)
        assert is_converted(module)
        assert report.metrics["loss"] == pytest.approx(loss_of(module, ours.valid), rel=1e-6)
        tested = ours.test(job, module, (ours.valid.inputs, ours.valid.targets))
        assert tested["loss"].value == pytest.approx(report.metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_training_stays_as_it_was(precision):
    ours = trainer()
    plain, converted = ([r.metrics for _, r in epochs(ours, job_of(each))] for each in ("fp32", precision))
    for one, other in zip(plain, converted, strict=True):
        assert one["train_loss"] == other["train_loss"]
        assert one["loss"] != other["loss"]


def test_a_resumed_trial_ends_equal_and_a_module_needs_no_data():
    ours, job = trainer(), job_of("int8")
    whole = epochs(ours, job)
    (resumed,) = epochs(ours, job, whole[0][0])
    assert resumed[1].metrics == whole[1][1].metrics
    assert flat(whole[1][0].values) == flat(resumed[0].values)
    assert "calibration" in flat(whole[1][0].values)
    elsewhere = trainer()
    elsewhere.train = elsewhere.train[:7]
    inputs = ours.valid.inputs
    with torch.no_grad():
        assert torch.equal(ours.module(job, whole[1][0])(inputs), elsewhere.module(job, whole[1][0])(inputs))


@pytest.mark.parametrize(("precision", "channels_last"), KINDS)
def test_handed_over_modules_come_back_equal_from_files_states_copies_and_pickles(precision, channels_last, tmp_path):
    ours, job = trainer(epochs=1), job_of(precision, channels_last)
    state = epochs(ours, job)[0][0]
    module, content = ours.module(job, state), saved_content(state, {"config": {}, "labels": []})
    save_model(tmp_path / "model.pt", module, {})
    loaded = tn.load(tmp_path / "model.pt", net)
    save_model(tmp_path / "again.pt", loaded, {})
    copies = [loaded, tn.load(tmp_path / "again.pt", net), copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    copies.append(module_of(content, net, None, "state"))
    with torch.no_grad():
        outputs = module(ours.valid.inputs)
        for again in copies:
            assert torch.equal(again(ours.valid.inputs), outputs)


def test_a_fork_of_a_converted_winner_trains_its_float_weights_and_keeps_no_arithmetic():
    ours, job = trainer(epochs=1), job_of("int8")
    state = epochs(ours, job)[0][0]
    module = ours.module(job, state)
    fork = Job(tn.Model(module), {"optimizer": {"lr": 0.05}}, tn.Runtime("cpu"))
    start = ours.init(fork)
    assert torch.equal(start.values["module"]["6.weight"], state.values["module"]["6.weight"])
    assert not is_converted(ours.module(fork, start))
    assert not any(operation.converts for operation in record_of(ours.module(fork, start)).operations)


def regression():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1))


def test_the_scale_of_targets_stays_around_the_converted_module():
    train, valid, _ = tn.data.digits()
    pairs = [tn.Data(d.inputs[:96], 1000 + 50 * d.inputs[:96].mean((1, 2, 3))[:, None]) for d in (train, valid)]
    ours = tn.Trainer(*pairs, loss=nn.MSELoss(), optimizer=torch.optim.SGD, epochs=3)
    fresh = Job(tn.Model(regression), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu"))
    winner = ours.module(fresh, epochs(ours, fresh)[-1][0])
    job = job_of("int8", model=lambda: winner)
    state, report = epochs(ours, job)[-1]
    module = ours.module(job, state)
    assert type(module).__name__ == "RescaledModule"
    assert report.metrics["loss"] == pytest.approx(loss_of(module, ours.valid, nn.MSELoss()), rel=1e-5)


class Penalized(nn.Module):
    """A loss with a parameter, and with a term that is computed from the module."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def loss_of(self, module, batch):
        return nn.functional.cross_entropy(module(batch[0]) * self.temperature, batch[1])


def test_a_loss_of_its_own_is_evaluated_on_the_converted_module():
    plain, converted = (epochs(trainer(loss=Penalized()), job_of(each))[-1][1].metrics for each in ("fp32", "int8"))
    assert plain["train_loss"] == converted["train_loss"]
    assert plain["loss"] != converted["loss"]
    assert plain["loss"] == pytest.approx(converted["loss"], rel=0.05)


def test_a_fork_has_the_layout_of_its_own_runtime_and_steps():
    ours, job = trainer(epochs=1), job_of("fp32", runtime=tn.Runtime("cpu", channels_last=True))
    winner = ours.module(job, ours.init(job))
    layouts = []
    for channels_last in (False, True):
        fork = job_of("fp32", channels_last, model=lambda: winner)
        module = ours.module(fork, ours.init(fork))
        weight = next(tensor for tensor in module.parameters() if tensor.ndim == 4)
        layouts.append(weight.stride())
    assert layouts == [(9, 9, 3, 1), (9, 1, 3, 1)]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, x):
        return self.last(x.flatten(1))


class Reaching:
    def loss_of(self, module, batch):
        return nn.functional.cross_entropy(module(batch[0]), batch[1]) + module.last.weight.square().mean()


def test_a_loss_that_reaches_into_the_converted_module_is_told_so():
    ours, job = trainer(loss=Reaching(), metrics={}), job_of("bf16", model=Named)
    with pytest.raises(AttributeError, match='a module in bf16 has its forward alone, and no "last"'):
        epochs(ours, job)


@pytest.mark.parametrize(("precision", "reason"), [("fp32", ""), ("int8", "this one is scored in int8")])
def test_lanes_train_what_is_converted_alone(precision, reason):
    job = job_of(precision, runtime=tn.Runtime("cpu", threads=1))
    assert unfit_lane(Lane(Slice(0, 0, 2), trainer(), job, None)).endswith(reason)


def test_scores_under_a_lower_training_precision_are_those_of_the_step():
    ours, runtime = trainer(), tn.Runtime("cpu", precision="bf16")
    job = job_of("fp32", runtime=runtime)
    state, report = epochs(ours, job)[0]
    assert report.metrics["loss"] == pytest.approx(loss_of(ours.module(job, state), ours.valid), rel=1e-6)


def test_a_study_on_folds_scores_and_tests_converted_modules():
    space = tn.SearchSpace(optimizer={"lr": tn.Choice([0.02, 0.05])}, arithmetic={"precision": tn.Constant("int8")})
    train, _, test = tn.data.digits()
    folds = tn.Trainer(train[:120], folds=2, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1,
                       metrics={"accuracy": tn.metrics.accuracy})  # fmt: skip
    study = tn.Study(model=tn.Model(scaled(net()), steps={"arithmetic": Arithmetic}), trainer=folds, space=space,
                     searcher=tn.Grid(), maximize="accuracy", progress=False)  # fmt: skip
    study.run(trials=2)
    assert all(map(is_converted, study.best.models()))
    assert is_converted(study.best.model())
    assert study.test(test[:64])["accuracy"].value > 0.0
