"""Hardened training: attacks as augmentations and TRADES as a loss, through the seams of every trainer."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.trainer_runs import facts, flat, run, through_file
from tuneflow.harden.one_step_overfitting import StepAccuracies

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:48], VALID[:48]
BOX = (0.0, 16.0)

WAYS = {
    "fgsm": {"augment": tn.harden.FGSM(0.1)},
    "fast": {"augment": tn.harden.Fast(0.1)},
    "pgd": {"augment": tn.harden.PGD(0.1, steps=2)},
    "fast l2": {"augment": tn.harden.Fast(0.3, norm="l2", step=2)},
    "trades": {"loss": tn.harden.TRADES(0.1, steps=2)},
    "trades l2": {"loss": partial(tn.harden.TRADES, 0.3, steps=2, norm="l2")},
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 10)
    )


def plain_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


def trainer(data=(TRAIN, VALID), **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return tn.Trainer(*data, **settings)


def job(builder=net, **settings):
    return tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu", threads=1), **settings)


@every_way
def test_training_resumes_exactly(way):
    through, reports = run(trainer(**way), job())
    half, first = run(trainer(**way), job(), 1)
    rest, later = run(trainer(**way), job(), 2, through_file(half))
    assert facts([*first, *later]) == facts(reports)
    assert flat(rest.values["module"]) == flat(through.values["module"])
    assert facts(reports) != facts(run(trainer(), job())[1])


@every_way
def test_micro_batches_train_the_same_random_starts_included(way):
    whole, _ = run(trainer(**way), job(plain_net))
    parts, _ = run(trainer(micro_batch=5, **way), job(plain_net))
    for name, tensor in whole.values["module"].items():
        torch.testing.assert_close(parts.values["module"][name], tensor, rtol=1e-4, atol=1e-5)


@every_way
def test_validation_is_by_plain_cross_entropy(way):
    ours = trainer(**way)
    state, reports = run(ours, job(), 1)
    module = ours.module(job(), state)
    assert reports[0].metrics["loss"] == pytest.approx(F.cross_entropy(module(VALID.inputs), VALID.targets).item())


@every_way
def test_attack_leaves_statistics_and_gradients_of_the_module_alone(way):
    module = net()
    before = flat(dict(module.named_buffers()))
    attack = way.get("augment")
    if attack is None:
        loss = way["loss"]() if isinstance(way["loss"], partial) else way["loss"]
        loss.box, steps = BOX, []
        module[2].register_forward_pre_hook(lambda layer, _: steps.append(layer.training))
        loss.loss_of(module, (TRAIN.inputs, TRAIN.targets))
        assert steps == [False] * (1 + loss.steps) + [True] * 2
    else:
        boxed = type(attack)(attack.eps, attack.norm, BOX)
        boxed(module, TRAIN.inputs, TRAIN.targets)
        assert flat(dict(module.named_buffers())) == before
        assert all(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_trades_is_the_loss_and_beta_times_the_divergence_at_rows_within_the_threat():
    torch.manual_seed(0)
    module, fed = plain_net(), []
    loss = tn.harden.TRADES(0.1, beta=3, box=BOX, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    handle = module.register_forward_pre_hook(lambda _, arguments: fed.append(arguments[0].detach().clone()))
    value = loss.loss_of(module, (TRAIN.inputs, TRAIN.targets))
    handle.remove()
    perturbed, outputs = fed[-1], module(TRAIN.inputs)
    divergence = F.kl_div(module(perturbed).log_softmax(1), outputs.softmax(1), reduction="batchmean")
    expected = F.cross_entropy(outputs, TRAIN.targets, label_smoothing=0.1) + 3 * divergence
    torch.testing.assert_close(value, expected)
    assert (perturbed - TRAIN.inputs).abs().max() == pytest.approx(1.6, rel=1e-5)
    near = TRAIN.inputs + (perturbed - TRAIN.inputs) / 160
    small = F.kl_div(module(near).log_softmax(1), outputs.softmax(1), reduction="batchmean")
    assert divergence > 100 * small


@pytest.mark.parametrize("targets", [torch.ones(32, 10), torch.rand(32, 1)], ids=["labels", "regression"])
def test_trades_refuses_targets_that_are_no_classes(targets):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, targets.shape[1]))
    loss = tn.harden.TRADES(0.1, box=BOX, loss=nn.MSELoss())
    with pytest.raises(ValueError, match="attacks need class numbers"):
        loss.loss_of(module, (TRAIN.inputs[:32], targets))


def test_labels_of_a_space_choose_how_training_is_hardened():
    space = tn.SearchSpace(
        optimizer={"lr": 0.1},
        augment=tn.Choice({"none": None, "fast": tn.call(tn.harden.Fast, eps=0.1)}),
        loss={"beta": tn.Float(1, 10, log=True), "steps": tn.Int(1, 2)},
    )
    study = tn.Study(
        model=tn.Model(plain_net),
        trainer=trainer(loss=partial(tn.harden.TRADES, eps=0.1), epochs=1),
        space=space,
        searcher=tn.Random(),
        progress=False,
    )
    study.run(trials=3)
    assert [trial.status for trial in study.trials] == ["DONE"] * 3
    assert {str(trial.config["augment"]) for trial in study.trials} == {"none", "{'fast': {'eps': 0.1}}"}


def test_diverging_module_is_not_the_fault_of_the_attack():
    infinite = {"optimizer": {"lr": float("1e30")}}
    with pytest.raises(tn.errors.Diverged):
        run(trainer(augment=tn.harden.Fast(0.1)), tn.types.Job(tn.Model(plain_net), infinite, tn.Runtime("cpu")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"beta": 0}, "TRADES: beta"),
        ({"steps": 0}, "TRADES: steps"),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "needs reduction"),
        ({"loss": tn.harden.TRADES(0.1)}, "needs a plain function"),
    ],
)
def test_settings_of_trades_out_of_their_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        tn.harden.TRADES(0.1, **arguments)


def as_bytes(data):
    return tn.Data(data.inputs.to(torch.uint8), data.targets)


@every_way
def test_bytes_are_attacked_as_the_numbers_they_are(way):
    _, reports = run(trainer((as_bytes(TRAIN), as_bytes(VALID)), epochs=1, **way), job(plain_net))
    _, same = run(trainer(epochs=1, **way), job(plain_net))
    assert reports[0].metrics["train_loss"] == pytest.approx(same[0].metrics["train_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"augment": tn.harden.PGD(0.1, steps=2)}, "augment sees the module"),
        ({"loss": tn.harden.TRADES(0.1, steps=2)}, "the loss attacks its inputs"),
    ],
    ids=["pgd", "trades"],
)
def test_lanes_train_it_one_by_one_with_the_reason(way, words, caplog):
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)})
    studies = [
        tn.Study(
            model=tn.Model(plain_net),
            trainer=trainer(epochs=1, **way),
            space=space,
            runtime=tn.Runtime("cpu", threads=1, lanes=lanes),
            progress=False,
        )
        for lanes in (1, 2)
    ]
    for study in studies:
        study.run(trials=2)
    alone, together = ([trial.metrics for trial in study.trials] for study in studies)
    assert alone == together
    assert words in caplog.text


def overfitted(module, inputs, targets):
    del module, inputs, targets
    return "it has overfitted."


def test_what_an_augmentation_sees_after_an_epoch_is_warned_of_once_in_a_trial():
    attack = tn.harden.Fast(0.1)
    attack.after_epoch = overfitted
    ours, warned = trainer(augment=attack, epochs=3), []
    state = ours.init(job())
    for until in (1, 2, 3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state, _ = run(ours, job(), until, through_file(state))
        warned += [(until, str(warning.message)) for warning in caught]
    assert warned == [(1, "epoch 1: it has overfitted.")]


@pytest.mark.parametrize(("one", "several", "warned"), [(0.9, 0.1, True), (0.6, 0.3, False), (0.1, 0.0, False)])
def test_overfitting_to_one_step_is_a_gap_that_is_large_both_ways(one, several, warned):
    assert StepAccuracies(64, one, several).overfitted == warned


def test_overfitting_to_one_step_is_not_judged_on_the_rows_of_a_dry_run():
    assert not StepAccuracies(16, 0.9, 0.1).overfitted


@pytest.mark.parametrize("attack", [tn.harden.PGD(0.1, box=(0, 1)), tn.harden.TRADES(0.1, box=(0, 1)).loss_of])
def test_box_that_does_not_hold_the_inputs_is_refused_with_both_ranges(attack):
    arguments = (TRAIN.inputs, TRAIN.targets)
    with pytest.raises(ValueError, match=r"box needs to hold all inputs.*got \(0, 1\) for inputs from 0 to 16"):
        attack(plain_net(), *(arguments if isinstance(attack, tn.harden.PGD) else [arguments]))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["rows", "column"])
def test_one_logit_is_attacked_as_two(shape):
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0) if shape == (-1,) else nn.Identity())
    targets = (TRAIN.targets % 2).float().reshape(shape)
    moved, same = tn.harden.PGD(0.1, box=BOX, steps=3)(one, TRAIN.inputs, targets)
    loss = F.binary_cross_entropy_with_logits
    assert loss(one(moved), targets) > loss(one(TRAIN.inputs), targets) + 0.1
    assert same is targets


@pytest.mark.parametrize(
    ("module", "inputs", "targets", "words"),
    [
        (plain_net(), TRAIN.inputs, TRAIN.targets - 100, "class numbers from 0 to 9 as targets, got -100"),
        (plain_net(), TRAIN.inputs, TRAIN.targets + 0.5, "class numbers of shape"),
        (plain_net(), TRAIN.inputs.long(), TRAIN.targets, "one tensor of floating-point numbers or bytes as inputs"),
        (nn.Identity(), TRAIN.inputs, TRAIN.targets, "logits of shape"),
        (nn.LSTM(8, 2), TRAIN.inputs[:, 0], TRAIN.targets, "got outputs that are a tuple"),
    ],
    ids=["ignored rows", "numbers", "tokens", "dense", "several outputs"],
)
def test_other_tasks_are_refused_by_name(module, inputs, targets, words):
    with pytest.raises((TypeError, ValueError), match=words):
        tn.harden.FGSM(0.1, box=BOX)(module, inputs, targets)


def test_attack_inside_of_another_function_needs_its_box():
    def flipped(module, inputs, targets):
        return tn.harden.Fast(0.1)(module, inputs.flip(-1), targets)

    with pytest.raises(ValueError, match=r"such as box=\(0, 1\)"):
        run(trainer(augment=flipped), job())
