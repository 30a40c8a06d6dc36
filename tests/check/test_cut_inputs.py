"""Attacks that clamp to another box than the inputs' are warned of, and augmentations that do not are not."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:64], VALID[:32]
SCALED = tn.Data(TRAIN.inputs / 16, TRAIN.targets), tn.Data(VALID.inputs / 16, VALID.targets)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def attacked(module, inputs, targets, size=0.1, box=(0, 1)):
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(F.cross_entropy(module(leaf), targets), leaf)
    return torch.clamp(inputs + size * gradient.sign(), *box), targets


class Hardened:
    def __init__(self, box=(0, 1), size=0.1):
        self.box, self.size = box, size

    def loss_of(self, module, batch):
        inputs, targets = attacked(module, *batch, self.size, self.box)
        return F.cross_entropy(module(inputs), targets)


class HardenedOnRaw(Hardened):
    raw_inputs = True


class HardenedTrainer(tn.Trainer):
    def loss_of(self, module, batch):
        return super().loss_of(module, attacked(module, *batch))


def study(data=(TRAIN, VALID), kind=tn.Trainer, normalize=True, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": partial(torch.optim.SGD, lr=0.1), "epochs": 1} | settings
    model = tn.Model(net, normalize=normalize)
    return tn.Study(model=model, trainer=kind(*data, **settings), space=tn.SearchSpace(optimizer={}), progress=False)


CUT = {
    "loss of normalized inputs": (
        {"loss": Hardened()},
        "loss Hardened feeds .* below 0 and above 1, and the normalized",
    ),
    "subclass": ({"kind": HardenedTrainer}, "loss_of feeds .* below 0 and above 1, and the normalized"),
    "loss of raw inputs": ({"loss": HardenedOnRaw()}, "above 1, and those of the batch reach from 0 to 16"),
    "no normalizer": ({"loss": Hardened(), "normalize": False}, "above 1, and those of the batch reach from 0 to 16"),
    "augment": (
        {"augment": attacked},
        "augment attacked returns inputs cut off above 1, and the raw ones reach from 0",
    ),
    "augment of inputs": ({"augment": lambda inputs: inputs.clamp(4, 12)}, "below 4 and above 12"),
}


@pytest.mark.parametrize(("settings", "words"), CUT.values(), ids=list(CUT))
def test_clamp_inside_of_the_inputs_range_is_warned_of(settings, words):
    with pytest.warns(UserWarning, match=words) as caught:
        study(**settings)
    assert len(caught) == 1


def mixed(module, inputs, targets):
    del module
    return torch.lerp(inputs.flip(0), inputs, torch.rand(())), targets


def masked(inputs):
    return torch.where(torch.rand_like(inputs[:, :, :, :1]) < 0.5, 0.0, inputs)


def squared_out(inputs):
    inputs = inputs.clone()
    inputs[:, :, 2:6, 2:6] = 8
    return inputs


NOT_CUT = {
    "standardized": lambda inputs: (inputs - 8) / 4,
    "scaled": lambda inputs: inputs / 16,
    "scaled and clamped": lambda inputs: (inputs / 8).clamp(0, 1),
    "to its own range": lambda inputs: (inputs + 4 * torch.randn_like(inputs)).clamp(0, 16),
    "noise": lambda inputs: inputs + torch.randn_like(inputs),
    "less contrast": lambda inputs: 0.5 * inputs + 4,
    "masked": masked,
    "cutout": squared_out,
    "shifted": lambda inputs: inputs.roll(2, -1),
    "rounded up": lambda inputs: 4 * torch.ceil(inputs / 4),
    "rounded down": lambda inputs: 5 * torch.floor(inputs / 5),
    "two values": lambda inputs: (inputs > 8).float(),
    "squashed": lambda inputs: torch.tanh(inputs / 8),
    "mixup": mixed,
    "attack": tn.harden.Fast(0.1),
}


@pytest.mark.parametrize("augment", NOT_CUT.values(), ids=list(NOT_CUT))
def test_other_augmentations_are_not_warned_of(augment):
    with warnings.catch_warnings(record=True) as shown:
        study(augment=augment)
    assert [str(each.message) for each in shown] == []


BLACK_AND_WHITE = tuple(tn.Data((part.inputs > 8) * 255.0, part.targets) for part in (TRAIN, VALID))


def test_black_and_white_images_that_an_attack_clamps_are_warned_of():
    with pytest.warns(UserWarning, match="cut off above 1"):
        study(BLACK_AND_WHITE, augment=attacked)


def test_black_and_white_images_that_are_dimmed_are_not_warned_of():
    with warnings.catch_warnings(record=True) as shown:
        study(BLACK_AND_WHITE, augment=lambda inputs: 0.6 * inputs + 50)
    assert [str(each.message) for each in shown] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": HardenedOnRaw(box=(0, 16), size=1.6)},
        {"loss": Hardened(), "data": SCALED, "normalize": False},
        {"augment": attacked, "data": SCALED},
        {"loss": tn.harden.TRADES(0.1)},
    ],
    ids=["raw", "not normalized", "augment", "trades"],
)
def test_clamp_to_the_inputs_range_is_not_warned_of(settings):
    with warnings.catch_warnings(record=True) as shown:
        study(**settings)
    assert [str(each.message) for each in shown] == []
