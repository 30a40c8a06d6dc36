"""States hold tensors whose shape comes later, and give them back: in training, in models and in files."""

import warnings

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.late_modules import INPUTS, LATE, PLAIN, TARGETS, lazy, two_layers
from tests.helpers.trainer_runs import facts, flat, run, through_file
from tuneflow.heuristics.lazy_layers import lazy_tensors
from tuneflow.model import tensors_of
from tuneflow.study.saved_model import save_model
from tuneflow.train.loop_state import differences

MODULES = LATE | PLAIN


def trainer(**settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 3, "batch_size": 16} | settings
    return tn.Trainer((INPUTS, TARGETS), (INPUTS, TARGETS), **settings)


def job(builder, **settings):
    config = {"optimizer": {"lr": 0.05, "momentum": 0.9}}
    return tn.types.Job(tn.Model(builder, **settings), config, tn.Runtime("cpu", threads=1))


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces that it moves
        yield


@pytest.mark.parametrize("name", MODULES)
def test_training_resumes_exactly(name):
    ours, its = trainer(), job(MODULES[name])
    whole, reports = run(ours, its, 3)
    first, early = run(ours, its, 1)
    rest, late = run(ours, its, 3, through_file(first))
    assert differences(rest.values, whole.values) == []
    assert facts(early + late) == facts(reports)


@pytest.mark.parametrize("name", MODULES)
def test_the_model_of_a_state_and_its_file_give_the_same_outputs(name, tmp_path):
    ours, its = trainer(), job(MODULES[name], normalize=False)
    state, _ = run(ours, its, 1)
    module = ours.module(its, state)
    assert differences(dict(tensors_of(module)), state.values["module"]) == []
    save_model(tmp_path / "m.pt", module, {})
    loaded = tn.load(tmp_path / "m.pt", MODULES[name])
    with torch.no_grad():
        assert torch.equal(loaded(INPUTS), module(INPUTS))


@pytest.mark.parametrize("name", [name for name in LATE if not name.startswith("lazy")])
def test_a_loop_that_names_the_module_resumes_exactly(name):
    @tn.loop(epochs=3)
    def fit(config, run):
        net = LATE[name]()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in run.epochs(net=net, optimizer=optimizer):
            net.train()
            loss = nn.functional.cross_entropy(net(INPUTS), TARGETS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield {"loss": loss}

    its = tn.types.Job(None, {}, tn.Runtime("cpu", threads=1))
    whole, reports = run(fit, its, 3)
    rest, late = run(fit, its, 3, through_file(run(fit, its, 1)[0]))
    assert flat(rest.values) == flat(whole.values)
    assert facts(late) == facts(reports[1:])


def test_a_loop_names_a_lazy_module_only_after_a_batch():
    @tn.loop(epochs=1)
    def fit(config, run):
        for _ in run.epochs(net=lazy()):
            yield {"loss": 0.0}

    with pytest.raises(TypeError, match=r'cannot restore "0.weight", a lazy tensor without a shape; run a batch'):
        fit.init(tn.types.Job(None, {}, tn.Runtime("cpu")))


@pytest.mark.parametrize("init", ["default", "lecun", "orthogonal"])
def test_lazy_layers_begin_as_layers_with_shapes_do(init):
    """The optimizer holds their weights, initialization reaches them, and a second session draws the same."""
    ours, its = trainer(), job(lazy, init=init)
    begun, again = ours.init(its), ours.init(its)
    assert not differences(begun.values, again.values)
    session = ours.configured(its.config).session(its)
    held = session.optimizer.param_groups[0]["params"]
    assert [id(p) for p in held] == [id(p) for p in session.module.parameters()]
    assert lazy_tensors(session.module) == []
    trained, _ = run(ours, its, 1)
    for name in ("0.weight", "1.weight", "3.weight"):
        assert not torch.equal(trained.values["module"][name], begun.values["module"][name])


def test_a_lazy_layer_takes_bytes_and_channels_last():
    images = torch.randint(256, (8, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    net = lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
    ours = tn.Trainer(
        (images, TARGETS[:8]), (images, TARGETS[:8]), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD
    )
    runtime = tn.Runtime("cpu", threads=1, channels_last=True)
    module = ours.session(tn.types.Job(tn.Model(net), {}, runtime)).module
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)


class Wider(nn.Module):
    """A module of the names of `two_layers`, with a buffer more in a layer of another class."""

    def __new__(cls):
        module = two_layers()
        module[1] = nn.Tanh()
        module[1].register_buffer("extra", torch.ones(2))
        return module


@pytest.mark.parametrize(
    ("saved", "built", "said"),
    [
        (two_layers, lambda: nn.Sequential(nn.Linear(6, 9)), '"0.bias" is (8,) in the file and (9,) in'),
        (Wider, two_layers, '"1.extra" is (2,) in the file and nothing in the module'),
        (two_layers, Wider, '"1.extra" is nothing in the file and (2,) in the module'),
    ],
)
def test_a_file_of_another_module_is_refused(saved, built, said, tmp_path):
    save_model(tmp_path / "m.pt", saved(), {})
    with pytest.raises(ValueError) as caught:
        tn.load(tmp_path / "m.pt", built)
    assert said in str(caught.value)
