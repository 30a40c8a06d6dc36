"""Precision and layout: trained as chosen, exact from any state, the same in workers, labeled, and never by itself."""

import copy
import struct

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.check.round_trip import through_a_file
from tuneflow.errors import Diverged
from tuneflow.execute.executor import Reported
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.execute.workers.messages import ProcessSettings
from tuneflow.history.trial import Slice
from tuneflow.runtime.threads import flushes
from tuneflow.study import speed_measurement as advising
from tuneflow.study.speed_measurement import precision_advice
from tuneflow.testing import check_trainer
from tuneflow.train.loop_state import different_paths as differences
from tuneflow.train.session import lay_out

BF16 = {"precision": "bf16"}
LAST = {"channels_last": True}
CHOSEN = {
    "bf16": BF16,
    "fp16": {"precision": "fp16"},
    "channels_last": LAST,
    "bf16 with channels_last": BF16 | LAST,
    "fp16 with channels_last": {"precision": "fp16"} | LAST,
}
DENORMAL = struct.unpack("<d", b"\1" + bytes(7))[0]


def runtime(**given):
    return tn.Runtime("cpu", threads=1, **given)


def net(channels=3, width=4, dropout=0.2):
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width * 9, 3),
    )


def dense(width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(108, width), nn.Tanh(), nn.Linear(width, 3))


def data(rows, seed, channels=3):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(rows, channels, 6, 6, generator=generator)
    return tn.Data(inputs, torch.randint(3, (rows,), generator=generator))


def trainer(channels=3, kind=tn.Trainer, **settings):
    settings = {
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD,
        "epochs": 4,
        "batch_size": 16,
        "metrics": {"accuracy": tn.metrics.accuracy},
    } | settings
    return kind(data(40, 0, channels), data(24, 1, channels), **settings)


def job(builder=net, seed=3, optimizer=None, **given):
    return tn.types.Job(
        tn.Model(builder), {"optimizer": optimizer or {"lr": 0.05, "momentum": 0.9}}, runtime(**given), seed
    )


def study(given=None, **settings):
    return tn.Study(
        **{
            "space": tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.1, log=True)}),
            "model": tn.Model(net),
            "trainer": trainer(epochs=2),
            "runtime": runtime(**(given or {})),
            "seed": 1,
            "progress": False,
        }
        | settings
    )


def values(state):
    return dict(state.values)


# A state is a value in every precision.


@pytest.mark.parametrize("given", CHOSEN.values(), ids=CHOSEN)
def test_training_in_pieces_is_training_at_once(given):
    check_trainer(trainer(clip=1.0), job(**given))


@pytest.mark.parametrize("given", CHOSEN.values(), ids=CHOSEN)
def test_micro_batches_schedules_and_adam_resume_exactly_too(given):
    made = trainer(micro_batch=5, optimizer=torch.optim.Adam, schedule=tn.rates.OneCycle())
    check_trainer(made, job(optimizer={"lr": 0.01}, **given))


@pytest.mark.parametrize("given", CHOSEN.values(), ids=CHOSEN)
def test_a_fork_in_pieces_is_the_fork_at_once(given):
    parent, child = job(**given), job(optimizer={"lr": 0.01, "momentum": 0.5}, **given)
    made = trainer()
    (state, _), *_ = made.advance(parent, made.init(parent), 1)
    whole = list(made.advance(child, state, 4))
    for reached, report in whole:
        ((state, again),) = made.advance(child, through_a_file(state), reached.epoch)
        assert again.metrics == report.metrics
        assert not list(differences(values(state), values(reached)))


@pytest.mark.parametrize("given", CHOSEN.values(), ids=CHOSEN)
def test_an_interrupted_study_ends_as_one_that_was_not(given, tmp_path):
    straight = study(given)
    straight.run(trials=3)
    with study(given, folder=tmp_path / "s") as first:
        first.run(trials=3, epochs=3)
    with study(given, folder=tmp_path / "s") as second:
        second.run(trials=3)
        assert [t.metrics for t in second.trials] == [t.metrics for t in straight.trials]
        ours, theirs = second.best.model().state_dict(), straight.best.model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_workers_train_what_inline_trains_to_the_last_bit():
    made, model = trainer(), tn.Model(net)
    for given in (BF16 | LAST, {"precision": "fp16"}):
        tables = []
        here = runtime(**given)
        pool = ProcessExecutor(here, 1)
        for executor in (InlineExecutor(here), pool):
            executor.submit(Slice(0, 0, 3), made, tn.types.Job(model, {"optimizer": {"lr": 0.05}}, here, 7), None)
            tables.append([e for _ in range(20) if executor.busy for e in executor.wait() if isinstance(e, Reported)])
        pool.close()
        one, other = tables
        assert [e.report.metrics for e in one] == [e.report.metrics for e in other]
        assert len(one) == 3
        for mine, its in zip(one, other, strict=True):
            assert not list(differences(values(mine.state), values(its.state)))


def test_layout_is_taken_up_by_an_optimizer_state_that_lost_it():
    convolution = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(convolution.parameters())
    convolution(torch.rand(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    weight = convolution.weight
    before = optimizer.state[weight]["exp_avg"].clone()
    optimizer.state[weight]["exp_avg"] = before.contiguous()
    lay_out(optimizer)
    after = optimizer.state[weight]["exp_avg"]
    assert after.stride() == weight.stride() != before.contiguous().stride()
    assert torch.equal(after, before)
    assert not after.requires_grad


# What is computed in which precision.


class Looks(nn.Module):
    """Notes the dtype of what it is given and gives, and in which mode."""

    seen: list = []

    def __init__(self):
        super().__init__()
        self.flatten, self.linear = nn.Flatten(), nn.Linear(108, 3)

    def forward(self, inputs):
        outputs = self.linear(self.flatten(inputs))
        self.seen.append((self.training, outputs.dtype))
        return outputs


def of_float32(outputs, targets):
    assert outputs.dtype == torch.float32
    assert (outputs @ outputs.T).dtype == torch.float32  # not under autocast
    return (outputs.argmax(1) == targets).float()


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_modules_compute_in_it_and_metrics_of_float32(name, dtype):
    Looks.seen.clear()
    made, given = trainer(metrics={"same": of_float32}), job(Looks, precision=name)
    ((state, _),) = made.advance(given, made.init(given), 1)
    of_training, of_evaluation = ([d for mode, d in Looks.seen if mode is which] for which in (True, False))
    assert of_training == [dtype] * 3
    assert of_evaluation[-1] == dtype
    assert all(t.dtype == torch.float32 for t in state.values["module"].values())
    model = made.module(given, state)
    assert model(torch.rand(2, 3, 6, 6)).dtype == torch.float32


class OwnLoss(tn.Trainer):
    dtypes: list = []

    def loss_of(self, module, batch):
        outputs = module(batch[0])
        self.dtypes.append(outputs.dtype)
        return nn.functional.cross_entropy(outputs, batch[1])


class OwnEvaluation(tn.Trainer):
    def evaluate(self, module, data):
        (inputs, _), *_ = data.batches(24)
        assert module(inputs).dtype == torch.bfloat16
        return super().evaluate(module, data)


def test_own_losses_and_evaluations_are_called_in_it():
    OwnLoss.dtypes.clear()
    made, given = trainer(kind=OwnLoss), job(**BF16)
    list(made.advance(given, made.init(given), 1))
    assert set(OwnLoss.dtypes) == {torch.bfloat16}
    assert len(OwnLoss.dtypes) == 4  # three batches and one chunk
    made = trainer(kind=OwnEvaluation)
    assert len(list(made.advance(given, made.init(given), 1))) == 1


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_scores_are_near_those_of_float32_and_not_the_same(name):
    made = trainer(epochs=2)
    losses = []
    for given in ({}, {"precision": name}, LAST):
        here = job(dense, optimizer={"lr": 0.05}, **given)
        losses.append([report.metrics["loss"] for _, report in made.advance(here, made.init(here), 2)])
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
    assert losses[1] != losses[0]
    assert losses[2] == losses[0]  # nothing of it has a layout


def test_fp32_in_the_default_layout_is_the_default():
    made, states = trainer(), []
    for here in (job(), job(precision="fp32", channels_last=False), job(precision="auto", channels_last="auto")):
        states.append([values(state) for state, _ in made.advance(here, made.init(here), 2)])
    assert not list(differences(states[0], states[1]))
    assert not list(differences(states[0], states[2]))
    assert "scaler" not in states[0][0]


def test_the_probe_measures_in_float32_and_races_in_the_precision():
    made = trainer(epochs=60)
    plain, lowered = (tn.probe(tn.Model(dense), made, runtime(**given)) for given in ({}, BF16))
    for name in ("curvature", "estimate", "loss", "noise", "prior"):
        assert getattr(lowered, name) == getattr(plain, name)
    assert plain.race.losses != lowered.race.losses
    assert plain.race.steps == lowered.race.steps


class Fills(nn.Module):
    """Writes into a tensor of float32, as is done in float32 only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(108, 3)

    def forward(self, inputs):
        made = torch.zeros(len(inputs), 3)
        made[torch.arange(len(inputs))] = self.linear(inputs.flatten(1))
        return made


def test_the_dry_run_refuses_what_fails_in_it():
    study({}, model=tn.Model(Fills))
    with pytest.raises(ValueError, match="BFloat16"):
        study(BF16, model=tn.Model(Fills))


# fp16: gradients are scaled, and a step is skipped where they overflow.


def huge(outputs, targets):
    """Finite, with gradients that are not when they are scaled by 2 ** 16."""
    return 1e2 * nn.functional.cross_entropy(outputs, targets)


def test_a_step_with_gradients_that_overflow_is_skipped():
    made, given = trainer(loss=huge, batch_size=40, clip=1.0), job(dense, precision="fp16")
    start = made.init(given)
    assert start.values["scaler"]["scale"] == 2.0**16
    ((state, report),) = made.advance(given, start, 1)
    assert not list(differences(state.values["module"], start.values["module"]))
    assert state.values["optimizer"]["state"] == {}
    assert state.values["scaler"]["scale"] == 2.0**15
    assert np.isfinite(report.metrics["train_loss"])


def test_after_the_skipped_steps_it_trains_and_a_scheduler_of_torch_did_not_move_before():
    schedule = tn.rates.Torch(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), unit="step")
    made, given = trainer(loss=huge, batch_size=40, schedule=schedule), job(dense, precision="fp16")
    rates, scales, moved = [], [], []
    state = made.init(given)
    for epoch in range(1, 13):
        before = state
        ((state, _),) = made.advance(given, state, epoch)
        moved.append(bool(list(differences(state.values["module"], before.values["module"]))))
        rates.append(state.values["optimizer"]["param_groups"][0]["lr"])
        scales.append(state.values["scaler"]["scale"])
    skipped = moved.count(False)
    assert 0 < skipped < 12
    assert moved == [False] * skipped + [True] * (12 - skipped)
    assert scales[-1] == 2.0 ** (16 - skipped)
    assert rates == [0.05] * skipped + [0.05 * 0.5**k for k in range(1, 13 - skipped)]


def test_gradients_are_clipped_in_their_own_units():
    made, given = trainer(clip=1e-3, batch_size=40), job(dense, optimizer={"lr": 1.0}, precision="fp16")
    start = made.init(given)
    ((state, _),) = made.advance(given, start, 1)
    pairs = zip(state.values["module"].values(), start.values["module"].values(), strict=True)
    assert sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5 == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_micro_batches_add_up_to_the_batch(name):
    states = []
    for size in (None, 7):
        made, given = trainer(micro_batch=size, batch_size=40), job(dense, optimizer={"lr": 0.1}, precision=name)
        start = made.init(given)
        states += [state.values["module"] for state, _ in made.advance(given, start, 1)]
    moved = [torch.cat([(s[k] - start.values["module"][k]).flatten() for k in s]) for s in states]
    assert float((moved[0] - moved[1]).norm() / moved[0].norm()) < 0.02
    assert float(moved[0].norm()) > 0


def test_a_batch_in_which_nothing_counts_is_no_error():
    ignored = tn.Data(torch.rand(8, 3, 6, 6), torch.full((8,), -100))
    made = tn.Trainer(
        ignored, data(8, 1), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, micro_batch=4, batch_size=8
    )
    given = job(dense, precision="fp16")
    start = made.init(given)
    ((state, _),) = made.advance(given, start, 1)
    assert not list(differences(state.values["module"], start.values["module"]))


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_loss_that_is_not_finite_has_diverged(name):
    made = trainer(loss=lambda outputs, targets: nn.functional.cross_entropy(outputs * float("inf"), targets))
    given = job(dense, precision=name)
    with pytest.raises(Diverged):
        list(made.advance(given, made.init(given), 1))


def test_a_state_of_another_precision_goes_on():
    made = trainer()
    plain, scaled = job(dense), job(dense, precision="fp16")
    (of_plain, _), (of_scaled, _) = (next(iter(made.advance(j, made.init(j), 1))) for j in (plain, scaled))
    assert len(list(made.advance(scaled, of_plain, 3))) == 2
    assert len(list(made.advance(plain, of_scaled, 3))) == 2


# The layout.


def by_pixel(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.parametrize("order", [True, False])
def test_weights_and_batches_lie_in_it_and_the_data_stay_as_they_were(order):
    made, given = trainer(), job(**LAST)
    run = made.session(given)
    assert [by_pixel(p) for p in run.module.parameters() if p.ndim == 4] == [True, True]
    assert all(p.is_contiguous() for p in run.module.parameters() if p.ndim != 4)
    batches = run.batches(1) if order else run.valid.batches(16)
    assert all(by_pixel(inputs) for inputs, _ in batches)
    assert made.train.inputs.is_contiguous()


def test_rows_are_gathered_in_the_layout_of_the_data():
    inputs = torch.rand(10, 3, 4, 4)
    laid = tn.Data(inputs.to(memory_format=torch.channels_last), torch.arange(10))
    order = torch.randperm(10)
    for (ours, _), (theirs, _) in zip(
        laid.batches(4, order), tn.Data(inputs, range(10)).batches(4, order), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert by_pixel(ours)
        assert theirs.is_contiguous()


def test_one_channel_trains_in_it_as_without_but_for_rounding():
    made, losses = trainer(channels=1, epochs=2), []
    for given in ({}, LAST):
        here = tn.types.Job(tn.Model(lambda: net(channels=1)), {"optimizer": {"lr": 0.05}}, runtime(**given), 0)
        losses += [[report.metrics["loss"] for _, report in made.advance(here, made.init(here), 2)]]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_place_lays_out_nested_batches_and_leaves_the_rest():
    images, ids = torch.rand(2, 3, 4, 4), torch.arange(3)
    placed = runtime(**LAST).place({"images": (images, ids), "name": "x"})
    assert by_pixel(placed["images"][0])
    assert placed["images"][1] is ids
    assert runtime().place(images) is images
    tied = nn.ModuleList([nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.LazyConv2d(2, 3)])
    tied[1].weight = tied[0].weight
    runtime(**LAST).place(tied)
    assert tied[1].weight is tied[0].weight
    assert by_pixel(tied[0].weight)


# Loops and functions of one's own.


@tn.loop(epochs=3)
def fit(config, run):
    model = run.place(net(dropout=0.0))
    assert by_pixel(model[0].weight)
    optimizer = torch.optim.SGD(model.parameters(), **config["optimizer"])
    scaler = torch.amp.GradScaler(run.device.type)
    inputs, targets = (run.place(part) for part in (data(16, 0).inputs, data(16, 0).targets))
    for _ in run.epochs(model=model, optimizer=optimizer, scaler=scaler):
        with run.autocast():
            outputs = model(inputs)
            loss = nn.functional.cross_entropy(outputs, targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        yield {"loss": loss, "half": outputs.dtype == torch.float16}


@tn.loop(epochs=2)
def forgets(config, run):
    weight = run.place(torch.zeros(3)).requires_grad_()
    for _ in run.epochs(weight=weight):
        yield {"loss": weight.sum()}


def test_a_loop_takes_precision_and_layout_from_its_run():
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)})
    made = study({"precision": "fp16"} | LAST, model=None, trainer=fit, space=space)
    made.run(trials=2)
    assert [t.metrics["half"] for t in made.trials] == [1.0, 1.0]
    check_trainer(fit, tn.types.Job(None, {"optimizer": {"lr": 0.01}}, runtime(precision="fp16", **LAST)))


def test_a_loop_that_does_not_take_up_the_precision_is_refused_before_trial_0():
    made = study(BF16, model=None, trainer=forgets, space=tn.SearchSpace(x=tn.Float(0, 1)))
    with pytest.raises(ValueError, match=r"with run\.autocast\(\):"):
        made.run(trials=1)
    assert len(made.trials) == 0


def test_a_function_and_a_study_by_hand_have_no_precision():
    space = tn.SearchSpace(x=tn.Float(0, 1))
    with pytest.raises(ValueError, match=r"a plain function does not compute in the runtime\'s bf16; leave it out of"):
        tn.minimize(lambda x: x, space, trials=1, runtime=runtime(**BF16), progress=False)
    with pytest.raises(ValueError, match="a study without a trainer does not compute in the runtime's channels_last"):
        tn.Study(space=space, minimize="loss", runtime=runtime(**LAST))


# Labels.


def test_it_is_told_wherever_a_score_is(tmp_path, capsys):
    with study(BF16 | LAST, folder=tmp_path / "s", progress=True) as made:
        made.run(trials=1)
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.split("  ")[-1] == "bf16 with channels_last"
        assert repr(made.runtime) == 'Runtime("cpu", threads=1, precision="bf16", channels_last=True)'
        assert repr(made.best).startswith("trial 0: loss")
        assert ", bf16 with channels_last)" in repr(made.best)
        made.best.save(tmp_path / "best.pt")
    saved = torch.load(tmp_path / "best.pt")
    assert (saved["precision"], saved["channels_last"]) == ("bf16", True)
    assert isinstance(tn.load(tmp_path / "best.pt", net), nn.Module)
    archive = tn.open(tmp_path / "s")
    assert archive.listing().splitlines()[0].endswith("1 DONE, bf16 with channels_last")
    assert archive.facts["runtime"]["precision"] == "bf16"


def test_the_default_is_told_nowhere(tmp_path, capsys):
    with study(folder=tmp_path / "s", progress=True) as made:
        made.run(trials=1)
        assert "fp32" not in capsys.readouterr().err + repr(made.best) + repr(made.runtime)
    assert tn.open(tmp_path / "s").listing().splitlines()[0].endswith("1 DONE")


def test_a_study_that_goes_on_in_another_precision_warns(tmp_path):
    with study(BF16, folder=tmp_path / "s") as made:
        made.run(trials=1)
    with pytest.warns(UserWarning, match="runtime.precision was 'bf16', now 'fp32'"):
        study(folder=tmp_path / "s").close()
    with pytest.warns(UserWarning, match="runtime.channels_last was False, now True"):
        study(BF16 | LAST, folder=tmp_path / "s").close()


def test_a_test_is_in_the_precision_of_the_study():
    Looks.seen.clear()
    made = study(BF16, model=tn.Model(Looks), trainer=trainer(epochs=1, metrics={"same": of_float32}))
    made.run(trials=1)
    made.test(data(30, 5))
    assert Looks.seen[-1] == (False, torch.bfloat16)


# "auto" only suggests.


class Clock:
    """Stands still but for those who move it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(advising.time, "perf_counter", lambda: self.now)

    def step(self, *seconds, finite=True):
        left = [*seconds]

        def step():
            self.now += left.pop(0)
            return finite

        return step


def test_gains_are_medians_over_rounds(monkeypatch):
    clock, base, other = Clock(monkeypatch), runtime(), runtime()
    steps = {base: clock.step(50, 2, 2, 9, 2, 2), other: clock.step(99, 1, 1, 1, 0.5, 1)}
    assert advising.measured_gains(steps, 1e9) == ({other: 2.0}, 5)


def test_what_fails_or_diverges_is_left_out_and_time_is_limited(monkeypatch):
    clock = Clock(monkeypatch)
    base, broken, nan, slow = (runtime() for _ in range(4))
    steps = {
        base: clock.step(1, 4, 4),
        broken: clock.step(),
        nan: clock.step(1, finite=False),
        slow: clock.step(1, 8, 8),
    }
    assert advising.measured_gains(steps, 20.0) == ({slow: 0.5}, 2)
    assert advising.measured_gains({base: clock.step(1, finite=False), slow: clock.step(1)}, 1e9) == ({}, 0)


def tried(builder=net, **given):
    here = job(builder, **given)
    return [other.label for other in advising.alternatives(trainer().configured(here.config), here)]


def test_what_is_tried_depends_on_what_is_auto_and_on_the_model():
    four = ["", "channels_last", "bf16", "bf16 with channels_last"]
    assert tried(precision="auto") == tried(precision="auto", channels_last="auto") == four
    assert tried(dense, precision="auto") == ["", "bf16"]
    assert tried(precision="auto", channels_last=True) == ["channels_last", "bf16 with channels_last"]
    assert tried(channels_last="auto") == ["", "channels_last"]
    assert tried(precision="bf16", channels_last="auto") == ["bf16", "bf16 with channels_last"]


@pytest.mark.parametrize(
    ("given", "gains", "line"),
    [
        (
            {"precision": "auto"},
            {"bf16": 1.5, "bf16 with channels_last": 2.71},
            "precision: bf16 with channels_last would train this 2.7x faster here (measured over 5 steps);"
            ' set Runtime(precision="bf16", channels_last=True)',
        ),
        (
            {"channels_last": "auto"},
            {"channels_last": 1.34},
            "layout: channels_last would train this 1.3x faster here (measured over 5 steps);"
            " set Runtime(channels_last=True)",
        ),
        (
            {"precision": "auto"},
            {"channels_last": 1.41, "bf16 with channels_last": 1.42},
            "layout: channels_last would",
        ),
        ({"precision": "auto"}, {"bf16": 1.09, "channels_last": 0.7}, ""),
        ({"precision": "auto"}, {}, ""),
    ],
)
def test_the_line_says_what_brings_most_and_how_to_have_it(monkeypatch, given, gains, line):
    def made_up(steps, deadline):
        return {other: gains[other.label] for other in steps if other.label in gains}, 5

    monkeypatch.setattr(advising, "measured_gains", made_up)
    said = str(precision_advice(trainer(), job(**given)) or "")
    assert said == line or (line.endswith("would") and said.startswith(line))


def test_auto_changes_nothing_but_what_is_said(monkeypatch, capsys):
    measured = advising.measured_gains

    def and_boasts(steps, deadline):
        gains, rounds = measured(steps, deadline)
        assert rounds == 5
        return dict.fromkeys(gains, 3.0), rounds

    monkeypatch.setattr(advising, "measured_gains", and_boasts)
    shared = trainer(epochs=2, augment=nn.Dropout(0.1))
    inputs, attributes = shared.train.inputs.clone(), copy.copy(vars(shared))
    auto = study({"precision": "auto", "channels_last": "auto"}, trainer=shared, progress=True)
    with generators_untouched():
        auto.run(trials=2)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("precision", "layout"))]
    assert len(said) == 1
    assert {k: v for k, v in vars(shared).items() if k != "_prepared"} == {
        k: v for k, v in attributes.items() if k != "_prepared"
    }
    assert torch.equal(shared.train.inputs, inputs)
    plain = study(trainer=trainer(epochs=2, augment=nn.Dropout(0.1)))
    plain.run(trials=2)
    assert [t.metrics for t in auto.trials] == [t.metrics for t in plain.trials]
    ours, theirs = auto.best.model().state_dict(), plain.best.model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert auto.runtime.describe() == plain.runtime.describe()
    auto.run(trials=3)
    assert "faster here" not in capsys.readouterr().err  # said once


def test_a_model_that_cannot_be_measured_gets_no_advice():
    class Broken(nn.Module):
        def __init__(self):
            raise RuntimeError("made up")

    assert precision_advice(trainer(), job(Broken, precision="auto")) is None


# What is refused.


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"precision": "bf61"}, ValueError, r'got "bf61"\. Did you mean "bf16"\?'),
        ({"precision": "BF16"}, ValueError, r'"fp32", "bf16", "fp16" or "auto", got "BF16"\. Did you mean "bf16"\?'),
        ({"precision": "int8"}, ValueError, 'got "int8"'),
        ({"precision": torch.bfloat16}, TypeError, r'got torch\.bfloat16\. Did you mean "bf16"\?'),
        ({"precision": None}, TypeError, "got None"),
        ({"precision": 16}, TypeError, "got 16"),
        ({"channels_last": 1}, TypeError, 'channels_last needs to be True, False or "auto", got 1'),
        ({"channels_last": "yes"}, TypeError, "got 'yes'"),
        ({"channels_last": None}, TypeError, "got None"),
        ({"channels_last": torch.channels_last}, TypeError, "got torch.channels_last"),
    ],
)
def test_bad_precisions_and_layouts_are_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        tn.Runtime("cpu", **given)


def test_a_device_that_does_not_compute_in_it_is_refused(monkeypatch):
    class Unable:
        def __init__(self, *_):
            raise RuntimeError("current device does not support bfloat16")

    monkeypatch.setattr(torch, "autocast", Unable)
    with pytest.raises(ValueError, match='device "cpu" does not compute in bf16: current device'):
        tn.Runtime("cpu", precision="bf16")
    tn.Runtime("cpu")


def test_repr_names_what_was_given():
    assert repr(runtime(precision="auto", channels_last="auto")) == (
        'Runtime("cpu", threads=1, precision="auto", channels_last="auto")'
    )
    assert repr(runtime(precision="fp16")) == 'Runtime("cpu", threads=1, precision="fp16")'
    assert repr(runtime()) == 'Runtime("cpu", threads=1)'
    assert runtime(precision="auto", channels_last="auto").of_a_worker() == runtime().of_a_worker()


# Denormal numbers.


def are_zero():
    """What torch, NumPy and Python make of a denormal number times 1: whether that is 0."""
    small = np.frombuffer(struct.pack("<f", 2.0**-130), dtype=np.float32)  # as bits, whatever becomes of such here
    by_torch = (torch.tensor(small) * 1.0).view(torch.int32)
    return [int(by_torch) == 0, int((small * np.float32(1.0)).view(np.int32)[0]) == 0, DENORMAL * 1.0 == 0.0]


def test_denormal_numbers_are_zero_within_a_block_and_not_after_it():
    assert are_zero() == [False] * 3
    with runtime().active():
        assert are_zero() == [True] * 3
        with tn.Runtime("cpu").active():  # as many threads as there are: one
            assert are_zero() == [True] * 3
        assert are_zero() == [True] * 3
    assert are_zero() == [False] * 3


def test_a_product_of_matrices_flushes_too():
    left, right = torch.full((8, 8), 2.0**-70), torch.full((8, 8), 2.0**-70)
    with runtime().active():
        inside = (left @ right).view(torch.int32)
    assert int(inside.abs().sum()) == 0
    assert int((left @ right).view(torch.int32).abs().sum()) > 0


def test_a_process_that_flushes_by_itself_goes_on_with_it():
    torch.set_flush_denormal(True)
    try:
        with runtime().active():
            assert flushes()
        assert flushes()
        assert ProcessSettings.current().flushes
    finally:
        torch.set_flush_denormal(False)
    assert not ProcessSettings.current().flushes


def test_an_error_leaves_it_as_it_was():
    with pytest.raises(KeyError), runtime().active():
        raise KeyError
    assert not flushes()


def test_with_more_threads_nothing_is_changed():
    before = torch.get_num_threads()
    with tn.Runtime("cpu", threads=2).active():
        assert not flushes()
    assert torch.get_num_threads() == before


class Dies(nn.Module):
    """Tells by its buffer whether denormal numbers were 0 when it trained."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(108, 3)
        self.register_buffer("flushed", torch.zeros(2))

    def forward(self, inputs):
        self.flushed[int(self.training)] = float(DENORMAL * 1.0 == 0.0)
        return self.linear(inputs.flatten(1))


def test_trainers_flush_however_they_are_called():
    made, given = trainer(), job(Dies)
    ((direct, _),) = made.advance(given, made.init(given), 1)
    executor = InlineExecutor(given.runtime)
    executor.submit(Slice(0, 0, 1), made, given, None)
    (reported, *_) = executor.wait()
    for state in (direct, reported.state):
        assert state.values["module"]["flushed"].tolist() == [1.0, 1.0]
    assert not flushes()
