"""Training: what a state is, what a trainer reports, and that it is the plain loop."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import tuneflow as tn
from tests.helpers.counting_runtime import Counting
from tests.helpers.digits_training import TRAIN, VALID, job, linear, net, trainer
from tests.helpers.trainer_runs import facts, flat, run
from tuneflow.heuristics.input_scaling import NormalizedModule

OPTIMIZERS = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    "adam": tn.call(torch.optim.Adam, lr=0.01),
    "adamw": tn.call(torch.optim.AdamW, lr=0.01, amsgrad=True),
    "rmsprop": tn.call(torch.optim.RMSprop, lr=0.001, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_in_pieces_equals_training_at_once(name):
    ours = trainer()
    space = tn.SearchSpace(optimizer=OPTIMIZERS[name])
    piecewise = job(space.resolve(space.sample(np.random.default_rng(0))))
    whole, whole_reports = run(ours, piecewise, 4)
    state, reports = None, []
    for until in (1, 3, 4):
        state, more = run(ours, piecewise, until, state)
        reports += more
    assert flat(state.values) == flat(whole.values)
    assert facts(reports) == facts(whole_reports)


def test_a_state_is_not_touched_by_training_on():
    ours = trainer()
    state, _ = run(ours, job(), 1)
    before = flat(state.values)
    run(ours, job(), 3, state)
    assert flat(state.values) == before


def test_two_forks_of_one_state_are_independent():
    ours = trainer()
    state, _ = run(ours, job(), 1)
    slow, fast = (job({"optimizer": {"lr": lr, "momentum": 0.9}}) for lr in (0.0, 0.05))
    still, _ = run(ours, slow, 2, state)
    moved, _ = run(ours, fast, 2, state)
    same, _ = run(ours, job(), 2, state)
    assert flat(moved.values["module"]) == flat(same.values["module"])
    assert torch.equal(still.values["module"]["1.weight"], moved.values["module"]["1.weight"]) is False


def test_the_state_holds_buffers_that_state_dict_leaves_out():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)
            self.register_buffer("scale", torch.ones(()), persistent=False)

        def forward(self, inputs):
            if self.training:
                self.scale.mul_(1.01)
            return self.linear(inputs.flatten(1)) * self.scale

    ours = trainer()
    whole, _ = run(ours, job(builder=Counts), 2)
    pieces, _ = run(ours, job(builder=Counts), 2, run(ours, job(builder=Counts), 1)[0])
    assert whole.values["module"]["scale"] > 1
    assert flat(pieces.values) == flat(whole.values)


def test_the_trainer_is_the_plain_loop():
    """The same numbers, to the bit, as a loop without tuneflow that is given the same rows in the same order."""
    ours, this = trainer(), job(builder=lambda: net(dropout=0.0))
    start = ours.init(this)
    state, reports = run(ours, this, 2, start)

    model = net(dropout=0.0)
    model.load_state_dict(start.values["module"])
    mean, std = TRAIN.inputs.double().mean(), TRAIN.inputs.double().std(correction=0)
    scaled = (TRAIN.inputs - mean.float()) / std.float()
    checked = (VALID.inputs - mean.float()) / std.float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in (1, 2):
        model.train()
        for rows in this.order(epoch, TRAIN.order).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(scaled[rows]), TRAIN.targets[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(checked), VALID.targets).item()
        assert reports[epoch - 1].metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert all(torch.equal(state.values["module"][name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("batch_size", [7, 360, 5000])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size):
    still = {"optimizer": {"lr": 0.0}}
    _, (one,) = run(trainer(batch_size=32), job(still, builder=linear), 1)
    _, (two,) = run(trainer(batch_size=batch_size), job(still, builder=linear), 1)
    assert one.metrics["loss"] == two.metrics["loss"]
    assert one.metrics["accuracy"] == two.metrics["accuracy"]
    assert one.metrics["train_loss"] == pytest.approx(two.metrics["train_loss"], rel=1e-5)


def test_evaluation_leaves_frozen_parts_in_their_mode():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, inputs):
            self.body[2].eval()
            return self.body(inputs)

    state, _ = run(trainer(), job(builder=Frozen), 2)
    assert state.values["module"]["body.2.num_batches_tracked"] == 0


def test_the_standard_error_is_the_binomial_one():
    _, (report,) = run(trainer(), job(), 1)
    p = report.metrics["accuracy"]
    assert report.errors["accuracy"] == pytest.approx((p * (1 - p) / (len(VALID) - 1)) ** 0.5)
    assert "train_loss" not in report.errors


def test_the_seed_decides_everything_and_global_generators_are_untouched():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    one, again, other = (flat(run(trainer(), job(seed=seed), 1)[0].values) for seed in (5, 5, 6))
    torch.manual_seed(1)
    torch.set_rng_state(states[0])
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


def test_global_randomness_of_user_code_is_repeatable():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, inputs):
            shift = random.random() + np.random.rand() if self.training else 0.0  # noqa: NPY002
            return self.linear(inputs.flatten(1) + shift + 0.1 * torch.rand(()))

    whole, _ = run(trainer(), job(builder=Noisy), 2)
    pieces, _ = run(trainer(), job(builder=Noisy), 2, run(trainer(), job(builder=Noisy), 1)[0])
    assert flat(pieces.values) == flat(whole.values)


def test_a_loss_that_is_not_finite_stops_at_its_step():
    with pytest.raises(tn.errors.Diverged, match="epoch 1, step 2 ") as caught:
        run(
            trainer(),
            job({"optimizer": {"lr": 1e38}}, builder=linear),
            1,
        )
    assert caught.value.last is not None


def test_a_torch_dataset_gives_the_same_as_its_tensors():
    class Rows(Dataset):
        def __len__(self):
            return len(TRAIN)

        def __getitem__(self, row):
            return TRAIN.inputs[row], TRAIN.targets[row]

    slices, _ = run(trainer(), job(), 1)
    tensors, _ = run(trainer(TensorDataset(TRAIN.inputs, TRAIN.targets)), job(), 1)
    items, _ = run(trainer(Rows()), job(), 1)
    assert flat(slices.values) == flat(tensors.values) == flat(items.values)


def test_all_configurations_share_what_was_prepared_once():
    ours, runtime, placed = trainer(), Counting("cpu"), []
    for rate in (0.05, 0.1):
        ours.init(tn.types.Job(tn.Model(net), {"optimizer": {"lr": rate}}, runtime))
        placed.append(runtime.rows)
    assert placed[0] == placed[1] >= 2 * len(TRAIN)


def test_large_data_prepared_batch_by_batch_give_the_same(monkeypatch):
    resident, _ = run(trainer(), job(), 1)
    monkeypatch.setattr("tuneflow.train.preparation.RESIDENT", 0)
    streamed, _ = run(trainer(), job(), 1)
    assert flat(resident.values) == flat(streamed.values)


def test_inputs_of_several_tensors_are_passed_on():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, inputs):
            return self.linear(inputs["pixels"].flatten(1)) + inputs["shift"]

    def both(data):
        return tn.Data({"pixels": data.inputs / 16, "shift": torch.zeros(len(data), 1)}, data.targets)

    _, reports = run(trainer(both(TRAIN), both(VALID)), job(builder=Two), 3)
    assert reports[-1].metrics["accuracy"] > 0.8


def test_the_module_that_comes_back_takes_raw_inputs():
    ours, this = trainer(), job()
    state, reports = run(ours, this, 3)
    module = ours.module(this, state)
    assert isinstance(module, NormalizedModule)
    assert module.module.state_dict().keys() == net().state_dict().keys()
    assert not module.training
    right = (module(VALID.inputs).argmax(1) == VALID.targets).float().mean().item()
    assert right == pytest.approx(reports[-1].metrics["accuracy"])


def test_no_normalizer_where_the_module_starts_with_one():
    ours, this = trainer(), job(builder=lambda: nn.Sequential(nn.BatchNorm2d(1), net()))
    assert not isinstance(ours.module(this, ours.init(this)), NormalizedModule)


def test_no_normalizer_when_told_so():
    this = tn.types.Job(tn.Model(net, normalize=False), {}, tn.Runtime("cpu"))
    assert not isinstance(trainer().module(this, trainer().init(this)), NormalizedModule)


def test_a_subclass_needs_only_its_loss():
    class Penalized(tn.Trainer):
        def loss_of(self, module, batch):
            return super().loss_of(module, batch) + 1.0

    plain = trainer()
    ours = Penalized(TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=4)
    (_, (base,)), (_, (more,)) = run(plain, job(), 1), run(ours, job(), 1)
    assert more.metrics["train_loss"] == pytest.approx(base.metrics["train_loss"] + 1, rel=1e-5)
    assert more.metrics["loss"] == pytest.approx(base.metrics["loss"] + 1, rel=1e-5)


def test_a_configuration_fills_in_loss_optimizer_and_batch_size():
    ours = trainer(loss=nn.CrossEntropyLoss)
    made = ours.configured(
        {
            "loss": {"label_smoothing": 0.1},
            "optimizer": {"lr": 0.3},
            "trainer": {"batch_size": 64},
        }
    )
    assert made.loss.keywords == {"label_smoothing": 0.1}
    assert made.for_job(job()).loss.label_smoothing == 0.1
    assert made.optimizer([nn.Parameter(torch.ones(1))]).defaults["lr"] == 0.3
    assert (made.batch_size, ours.batch_size) == (64, 32)
    assert ours.loss is nn.CrossEntropyLoss


BAD = {
    "train": (lambda: trainer(train=[1, 2, 3]), TypeError, "Trainer: train needs .* got list"),
    "loss": (lambda: trainer(loss=3), TypeError, "Trainer: loss needs to be callable, got 3"),
    "ready optimizer": (
        lambda: trainer(optimizer=torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)),
        TypeError,
        "optimizer needs .* SGD",
    ),
    "epochs": (lambda: trainer(epochs=0), ValueError, "Trainer: epochs needs to be a whole number >= 1, got 0"),
    "batch": (lambda: trainer(batch_size=1.5), ValueError, "batch_size needs to be a whole number >= 1, got 1.5"),
    "model of steps": (lambda: tn.Model(net, steps={"model": net}), ValueError, 'name of the section "model"'),
    "model none": (lambda: tn.Model(None), TypeError, "got None"),
    "threads": (lambda: tn.Runtime(threads=0), ValueError, "threads needs to be a whole number >= 1, got 0"),
    "device": (lambda: tn.Runtime("cuda:7"), ValueError, '"cuda:7" is not there. Here: cpu'),
    "device typo": (lambda: tn.Runtime("cpuu"), ValueError, "no device 'cpuu'. Did you mean \"cpu\""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    make, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        make()
