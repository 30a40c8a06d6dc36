"""Inputs of several parts: a dict or a tuple reaches the arguments of forward, whoever calls the module."""

import copy
from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.trainer_runs import facts, flat, run
from tuneflow.fused.lanes import Lanes
from tuneflow.nested import mapped
from tuneflow.train.spread import Spread, connect, installed, spread_of
from tuneflow.train.surroundings import KEY

LEFT = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
RIGHT = torch.randn(48, 3, generator=torch.Generator().manual_seed(1))
CLASSES = (LEFT.sum(1) > RIGHT.sum(1)).long()
DICT, PAIR = {"left": LEFT, "right": RIGHT}, (LEFT, RIGHT)
Named = namedtuple("Named", "right left")
Other = namedtuple("Other", "one two")


class Both(nn.Module):
    """Two linear maps, called with `forward` of a subclass."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def both(self, left, right):
        return self.a(left) + self.b(right)


class Two(Both):
    def forward(self, left, right):
        return self.both(left, right)


class OnlyNamed(Both):
    def forward(self, *, right, left):
        return self.both(left, right)


class Optional(Both):
    def forward(self, left, right=None, scale=1.0):
        return self.a(left) * scale if right is None else self.both(left, right) * scale


class Whole(Both):
    def forward(self, batch):
        return self.both(batch["left"], batch["right"])


class WholePair(Both):
    def forward(self, pair):
        return self.both(*pair)


class WholeOrMore(Both):
    def forward(self, pair, scale=1.0):
        return self.both(*pair) * scale


class AnyNames(Both):
    def forward(self, **parts):
        return self.both(parts["left"], parts["right"])


class AnyNumber(Both):
    def forward(self, *parts):
        return self.both(*(part.float() for part in parts))


class Wrapped(nn.Module):
    """Passes on whatever it gets."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


KEYWORDS, POSITIONS = Spread("keywords"), Spread("positions")
CASES = {
    "dict, two arguments": (Two, DICT, KEYWORDS),
    "dict, keyword-only": (OnlyNamed, DICT, KEYWORDS),
    "dict, optional ones": (Optional, DICT, KEYWORDS),
    "dict, whole": (Whole, DICT, None),
    "dict, any names": (AnyNames, DICT, KEYWORDS),
    "dict, wrapped": (lambda: Wrapped(Two()), DICT, KEYWORDS),
    "dict, wrapped whole": (lambda: Wrapped(Whole()), DICT, None),
    "dict, in a sequence": (lambda: nn.Sequential(Whole(), nn.ReLU()), DICT, None),
    "dict, compiled": (lambda: torch.compile(Two(), backend="eager"), DICT, KEYWORDS),
    "user dict": (Two, UserDict(DICT), KEYWORDS),
    "pair, two arguments": (Two, PAIR, POSITIONS),
    "pair, optional ones": (Optional, PAIR, POSITIONS),
    "pair, whole": (WholePair, PAIR, None),
    "pair, whole or more": (WholeOrMore, PAIR, None),
    "pair, any number": (AnyNumber, PAIR, POSITIONS),
    "pair, wrapped": (lambda: Wrapped(Two()), PAIR, POSITIONS),
    "pair, wrapped whole": (lambda: Wrapped(WholePair()), PAIR, None),
    "list": (Two, [LEFT, RIGHT], POSITIONS),
    "named tuple, by name": (Two, Named(RIGHT, LEFT), KEYWORDS),
    "named tuple, other names": (Two, Other(LEFT, RIGHT), POSITIONS),
    "named tuple, whole": (WholePair, Other(LEFT, RIGHT), None),
    "one entry": (lambda: nn.Linear(4, 2), {"left": LEFT}, Spread("value")),
    "traced": (lambda: torch.jit.trace(Two(), PAIR), DICT, KEYWORDS),
    "one in a tuple": (lambda: nn.Linear(4, 2), (LEFT,), POSITIONS),
    "one in a list": (lambda: nn.Sequential(nn.Linear(4, 2)), [LEFT], POSITIONS),
    "one tensor": (lambda: nn.Linear(4, 2), LEFT, None),
}


@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_inputs_reach_the_arguments_of_forward(name):
    build, inputs, expected = CASES[name]
    torch.manual_seed(0)
    module = build()
    assert connect(module, inputs) == expected == installed(module)
    torch.manual_seed(0)
    wanted = nn.Linear(4, 2)(LEFT) if name.startswith("one ") else Both().both(*PAIR)
    torch.testing.assert_close(module(inputs), wanted.relu() if "sequence" in name else wanted)


def test_other_calls_are_left_alone():
    module = Two()
    connect(module, DICT)
    torch.testing.assert_close(module(LEFT, RIGHT), module(DICT))
    torch.testing.assert_close(module(**DICT), module(DICT))


class Counts(Both):
    """Changes a buffer, draws and drops."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, left, right=None):
        self.calls += 1
        return self.both(left, right) + torch.rand(())


def test_trying_leaves_module_and_generators_as_they_were():
    module, before = Counts().train(), torch.random.get_rng_state()
    assert spread_of(module, PAIR) == POSITIONS
    assert module.training
    assert module.calls == 0
    assert torch.equal(before, torch.random.get_rng_state())


class NamesAndMore(Both):
    def forward(self, left, right=None, **more):
        return self.both(left, LEFT[: len(left), :3] if right is None else right)


class NamedLast(Both):
    def forward(self, left, *, right):
        return self.both(left, right)


REFUSED = {
    "a misspelt one beside **kwargs": (NamesAndMore, {"left": LEFT, "rigth": RIGHT}, ['Did you mean "right"?']),
    "one too many": (lambda: nn.Linear(4, 2), PAIR, ["a tuple of 2, but Linear.forward(input) takes 1 argument"]),
    "a path beside": (WholePair, (LEFT, ["a"] * 48), ["a tuple of 2, but WholePair.forward(pair) takes 1 argument"]),
    "another name": (Two, {"left": LEFT, "wright": RIGHT}, ['no argument "wright"', 'Did you mean "right"?']),
    "an extra one": (Optional, DICT | {"id": CLASSES}, ['Optional.forward(left, right, scale) takes no argument "id"']),
    "a missing one": (Two, {"left": LEFT}, ["with left, but Two.forward(left, right) also needs right"]),
    "by name only": (NamedLast, PAIR, ["a tuple of 2, but NamedLast.forward(left, right) takes right by name only"]),
    "too many": (Two, (LEFT, RIGHT, LEFT), ["a tuple of 3, but Two.forward(left, right) takes 2 arguments"]),
    "no names": (lambda: nn.Linear(4, 2), DICT, ['Linear.forward(input) takes no argument "left, right"']),
    "scripted": (lambda: torch.jit.script(Two()), PAIR, ["a scripted module", "in the forward of a plain nn.Module"]),
}


@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_do_not_fit_are_refused_by_name(name):
    build, inputs, words = REFUSED[name]
    with pytest.raises(TypeError) as caught:
        connect(build(), inputs)
    assert [word for word in words if word not in str(caught.value)] == []


# In a study.


def trainer(inputs, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return tn.Trainer((inputs, CLASSES), (inputs, CLASSES), **settings)


def study(inputs, build, **settings):
    return tn.Study(
        model=tn.Model(build),
        trainer=trainer(inputs, **settings),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        progress=False,
    )


@pytest.mark.parametrize(("inputs", "build"), [(DICT, Two), (PAIR, Two), (PAIR, Optional), (Named(RIGHT, LEFT), Two)])
def test_training_equals_that_of_a_module_that_takes_the_whole(inputs, build):
    job = tn.types.Job(tn.Model(build), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu"))
    plain = tn.types.Job(tn.Model(WholePair), job.config, job.runtime)
    (state, reports), (wanted, plainly) = run(trainer(inputs), job), run(trainer(PAIR), plain)
    assert bool(state.values.pop(KEY)["spread"]) is True
    del wanted.values[KEY]
    assert (flat(state.values), facts(reports)) == (flat(wanted.values), facts(plainly))


@pytest.mark.parametrize("inputs", [DICT, PAIR], ids=["dict", "pair"])
def test_lanes_fuse_several_inputs(inputs):
    nets = [Two() for _ in range(3)]
    for net in nets:
        connect(net, inputs)
    alone = [copy.deepcopy(net) for net in nets]
    lanes = Lanes(
        nets, lambda net, batch: net(batch).square().mean(), [torch.optim.SGD(n.parameters(), 0.1) for n in nets]
    )
    for module, loss in zip(alone, lanes.step(mapped(lambda rows: rows.expand(3, *rows.shape), inputs)), strict=True):
        assert module(inputs).square().mean().item() == pytest.approx(loss, rel=1e-5)
    lanes.unload(1)
    torch.testing.assert_close(lanes.outputs(inputs)[1], nets[1](inputs))


@pytest.mark.parametrize("scheme", ["default", "lecun"])
def test_initialization_sees_the_layers_behind_several_inputs(scheme):
    model = tn.Model(Two, init=scheme, data_driven=True)
    job = tn.types.Job(model, {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu"))
    record = trainer(DICT).configured(job.config).session(job).begin()
    assert not record.failed
    assert set(record.layers) == {"a", "b"}


def test_trained_model_takes_what_the_user_has(tmp_path):
    one = study(DICT, Two)
    one.run(trials=1)
    model = one.best.model()
    one.best.save(tmp_path / "best.pt")
    loaded = tn.load(tmp_path / "best.pt", Two)
    for module in (model, loaded):
        assert torch.equal(module(DICT), model(LEFT, RIGHT))
        assert torch.equal(module(**DICT), model(LEFT, RIGHT))
    assert list(model.state_dict()) == list(Two().state_dict())
    assert one.test((DICT, CLASSES))["loss"].value == pytest.approx(one.best.metrics["loss"])


def test_targets_are_rescaled_behind_several_inputs():
    prices = 1000 + 300 * LEFT[:, :2]
    one = tn.Study(
        model=tn.Model(Two),
        trainer=tn.Trainer((DICT, prices), (DICT, prices), loss=nn.MSELoss(), optimizer=torch.optim.SGD, epochs=1),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.1, 0.2)}),
        progress=False,
    )
    one.run(trials=1)
    model = one.best.model()
    assert torch.equal(model(DICT), model(**DICT))
    assert model(DICT).mean() > 500


def test_spread_is_said_once(capsys):
    tn.Study(
        model=tn.Model(Two),
        trainer=trainer(DICT),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}, trainer={"clip": tn.Choice([None, 1.0])}),
    )
    line = "inputs: left, right are spread over the keyword arguments of Two.forward"
    assert capsys.readouterr().err.count(line) == 1


def test_entries_that_forward_may_ignore_are_said():
    inputs = {"left": LEFT, "number": CLASSES}
    spread = spread_of(NamesAndMore(), inputs)
    assert spread.describe(NamesAndMore(), inputs).endswith("may ignore number: it takes them by **kwargs only")


def test_misfit_is_refused_before_trial_0():
    with pytest.raises(TypeError, match=r'configuration .*: inputs are a dict .* takes no argument "up"'):
        study({"left": LEFT, "up": RIGHT}, Two)
