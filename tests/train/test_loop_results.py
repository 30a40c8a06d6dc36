"""What a training loop hands over and how that is tested, and batches in the order of a tn.Trainer."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import tuneflow as tn
from tests.helpers.trainer_runs import run_with_reason, through_file
from tuneflow.errors import Diverged, StudyError
from tuneflow.metrics.measured import Measured
from tuneflow.train.loop import loop
from tuneflow.train.loop_state import differences

INPUTS, TARGETS = torch.arange(10.0).unsqueeze(1), torch.arange(10) % 2


def job(config=None, **settings):
    return tn.types.Job(None, {} if config is None else config, tn.Runtime("cpu", threads=1), **settings)


def averaging(names):
    """A loop that trains `net` and averages it in `ema`; `names` chooses what is named besides."""

    @loop(epochs=2)
    def fit(config, run):
        net = nn.Linear(1, 1)
        ema, optimizer = torch.optim.swa_utils.AveragedModel(net), torch.optim.SGD(net.parameters(), lr=0.001)
        things = {"net": net, "ema": ema, "result": ema, "optimizer": optimizer}
        for _ in run.epochs(**{name: things[name] for name in names}):
            for _ in range(2):
                optimizer.zero_grad()
                net(INPUTS).square().mean().backward()
                optimizer.step()
                ema.update_parameters(net)
            yield {"loss": ema(INPUTS).square().mean()}

    return fit


@pytest.mark.parametrize("names", [("net", "ema", "optimizer", "result"), ("result", "optimizer", "net", "ema")])
def test_the_result_is_handed_over_and_part_of_the_state_once(names):
    fit = averaging(names)
    state, reports, _ = run_with_reason(fit, job(), 2)
    module = fit.module(job(), through_file(state))
    assert isinstance(module, torch.optim.swa_utils.AveragedModel)
    assert module(INPUTS).square().mean().item() == reports[-1].metrics["loss"]
    assert sorted(state.values["state"]) == ["ema", "net", "optimizer"]


def test_a_result_without_another_name_is_restored_by_that_one():
    fit = averaging(("net", "optimizer", "result"))
    whole, _, _ = run_with_reason(fit, job(), 2)
    first, _, _ = run_with_reason(fit, job(), 1)
    assert differences(run_with_reason(fit, job(), 2, through_file(first))[0].values, whole.values) == []


def test_several_modules_without_a_result_warn_once_and_are_named():
    fit = averaging(("net", "ema", "optimizer"))
    with pytest.warns(UserWarning, match=r"loop fit: names 2 modules .* net, ema, .*gives net, the first.*result=net"):
        run_with_reason(fit, job(), 2)
    run_with_reason(fit, job(), 2)  # warnings are errors


@pytest.mark.parametrize("inner", ["part of another", "without tensors"])
def test_modules_that_nobody_would_hand_over_do_not_warn(inner):
    @loop(epochs=1)
    def fit(config, run):
        net = nn.Sequential(nn.Linear(1, 1))
        other = net[0] if inner == "part of another" else nn.MSELoss()
        for _ in run.epochs(net=net, other=other):
            yield {"loss": 1.0}

    run_with_reason(fit, job(), 1)


def test_a_result_that_is_no_module_is_refused():
    @loop(epochs=1)
    def fit(config, run):
        for _ in run.epochs(result={"accuracy": 0.5}):
            yield {"loss": 1.0}

    with pytest.raises(TypeError, match=r"run.epochs\(result=...\) names the module that is handed over, got a dict"):
        run_with_reason(fit, job(), 1)


# test=


def scored(function, data=None):
    fit = loop(epochs=1, test=function)(averaging(("net",)).function)
    return fit.test(job(), nn.Linear(1, 1), data)


def test_a_study_tests_the_model_of_a_loop_by_the_loops_own_function():
    def accuracy(model, data):
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"right": torch.tensor([1.0, 1.0, 0.0, 1.0]) * data, "gain": (0.5, 0.1), "n": 4}

    fit = loop(epochs=1, test=accuracy)(averaging(("net", "optimizer")).function)
    study = tn.Study(trainer=fit, space=tn.SearchSpace(lr=tn.Constant(0.1)), progress=False)
    study.run(trials=1)
    scores = study.test(1.0)
    assert list(scores) == ["right", "gain", "n"]
    assert (scores["right"].value, scores["right"].examples) == (0.75, 4)
    assert 0.3 < scores["right"].low < 0.75 < scores["right"].high < 1.0
    assert (scores["gain"].value, scores["gain"].low) == (0.5, pytest.approx(0.304, abs=1e-3))
    assert math.isnan(scores["n"].low)


@pytest.mark.parametrize(
    ("returned", "measured"),
    [
        ({"a": 2}, Measured(2.0)),
        ({"a": torch.tensor(2.0)}, Measured(2.0)),
        ({"a": torch.tensor([2.0])}, Measured(2.0)),
        ({"a": (2.0, 0.5)}, Measured(2.0, 0.5)),
        ({"a": [1.0, 3.0]}, Measured(2.0, 1.0, 2)),
        ({"a": torch.tensor([1.0, 3.0])}, Measured(2.0, 1.0, 2)),
    ],
)
def test_a_score_is_a_number_a_pair_or_one_number_per_example(returned, measured):
    assert repr(scored(lambda model, data: returned)["a"]) == repr(measured)


@pytest.mark.parametrize("returned", [0.5, {}, {"a": torch.ones(2, 2)}, {"a": "x"}, {"a": torch.ones(2), "b": None}])
def test_a_test_function_that_returns_something_else_is_refused(returned):
    with pytest.raises(TypeError, match="test=<lambda>: "):
        scored(lambda model, data: returned)


def test_a_loop_without_test_says_how_it_gets_one():
    with pytest.raises(StudyError, match=r"loop fit has no test: write @tn.loop\(epochs=2, test=function\)"):
        averaging(("net",)).test(job(), nn.Linear(1, 1), None)


@pytest.mark.parametrize("function", [3, lambda model: {}])
def test_test_is_a_function_of_model_and_data(function):
    with pytest.raises(TypeError, match=r"loop: test needs to be a function of \(model, data\)"):
        loop(epochs=1, test=function)


@pytest.mark.parametrize("check", [None, 1, "last"])
def test_check_is_one_of_three(check):
    with pytest.raises(ValueError, match='loop: check needs to be True, "first" or False, got'):
        loop(epochs=1, check=check)


# run.batches


def drawn(data, size=4, epochs=2, shuffle=True, **settings):
    """The inputs of every batch of every epoch, as lists of numbers."""
    batches = []

    @loop(epochs=epochs)
    def fit(config, run):
        for _ in run.epochs():
            batches.append([inputs.flatten().tolist() for inputs, _ in run.batches(data, size, shuffle)])
            yield {"loss": 1.0}

    run_with_reason(fit, job(**settings), epochs)
    return batches


def trained_on(data, **settings):
    """The same of a tn.Trainer."""
    batches = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 2)

        def forward(self, inputs):
            if self.training:
                batches.append(inputs.flatten().tolist())
            return self.linear(inputs)

    trainer = tn.Trainer(
        data, (INPUTS, TARGETS), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2, batch_size=4
    )
    same = tn.types.Job(tn.Model(Net, normalize=False), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu"), **settings)
    run_with_reason(trainer, same, 2)
    return [batches[:3], batches[3:]]


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, row):
        return INPUTS[row], TARGETS[row]


KINDS = {
    "data": tn.Data(INPUTS, TARGETS),
    "pair": (INPUTS, TARGETS),
    "dataset": Rows(),
    "tensors": TensorDataset(INPUTS, TARGETS),
    "loader": DataLoader(Rows(), batch_size=4),
    "sampler": DataLoader(Rows(), batch_size=4, sampler=WeightedRandomSampler([1.0] * 5 + [0.0] * 5, 10)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"seed": 3, "replica": 1, "trial": 2}])
def test_batches_come_in_the_order_of_a_trainer(kind, settings):
    batches = drawn(KINDS[kind], **settings)
    assert batches == trained_on(KINDS[kind], **settings)
    assert [len(batch) for batch in batches[0]] == [4, 4, 2]
    assert batches[0] != batches[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sampler"])
def test_batches_that_are_not_shuffled_have_every_row_once_in_order(kind):
    assert drawn(KINDS[kind], shuffle=False) == [[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0]]] * 2


@pytest.mark.parametrize(
    ("data", "size", "shuffle", "words"),
    [
        (INPUTS, 4, True, "run.batches: data needs a tn.Data, a pair"),
        ((INPUTS, TARGETS[:3]), 4, True, "run.batches: data: Data: inputs and targets need the same number of rows"),
        ((INPUTS, TARGETS), 0, True, "run.batches: batch_size needs to be a whole number >= 1, got 0"),
        ((INPUTS, TARGETS), 4, "no", "run.batches: shuffle needs to be True or False, got 'no'"),
        (KINDS["sampler"], 4, False, "an evaluation takes every row once, got a sampler"),
    ],
)
def test_what_gives_no_batches_is_refused(data, size, shuffle, words):
    with pytest.raises((TypeError, ValueError), match=words):
        drawn(data, size, shuffle=shuffle)


def test_a_change_of_a_pair_between_two_epochs_is_seen():
    inputs = INPUTS.clone()
    seen = []

    @loop(epochs=2)
    def fit(config, run):
        for _ in run.epochs():
            seen.append(max(batch.max().item() for batch, _ in run.batches((inputs.numpy(), TARGETS), 4)))
            inputs.add_(1.0)
            yield {"loss": 1.0}

    with pytest.warns(UserWarning, match="inputs changes from one epoch to the next"):
        run_with_reason(fit, job(), 2)
    assert seen == [9.0, 10.0]


# The loss that is trained on.


@pytest.mark.parametrize(
    ("metrics", "diverges"),
    [
        ({"loss": math.nan}, True),
        ({"train_loss": math.inf, "loss": 0.5}, True),
        ({"train_loss": 0.5, "loss": math.nan}, False),
        ({"error": math.nan}, False),
    ],
)
def test_only_a_loss_that_is_trained_on_ends_a_trial_when_it_is_not_finite(metrics, diverges):
    @loop(epochs=2)
    def fit(config, run):
        for epoch in run.epochs():
            yield metrics if epoch == 2 else dict.fromkeys(metrics, 0.25)

    if not diverges:
        assert len(run_with_reason(fit, job(), 2)[1]) == 2
        return
    with pytest.raises(Diverged, match=r"last finite loss 0\.25"):
        run_with_reason(fit, job(), 2)
