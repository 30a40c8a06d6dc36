"""The dry run names a mistake, with its layer and numbers, before trial 0."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tests.helpers.dry_run_cases import (
    BYTES,
    CLASSES,
    IMAGES,
    INF,
    NAN,
    ONE,
    RATE,
    SHARE,
    TOKENS,
    Net,
    Rows,
    changed,
    check,
    linear,
    net,
)
from tests.helpers.global_generators import generators_untouched
from tests.helpers.tables import Table

# What is refused: (what is done, the exception, what its message says).


def joined_rows(self, x):
    return self.layer(x.flatten(1)).view(-1, 5)


def undone_rows(self, x):
    return self.layer(x.reshape(-1, 4)).unflatten(0, (len(x), -1)).mean(1)


def fixed_rows(self, x):
    return self.layer(x.view(32, -1))


def overwritten(outputs, targets):
    powers = outputs.exp()
    loss = (powers * powers).mean()
    powers.zero_()
    return loss


def odd(outputs, targets):
    return functional.cross_entropy(outputs, targets, weight=torch.ones(9))


def joined_layers():
    return nn.ModuleList([nn.Linear(4, 10), nn.Linear(99, 10)])


def lone(outputs, targets):
    return (outputs - targets).square().mean()


HALVES = torch.full((97, 10), 0.5)
NORMED = [nn.Flatten, partial(nn.Linear, 192, 20), partial(nn.BatchNorm1d, 20), partial(nn.Linear, 20, 10)]

SHAPES = {
    "flatten 0": (
        lambda: check(lambda: nn.Sequential(nn.Flatten(0), nn.Linear(192, 10))),
        ['batch 32 became 6144 in flatten(0, -1) of layer "0: Flatten"', "3x8x8 = 192", "nn.Flatten()"],
    ),
    "view of one": (lambda: check(net(lambda s, x: s.layer(x.view(-1)))), ["32 became 6144 in view(-1) of Net"]),
    "reshape": (
        lambda: check(net(lambda s, x: s.layer(x.reshape((-1, 96))), partial(nn.Linear, 96, 10))),
        ["batch 32 became 64 in reshape(-1, 96) of Net", "3x8x8 = 192, not 96", "in_features=192"],
    ),
    "outputs": (
        lambda: check(net(joined_rows, partial(nn.Linear, 192, 10))),
        ["batch 32 became 64 in view(-1, 5)", "the features of a row are 10, not 5"],
    ),
    "layer": (
        lambda: check(lambda: nn.Sequential(linear(), Net(lambda s, x: x.mean(0), nn.Identity()))),
        ['batch 32 became 10 in layer "1: Net"', "shape (10,) of (32, 10)"],
    ),
    "fixed rows": (
        lambda: check(net(fixed_rows, partial(nn.Linear, 192, 10))),
        ["batches of 32 rows only, by view(32, -1) of Net (test_refusals.py, line", "x.shape[0]"],
    ),
    "in_features": (
        lambda: check(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(99, 10))),
        ['layer "2: Linear" takes in_features=99', "the features are 4x6x6 = 144", "in_features=144 takes them"],
    ),
    "nested": (
        lambda: check(net(lambda s, x: s.layer(x), lambda: nn.Sequential(linear(), nn.Linear(11, 10)))),
        ['layer "layer.1: Linear" takes in_features=11, but the features are 10'],
    ),
    "in joined rows": (
        lambda: check(
            net(lambda s, x: s.layer(x.reshape(-1, 8)).view(len(x), -1), partial(nn.Linear, 9, 10)),
        ),
        ['layer "layer: Linear" takes in_features=9, but the features are 8'],
    ),
    "behind joined rows": (
        lambda: check(net(lambda s, x: s.layer[1](s.layer[0](x.reshape(-1, 4)).view(len(x), -1)), joined_layers)),
        ['layer "layer.1: Linear" takes in_features=99, but the features are 480'],
    ),
    "loss behind joined rows": (
        lambda: check(net(undone_rows, partial(nn.Linear, 4, 10)), loss=odd),
        ["the loss fails on outputs of shape (32, 10): RuntimeError: weight tensor"],
    ),
    "not flat": (
        lambda: check(partial(nn.Linear, 192, 10)),
        ["Linear takes in_features=192, got shape (32, 3, 8, 8)", "nn.Flatten(), in front"],
    ),
    "channels": (
        lambda: check(lambda: nn.Conv2d(1, 10, 8)),
        ["Conv2d takes in_channels=1, but the channels are 3", "in_channels=3"],
    ),
    "no channels": (
        lambda: check(lambda: nn.Conv2d(1, 10, 8), (IMAGES[:, 0], CLASSES)),
        ["shape (n, 1, height, width), got (32, 8, 8)", "inputs.unsqueeze(1)"],
    ),
    "norm": (
        lambda: check(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5))),
        ['layer "1: BatchNorm2d" takes num_features=5, but the channels are 4', "num_features=4"],
    ),
    "lonely last row": (
        lambda: check(lambda: nn.Sequential(*(make() for make in NORMED))),
        ['layer "2: BatchNorm1d" needs more than one row', "97 rows in batches of 32", "batch_size=31 or 96 rows"],
    ),
    "too small": (
        lambda: check(lambda: nn.Sequential(nn.Conv2d(3, 4, 9), nn.Flatten())),
        ['layer "0: Conv2d" fails given shape (32, 3, 8, 8) float32: RuntimeError', "9 x 9"],
    ),
    "lonely last row of a module at rest": (
        lambda: check(lambda: nn.Sequential(*(make() for make in NORMED)).eval()),
        ['layer "2: BatchNorm1d" needs more than one row'],
    ),
    "another failure": (
        lambda: check(net(lambda s, x: functional.linear(x.flatten(1), s.layer.weight.T), partial(nn.Linear, 192, 10))),
        ["Net fails given shape (32, 3, 8, 8) float32: RuntimeError: mat1 and mat2"],
    ),
}

TARGETS = {
    "class 10 of 10 in train": (
        lambda: check(data=(IMAGES, changed([50, 70], 10)), valid=(IMAGES, CLASSES)),
        ['0 to 9 for the 10 outputs of layer "1: Linear"', "got 10 in train targets: 2 of 97 rows", "row 50", "11 out"],
    ),
    "class 10 of 10 in valid": (
        lambda: check(valid=(IMAGES, changed(96, 10))),
        ["got 10 in valid targets: 1 of 97 rows, the first is row 96"],
    ),
    "from 1": (lambda: check(data=(IMAGES, CLASSES + 1)), ["got 10 in train", "targets - 1 numbers them from 0"]),
    "negative": (lambda: check(data=(IMAGES, changed(3, -1))), ["got -1", "row 3", "ignore_index=-1"]),
    "own function": (
        lambda: check(data=(IMAGES, changed(50, 10)), loss=lambda o, t: 2 * functional.cross_entropy(o, t)),
        ["got 10 in train targets", "row 50"],
    ),
    "named": (
        lambda: check(
            data=(IMAGES, {"kind": changed(50, 10), "other": IMAGES[:, 0, 0, 0]}),
            loss=lambda o, t: functional.cross_entropy(o, t["kind"]),
        ),
        ['got 10 in train targets["kind"]', "row 50"],
    ),
    "nll": (
        lambda: check(data=(IMAGES, changed(50, 10)), loss=lambda o, t: functional.nll_loss(o.log_softmax(1), t)),
        ["got 10", "row 50"],
    ),
    "of a dataset": (
        lambda: check(data=Rows(targets=changed([95, 96], 10))),
        ["got 10 in train targets: 1 of 64 rows that were looked at, the first is row 96"],
    ),
    "column": (
        lambda: check(data=(IMAGES, CLASSES[:, None])),
        ["cross_entropy needs class numbers of shape (32,)", "(32, 10)", "(32, 1)", "targets.squeeze(1)"],
    ),
    "one-hot": (
        lambda: check(data=(IMAGES, functional.one_hot(CLASSES, 10))),
        ["shape (32,)", "(32, 10)", "targets.argmax(1)"],
    ),
    "shape": (
        lambda: check(data=(IMAGES, CLASSES[:, None].expand(-1, 3))),
        ["shape (32,)", "targets of shape (32, 3)"],
    ),
    "spread": (
        lambda: check(ONE, (IMAGES, SHARE), loss=nn.MSELoss()),
        ["mse_loss needs targets of the outputs' shape (32, 1), got (32,)", "targets.unsqueeze(-1)"],
    ),
    "spread the other way": (
        lambda: check(net(lambda s, x: s.layer(x)[:, 0]), (IMAGES, SHARE[:, None]), loss=nn.L1Loss()),
        ["l1_loss", "(32,), got (32, 1)", "targets.squeeze(-1) or outputs.unsqueeze(-1)"],
    ),
    "spread by hand": (
        lambda: check(ONE, (IMAGES, SHARE), loss=lone),
        ["got (32, 1) and (32,), which the loss spreads to (32, 32)", "outputs.squeeze(-1)"],
    ),
    "pairs as a row": (
        lambda: check(net(lambda s, x: s.layer(x).view(-1, 5, 2)), (IMAGES, HALVES), loss=nn.MSELoss()),
        ["shape (32, 5, 2), got (32, 10)", "targets.reshape(-1, 5, 2)"],
    ),
    "more outputs": (
        lambda: check(linear, (IMAGES, IMAGES[:, 0, 0, :7]), loss=nn.MSELoss()),
        ["shape (32, 10), got (32, 7)", "as many outputs"],
    ),
    "shares": (
        lambda: check(ONE, (IMAGES, CLASSES[:, None].float()), loss=nn.BCEWithLogitsLoss()),
        ["needs targets from 0 to 1, got 2.0 in train targets", "row 2"],
    ),
    "token": (
        lambda: check(
            lambda: nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(48, 10)),
            (changed((90, 3), 50, TOKENS), CLASSES),
        ),
        ['layer "0: Embedding" has 50 rows', "0 to 49, got 50 in train inputs: 1 of 97 rows", "row 90", "dings=51"],
    ),
    "loss": (
        lambda: check(loss=odd),
        ["the loss fails on outputs of shape (32, 10): RuntimeError: weight tensor"],
    ),
}

DTYPES = {
    "float labels": (
        lambda: check(data=(IMAGES, CLASSES.float())),
        ["cross_entropy needs class numbers as whole numbers, got float32", "targets.long()"],
    ),
    "boolean labels": (
        lambda: check(partial(linear, 2), (IMAGES, CLASSES > 4)),
        ["as int64, got bool", "targets.long()"],
    ),
    "whole shares": (
        lambda: check(ONE, (IMAGES, SHARE.long()[:, None]), loss=nn.BCEWithLogitsLoss()),
        ["binary_cross_entropy_with_logits needs targets as float, got int64", "targets.float()"],
    ),
    "bytes": (
        lambda: check(data=(BYTES, CLASSES), normalize=False),
        ['layer "1: Linear" takes float32, got uint8', "normalize=False", "x.float() / 255"],
    ),
    "whole numbers": (
        lambda: check(data=(BYTES.int(), CLASSES)),
        ['layer "1: Linear" takes float32, got int32', "give the inputs as float32"],
    ),
    "double": (
        lambda: check(data=Rows(change=lambda x: x.double()), normalize=False),
        ['layer "1: Linear" takes float32, got float64'],
    ),
    "tokens as floats": (
        lambda: check(lambda: nn.Embedding(50, 4), (TOKENS.float(), CLASSES)),
        ["Embedding takes row numbers, int64, got float32", "normalize=False"],
    ),
    "no tensor": (lambda: check(loss=lambda o, t: o.mean().item()), ["a tensor with a gradient, got float", ".item()"]),
    "lbfgs": (lambda: check(optimizer=torch.optim.LBFGS), ["optimizer LBFGS needs a closure", "torch.optim.SGD"]),
    "sparse": (lambda: check(optimizer=torch.optim.SparseAdam), ["optimizer SparseAdam takes sparse", "Adam"]),
    "float of numpy": (
        lambda: check(optimizer=partial(torch.optim.SGD, momentum=np.float64(0.9))),
        ["a checkpoint holds", "numpy.float64", "param_groups.0.momentum", "a plain number or a tensor"],
    ),
    "metric": (lambda: check(metrics={"m": lambda o, t: o}), ['metric "m": needs to return a number', "(97, 10)"]),
}

OTHERS = {
    "nan": (
        lambda: check(data=(changed([17, 20], NAN, IMAGES), CLASSES)),
        ["finite numbers, got NaN or inf in train inputs: 2 of 97 rows, the first is row 17", "data[mask]"],
    ),
    "nan in a column": (
        lambda: check(ONE, (changed([3, 4], NAN, torch.ones(97, 3)[:, :1]), SHARE), loss=lone),
        ["2 of 97 rows, the first is row 3, in column 0; fill"],
    ),
    "nan in a named column": (
        lambda: check(ONE, tn.Data(Table(age=SHARE.flatten(), pay=changed(5, NAN, SHARE.flatten())), SHARE), loss=lone),
        ['the first is row 5, in column "pay"; fill'],
    ),
    "code of what is missing": (
        lambda: check(lambda: nn.Sequential(nn.Embedding(7, 10)), (changed(3, -1, CLASSES % 6), CLASSES)),
        ["takes numbers from 0 to 6, got -1", "add 1, so that they count from 0, and num_embeddings=7 takes them"],
    ),
    "inf": (lambda: check(valid=(changed(5, -INF, IMAGES), CLASSES)), ["valid inputs: 1 of 97 rows", "row 5"]),
    "nan in targets": (lambda: check(ONE, (IMAGES, changed(5, NAN, SHARE)), loss=lone), ["train targets", "row 5"]),
    "nan in a dict": (
        lambda: check(data=({"a": IMAGES, "b": changed(5, NAN, SHARE)}, CLASSES)),
        ['train inputs["b"]', "row 5"],
    ),
    "nan in a pair": (
        lambda: check(data=((IMAGES, changed(5, NAN, SHARE)), CLASSES)),
        ["train inputs[1]: 1 of 97 rows"],
    ),
    "backward": (lambda: check(loss=overwritten), ["the loss has no gradient: RuntimeError", "inplace"]),
    "nan in a dataset": (lambda: check(data=Rows(changed(96, NAN, IMAGES))), ["of 64 rows that were", "row 96"]),
    "wrapped bytes": (
        lambda: check(net(lambda s, x: s.layer((x - 128).float())), (BYTES, CLASSES), normalize=False),
        ["Net computes with uint8 inputs, which wrap around at 255 in sub", "x.float()"],
    ),
    "in place": (
        lambda: check(lambda: nn.Sequential(nn.ReLU(inplace=True), linear()), normalize=False),
        ["inputs were changed in place", "x = x + 1"],
    ),
    "in place in evaluation": (
        lambda: check(net(lambda s, x: s.layer(x if s.training else x.mul_(1.5))), normalize=False),
        ["inputs were changed in place", "x = x + 1"],
    ),
    "loss of nothing": (
        lambda: check(loss=lambda o, t: functional.cross_entropy(o, t - t - 100)),
        ["the loss needs to be finite, got nan on", "before any step", "averages over no targets"],
    ),
    "outputs without numbers": (
        lambda: check(net(lambda s, x: s.layer(x.erfinv())), normalize=False),
        ["the loss needs to be finite, got nan on", "as are outputs of the model", "normalize=False"],
    ),
    "each": (
        lambda: check(loss=nn.CrossEntropyLoss(reduction="none")),
        ["a single number, got shape (32,)", 'reduction="mean"'],
    ),
    "cut off": (
        lambda: check(loss=lambda o, t: (o.argmax(1) == t).float().mean()),
        ["the loss needs a gradient", "argmax()"],
    ),
    "frozen": (
        lambda: check(lambda: linear().requires_grad_(False), optimizer=lambda p, lr: torch.optim.SGD([*p, W], lr)),
        ["the loss needs a gradient", "Sequential has no parameter that requires one"],
    ),
    "none of them": (
        lambda: check(loss=lambda o, t: W.square().sum()),
        ['none of the model\'s 2 parameters, "1.weight" the first', "the model's outputs"],
    ),
    "same module": (lambda: check(lambda: MADE), ['the same parameter "1.weight" twice', "deepcopy"]),
    "builder": (lambda: check(lambda: 3), ["cannot be built: TypeError", "needs to return a torch.nn.Module, got int"]),
    "optimizer": (lambda: check(optimizer=lambda p, lr: torch.optim.SGD(p, -1.0)), ["cannot be built: ValueError"]),
    "metric key": (
        lambda: check(metrics={"m": lambda o, t: {}["x"]}),
        ["training fails: metric \"m\": KeyError: 'x'"],
    ),
    "metric rows": (lambda: check(metrics={"top": tn.metrics.top_k(10)}), ["top_k: k=10", "(97, 10)"]),
    "watched": (
        lambda: check(schedule=tn.rates.Plateau(metric="acc")),
        ['metric "acc" is not reported; reported are loss, train_loss'],
    ),
}

W, MADE = nn.Parameter(torch.ones(2)), linear()
REFUSED = {
    **{f"shapes: {name}": (do, ValueError, said) for name, (do, said) in SHAPES.items()},
    **{f"targets: {name}": (do, ValueError, said) for name, (do, said) in TARGETS.items()},
    **{f"dtypes: {name}": (do, TypeError, said) for name, (do, said) in DTYPES.items()},
    **{f"others: {name}": (do, ValueError, said) for name, (do, said) in OTHERS.items()},
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistake_is_named_with_its_numbers_and_a_way_out(name):
    do, kind, said = REFUSED[name]
    with generators_untouched(), pytest.raises(kind) as caught:
        do()
    message = str(caught.value)
    assert [words for words in said if words not in message] == [], message
    assert type(caught.value) is kind


def test_configuration_of_the_branch_is_named():
    space = {"model": tn.Choice({"right": linear, "wrong": tn.call(linear, outputs=tn.Int(3, 7))}), **RATE}
    with pytest.raises(ValueError, match=r"configuration .*'wrong'.*'outputs': 5.*: class numbers .* the 5 outputs"):
        check(space=space)
