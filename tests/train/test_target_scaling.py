"""Standardized targets: units change nothing that is learned; everything that is reported is in the targets' units."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.trainer_runs import run
from tuneflow.data.orders import Shuffled
from tuneflow.errors import CheckpointError
from tuneflow.heuristics.input_scaling import Moments, NormalizedModule
from tuneflow.heuristics.target_scaling import RescaledModule, reaches_any_number, scale_of
from tuneflow.study.saved_model import FORMAT, digest_of

METRICS = {"mae": tn.metrics.mae, "rmse": tn.metrics.rmse, "r2": tn.metrics.r2}
THREADS = tn.Runtime("cpu", threads=1)
CONFIG = {"optimizer": {"lr": 0.03, "momentum": 0.9}}


def made(columns=1, rows=240):
    """(inputs, targets) of a smooth function with some noise; targets have mean 0 and deviation 1, column by column."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 5, generator=generator) * 3 + 1
    first, second = torch.randn(5, 6, generator=generator) / 4, torch.randn(6, columns, generator=generator)
    targets = torch.tanh(inputs @ first) @ second + 0.1 * torch.randn(rows, columns, generator=generator)
    return inputs, (targets - targets.mean(0)) / targets.std(0, correction=0)


INPUTS, BASE = made()
TRAIN, VALID = slice(0, 160), slice(160, 240)
STANDARD = (BASE - BASE[TRAIN].mean(0)) / BASE[TRAIN].std(0, correction=0)


def mlp(out=1, last=nn.Identity):
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, out), last())


def trainer(targets, loss, kind=tn.Trainer, **settings):
    settings = {"optimizer": torch.optim.SGD, "epochs": 3, "batch_size": 32, "metrics": METRICS} | settings
    data = [tn.Data(INPUTS[part], targets[part]) for part in (TRAIN, VALID)]
    return kind(*data, loss=loss, **settings)


def job(builder=mlp, config=CONFIG, **settings):
    return tn.types.Job(tn.Model(builder, **settings), config, THREADS)


def scale_in(ours, this):
    return ours.configured(this.config).session(this).scale


def in_units(report, power, unit):
    """The metrics as they are where `unit` is 1."""
    powers = {"loss": power, "train_loss": power, "mae": 1, "rmse": 1, "r2": 0}
    return {name: value / unit ** powers[name] for name, value in report.metrics.items()}


def assert_same_training(one, other, power, unit):
    (state, reports), (scaled_state, scaled) = one, other
    for plain, report in zip(reports, scaled, strict=True):
        assert in_units(report, power, unit) == pytest.approx(plain.metrics, rel=1e-5, abs=1e-5)
    for name, tensor in state.values["module"].items():
        torch.testing.assert_close(scaled_state.values["module"][name], tensor, rtol=1e-5, atol=1e-5)


# The law: units do not matter.

LOSSES = {
    "mse": (lambda unit: nn.MSELoss(), 2),
    "l1": (lambda unit: nn.L1Loss(), 1),
    "huber": (lambda unit: nn.HuberLoss(delta=0.5 * unit), 2),
    "smooth l1": (lambda unit: nn.SmoothL1Loss(beta=0.5 * unit), 1),
    "sum": (lambda unit: nn.MSELoss(reduction="sum"), 2),
    "mse function": (lambda unit: functional.mse_loss, 2),
    "l1 function": (lambda unit: functional.l1_loss, 1),
    "huber function": (lambda unit: partial(functional.huber_loss, delta=0.5 * unit), 2),
    "smooth l1 function": (lambda unit: partial(functional.smooth_l1_loss, beta=0.5 * unit), 1),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("unit", "shift"), [(1000.0, 5000.0), (1e-3, -0.02), (1.0, 30.0)])
def test_targets_in_other_units_are_learnt_as_standardized_ones_are(name, unit, shift):
    """The standardized ones are left alone, so this is also the plain loop's training."""
    loss, power = LOSSES[name]
    rate = {"optimizer": {"lr": 1e-3 if name == "sum" else 0.03}}
    plain, scaled = trainer(STANDARD, loss(1.0)), trainer(STANDARD * unit + shift, loss(unit))
    assert scale_in(plain, job(config=rate)) is None
    assert scale_in(scaled, job(config=rate)) is not None
    assert_same_training(run(plain, job(config=rate)), run(scaled, job(config=rate)), power, unit)


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch": 8},
        {"clip": 0.1},
        {"augment": lambda inputs: inputs + 0.01 * torch.rand_like(inputs)},
        {"optimizer": partial(torch.optim.Adam, eps=1e-6)},
        {"schedule": tn.rates.Plateau()},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_units_do_not_matter_whatever_the_training_does(settings):
    this = job(config={"optimizer": {"lr": 0.01}}, init="lecun")
    plain, scaled = (trainer(targets, nn.MSELoss(), **settings) for targets in (STANDARD, STANDARD * 1000 + 5000))
    assert_same_training(run(plain, this), run(scaled, this), 2, 1000)


def test_a_threshold_from_the_space_is_in_the_targets_units():
    one = job(config={**CONFIG, "loss": {"delta": 0.5}})
    other = job(config={**CONFIG, "loss": {"delta": 50.0}})
    plain, scaled = trainer(STANDARD, nn.HuberLoss), trainer(STANDARD * 100 + 7, nn.HuberLoss)
    assert_same_training(run(plain, one), run(scaled, other), 2, 100)


def test_columns_in_one_other_unit_change_nothing():
    _, base = made(3)
    targets = base * torch.tensor([1.0, 30.0, 400.0]) + torch.tensor([0.0, -90.0, 1000.0])
    plain, scaled = trainer(targets, nn.MSELoss()), trainer(targets * 1000 + 5000, nn.MSELoss())
    this = job(partial(mlp, 3))
    assert_same_training(run(plain, this)[:2], run(scaled, this), 2, 1000)


def test_standardized_targets_are_the_plain_loop_to_the_bit():
    ours, this = trainer(STANDARD, nn.MSELoss()), job(lambda: nn.Linear(5, 1), normalize=True)
    start = ours.init(this)
    state, (report,) = run(ours, this, 1, start)
    module = nn.Linear(5, 1)
    module.load_state_dict(start.values["module"])
    inputs = ours.configured(this.config).session(this).normalizer(INPUTS)
    optimizer = torch.optim.SGD(module.parameters(), **CONFIG["optimizer"])
    for rows in this.order(1, Shuffled(160)).split(32):
        optimizer.zero_grad()
        functional.mse_loss(module(inputs[TRAIN][rows]), STANDARD[TRAIN][rows]).backward()
        optimizer.step()
    assert torch.equal(state.values["module"]["weight"], module.weight)
    with torch.no_grad():
        loss = functional.mse_loss(module(inputs[VALID]), STANDARD[VALID]).item()
        assert report.metrics["loss"] == pytest.approx(loss, rel=1e-6)


# What is minimized, and what is reported.


def test_what_is_minimized_is_the_given_loss_over_one_number():
    _, base = made(3)
    targets = base * torch.tensor([1.0, 30.0, 400.0]) + torch.tensor([0.0, -90.0, 1000.0])
    this = job(partial(mlp, 3))
    live = trainer(targets, nn.MSELoss()).configured(CONFIG).session(this)
    live.module.eval()
    for inputs, wanted in live.batches(1):
        given = functional.mse_loss(live.whole(inputs), wanted)
        torch.testing.assert_close(live.loss_of(live.whole, (inputs, wanted)) * live.unit, given)
    assert live.unit == pytest.approx(targets[TRAIN].var(0, correction=0).mean().item(), rel=1e-5)


def test_metrics_are_in_the_targets_units_and_every_column_is_learned():
    _, base = made(2)
    targets = base * torch.tensor([100.0, 1000.0]) + torch.tensor([-7.0, 30_000.0])
    config = {"optimizer": {"lr": 0.01}}
    ours = trainer(targets, nn.MSELoss(), epochs=40, optimizer=torch.optim.Adam)
    state, reports = run(ours, job(partial(mlp, 2), config), 40)
    with torch.no_grad():
        outputs = ours.module(job(partial(mlp, 2), config), state)(INPUTS[VALID])
    wanted, metrics = targets[VALID], reports[-1].metrics
    assert metrics["loss"] == pytest.approx((outputs - wanted).square().mean().item(), rel=1e-4)
    assert metrics["rmse"] == pytest.approx((outputs - wanted).square().mean().sqrt().item(), rel=1e-4)
    assert metrics["mae"] == pytest.approx((outputs - wanted).abs().mean().item(), rel=1e-4)
    assert metrics["r2"] > 0.8
    assert 0.3 < reports[-1].metrics["train_loss"] / metrics["loss"] < 3


def test_nothing_of_the_validation_part_is_used():
    one, other = STANDARD * 1000 + 5000, STANDARD * 1000 + 5000
    other = torch.cat([other[TRAIN], other[VALID] * 1e6])
    states = [run(trainer(targets, nn.MSELoss()), job())[0].values["module"] for targets in (one, other)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


# The model that is handed over.


def study(targets=STANDARD * 1000 + 5000, builder=mlp, **settings):
    return tn.Study(
        model=tn.Model(builder),
        trainer=trainer(targets, nn.MSELoss()),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-4, 1.0, log=True)}),
        runtime=THREADS,
        progress=False,
        **settings,
    )


def test_the_model_that_is_handed_over_and_loaded_predicts_in_the_targets_units(tmp_path):
    ours = study()
    ours.run(trials=2)
    ours.best.save(tmp_path / "best.pt")
    with torch.no_grad():
        for module in (ours.best.model(), tn.load(tmp_path / "best.pt", mlp)):
            loss = functional.mse_loss(module(INPUTS[VALID]), STANDARD[VALID] * 1000 + 5000).item()
            assert loss == pytest.approx(ours.best.metrics["loss"], rel=1e-5)
            assert isinstance(module, RescaledModule)
            assert isinstance(module.module, NormalizedModule)
            assert module.module.module.state_dict().keys() == mlp().state_dict().keys()
            assert not module.training
    weights = torch.load(tmp_path / "best.pt", weights_only=True)["weights"]
    assert weights.keys() == mlp().state_dict().keys()
    tested = ours.best.test(tn.Data(INPUTS[VALID], STANDARD[VALID] * 1000 + 5000))
    assert tested["rmse"].value == pytest.approx(ours.best.metrics["rmse"], rel=1e-5)


def test_inputs_may_be_left_alone_and_targets_not(tmp_path):
    ours = study(builder=lambda: nn.Sequential(nn.BatchNorm1d(5), mlp()))
    ours.run(trials=1)
    ours.best.save(tmp_path / "best.pt")
    one, other = ours.best.model(), tn.load(tmp_path / "best.pt", lambda: nn.Sequential(nn.BatchNorm1d(5), mlp()))
    assert not isinstance(other.module, NormalizedModule)
    with torch.no_grad():
        assert torch.equal(one(INPUTS), other(INPUTS))


def test_a_file_of_another_version_is_refused_by_both_and_a_damaged_scale_is_noticed(tmp_path):
    ours = study(STANDARD)
    ours.run(trials=1)
    ours.best.save(tmp_path / "old.pt")
    content = torch.load(tmp_path / "old.pt", weights_only=True)
    assert content["scale"] is None
    for version, message in ((FORMAT - 1, "an older .* again"), (FORMAT + 1, "a newer .* upgrade")):
        other = content | {"format": version}
        torch.save(other | {"sha256": digest_of(other)}, tmp_path / "old.pt")
        facts = rf"{tn.__version__} \(file version {version}, this one reads {FORMAT}\)"
        with pytest.raises(CheckpointError, match=message.replace(".*", f".*{facts}.*")):
            tn.load(tmp_path / "old.pt", mlp)
    content["scale"] = {"mean": torch.ones(1), "std": torch.ones(1)}
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        tn.load(tmp_path / "old.pt", mlp)


def test_training_in_pieces_equals_training_at_once():
    targets = STANDARD * 1000 + 5000
    whole, reports = run(trainer(targets, nn.MSELoss()), job())
    state, pieces = None, []
    for until in (1, 3):
        state, more = run(trainer(targets.clone(), nn.MSELoss()), job(), until, state)  # as in another process
        pieces += more
    assert [r.metrics for r in pieces] == [r.metrics for r in reports]
    assert all(torch.equal(t, state.values["module"][name]) for name, t in whole.values["module"].items())


def test_a_fork_goes_on_with_another_rate_from_what_was_learned():
    ours = trainer(STANDARD * 1000 + 5000, nn.MSELoss())
    state, before = run(ours, job(), 2)
    still = job(config={"optimizer": {"lr": 0.0, "momentum": 0.0}})
    _, (report,) = run(ours, still, 3, state)
    assert report.metrics["loss"] == pytest.approx(before[-1].metrics["loss"], rel=1e-6)


def test_a_dataset_that_fetches_rows_gives_the_same(monkeypatch):
    targets = STANDARD * 1000 + 5000
    settings = {"loss": nn.MSELoss(), "optimizer": torch.optim.SGD, "epochs": 3, "metrics": METRICS}
    parts = [torch.utils.data.Subset(TensorDataset(INPUTS, targets), range(240)[part]) for part in (TRAIN, VALID)]
    fetched = run(tn.Trainer(*parts, **settings), job())
    assert [r.metrics for r in fetched[1]] == [r.metrics for r in run(trainer(targets, nn.MSELoss()), job())[1]]
    monkeypatch.setattr("tuneflow.train.preparation.RESIDENT", 0)
    streamed = run(trainer(targets, nn.MSELoss()), job())
    assert [r.metrics for r in fetched[1]] == [r.metrics for r in streamed[1]]


# What is left alone.


class OwnLoss(tn.Trainer):
    def loss_of(self, module, batch):
        return super().loss_of(module, batch)


class OwnEvaluation(tn.Trainer):
    def evaluate(self, module, data):
        assert module[0].in_features == 5
        return super().evaluate(module, data)


class Weighted(nn.MSELoss):
    def forward(self, outputs, targets):
        return ((outputs - targets).square() * targets.abs()).mean()


RAW = STANDARD * 1000 + 5000
YES = (STANDARD > 0).float()
ALONE = {
    "standardized": lambda: (trainer(STANDARD, nn.MSELoss()), job()),
    "nearly standardized": lambda: (trainer(STANDARD * 1.04 - 0.04, nn.MSELoss()), job()),
    "constant": lambda: (trainer(torch.full_like(STANDARD, 7.0), nn.MSELoss()), job()),
    "told so": lambda: (trainer(RAW, nn.MSELoss()), job(normalize=False)),
    "classes": lambda: (
        trainer(YES[:, 0].long(), nn.CrossEntropyLoss(), metrics={}),
        job(partial(mlp, 2)),
    ),
    "shares": lambda: (trainer(YES * 0.9, nn.BCEWithLogitsLoss()), job()),
    "own loss": lambda: (trainer(RAW, nn.MSELoss(), OwnLoss), job()),
    "own evaluation": lambda: (trainer(RAW, nn.MSELoss(), OwnEvaluation), job()),
    "own loss function": lambda: (trainer(RAW, lambda o, t: (o - t).abs().mean()), job()),
    "own loss class": lambda: (trainer(RAW, Weighted()), job()),
    "poisson": lambda: (trainer(RAW.abs(), nn.PoissonNLLLoss()), job(partial(mlp, 1, nn.Softplus))),
    "outputs in a range": lambda: (trainer(STANDARD.sigmoid(), nn.MSELoss()), job(partial(mlp, 1, nn.Sigmoid))),
    "outputs above 0": lambda: (trainer(RAW.abs(), nn.MSELoss()), job(partial(mlp, 1, nn.ReLU))),
    "beyond single precision": lambda: (trainer(STANDARD * 1e-21 + 1e-21, nn.MSELoss()), job()),
}


@pytest.mark.parametrize("name", ALONE)
def test_left_alone(name):
    ours, this = ALONE[name]()
    live = ours.configured(this.config).session(this)
    assert live.scale is None
    assert live.whole is live.module
    assert live.unit == 1.0
    assert not isinstance(ours.module(this, ours.init(this)), RescaledModule)


def test_nothing_is_scaled_when_told_so():
    """A rate that suits standardized targets does not suit raw ones: what normalize=False leaves is the plain loop."""
    config = {"optimizer": {"lr": 0.0}}
    _, (report,) = run(trainer(RAW, nn.MSELoss()), job(config=config, normalize=False), 1)
    _, (scaled,) = run(trainer(RAW, nn.MSELoss()), job(config=config), 1)
    assert report.metrics["loss"] > 25e6  # what an output of about 0 costs at targets of about 5000
    assert scaled.metrics["loss"] < 3e6


def test_constant_targets_are_safe():
    for constant in (torch.full_like(STANDARD, 7.0), torch.cat([STANDARD * 1e-3 + 5, torch.full_like(STANDARD, 7)], 1)):
        columns = constant.shape[1]
        _, reports = run(trainer(constant, nn.MSELoss()), job(partial(mlp, columns)))
        assert all(np.isfinite(value) for report in reports for value in report.metrics.values())
    assert reports[-1].metrics["mae"] < 1e-3


def test_constant_columns_do_not_change_what_the_others_weigh():
    moments = Moments()
    moments.add(torch.cat([RAW * 1e-6, torch.full_like(RAW, 0.1)], 1))
    scale = scale_of(moments)
    torch.testing.assert_close(scale.std[:, 0], scale.std[:, 1])
    assert scale.size == pytest.approx(1e-3, rel=0.05)
    assert scale.mean[0, 1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("shape", "columns"), [((), (1,)), ((1,), (1,)), ((3,), (1, 3)), ((4, 3), (1,)), ((3, 4, 4), (1, 3, 1, 1))], ids=str
)
def test_columns_of_every_shape(shape, columns):
    moments, targets = Moments(), torch.randn(50, *shape, generator=torch.Generator().manual_seed(0)) * 9 + 5
    for part in targets.split(7):
        moments.add(part)
    scale = scale_of(moments)
    assert scale.mean.shape == scale.std.shape == columns
    assert scale(targets).shape == targets.shape
    assert scale(targets).mean().abs() < 1e-5
    torch.testing.assert_close(RescaledModule(nn.Identity(), scale.mean, scale.std)(scale(targets)), targets)


@pytest.mark.parametrize("targets", [(torch.ones(3),), {"a": torch.ones(3)}, torch.arange(3), torch.full((3,), np.nan)])
def test_what_is_not_one_tensor_of_finite_numbers_has_no_scale(targets):
    moments = Moments()
    moments.add(targets)
    assert scale_of(moments) is None


def test_batches_whose_columns_differ_have_no_scale():
    moments = Moments()
    moments.add(torch.randn(4, 3))
    moments.add(torch.randn(4, 5))
    assert not moments.usable
    assert scale_of(moments) is None


# Where a module ends.


class Ends(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.one, self.two, self.end = nn.Linear(5, 1), nn.Linear(5, 1), end
        self.drop = nn.Dropout()

    def forward(self, inputs):
        return self.end(self, inputs)


class Hidden(nn.Module):
    def forward(self, inputs):
        return inputs.new_tensor(inputs.tolist()) @ inputs.new_ones(5, 1)


ENDS = {
    "linear": (lambda m, x: m.one(x), True),
    "one number": (lambda m, x: m.one(x)[:, 0], True),
    "squeezed": (lambda m, x: m.one(x).squeeze(-1), True),
    "dropout": (lambda m, x: m.drop(m.one(x)), True),
    "mean": (lambda m, x: m.one(x.unsqueeze(1).expand(-1, 3, -1)).mean(1), True),
    "sum of two": (lambda m, x: m.one(x) + m.two(x), True),
    "residual": (lambda m, x: x[:, :1] + m.one(x), True),
    "joined": (lambda m, x: torch.cat([m.one(x), m.two(x)], 1), True),
    "joined with a bound one": (lambda m, x: torch.cat([m.one(x), m.two(x).exp()], 1), False),
    "sigmoid": (lambda m, x: m.one(x).sigmoid(), False),
    "function": (lambda m, x: functional.softplus(m.one(x)), False),
    "clamped": (lambda m, x: m.one(x).clamp(0, 1), False),
    "units of its own": (lambda m, x: m.one(x) * 30 + 200, False),
    "a condition at 0": (lambda m, x: m.one(x) * x[:, :1], False),
    "gated": (lambda m, x: m.one(x).tanh() + m.two(x).sigmoid(), False),
    "two outputs": (lambda m, x: (m.one(x), m.two(x)), False),
    "fails": (lambda m, x: m.one(x[:, :2]), False),
    "inputs": (lambda m, x: x, False),
}


@pytest.mark.parametrize("name", ENDS)
def test_outputs_are_free_where_a_linear_map_ends_the_module(name):
    end, wanted = ENDS[name]
    module = Ends(end).train()
    before = copy.deepcopy(module.state_dict())
    with generators_untouched():
        assert reaches_any_number(module, INPUTS[:2]) is wanted
    assert module.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


OTHERS = {
    "convolution": (lambda: nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 1, 5), nn.Flatten()), True),
    "pooled": (lambda: nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 1, 3), nn.AdaptiveAvgPool1d(1)), True),
    "norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), False),
    "frozen": (lambda: nn.Linear(5, 1).requires_grad_(False), True),
    "recurrent": (lambda: nn.Sequential(nn.Unflatten(1, (1, 5)), nn.RNN(5, 3, batch_first=True)), False),
    "lazy": (lambda: nn.LazyLinear(1), False),
    "hidden": (Hidden, True),
    "traced": (lambda: torch.jit.trace(mlp().eval(), INPUTS[:2]), False),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_ends_of_other_modules(name):
    make, wanted = OTHERS[name]
    assert reaches_any_number(make(), INPUTS[:2]) is wanted


# Initialization, probe and race.


def test_an_initialization_from_data_starts_at_the_mean_once():
    live = trainer(RAW, nn.MSELoss()).configured(CONFIG).session(job(init="lecun"))
    record = live.begin()
    inputs, targets = next(iter(live.train.batches(160)))
    with torch.no_grad():
        outputs = live.whole.eval()(inputs)
    assert record.failed is None
    assert outputs.mean().item() == pytest.approx(targets.mean().item(), abs=0.02 * 1000)
    assert outputs.std().item() == pytest.approx(0.1 * 1000, rel=0.1)
    assert functional.mse_loss(outputs, targets).item() == pytest.approx(targets.var().item(), rel=0.2)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, partial(torch.optim.Adam, eps=1e-6)], ids=["sgd", "adam"])
@pytest.mark.parametrize("init", ["default", "lecun"])
def test_a_probe_finds_the_same_in_any_unit(optimizer, init):
    plain, scaled = (
        tn.probe(
            tn.Model(mlp, init=init),
            trainer(targets, nn.MSELoss(), optimizer=optimizer, epochs=10),
            THREADS,
        )
        for targets in (STANDARD, STANDARD * 1000 + 5000)
    )
    for name in ("rate", "estimate", "curvature", "noise"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-2), name
    for name in ("loss", "prior", "reached"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name) * 1e6, rel=1e-2), name
    assert scaled.health.loss == pytest.approx(plain.health.loss * 1e6, rel=1e-2)
    assert scaled.health.excess == pytest.approx(plain.health.excess * 1e6, rel=0.1, abs=1e4)


def test_a_searcher_that_measures_first_is_not_led_astray_by_units():
    rates = []
    for targets in (STANDARD, STANDARD * 1000 + 5000):
        ours = study(targets)
        ours.searcher = tn.LeCun()
        rates.append(ours.ask().config["optimizer"]["lr"])
    assert rates[1] == pytest.approx(rates[0], rel=1e-2)
