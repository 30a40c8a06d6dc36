"""Wrong calls as newcomers make them: one traceback, and its last line has the rule, what was got and the way out."""

import math
import re
import traceback
from decimal import Decimal
from fractions import Fraction
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
    return tn.Study(**{"runtime": tn.Runtime("cpu", threads=1), "progress": False} | settings)


def asked(**space):
    return tn.Study(space=tn.SearchSpace(**space), minimize="cost", progress=False)


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
    "a name without its section": (
        lambda: study().enqueue({"lr": 0.1}),
        ValueError,
        ['"lr" is not in the space', 'Write {"optimizer": {"lr": 0.1}}'],
    ),
    "a dotted name": (
        lambda: study().enqueue({"optimizer.lr": 0.1}),
        ValueError,
        ['"optimizer.lr" is not in the space', 'Write {"optimizer": {"lr": 0.1}}'],
    ),
    "a name of a branch": (
        lambda: asked(kind=tn.Choice({"a": tn.call(dict, lr=tn.Float(0, 1)), "b": dict})).enqueue({"lr": 0.5}),
        ValueError,
        ['Write {"kind": {"a": {"lr": 0.5}}}'],
    ),
    "a number as a configuration": (lambda: study().enqueue(0.1), ValueError, ["a dict", 'write {"optimizer": ...}']),
    "a flat space": (
        lambda: study({"lr": tn.Float(1e-3, 1), "width": tn.Int(1, 9), "batch_size": tn.Int(8, 16)}),
        ValueError,
        ["lr, width, batch_size in no section", 'optimizer={"lr": ...}, model={"width": ...}, trainer={"batch_size'],
    ),
    "an argument in another section": (
        lambda: study({"optimizer": {"width": tn.Int(1, 9)}}),
        TypeError,
        ['SGD takes no argument "width"', 'Write it in the section "model"'],
    ),
    "keep of a study": (lambda: study(keep=3), TypeError, ['"keep"', "Write folder=tn.Folder(path, keep=...)"]),
    "epochs of a study": (lambda: study(epochs=3), TypeError, ["Write trainer=tn.Trainer(..., epochs=...)"]),
    "workers of a study": (lambda: study(workers=3), TypeError, ["Write runtime=tn.Runtime(workers=...)"]),
    "trials of a study": (lambda: study(trials=3), TypeError, ["Write study.run(trials=...)"]),
    "a rate of a trainer": (lambda: trainer(lr=0.1), TypeError, ['optimizer={"lr": ...} in the tn.SearchSpace']),
    "a pair of whole numbers": (lambda: asked(x=(0, 9)), TypeError, ["got (0, 9)", "try tn.Int(0, 9), or tn.Choice("]),
    "a pair of numbers": (lambda: asked(x=(-0.5, 9)), TypeError, ["try tn.Float(-0.5, 9)"]),
    "a dict as the space": (
        lambda: tn.Study(space={"x": tn.Float(0, 1)}, minimize="cost"),
        TypeError,
        ["needs a tn.SearchSpace", "write tn.SearchSpace(**space)"],
    ),
    "a device as the runtime": (lambda: study(runtime="cpu"), TypeError, ['write tn.Runtime("cpu")']),
    "a result of no trial": (lambda: study().best, tn.errors.NothingFinished, ["none was started", "run(trials=...)"]),
    "rungs of one epoch": (
        lambda: study(scheduler=tn.Halving()),
        ValueError,
        ["no rung below the full 1 epoch;", "tn.Full()"],
    ),
    "a misspelt limit of run": (lambda: study().run(n_trials=3), TypeError, ["Study.run", 'Did you mean "trials"?']),
    "the validation loss by another name": (lambda: study(minimize="val_loss"), ValueError, ['Did you mean "loss"?']),
    "a metric in short": (
        lambda: study(trainer=trainer(metrics={"accuracy": tn.metrics.accuracy}), maximize="acc"),
        ValueError,
        ['Did you mean "accuracy"?'],
    ),
    "no folder to open": (lambda: tn.open(None), TypeError, ["tn.open: folder", "runs/first", "got None"]),
    "a model of facts": (lambda: study().ask().model(), AttributeError, ["study.result(0)", "tn.load"]),
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


def test_best_of_a_study_without_a_trainer_can_be_shown():
    told = asked(x=tn.Float(0, 1))
    told.tell(told.ask(), 0.25)
    assert re.fullmatch(r"trial 0: cost 0\.2500 \(epoch 1 of 1\), \{'x': .*\}", repr(told.best))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of a study of one trial."""
    folder = tmp_path_factory.mktemp("study")
    with study(folder=folder) as made:
        made.run(trials=1)
    return folder


@pytest.mark.parametrize("name", ["test", "save"])
def test_trial_of_an_opened_study_says_where_models_come_from(name, kept):
    trial = tn.open(kept).best
    refused(
        AttributeError, lambda: getattr(trial, name)(), f"no {name}()", "make the Study again with folder=", "tn.load"
    )
    assert not hasattr(trial, name)


@pytest.mark.parametrize("name", ["run", "adjusted", "test", "confirm", "enqueue", "ask", "model"])
def test_opened_study_says_that_it_only_reads(name, kept):
    refused(AttributeError, lambda: getattr(tn.open(kept), name), f"has no {name}", f'folder="{kept}"')


def test_other_unknown_attributes_are_unknown_as_usual(kept):
    refused(AttributeError, lambda: tn.open(kept).lenght, "'Archive' object has no attribute 'lenght'")
    refused(AttributeError, lambda: tn.open(kept).best.scroe, "'FolderResult' object has no attribute 'scroe'")


def rates(low=1e-3, **more):
    return {"optimizer": {"lr": tn.Float(low, 1e-1, log=True)}, **more}


OTHERS = {
    "a narrower range": (rates(1e-2), ["optimizer.lr: low was 0.001, now 0.01."]),
    "a section more": (
        rates(model={"width": tn.Int(2, 6)}),
        ["model is new, a section of width, and the default 8 of build is not in it."],
    ),
    "another kind": ({"optimizer": {"lr": 0.1}}, ["optimizer.lr was Float(0.001, 0.1, log=True), now Constant(0.1)."]),
    "another name": (
        {"optimizer": {"momentum": tn.Float(0, 1)}},
        ["optimizer.lr is gone, was Float(0.001, 0.1, log=True); optimizer.momentum is new, Float(0.0, 1.0)."],
    ),
    "labels": (
        {"optimizer": tn.Choice({"sgd": torch.optim.SGD, "adam": torch.optim.Adam})},
        ["optimizer was a section of lr, now Choice("],
    ),
}


@pytest.mark.parametrize("change", OTHERS)
def test_changed_space_is_refused_with_the_change_and_the_way_to_go_on(change, kept):
    space, pieces = OTHERS[change]
    ways = ["Use the same settings, or another folder", f'searcher=tn.Warm(tn.open("{kept}"))']
    refused(tn.errors.FingerprintError, lambda: study(space, folder=kept), *pieces, *ways)


def test_changed_number_of_epochs_is_named_once(kept):
    with pytest.raises(tn.errors.FingerprintError) as caught:
        study(trainer=trainer(epochs=3), folder=kept)
    assert str(caught.value).count("epochs was") == 1
    assert "trainer.epochs was 1, now 3" in str(caught.value)
    assert "tn.Warm" not in str(caught.value)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)], ids=["Python's", "NumPy's", "torch's"])
def test_a_flag_of_another_library_is_taken_as_a_plain_one(value):
    assert study(paired=value).paired is True
    assert tn.Runtime("cpu", channels_last=value).channels_last is True


CLIPS = {"infinite Decimal": Decimal("inf"), "signaling NaN": Decimal("sNaN"), "array": torch.ones(2), "tiny": 1e-320}


@pytest.mark.parametrize("kind", CLIPS)
def test_what_gradients_cannot_be_clipped_to_is_refused_as_it_was_given(kind):
    refused(ValueError, partial(trainer, clip=CLIPS[kind]), "clip needs", repr(CLIPS[kind]))


@pytest.mark.parametrize("value", [math.inf, np.float32(math.inf), Fraction(1, 2), 1])
def test_clip_is_a_number_of_python(value):
    assert type(trainer(clip=value).clip) in (int, float)
