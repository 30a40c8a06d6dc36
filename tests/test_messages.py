"""Wrong calls as newcomers make them: one traceback, and its last line has the rule, what was got and the way out."""

import math
import re
import traceback
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import tuneflow as tn
from tests.helpers.messages import refused

ROWS = torch.linspace(-1, 1, 64 * 8).reshape(64, 8)
CLASSES = torch.arange(64) % 3
RATE = {"optimizer": {"lr": tn.Float(1e-3, 1e-1, log=True)}}


def build(width=8):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))


def trainer(**settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 1} | settings
    return tn.Trainer((ROWS, CLASSES), (ROWS, CLASSES), **settings)


def study(space=RATE, **settings):
    settings = {"model": tn.Model(build), "trainer": trainer(), "space": tn.SearchSpace(**space)} | settings
    return tn.Study(runtime=tn.Runtime("cpu", threads=1), progress=False, **settings)


class Broken(nn.Module):
    """A module with a mistake in its forward."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, rows):
        return self.layer(rows).missing()


METRICS = 'write metrics={"accuracy": tn.metrics.accuracy}'
WRAPPED = "tn.rates.Torch(functools.partial(torch.optim.lr_scheduler.StepLR, ...))"
CALLS = {
    "metrics as a list": (lambda: trainer(metrics=[tn.metrics.accuracy]), TypeError, ["got a list", METRICS]),
    "metrics as a function": (lambda: trainer(metrics=tn.metrics.accuracy), TypeError, ["got a function", METRICS]),
    "metrics as a name": (lambda: trainer(metrics="accuracy"), TypeError, ["got a str", METRICS]),
    "own metrics as a list": (
        lambda: trainer(metrics=[build, lambda o, t: 0]),
        TypeError,
        ['write metrics={"build": build, "lambda": ...}'],
    ),
    "a metric without a name": (
        lambda: trainer(metrics={0: build}),
        TypeError,
        ["name of a metric", "a string", "got 0"],
    ),
    "a scheduler class of torch's": (lambda: trainer(schedule=lr_scheduler.StepLR), TypeError, ["got", WRAPPED]),
    "a factory of schedulers": (lambda: trainer(schedule=lambda o: o), TypeError, ["tn.rates", WRAPPED]),
    "a schedule by its name": (lambda: trainer(schedule="cosine"), TypeError, ["'cosine'", "tn.rates.Cosine()"]),
    "a loss by its name": (lambda: trainer(loss="mse"), TypeError, ["loss needs to be callable", "'mse'", "try "]),
    "an optimizer by its name": (lambda: trainer(optimizer="adam"), TypeError, ["optimizer needs", "torch.optim.SGD"]),
    "a ready optimizer": (
        lambda: trainer(optimizer=torch.optim.SGD(build().parameters(), lr=0.1)),
        TypeError,
        ["a class such as torch.optim.SGD", "a ready SGD", 'section "optimizer"'],
    ),
    "a builder as the model": (lambda: study(model=build), TypeError, ["needs a tn.Model", "write tn.Model(build)"]),
    "a module as the model": (
        lambda: study(model=build()),
        TypeError,
        ["got a Sequential", "tn.Model(a function that makes such a module)"],
    ),
    "a class as the trainer": (lambda: study(trainer=tn.Trainer), TypeError, ["trainer needs", "add parentheses"]),
    "a class as the searcher": (lambda: study(searcher=tn.Random), TypeError, ["tn.Searcher", "add parentheses"]),
    "a negative time": (
        lambda: tn.Folder("runs", checkpoint=-1),
        ValueError,
        ["checkpoint", ">= 0", "got -1", "with 0"],
    ),
    "a mistake in forward": (
        lambda: study(model=tn.Model(Broken)),
        ValueError,
        ["Broken fails given shape (32, 8)", "AttributeError", "'missing'"],
    ),
    "a mistake in a builder": (
        lambda: study(model=tn.Model(lambda: 1 / 0)),
        ValueError,
        ["cannot be built: ZeroDivisionError"],
    ),
    "a mistake in a metric": (
        lambda: study(trainer=trainer(metrics={"m": lambda o, t: 1 / 0})),
        ValueError,
        ['training fails: metric "m": ZeroDivisionError'],
    ),
    "a mistake in a loss": (
        lambda: study(trainer=trainer(loss=lambda o, t: o.missing())),
        ValueError,
        ["the loss fails on outputs of shape (32, 3)", "'missing'"],
    ),
    "a setting that is none": (
        lambda: study({"trainer": {"epochs": tn.Int(1, 3)}}),
        TypeError,
        ['no setting "epochs" to tune', "batch_size"],
    ),
    "a mistake in where": (
        lambda: study(RATE | {"where": lambda config: config["lr"] < 1}),
        ValueError,
        ["where=", "KeyError: 'lr'", "for the configuration", "a dict shaped like the space"],
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_wrong_call_is_answered_by_one_traceback_that_ends_with_the_way_out(call):
    wrong, kind, pieces = CALLS[call]
    refused(kind, wrong, *pieces)
    with pytest.raises(kind) as caught:
        wrong()
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback (most recent call last)") == 1
    assert text.rstrip().endswith(str(caught.value))
    assert re.findall(r"\d\.\d{7,}", str(caught.value)) == []


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("return self.layer(rows).missing()", {"model": tn.Model(Broken)}),
        ("return 1 / 0", {"model": tn.Model(lambda: fails())}),
    ],
)
def test_traceback_of_a_refusal_shows_the_line_of_the_mistake(line, settings):
    with pytest.raises(ValueError) as caught:
        study(**settings)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == line


def fails():
    return 1 / 0


PLAIN = {
    "keep": lambda: tn.Folder(None, keep=np.int64(2)).keep,
    "memory": lambda: tn.Folder(None, memory=np.int32(2)).memory,
    "checkpoint": lambda: tn.Folder(None, checkpoint=np.float32(2)).checkpoint,
    "epochs": lambda: trainer(epochs=np.int64(2)).epochs,
    "batch_size": lambda: trainer(batch_size=np.int16(2)).batch_size,
    "micro_batch": lambda: trainer(micro_batch=np.uint8(2)).micro_batch,
    "threads": lambda: tn.Runtime("cpu", threads=np.int64(2)).threads,
    "workers": lambda: tn.Runtime("cpu", workers=np.int64(2)).workers,
    "lanes": lambda: tn.Runtime("cpu", lanes=np.int64(2)).lanes,
    "seed": lambda: study(seed=np.int64(2)).seed,
    "lag": lambda: study(lag=np.int64(2)).lag,
}


@pytest.mark.parametrize("argument", PLAIN)
def test_number_of_numpy_is_taken_as_a_plain_one(argument):
    value = PLAIN[argument]()
    assert value == 2
    assert type(value) in (int, float)


@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float64(2), "2", math.inf])
def test_whole_number_is_no_other_kind_of_number(value):
    refused(ValueError, partial(trainer, epochs=value), "epochs", "whole number", repr(value))
