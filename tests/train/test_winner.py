"""Winners: what a fork takes over from a trained module, and what its file brings back."""

import copy
import pickle
import threading
import warnings
from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.measured_networks import quantized
from tests.helpers.narrowing import Keep, fork, same, winners
from tests.helpers.scaled import scaled
from tests.helpers.small_studies import make, net
from tuneflow.compress.winner import winner_of

generator = torch.Generator().manual_seed(0)
INPUTS = torch.randn(64, 5, generator=generator) * 3 + 1
TARGETS = torch.tanh(INPUTS[:, :2]).sum(1, keepdim=True) * 1000 + 5000
PAIR = (INPUTS[:, :2], INPUTS[:, 2:])


class Two(nn.Module):
    """Two inputs, a buffer that is not saved by state_dict, and one that training changes."""

    def __init__(self):
        super().__init__()
        self.hidden, self.norm, self.last = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.register_buffer("unsaved", torch.ones(1), persistent=False)

    def forward(self, left, right):
        return self.last(torch.relu(self.norm(self.hidden(torch.cat([left, right], 1)))) * self.unsaved)


def mlp(width=8):
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 1))


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))


def compiled():
    return torch.compile(mlp(), backend="eager")


KEEP = partial(Keep, first="0", second="2")
CASES = {
    "regression with scaled targets": (mlp, INPUTS, KEEP),
    "lazy layers": (lazy, INPUTS, KEEP),
    "spread inputs and buffers": (Two, PAIR, None),
}


def regression(builder, inputs, model, epochs=2):
    data = tn.Data(inputs, TARGETS)
    ours = tn.Trainer(data, data, loss=nn.MSELoss(), optimizer=torch.optim.SGD, epochs=epochs, batch_size=16)
    space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-4, 1e-3)})
    study = tn.Study(model=model, trainer=ours, space=space, progress=False)
    study.run(trials=1)
    return study


@pytest.mark.parametrize("name", CASES)
def test_a_fork_starts_from_the_winner_and_its_file_gives_the_same_outputs(name, tmp_path):
    builder, inputs, step = CASES[name]
    best = regression(builder, inputs, tn.Model(builder)).best
    model = tn.Model(best, steps={} if step is None else {"keep": step})
    ours = regression(builder, inputs, model)
    module = ours.best.model()
    ours.best.save(tmp_path / "fork.pt")
    again = tn.load(tmp_path / "fork.pt", builder)
    with torch.no_grad():
        assert torch.equal(again(inputs), module(inputs))
        assert not torch.equal(module(inputs), best.model()(inputs))
    for part in ("normalizer", "scale"):
        before, after = getattr(best.winner(), part), getattr(winner_of(again), part)
        assert (before is None) == (after is None) == (name == "spread inputs and buffers" and part == "normalizer")
        assert before is None or same(before, after)


def test_without_steps_a_fork_gives_the_winners_outputs_at_its_start():
    best = regression(Two, PAIR, tn.Model(Two)).best
    study = regression(Two, PAIR, tn.Model(best))
    job = tn.types.Job(study.model, {"optimizer": {"lr": 0.001}}, tn.Runtime())
    with torch.no_grad():
        start, again = study.trainer.module(job, study.trainer.init(job)), best.model()
        assert torch.equal(start(PAIR), again(PAIR))
        assert torch.equal(start(*PAIR), again(*PAIR))


def test_a_fork_of_a_loaded_fork_has_all_operations_behind_it(tmp_path):
    first = fork(winners().best)
    first.run(trials=1)
    first.best.save(tmp_path / "first.pt")
    second = fork(tn.load(tmp_path / "first.pt", net))
    second.run(trials=1)
    second.best.save(tmp_path / "second.pt")
    again, module = tn.load(tmp_path / "second.pt", net), second.best.model()
    assert same(again, module)
    assert len(winner_of(again).record.operations) == 6
    assert again.module[1].out_features < first.best.model().module[1].out_features


def test_a_module_of_ones_own_takes_raw_inputs(tmp_path):
    plain = scaled(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    model = tn.Model(plain)
    nn.init.zeros_(plain[1].weight)
    assert model.winner.module[1].weight.any()
    study = make({"optimizer": {"lr": tn.Float(0.01, 0.1)}}, model=model)
    study.run(trials=1)
    assert isinstance(study.best.model(), nn.Sequential)
    study.best.save(tmp_path / "m.pt")
    assert same(tn.load(tmp_path / "m.pt", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), study.best.model())


def test_what_is_loaded_copied_or_pickled_is_the_same_winner(tmp_path):
    best = winners().best
    best.save(tmp_path / "best.pt")
    module = best.model()
    sources = [module, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), tn.load(tmp_path / "best.pt", net)]
    models = [tn.Model(best), *map(tn.Model, sources)]
    assert len(set(map(repr, models))) == 1
    assert {model.winner.record.config["model"]["width"] for model in models} == {best.config["model"]["width"]}


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp32"])
def test_a_converted_fork_is_loaded_to_the_bit_and_forked_in_float(precision, tmp_path):
    arithmetic = partial(tn.compress.Arithmetic, precision=precision, channels_last=True)
    steps = {"keep": KEEP, "arithmetic": arithmetic}
    ours = regression(mlp, INPUTS, tn.Model(regression(mlp, INPUTS, tn.Model(mlp)).best, steps=steps))
    module = ours.best.model()
    ours.best.save(tmp_path / "fork.pt")
    again = tn.load(tmp_path / "fork.pt", mlp)
    with torch.no_grad():
        assert torch.equal(again(INPUTS), module(INPUTS))
    winners = [tn.Model(source).winner for source in (ours.best, module, copy.deepcopy(module), again)]
    assert len({winner.digest for winner in winners}) == 1
    assert {p.dtype for p in winners[0].module.parameters()} == {torch.float32}
    second = regression(mlp, INPUTS, tn.Model(again))
    second.best.save(tmp_path / "second.pt")
    assert same(tn.load(tmp_path / "second.pt", mlp), second.best.model())


def test_labels_of_the_winners_builder_need_its_space_again(tmp_path):
    space = {"model": {"act": tn.Choice({"relu": nn.ReLU})}, "optimizer": {"lr": tn.Float(1e-3, 0.1)}}
    study = make(space)
    study.run(trials=1)
    ours = fork(study.best)
    ours.run(trials=1)
    ours.best.save(tmp_path / "fork.pt")
    with pytest.raises(ValueError, match=r"model\.act stands for an object"):
        tn.load(tmp_path / "fork.pt", net)
    assert same(tn.load(tmp_path / "fork.pt", net, study.space), ours.best.model())


def test_a_file_of_a_fork_is_refused_by_another_builder(tmp_path):
    ours = fork(winners().best)
    ours.run(trials=1)
    ours.best.save(tmp_path / "fork.pt")
    with pytest.raises(ValueError, match=r"steps behind it do not fit the module that the builder makes.*no layer"):
        tn.load(tmp_path / "fork.pt", lambda width: nn.Sequential(nn.Linear(64, width)))


def test_an_int8_file_with_another_builder_is_refused_with_its_path(tmp_path):
    arithmetic = partial(tn.compress.Arithmetic, precision="int8")
    first = regression(mlp, INPUTS, tn.Model(mlp), epochs=1).best
    regression(mlp, INPUTS, tn.Model(first, steps={"arithmetic": arithmetic}), epochs=1).best.save(tmp_path / "fork.pt")
    with pytest.raises(ValueError, match=r"fork\.pt: what the builder makes is not converted as the saved module was"):
        tn.load(tmp_path / "fork.pt", lambda: nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 1)))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: nn.LazyLinear(2), '"weight" has no values yet'),
        (lambda: Locked(), "every trial starts from a copy of the trained Locked, which cannot be copied"),
        (lambda: traced(nn.Linear(2, 2)), "scripted modules cannot be trained; pass the module in Python and in float"),
        (lambda: nn.Sequential(exported(nn.Linear(2, 2))), "exported modules cannot be trained"),
        (lambda: quantized(nn.Sequential(nn.Linear(2, 2)), torch.ones(2, 2)), "quantized modules cannot be trained"),
    ],
)
def test_what_cannot_be_copied_or_trained_is_no_winner(module, said):
    with pytest.raises(TypeError, match=said):
        tn.Model(module())


def traced(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of its own deprecation
        return torch.jit.trace(module, torch.ones(2, 2))


def exported(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, (torch.ones(2, 2),)).module()


def test_a_trial_in_place_of_its_result_is_answered_with_the_way_out():
    study = winners()
    for source in (study.trials[0], study, None):
        with pytest.raises(TypeError, match=r"study\.best, study\.result\(3\) or study\.front\[0\], got .{,20}\.$"):
            tn.Model(source)


def test_a_part_without_weights_may_be_scripted():
    net = nn.Sequential(traced(nn.ReLU()), nn.Linear(2, 2))
    assert same(tn.Model(net).build({}), net)


def test_a_module_in_place_of_its_builder_is_warned_of():
    space = {"optimizer": {"lr": 0.01}}
    with pytest.warns(UserWarning, match=r"weights as torch draws them, not trained.*tn\.Model\(net\) and not"):
        make(space, model=tn.Model(net()))
    best = winners().best
    make(space, model=tn.Model(best.model()))  # trained by us, however little
    make(space, model=tn.Model(scaled(net())))


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
