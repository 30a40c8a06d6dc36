"""Augmentations that see module, inputs and targets: mixup, cutmix, adversarial examples."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tests.helpers.trainer_runs import facts, run, through_file

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:64], VALID[:64]


def mixup(module, inputs, targets, alpha=0.4):
    """Blend every row and its target with another's."""
    del module
    share = torch.distributions.Beta(alpha, alpha).sample()
    other, classes = torch.randperm(len(inputs)), functional.one_hot(targets, 10).float()
    return torch.lerp(inputs[other], inputs, share), torch.lerp(classes[other], classes, share)


class Cutmix:
    """Paste a square of another row's image, and mix the targets by its area."""

    def __init__(self, side=4):
        self.side = side

    def __call__(self, module, inputs, targets):
        top, left = torch.randint(0, 9 - self.side, (2,)).tolist()
        other, classes, mixed = torch.randperm(len(inputs)), functional.one_hot(targets, 10).float(), inputs.clone()
        box = (..., slice(top, top + self.side), slice(left, left + self.side))
        mixed[box] = inputs[other][box]
        return mixed, torch.lerp(classes, classes[other], self.side**2 / 64)


class Attack(nn.Module):
    """A step of the inputs along the sign of the loss's gradient; switches the module's mode and leaves gradients."""

    def __init__(self, size=0.1):
        super().__init__()
        self.size = size

    def forward(self, module, inputs, targets):
        module.eval()
        inputs = inputs.clone().requires_grad_()
        functional.cross_entropy(module(inputs), targets).backward()
        return inputs + self.size * inputs.grad.sign(), targets


AUGMENTS = {
    "mixup": mixup,
    "cutmix": Cutmix,
    "attack": Attack,
    "ready": Attack(0.2),
    "partial": partial(mixup, alpha=1),
}
every_augment = pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS.keys())


def net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10)
    )


def trainer(augment, data=(TRAIN, VALID), **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 3, "batch_size": 16} | settings
    return tn.Trainer(*data, augment=augment, **settings)


def job(model=None, **sections):
    return tn.types.Job(model or tn.Model(net), {"optimizer": {"lr": 0.05}, **sections}, tn.Runtime("cpu", threads=1))


@every_augment
def test_training_resumes_exactly(augment):
    ours = trainer(augment)
    through, reports = run(ours, job())
    half, first = run(ours, job(), 1)
    rest, later = run(ours, job(), 3, through_file(half))
    assert facts([*first, *later]) == facts(reports)
    for name, tensor in through.values["module"].items():
        assert torch.equal(tensor, rest.values["module"][name])


@every_augment
def test_study_checks_and_trains_it(augment):
    space = {"optimizer": {"lr": tn.Float(0.01, 0.1)}}
    if augment in (mixup, Cutmix):
        space["augment"] = {"alpha": tn.Float(0.1, 1.0)} if augment is mixup else {"side": tn.Int(2, 4)}
    study = tn.Study(
        model=tn.Model(net), trainer=trainer(augment, epochs=1), space=tn.SearchSpace(**space), progress=False
    )
    study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["DONE", "DONE"]


def test_module_takes_raw_inputs_and_gives_the_units_of_the_targets():
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * 50 + 200
    data, seen = tn.Data(inputs, inputs[:, :1] * 10), []

    def look(module, batch, targets):
        seen.append((batch.detach().clone(), targets, module(batch).detach()))
        return batch, targets

    ours = trainer(look, (data, data), loss=nn.MSELoss(), optimizer=torch.optim.Adam, epochs=1)
    run(ours, job(tn.Model(lambda: nn.Linear(3, 1))))
    batch, targets, outputs = seen[0]
    assert batch.mean() > 150
    assert targets.mean() > 1500
    assert outputs.mean() > 1000  # the mean of the targets stands behind the module


def test_modes_and_gradients_of_the_module_are_training_s_own():
    modes = []

    class Watched(nn.Linear):
        def forward(self, inputs):
            if torch.is_grad_enabled():
                modes.append(self.training)
            return super().forward(inputs)

    def spoil(module, inputs, targets):
        module.eval()
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, 1e6)
        return inputs, targets

    model = tn.Model(lambda: nn.Sequential(nn.Flatten(), Watched(64, 10)))
    _, reports = run(trainer(spoil, epochs=1), job(model))
    assert all(modes)
    _, plain = run(trainer(lambda inputs: inputs, epochs=1), job(model))
    assert facts(reports) == facts(plain)


def test_soft_targets_add_up_over_micro_batches():
    _, whole = run(trainer(mixup, epochs=1), job(tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))))
    _, parts = run(
        trainer(mixup, epochs=1, micro_batch=4), job(tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))))
    )
    assert parts[0].metrics["loss"] == pytest.approx(whole[0].metrics["loss"], rel=1e-5)


def test_lanes_train_it_one_by_one_with_the_reason(caplog):
    space = {"optimizer": {"lr": tn.Float(0.01, 0.1)}}
    settings = {"model": tn.Model(net), "space": tn.SearchSpace(**space), "progress": False}
    alone = tn.Study(trainer=trainer(mixup, epochs=1), runtime=tn.Runtime("cpu", threads=1), **settings)
    lanes = tn.Study(trainer=trainer(mixup, epochs=1), runtime=tn.Runtime("cpu", threads=1, lanes=2), **settings)
    alone.run(trials=2)
    lanes.run(trials=2)
    assert [t.metrics for t in lanes.trials] == [t.metrics for t in alone.trials]
    assert "augment sees the module" in caplog.text


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda module, inputs, targets: inputs, "needs to return a pair"),
        (lambda module, inputs: inputs, "also needs inputs"),
        (lambda module, inputs, targets, epoch, step: inputs, "also needs inputs, targets, epoch, step"),
    ],
)
def test_wrong_signatures_are_refused(augment, words):
    with pytest.raises((TypeError, ValueError)) as raised:
        tn.Study(
            model=tn.Model(net),
            trainer=trainer(augment),
            space=tn.SearchSpace(optimizer={"lr": 0.1}),
            progress=False,
        )
    assert words in str(raised.value)


def flipped(inputs):
    return inputs.flip(-1)


def test_option_none_means_no_augmentation_though_the_trainer_has_one():
    _, chosen = run(trainer(flipped, epochs=1), job(augment=None))
    _, without = run(trainer(None, epochs=1), job())
    _, own = run(trainer(flipped, epochs=1), job(augment={}))
    assert facts(chosen) == facts(without) != facts(own)


def test_study_tunes_whether_there_is_an_augmentation():
    space = tn.SearchSpace(optimizer={"lr": 0.1}, augment=tn.Choice({"none": None, "flip": flipped}))
    study = tn.Study(model=tn.Model(net), trainer=trainer(flipped, epochs=1), space=space, progress=False)
    study.run(trials=2)
    losses = {trial.config["augment"]: trial.metrics["loss"] for trial in study.trials}
    assert len(set(losses.values())) == len(losses) == 2


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("loss", 'section "loss": needs callables to choose from, got None'),
        ("optimizer", 'section "optimizer": needs callables to choose from, got None'),
        ("model", 'section "model": needs callables to choose from, got None'),
        ("init", 'section "init": needs a dict of settings, got None'),
        ("trainer", 'section "trainer": needs a dict of settings, got None'),
    ],
)
def test_none_is_no_option_of_other_sections(section, words):
    space = tn.SearchSpace(**{section: None})
    with pytest.raises(TypeError, match=words):
        tn.Study(model=tn.Model(net), trainer=trainer(None), space=space, progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment": [mixup, Cutmix()]}, "augment needs a function .* several in turn are one function"),
        ({"augment": tn.harden.Robust(0.1)}, "augment needs a function .* got a Robust; pass this one in metrics"),
        ({"augment": tn.harden.TRADES(0.1)}, "augment needs a function .* got TRADES.*; pass this one as loss"),
        ({"augment": None, "loss": tn.harden.PGD(0.1)}, "loss needs a function .* got a PGD; pass this one as augment"),
    ],
    ids=["several", "metric", "loss", "attack as loss"],
)
def test_what_has_another_place_is_refused_there(settings, words):
    with pytest.raises(TypeError, match=words):
        trainer(**settings)


class Swapped:
    """Exchanges two words of each row, and would use a range of the inputs if there was one."""

    uses_box = True

    def __call__(self, inputs):
        return inputs.flip(1)


def study_of_words(augment):
    words = tn.Data(torch.randint(0, 8, (32, 4)), torch.randint(0, 2, (32,)))
    return tn.Study(
        model=tn.Model(lambda: nn.Sequential(nn.Embedding(8, 4), nn.Flatten(), nn.Linear(16, 2))),
        trainer=trainer(augment, (words, words), epochs=1),
        space=tn.SearchSpace(optimizer={"lr": 0.1}),
        progress=False,
    )


def test_words_have_no_range_and_are_augmented_without_one():
    study = study_of_words(Swapped())
    study.run(trials=1)
    assert study.best is not None


def test_an_attack_on_words_is_refused():
    with pytest.raises((TypeError, ValueError), match="attacks need one tensor of floating-point numbers or bytes"):
        study_of_words(tn.harden.PGD(0.1))
