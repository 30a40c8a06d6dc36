"""Distillation: the loss in closed form, the module and batch that it gets, and studies with a teacher."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tuneflow.compress.distill import Distill
from tuneflow.errors import FingerprintError

TRAIN, VALID, TEST = (part[:96] for part in tn.data.digits())


def numbers(shift):
    inputs = (torch.linspace(-3, 5, 96) + shift)[:, None] * torch.tensor([1.0, 100.0])
    return tn.Data(inputs, 40 + 30 * inputs[:, :1].sin() + inputs[:, 1:])


NUMBERS, OTHERS = numbers(0.0), numbers(0.01)


def net(width=8, outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, outputs))


def line():
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))


def trainer_of(loss, train=TRAIN, valid=VALID, **more):
    settings = {"optimizer": torch.optim.SGD, "epochs": 2} | more
    return tn.Trainer(train, valid, loss=loss, **settings)


def study(loss, model=net, space=None, folder=None, runtime=None, **more):
    sections = {"optimizer": {"lr": tn.Float(1e-3, 0.1, log=True)}} | (space or {})
    return tn.Study(
        model=tn.Model(model), trainer=trainer_of(loss, **more), space=tn.SearchSpace(**sections), progress=False,
        folder=folder, runtime=runtime,
    )  # fmt: skip


def losses(made, trials=2):
    made.run(trials=trials)
    return [report.metrics["loss"] for trial in made.trials for report in trial.reports]


@pytest.fixture(scope="module")
def winner():
    made = study(nn.CrossEntropyLoss(), optimizer=torch.optim.Adam)
    made.run(trials=1)
    return made.best


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def fixed(outputs):
    """A module that gives these outputs, whatever its inputs are."""

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.outputs = nn.Parameter(outputs.clone())

        def forward(self, inputs):
            return self.outputs

    return Fixed()


# The loss.


def test_hot_softmax_has_the_gradient_of_squared_logits():
    outputs, taught = (logits - logits.mean(1, keepdim=True) for logits in drawn(2, 5, 7))
    student = fixed(outputs)
    Distill(fixed(taught), weight=1.0, temperature=100).loss_of(student, (None, torch.zeros(5).long())).backward()
    torch.testing.assert_close(student.outputs.grad, (outputs - taught) / (5 * 7), atol=5e-4, rtol=0.02)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_soft_loss_of_classes_is_a_divergence(temperature):
    (outputs, taught), targets = drawn(2, 4, 3), torch.tensor([0, 2, 1, 1])
    soft = functional.kl_div(
        (outputs / temperature).log_softmax(1), (taught / temperature).softmax(1), reduction="batchmean"
    )
    hard = functional.cross_entropy(outputs, targets)
    loss = Distill(fixed(taught), weight=0.25, temperature=temperature).loss_of(fixed(outputs), (None, targets))
    torch.testing.assert_close(loss, 0.75 * hard + 0.25 * temperature**2 * soft)


def test_the_soft_loss_of_labels_is_that_of_two_classes():
    outputs, taught = drawn(2, 4, 3)
    both = [torch.stack([logits, torch.zeros_like(logits)], -1).reshape(-1, 2) for logits in (outputs, taught)]
    one = Distill(fixed(taught), nn.BCEWithLogitsLoss(), weight=1.0).loss_of(fixed(outputs), (None, torch.ones(4, 3)))
    two = Distill(fixed(both[1]), weight=1.0).loss_of(fixed(both[0]), (None, torch.zeros(12).long()))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), functional.l1_loss, lambda outputs, targets: (outputs - targets).mean()]
)
def test_numbers_are_compared_in_the_targets_units(loss):
    outputs, taught, targets = 100 * drawn(3, 4, 1)
    got = Distill(fixed(taught), loss, weight=0.5).loss_of(fixed(outputs), (None, targets))
    torch.testing.assert_close(got, (loss(outputs, targets) + (outputs - taught).square().mean()) / 2)


def test_targets_that_are_ignored_teach_nothing():
    outputs, taught = drawn(2, 2, 3, 5)
    targets = torch.full((2, 5), -100)
    targets[0, 1] = 2
    whole = Distill(fixed(taught), weight=0.5).loss_of(fixed(outputs), (None, targets))
    alone = Distill(fixed(taught[:1, :, 1]), weight=0.5).loss_of(fixed(outputs[:1, :, 1]), (None, targets[:1, 1]))
    torch.testing.assert_close(whole, alone)


# The module and the batch.


class Raw:
    """A loss of raw inputs that computes what cross-entropy does, and looks at what it gets."""

    raw_inputs = True

    def __call__(self, outputs, targets):
        return functional.cross_entropy(outputs, targets)

    def loss_of(self, module, batch):
        inputs, targets = batch
        same = (inputs[:, None] == TRAIN.inputs).flatten(2).all(2)
        assert same.any(1).all()
        return self(module(inputs), targets)


@pytest.mark.parametrize(
    "more", [{}, {"augment": torch.clone}, {"micro_batch": 16}], ids=["plain", "augment", "micro_batch"]
)
def test_training_by_raw_inputs_equals_training_by_outputs(more):
    raw, plain = losses(study(Raw(), **more)), losses(study(nn.CrossEntropyLoss(), **more))
    assert raw == pytest.approx(plain, rel=1e-5)


def test_without_weight_numbers_are_learned_as_without_a_teacher():
    """Standardized targets, and their unit in the rate, included."""
    data = {"train": NUMBERS, "valid": OTHERS, "model": line}
    distilled = losses(study(Distill(line(), nn.MSELoss(), weight=0.0), **data))
    assert distilled == pytest.approx(losses(study(nn.MSELoss(), **data)), rel=1e-4)


def test_numbers_are_learned_from_the_teacher_alone():
    data = {"train": NUMBERS, "valid": OTHERS, "model": line, "epochs": 20, "optimizer": torch.optim.Adam}
    teacher = study(nn.MSELoss(), **data)
    teacher.run(trials=1)
    wrong = tn.Data(NUMBERS.inputs, NUMBERS.targets.flip(0))
    made = study(Distill(teacher.best, nn.MSELoss(), weight=1.0), **(data | {"train": wrong}))
    made.run(trials=1)
    assert made.best.metrics["loss"] < 4 * teacher.best.metrics["loss"] < 0.1 * float(NUMBERS.targets.var())


def test_a_step_sees_the_loss_of_outputs(winner):
    """The rows of a step come as the module takes them, without its normalizer."""
    seen = []

    class Look:
        def operations(self, module, rows):
            batch = next(rows.batches(8, 1))
            seen.append((rows.loss_of(module, batch), functional.cross_entropy(module(batch[0]), batch[1])))
            return []

    made = tn.Study(
        model=tn.Model(winner.model(), steps={"look": Look}), trainer=trainer_of(Distill(winner)), progress=False,
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.1)}),
    )  # fmt: skip
    made.run(trials=1)
    for own, plain in seen:
        torch.testing.assert_close(own, plain)


# Studies.


def test_weight_and_temperature_are_tuned_and_scored_without_them(winner):
    space = {"loss": {"weight": tn.Float(0.0, 1.0), "temperature": tn.Float(1.0, 8.0)}}
    made = study(partial(tn.compress.Distill, winner), space=space, metrics={"accuracy": tn.metrics.accuracy})
    made.run(trials=2)
    module = made.best.model().requires_grad_(False)
    outputs = module(VALID.inputs)
    assert made.best.metrics["loss"] == pytest.approx(float(functional.cross_entropy(outputs, VALID.targets)), abs=1e-5)
    assert set(made.best.config["loss"]) == {"weight", "temperature"}
    other = float(functional.cross_entropy(module(TEST.inputs), TEST.targets))
    assert made.test(TEST)["loss"].value == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("more", [{"folds": 2, "valid": None, "train": TEST}, {"clip": 1.0}], ids=str)
def test_a_teacher_goes_with_other_settings(winner, more):
    assert all(loss < 10 for loss in losses(study(Distill(winner), **more)))


def test_micro_batches_add_up(winner):
    assert losses(study(Distill(winner), micro_batch=8)) == pytest.approx(losses(study(Distill(winner))), rel=1e-4)


@pytest.mark.parametrize("runtime", [{"precision": "bf16"}, {"lanes": 2}], ids=str)
def test_a_teacher_in_other_runtimes(winner, runtime):
    got = losses(study(Distill(winner), runtime=tn.Runtime(**runtime)))
    assert got == pytest.approx(losses(study(Distill(winner))), rel=0.05)


def test_a_study_of_a_teacher_resumes_exactly(winner, tmp_path):
    made = study(Distill(winner), folder=tmp_path)
    made.run(trials=2, epochs=3)
    made.close()
    assert losses(study(Distill(winner), folder=tmp_path)) == losses(study(Distill(winner)))


def test_the_teacher_sees_each_row_once_where_rows_stay_as_they_are(winner):
    class Counting(nn.Module):
        rows = 0

        def __init__(self):
            super().__init__()
            self.inner = winner.model()

        def forward(self, inputs):
            Counting.rows += len(inputs)
            return self.inner(inputs)

    made = study(Distill(Counting()))  # whose dry run calls it too
    Counting.rows = 0
    kept = losses(made)
    assert Counting.rows <= 3 * len(TRAIN)  # of which the rehearsal of the first trial has its own
    afresh = losses(study(Distill(Counting()), augment=lambda inputs: inputs))
    assert Counting.rows > 6 * len(TRAIN)
    assert kept == pytest.approx(afresh, rel=1e-5)


@pytest.mark.parametrize("make", [Distill, lambda teacher: partial(Distill, teacher)], ids=["ready", "partial"])
def test_another_teacher_is_another_study(winner, tmp_path, make):
    class Nested(nn.Module):
        """Its weights lie deeper than a description looks."""

        def __init__(self, module):
            super().__init__()
            self.inner = nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(module))))

        def forward(self, inputs):
            return self.inner(inputs)

    module = Nested(winner.model())
    study(make(module), folder=tmp_path).close()
    study(make(module), folder=tmp_path).close()
    other = copy.deepcopy(module)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(FingerprintError, match=r"trainer\.loss was .*Nested \w+.*, now .*Nested"):
        study(make(other), folder=tmp_path)


def test_the_teacher_stays_as_it_was_and_travels():
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    before = copy.deepcopy(teacher.state_dict())
    loss = Distill(teacher)
    batch = TRAIN.inputs[:8], TRAIN.targets[:8]
    student = net()
    one, two = (each.loss_of(student, batch) for each in (loss, pickle.loads(pickle.dumps(loss))))
    one.backward()
    assert one.item() == two.item()  # in evaluation mode: nothing is dropped
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


def test_inputs_in_a_dict_reach_the_teacher(winner):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, pixels):
            return self.net(pixels)

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, row):
            return {"pixels": TRAIN.inputs[row]}, TRAIN.targets[row]

    data = {"train": Rows(), "valid": Rows(), "model": Named}
    teacher = study(nn.CrossEntropyLoss(), **data)
    teacher.run(trials=1)
    assert all(loss < 10 for loss in losses(study(Distill(teacher.best), **data)))


def test_the_rate_is_probed_with_the_teacher(winner):
    model, config = tn.Model(net), {"optimizer": {"lr": 0.1}}
    plain, taught = (
        tn.probe(model, trainer_of(loss, epochs=20), config=config)
        for loss in (nn.CrossEntropyLoss(), Distill(winner, weight=1.0, temperature=8.0))
    )
    assert taught.curvature is not None
    assert taught.curvature != pytest.approx(plain.curvature, rel=0.05)


@pytest.mark.parametrize("make", [Distill, lambda teacher: partial(Distill, teacher=teacher)], ids=["ready", "partial"])
@pytest.mark.parametrize(
    "data", [{"train": VALID, "valid": TRAIN}, {"folds": 2, "valid": None}], ids=["valid", "folds"]
)
def test_rows_that_the_teacher_was_trained_on_score_nothing(winner, make, data):
    with pytest.raises(ValueError, match=r"the teacher was trained on th"):
        study(make(winner), **data)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Distill(net), TypeError, r"teacher needs a Result, such as study\.best, .* got function"),
        (lambda: Distill(net(), nn.MSELoss), TypeError, r"such as nn\.MSELoss\(\)"),
        (lambda: Distill(net(), weight=1.5), ValueError, r"weight needs to be within \[0, 1\], got 1\.5"),
        (lambda: Distill(net(), temperature=0), ValueError, r"temperature needs to be a number > 0, got 0"),
        (lambda: Distill(net(), nn.MSELoss(reduction="sum")), ValueError, r'reduction="mean", .* got "sum"'),
        (lambda: Distill(net(), Raw()), ValueError, r"Raw is fitted to targets, or sees the module"),
        (lambda: Distill(net(outputs=9)).loss_of(net(), (TRAIN.inputs, TRAIN.targets)), ValueError,
         r"of the teacher's shape \(96, 9\), got \(96, 10\)"),
        (lambda: Distill(net(), lambda o, t: o.mean()).loss_of(net(), (TRAIN.inputs, TRAIN.inputs)), TypeError,
         r"numbers of the outputs' shape \(96, 10\), got torch\.float32 \(96, 1, 8, 8\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_distilled_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()
