"""The growth of a space in words, and the values that earlier trials had for names that are new."""

from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.study.earlier_values import earlier_values
from tuneflow.study.space_growth import space_growth
from tuneflow.train.function_trainer import Function

ROWS = tn.Data(torch.zeros(20, 8), torch.arange(20) % 2)


def net(width=8, act=nn.ReLU, depth=None, *, kernel):
    return nn.Linear(8, 2)


def other(slope=0.5):
    return nn.Linear(8, 2)


@tn.loop(epochs=2)
def loop(config, run):
    yield {}


def trainer(**settings):
    settings = {"valid": ROWS, "loss": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD} | settings
    return tn.Trainer(ROWS, **settings)


def grown(before, now, trainer=trainer, model=None):
    """The changes from one space to the other: texts of those that it outgrew or refuses, and the earlier values."""
    model = tn.Model(partial(net, kernel=3)) if model is None else model
    single = trainer() if callable(trainer) and not isinstance(trainer, Function | type(loop)) else trainer
    earlier = earlier_values(None if single is None else model, single)
    changes = space_growth(tn.SearchSpace(**before).to_json(), tn.SearchSpace(**now), earlier)
    values = {change.name: change.value for change in changes if change.name}
    return [str(c) for c in changes if c.grew], [c.text for c in changes if not c.grew], values


RATE, UNIT = tn.Float(1e-3, 0.1, log=True), tn.Float(0.0, 1.0)
SGD = tn.call(torch.optim.SGD, lr=RATE)
RATES = {"optimizer": {"lr": RATE}}


def optimizers(**labels):
    return {"optimizer": tn.Choice(labels)}


WORDS = {
    "a wider range": ({"x": tn.Int(8, 32)}, {"x": tn.Int(8, 64)}, "x was Int(8, 32), now Int(8, 64)"),
    "a choice": (
        {"x": tn.Choice(["a", "b"])},
        {"x": tn.Choice(["a", "c", "b"])},
        "x was Choice(['a', 'b']), now Choice(['a', 'c', 'b'])",
    ),
    "a label": (
        {"x": tn.Choice({"a": nn.ReLU})},
        {"x": tn.Choice({"b": nn.Tanh, "a": nn.ReLU})},
        "x.b is new, torch.nn.modules.activation.Tanh",
    ),
    "a branch": (
        optimizers(sgd=SGD),
        optimizers(sgd=SGD, adam=tn.call(torch.optim.Adam, lr=RATE)),
        "optimizer.adam is new, call(torch.optim.adam.Adam, lr=Float(0.001, 0.1, log=True))",
    ),
    "a wider range in a branch": (
        optimizers(sgd=SGD, adam=torch.optim.Adam),
        optimizers(sgd=tn.call(torch.optim.SGD, lr=tn.Float(1e-3, 1.0, log=True)), adam=torch.optim.Adam),
        "optimizer.sgd.lr was Float(0.001, 0.1, log=True), now Float(0.001, 1.0, log=True)",
    ),
    "a wider range in a section behind a label": (
        {"x": tn.Choice({"a": tn.SearchSpace(y=tn.Int(1, 2))})},
        {"x": tn.Choice({"a": tn.SearchSpace(y=tn.Int(1, 3))})},
        "x.a.y was Int(1, 2), now Int(1, 3)",
    ),
    "an order": (
        {"x": tn.Choice({"a": 1, "b": 2})},
        {"x": tn.Choice({"a": 1, "b": 2}, ordered=True)},
        "x: ordered was False, now True",
    ),
    "a constant": ({"x": 0.5}, {"x": UNIT}, "x was Constant(0.5), now Float(0.0, 1.0)"),
}


@pytest.mark.parametrize("line", WORDS)
def test_growth_is_told_in_words(line):
    before, now, text = WORDS[line]
    assert grown(before, now) == ([text], [], {})


def with_where(*functions):
    return {"where": list(functions), "x": UNIT}


def small(config):
    return config["x"] < 0.5


def smaller(config):
    return config["x"] < 0.25


def test_constraint_that_is_dropped_is_growth_and_another_one_is_not():
    assert grown(with_where(small, smaller), with_where(small))[1] == []
    assert grown(with_where(small), with_where())[1] == []
    (refused,) = grown(with_where(small), with_where(smaller))[1]
    assert refused == f"where was ['{__name__}.small'], now ['{__name__}.smaller']"
    assert len(grown(with_where(), with_where(small))[1]) == 1


FILLED = {
    "a builder's default": ({}, {"model": {"width": tn.Int(4, 16)}}, {"model": {"width": 8}}),
    "a name more in a section": (
        {"model": {"width": tn.Int(4, 16)}},
        {"model": {"width": tn.Int(4, 16), "act": tn.Choice({"tanh": nn.Tanh, "relu": nn.ReLU})}},
        {"model.act": "relu"},
    ),
    "None among values": (
        {},
        {"model": {"depth": tn.Choice([1, None])}},
        {"model": {"depth": None}},
    ),
    "what a partial fixes": ({}, {"model": {"kernel": tn.Choice([1, 3])}}, {"model": {"kernel": 3}}),
    "a constant": ({}, {"model": {"width": 8}}, {"model": {"width": 8}}),
    "an optimizer's default": (RATES, {"optimizer": {"lr": RATE, "momentum": UNIT}}, {"optimizer.momentum": 0.0}),
    "a setting in a branch": (
        optimizers(sgd=SGD),
        optimizers(sgd=tn.call(torch.optim.SGD, lr=RATE, nesterov=tn.Choice([True, False]))),
        {"optimizer.sgd.nesterov": False},
    ),
    "a label that got settings": (
        optimizers(sgd=torch.optim.SGD),
        optimizers(sgd=tn.call(torch.optim.SGD, momentum=UNIT)),
        {"optimizer.sgd.momentum": 0.0},
    ),
    "a choice of optimizers": (
        {},
        optimizers(adam=torch.optim.Adam, sgd=tn.call(torch.optim.SGD, momentum=UNIT)),
        {"optimizer": {"sgd": {"momentum": 0.0}}},
    ),
    "a loss": ({}, {"loss": {"label_smoothing": tn.Float(0.0, 0.2)}}, {"loss": {"label_smoothing": 0.0}}),
    "a trainer's settings": (
        RATES,
        RATES
        | {
            "trainer": {
                "batch_size": tn.Choice([16, 32]),
                "clip": tn.Choice([None, 1.0]),
                "schedule": tn.Choice({"cosine": tn.rates.Cosine, "none": tn.rates.Fixed}),
                "rows": tn.Int(5, 20),
            }
        },
        {"trainer": {"batch_size": 32, "clip": None, "schedule": "none", "rows": 20}},
    ),
    "initialization": (
        {},
        {"init": {"scheme": tn.Choice(["default", "lecun"]), "data_driven": tn.Choice([True, False])}},
        {"init": {"scheme": "default", "data_driven": False}},
    ),
    "normalization": ({}, {"normalize": {"kind": tn.Choice([True, "whiten"])}}, {"normalize": {"kind": True}}),
}


@pytest.mark.parametrize("line", FILLED)
def test_earlier_trials_get_the_value_that_they_had(line):
    before, now, values = FILLED[line]
    assert grown(before, now)[1:] == ([], values)


def test_filled_configurations_build_the_same_and_are_cast():
    space = tn.SearchSpace(**FILLED["a choice of optimizers"][1])
    values = FILLED["a choice of optimizers"][2]
    config = space.cast(space.filled({}, values))
    built = space.resolve(config)["optimizer"]
    assert (built.func, built.keywords) == (torch.optim.SGD, {"momentum": 0.0})
    plain = space.filled({"optimizer": "sgd"}, {"optimizer.sgd.momentum": 0.5})
    assert plain == {"optimizer": {"sgd": {"momentum": 0.5}}}


SPECIAL = {
    "a function's default": (Function(lambda x, n=3: x), {"x": UNIT}, {"x": UNIT, "n": tn.Int(1, 5)}, {"n": 3}),
    "an optimizer with fixed settings": (
        trainer(optimizer=partial(torch.optim.SGD, momentum=0.5)),
        {},
        optimizers(sgd=tn.call(torch.optim.SGD, momentum=UNIT), adam=torch.optim.Adam),
        {"optimizer": {"sgd": {"momentum": 0.5}}},
    ),
    "patience": (trainer(patience=3), {}, {"trainer": {"patience": tn.Int(1, 5)}}, {"trainer": {"patience": 3}}),
    "a schedule with settings": (
        trainer(schedule=tn.rates.Cosine(0.1)),
        {},
        {"trainer": {"schedule": tn.Choice({"low": tn.rates.Cosine(0.1), "zero": tn.rates.Cosine})}},
        {"trainer": {"schedule": "low"}},
    ),
}


@pytest.mark.parametrize("line", SPECIAL)
def test_earlier_values_come_from_what_takes_the_names(line):
    trainer, before, now, values = SPECIAL[line]
    assert grown(before, now, trainer)[1:] == ([], values)


def test_section_of_constants_states_the_values_of_a_loop():
    assert grown({"x": UNIT}, {"x": UNIT, "model": {"y": 3}}, loop)[1:] == ([], {"model": {"y": 3}})


REFUSED = {
    "narrower": (RATES, {"optimizer": {"lr": tn.Float(1e-2, 0.1, log=True)}}, "optimizer.lr: low was 0.001, now 0.01"),
    "a choice less": (
        {"x": tn.Choice(["a", "b"])},
        {"x": tn.Choice(["a", "c"])},
        "x: values was ['a', 'b'], now ['a', 'c']",
    ),
    "a label less": (
        {"x": tn.Choice({"a": nn.ReLU, "b": nn.Tanh})},
        {"x": tn.Choice({"a": nn.ReLU})},
        "x.b is gone, was torch.nn.modules.activation.Tanh",
    ),
    "another object": (
        {"x": tn.Choice({"a": nn.ReLU})},
        {"x": tn.Choice({"a": nn.Tanh})},
        "x.a: name was 'torch.nn.modules.activation.ReLU', now 'torch.nn.modules.activation.Tanh'",
    ),
    "another kind": ({"x": tn.Int(1, 3)}, {"x": tn.Float(1, 3)}, "x was Int(1, 3), now Float(1.0, 3.0)"),
    "a section made a choice": (RATES, optimizers(sgd=SGD), "optimizer was a section of lr, now Choice({'sgd'"),
    "a name less": ({"x": UNIT, "y": UNIT}, {"x": UNIT}, "y is gone, was Float(0.0, 1.0)"),
    "a default outside": (
        RATES,
        {"optimizer": {"lr": RATE, "weight_decay": tn.Float(1e-6, 1e-2, log=True)}},
        "optimizer.weight_decay is new, Float(1e-06, 0.01, log=True), and the default 0 of SGD is not in it",
    ),
    "no default": (
        {},
        {"model": {"length": tn.Int(1, 3)}},
        "model is new, a section of length, and net has no default for it",
    ),
    "another builder": (
        {},
        {"model": tn.Choice({"other": tn.call(other, slope=UNIT)})},
        "is not in it",
    ),
    "a dict of settings": (
        RATES,
        {"optimizer": {"lr": RATE, "head": {"lr": RATE}}},
        "optimizer.head is new, a section of lr, and settings in a dict have no defaults",
    ),
    "clipping": ({}, {"trainer": {"clip": tn.Float(0.1, 1.0)}}, "the Trainer's None is not in it"),
    "a correction that follows": (
        {"init": {"scheme": tn.Choice(["default", "lecun"])}},
        {"init": {"scheme": tn.Choice(["default", "lecun"]), "data_driven": tn.Choice([True, False])}},
        "init.data_driven is new, Choice([True, False]), and the earlier None is not in it",
    ),
}


@pytest.mark.parametrize("line", REFUSED)
def test_more_than_growth_is_named(line):
    before, now, text = REFUSED[line]
    (refused,) = grown(before, now)[1]
    assert text in refused


FOLDS = trainer(valid=None, folds=2)
NOT_KNOWN = {
    "a loop": (
        loop,
        {"x": UNIT, "y": UNIT},
        "y is new, Float(0.0, 1.0), and loop loop, 2 epochs gets",
    ),
    "a section of a loop": (
        loop,
        {"x": UNIT, "model": {"y": UNIT}},
        "has no defaults; to state it, make the study once with the value",
    ),
    "ask and tell": (None, {"x": UNIT, "y": UNIT}, "trials from ask() do not tell what they had for it"),
    "a function of keywords": (Function(lambda **given: 0), {"x": UNIT, "y": UNIT}, "<lambda> has no default for it"),
    "rows of folds": (FOLDS, {"x": UNIT, "trainer": {"rows": tn.Int(5, 20)}}, "the Trainer's None is not in it"),
}


@pytest.mark.parametrize("line", NOT_KNOWN)
def test_unknown_earlier_values_are_refused_with_the_reason(line):
    trainer, now, text = NOT_KNOWN[line]
    (refused,) = grown({"x": UNIT}, now, trainer)[1]
    assert text in refused
