"""Trials as lanes of one program, through a study: the same as one by one, but for rounding."""

import logging
import math
from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.narrowing import Keep
from tests.helpers.scaled import scaled
from tests.helpers.switching_optimizers import MeanInGroup
from tuneflow.execute.lanes import lane_stack as stack
from tuneflow.execute.lanes import structure_group as group
from tuneflow.execute.lanes.engine_cache import EngineCache, EngineTiming
from tuneflow.execute.lanes.executor import LaneExecutor
from tuneflow.history.trial import Slice
from tuneflow.study import progress
from tuneflow.testing import check_executor
from tuneflow.train.job import Job

INLINE, LANES = tn.Runtime("cpu", threads=1), tn.Runtime("cpu", threads=1, lanes=4)
RATES = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.3, log=True), "momentum": tn.Float(0.0, 0.95)})


@pytest.fixture(params=["stacked", "single"])
def engine(request, monkeypatch):
    """Everything is worth being fused, by this engine."""
    steps = force(monkeypatch, request.param)
    yield request.param
    assert steps


@pytest.fixture
def stacked(monkeypatch):
    steps = force(monkeypatch, "stacked")
    yield steps
    assert steps


def force(monkeypatch, kind):
    """Returns a list that grows with the steps that are taken together."""
    steps, step = [], stack.Lanes.step

    def noticed(self, *given):
        steps.append(self)
        return step(self, *given)

    monkeypatch.setattr(stack.Lanes, "step", noticed)
    always_measured(monkeypatch)
    monkeypatch.setattr(group, "time_alone", lambda lane: 1.0)
    monkeypatch.setattr(group, "measure", lambda lanes, slots, programs, alone: EngineTiming(kind, slots, alone, alone))
    return steps


def always_measured(monkeypatch):
    """As if there were much left to train."""
    monkeypatch.setattr(group, "TRACING", 0.0)
    monkeypatch.setattr(group, "TRIED", 0)


def mlp(width=24, dropout=0.0, dtype=torch.float32):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    ).to(dtype)  # fmt: skip


def normed():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def digits(rows=100):
    train, valid, _ = tn.data.digits()
    return train[:rows], valid[:60]


def trainer(data=None, **settings):
    given = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 3, "batch_size": 32}
    return tn.Trainer(*(data or digits()), **{**given, "metrics": {"accuracy": tn.metrics.accuracy}, **settings})


def run(runtime, builder=mlp, space=RATES, trials=6, of=None, **settings):
    model = builder if isinstance(builder, tn.Model) else tn.Model(builder)
    given = {"model": model, "trainer": of or trainer(), "space": space, "runtime": runtime, "seed": 3}
    study = tn.Study(**given, progress=False, **settings)
    study.run(trials=trials)
    return study


def assert_alike(mine, theirs, tolerance=2e-5):
    """The same trials, with scores that differ by rounding only."""
    assert len(mine.trials) == len(theirs.trials)
    for a, b in zip(mine.trials, theirs.trials, strict=True):
        assert (a.number, a.config, a.status, a.reason, a.epochs) == (b.number, b.config, b.status, b.reason, b.epochs)
        assert a.metrics.keys() == b.metrics.keys()
        for name in a.metrics:
            assert math.isclose(a.metrics[name], b.metrics[name], rel_tol=tolerance, abs_tol=tolerance), (a, b)
        for one, other in zip(a.reports, b.reports, strict=True):
            assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=tolerance, abs=tolerance)
            assert one.errors.keys() == other.errors.keys()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# The same as alone.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": torch.optim.AdamW},
        {"optimizer": tn.optim.Groups(torch.optim.AdamW, no_decay=True, last="4")},
        {"clip": 0.5},
        {"schedule": tn.rates.OneCycle()},
        {"schedule": tn.rates.Warmup(0.2, tn.rates.Cosine())},
        {"schedule": tn.rates.Plateau(patience=0, by=0.3)},
        {"schedule": tn.rates.Torch(lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5))},
        {"patience": tn.Patience(1, "accuracy", maximize=True), "epochs": 6},
        {"loss": nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2.0, 10))},
    ],
    ids=lambda settings: next(iter(settings), "plain"),
)
def test_lanes_give_what_training_alone_gives(engine, caplog, settings):
    space = RATES if "optimizer" not in settings else tn.SearchSpace(optimizer={"lr": tn.Float(1e-4, 1e-2, log=True)})
    both = [run(runtime, space=space, of=trainer(**settings)) for runtime in (LANES, INLINE)]
    assert_alike(*both)
    assert warnings_of(caplog) == []


def test_in_float64_they_differ_in_the_last_digits_only(stacked):
    def build():
        return mlp(dtype=torch.float64)

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        data = [tn.Data(part.inputs.double(), part.targets) for part in digits()]
        both = [run(runtime, build, of=trainer(data)) for runtime in (LANES, INLINE)]
    finally:
        torch.set_default_dtype(before)
    assert_alike(*both, tolerance=1e-11)


def test_dropout_drops_what_it_drops_in_training_alone(engine):
    space = tn.SearchSpace(
        model={"dropout": tn.Float(0.0, 0.6)}, optimizer={"lr": tn.Float(1e-2, 0.3, log=True), "momentum": 0.5}
    )
    assert_alike(*(run(runtime, space=space) for runtime in (LANES, INLINE)))


def test_batch_norm_keeps_the_statistics_of_each_trial(engine):
    both = [run(runtime, normed) for runtime in (LANES, INLINE)]
    assert_alike(*both)
    for name, tensor in both[0].best.model().state_dict().items():
        torch.testing.assert_close(tensor, both[1].best.model().state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "steps", [{}, {"keep": partial(Keep, first="1", second="4")}], ids=["without steps", "with steps"]
)
def test_forks_of_a_winner_share_lanes_where_their_structures_are_equal(stacked, steps):
    torch.manual_seed(0)
    model = tn.Model(scaled(mlp()), steps=steps)
    space = {"keep": {"share": tn.Choice([0.25, 0.5])}} if steps else {}
    space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.3, log=True)}, **space)
    both = [run(runtime, model, space) for runtime in (LANES, INLINE)]
    assert_alike(*both)
    assert max(len(lanes.live) for lanes in stacked) > 1


def test_trials_share_lanes_where_their_inputs_are_cleaned_alike(stacked):
    model = tn.Model(mlp, steps={"clean": tn.harden.Rounding})
    space = tn.SearchSpace(optimizer={"lr": tn.Choice([0.01, 0.1])}, clean={"bits": tn.Choice([1, 3])})
    given = {"trials": 4, "of": trainer(epochs=1), "searcher": tn.Grid()}
    both = [run(runtime, model, space, **given) for runtime in (LANES, INLINE)]
    assert_alike(*both)
    assert {len(lanes.live) for lanes in stacked} == {2}
    assert len(set(map(id, stacked))) == 2


def test_label_smoothing_may_differ_from_lane_to_lane(stacked):
    space = tn.SearchSpace(
        loss={"label_smoothing": tn.Float(0.01, 0.3)}, optimizer={"lr": tn.Float(1e-2, 0.3, log=True)}
    )
    both = [run(runtime, space=space, of=trainer(loss=nn.CrossEntropyLoss)) for runtime in (LANES, INLINE)]
    assert_alike(*both)


def test_regression_learns_standardized_targets_in_lanes_too(stacked):
    inputs = torch.randn(90, 5)
    data = [(inputs[:60], 300 + 40 * inputs[:60, :1]), (inputs[60:], 300 + 40 * inputs[60:, :1])]

    def build():
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))

    both = [run(runtime, build, of=trainer(data, loss=nn.MSELoss(), metrics={})) for runtime in (LANES, INLINE)]
    assert_alike(*both, tolerance=1e-4)


def noisy(images):
    return images + 0.3 * torch.randn_like(images)


def test_augmentations_draw_what_they_draw_in_training_alone(stacked):
    space = tn.SearchSpace(model={"dropout": 0.3}, optimizer={"lr": tn.Float(1e-2, 0.3, log=True)})
    assert_alike(*(run(runtime, space=space, of=trainer(augment=noisy)) for runtime in (LANES, INLINE)))


def test_a_dataset_is_loaded_lane_by_lane(stacked):
    train, valid = digits()
    rows = torch.utils.data.StackDataset(train.inputs, train.targets)
    assert_alike(*(run(runtime, of=trainer((rows, valid))) for runtime in (LANES, INLINE)))


def test_a_sampler_draws_what_it_draws_in_training_alone(stacked):
    train, valid = digits()
    rows = torch.utils.data.StackDataset(train.inputs, train.targets)
    sampler = torch.utils.data.WeightedRandomSampler(torch.arange(1.0, 101.0), 75)
    loader = torch.utils.data.DataLoader(rows, batch_size=32, sampler=sampler)
    assert_alike(*(run(runtime, of=trainer((loader, valid))) for runtime in (LANES, INLINE)))


class OfTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.upper, self.lower = nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, upper, lower):
        return self.upper(upper.flatten(1)) + self.lower(lower.flatten(1))


def test_several_inputs_are_fused(stacked):
    halves = [({"upper": part.inputs[:, :, :4], "lower": part.inputs[:, :, 4:]}, part.targets) for part in digits()]
    assert_alike(*(run(runtime, OfTwo, of=trainer(halves)) for runtime in (LANES, INLINE)))


class Doubled(tn.Trainer):
    def loss_of(self, module, batch):
        return 2 * super().loss_of(module, batch)


def test_a_loss_of_ones_own_is_fused(stacked, caplog):
    of = [Doubled(*digits(), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2) for _ in range(2)]
    assert_alike(run(LANES, of=of[0]), run(INLINE, of=of[1]))
    assert warnings_of(caplog) == []


def test_trials_of_several_structures_are_trained_side_by_side(stacked):
    space = tn.SearchSpace(
        model={"width": tn.Int(8, 10)}, optimizer={"lr": tn.Float(1e-2, 0.3, log=True)},
        trainer={"batch_size": tn.Choice([16, 32])},
    )  # fmt: skip
    assert_alike(run(LANES, space=space, trials=12), run(INLINE, space=space, trials=12))


def test_unpaired_trials_have_data_and_weights_of_their_own(stacked):
    assert_alike(run(LANES, paired=False), run(INLINE, paired=False))


# Lanes come and go.


class Listed(tn.Searcher):
    """Given rates, one after the other."""

    ends = True

    def __init__(self, *rates):
        self.rates = rates

    def suggest(self, space, history, rng):
        number = history.number
        return {"optimizer": {"lr": self.rates[number]}} if number < len(self.rates) else None


WIDE = tn.SearchSpace(optimizer={"lr": tn.Float(1e-6, 1e30, log=True)})


def test_a_trial_that_diverges_disturbs_no_other_and_gives_its_seat_away(stacked):
    rates = (0.1, 1e25, 0.05, 1e28, 0.2, 0.02, 1e27, 0.3)
    both = [run(runtime, space=WIDE, searcher=Listed(*rates), trials=8) for runtime in (LANES, INLINE)]
    assert [trial.status for trial in both[0].trials].count("DIVERGED") == 3
    assert_alike(*both)


def test_a_seat_is_taken_in_the_middle_of_the_others_epoch(stacked):
    executor, of = LaneExecutor(tn.Runtime("cpu", threads=1, lanes=2)), trainer()
    start(executor, of, 0, 0.1)
    start(executor, of, 1, 1e25)
    assert executor.wait()[0].status == "DIVERGED"
    assert 0 < len(stacked) < 100 / 32  # the steps of an epoch
    start(executor, of, 2, 0.1)
    seen = {0: [], 2: []}
    while executor.busy:
        for event in executor.wait():
            seen[event.trial].append(event)
    losses = [[e.report.metrics["loss"] for e in events[:-1]] for events in seen.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert [events[-1].status for events in seen.values()] == ["DONE", "DONE"]


def start(executor, of, number, rate, until=3):
    job = Job(tn.Model(mlp), {"optimizer": {"lr": rate}}, LANES)
    executor.submit(Slice(number, 0, until), of, job, None)


def test_halving_stops_and_resumes_lanes(stacked):
    scheduler = tn.Halving(factor=3, first=1)
    study = run(LANES, of=trainer(epochs=9), scheduler=scheduler, trials=9)
    assert {trial.status for trial in study.trials} == {"DONE", "STOPPED"}
    assert len(study.trials) == 9
    for trial in study.trials:
        alone = run(INLINE, of=trainer(epochs=9), searcher=Exactly(trial.config), trials=1)
        told = [report.metrics["loss"] for report in alone.trials[0].reports[: trial.epochs]]
        assert [report.metrics["loss"] for report in trial.reports] == pytest.approx(told, rel=1e-4)


class Exactly(tn.Searcher):
    def __init__(self, config):
        self.config = config

    def suggest(self, space, history, rng):
        return self.config


def test_states_are_no_views_of_the_stack(stacked):
    study = run(LANES, folder=tn.Folder(None, keep=6))
    models = [trial.model() for trial in map(study.result, range(6))] if hasattr(study, "result") else []
    storages = {p.untyped_storage().data_ptr() for model in models for p in model.parameters()}
    assert len(storages) == sum(len(list(model.parameters())) for model in models)


def test_a_study_that_was_interrupted_goes_on_to_the_same_scores(stacked, tmp_path):
    study = tn.Study(
        model=tn.Model(mlp), trainer=trainer(), space=RATES, runtime=LANES, progress=False, seed=3, folder=tmp_path
    )
    study.run(trials=6, epochs=7)
    again = tn.Study(
        model=tn.Model(mlp), trainer=trainer(), space=RATES, runtime=LANES, progress=False, seed=3, folder=tmp_path
    )
    again.run(trials=6)
    assert_alike(again, run(INLINE))


# What is not fused.


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, inputs):
        outputs = self.layers(inputs)
        if outputs.mean() > 100:
            return outputs * 2
        return outputs


def test_what_cannot_be_traced_is_trained_alone_and_the_reason_is_said_once(monkeypatch, caplog):
    always_measured(monkeypatch)
    both = [run(runtime, Branching) for runtime in (LANES, INLINE)]
    assert_alike(*both, tolerance=0.0)
    said = warnings_of(caplog)
    assert len(said) == 1
    assert said[0].startswith("lanes: training one by one: data-dependent branch in forward at test_lanes.py:")


def test_a_loop_of_ones_own_is_trained_alone(caplog):
    @tn.loop(epochs=2)
    def mine(config, run):
        weight = torch.zeros(1)
        for _epoch in run.epochs(weight=weight):
            weight += config["rate"]
            yield {"loss": float((weight - 1).square())}

    space = tn.SearchSpace(rate=tn.Float(0.0, 1.0))
    studies = [tn.Study(trainer=mine, space=space, runtime=runtime, progress=False) for runtime in (LANES, INLINE)]
    for study in studies:
        study.run(trials=5)
    assert_alike(*studies, tolerance=0.0)
    assert warnings_of(caplog) == ["lanes: training one by one: Loop trains by itself"]


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (tn.optim.Averaged(torch.optim.SGD), "AveragedOptimizer scores other weights than it trains"),
        (MeanInGroup, "MeanInGroup scores other weights than it trains"),
        (tn.optim.MuonAdamW, "the optimizer MuonAdamW has no stacked form"),
    ],
)
def test_optimizers_that_no_stack_holds_are_trained_alone(caplog, monkeypatch, optimizer, reason):
    always_measured(monkeypatch)
    rate = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.1, log=True)})
    both = [run(runtime, space=rate, trials=3, of=trainer(optimizer=optimizer)) for runtime in (LANES, INLINE)]
    assert_alike(*both, tolerance=0.0)
    assert [reason in text for text in warnings_of(caplog)] == [True]


def test_micro_batches_are_trained_alone(caplog):
    assert_alike(*(run(runtime, of=trainer(micro_batch=8)) for runtime in (LANES, INLINE)), tolerance=0.0)
    assert len(warnings_of(caplog)) == 1


def test_short_work_is_not_measured(monkeypatch):
    monkeypatch.setattr(group, "measure", lambda *given: pytest.fail("it was measured"))
    assert_alike(run(LANES, trials=2), run(INLINE, trials=2), tolerance=0.0)


def test_a_program_that_fails_on_the_way_is_left_for_the_next_engine(monkeypatch, caplog):
    force(monkeypatch, "stacked")
    step, count = stack.Lanes.step, iter(range(1000))

    def failing(self, *given):
        if self._kind != "eager" and next(count) == 3:
            raise RuntimeError("broken")
        return step(self, *given)

    monkeypatch.setattr(stack.Lanes, "step", failing)
    assert_alike(run(LANES), run(INLINE))
    assert warnings_of(caplog) == ["lanes: training one by one: RuntimeError: broken"]


def memory_for_two(monkeypatch):
    """More lanes than two run out of memory; returns a list of how many there were at each step."""
    step, sizes = stack.Lanes.step, []

    def full(self, *given):
        sizes.append(len(self.live))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return step(self, *given)

    monkeypatch.setattr(stack.Lanes, "step", full)
    return sizes


def test_out_of_memory_splits_the_stack(monkeypatch):
    force(monkeypatch, "stacked")
    sizes = memory_for_two(monkeypatch)
    assert_alike(run(LANES), run(INLINE))
    assert set(sizes) == {4, 2}


def fails_late(images):
    if torch.rand(()) < 0.02:
        raise ValueError("no image")
    return images


def test_a_lane_that_fails_fails_alone(stacked):
    both = [run(runtime, of=trainer(augment=fails_late), paired=False) for runtime in (LANES, INLINE)]
    assert {"FAILED", "DONE"} >= {trial.status for trial in both[0].trials}
    assert any(trial.status == "FAILED" for trial in both[0].trials)
    assert_alike(*both)


# The choice.


def test_what_was_measured_is_kept_and_not_measured_again(monkeypatch):
    always_measured(monkeypatch)
    measured, measure = [], group.measure
    monkeypatch.setattr(group, "measure", lambda *given: measured.append(given) or measure(*given))
    notes, of = EngineCache(), trainer()
    first = LaneExecutor(LANES)
    first.engines = notes
    for number in range(4):
        start(first, of, number, 0.1, until=1)
    while first.busy:
        first.wait()
    assert len(measured) == 1
    second = LaneExecutor(LANES)
    second.engines = notes
    for number in range(4):
        start(second, of, number, 0.1, until=1)
    while second.busy:
        second.wait()
    assert len(measured) == 1


def test_a_measurement_leaves_lanes_as_they_were(monkeypatch):
    always_measured(monkeypatch)
    real = group.measure

    def watched(lanes, *given):
        before = [(lane.run.state(0), lane.randomness.generator.get_state().clone()) for lane in lanes]
        made = real(lanes, *given)
        for lane, (state, generator) in zip(lanes, before, strict=True):
            now = lane.run.state(0).values
            for name, tensor in state.values["module"].items():
                assert torch.equal(tensor, now["module"][name])
            assert torch.equal(generator, lane.randomness.generator.get_state())
        return made

    monkeypatch.setattr(group, "measure", watched)
    before = torch.get_rng_state()
    run(LANES)
    assert torch.equal(before, torch.get_rng_state())


def test_the_executor_keeps_its_promises():
    check_executor(lambda: LaneExecutor(tn.Runtime("cpu", threads=1, lanes=3)))


@pytest.mark.parametrize("lanes", [0, -1, 1.5, True, "all"])
def test_lanes_is_a_whole_number_or_auto(lanes):
    with pytest.raises(ValueError, match="lanes needs to be a whole number"):
        tn.Runtime("cpu", lanes=lanes)


def test_a_runtime_says_how_many_lanes_it_has():
    assert repr(tn.Runtime("cpu", threads=1, lanes="auto")) == "Runtime(\"cpu\", threads=1, lanes='auto')"
    assert tn.Runtime("cpu", threads=1, lanes="auto").describe()["executor"] == "fused"


# Advice.


def test_a_long_study_without_lanes_is_told_what_they_would_bring(monkeypatch, capsys):
    monkeypatch.setattr(progress, "ADVISED", 0.0)
    told = tn.Study(model=tn.Model(mlp), trainer=trainer(), space=RATES, runtime=INLINE, seed=3)
    told.run(trials=4)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lanes:")]
    assert len(lines) == 1
    assert float(lines[0].split()[-2].rstrip("x")) > 1.2
    assert "speed" in [finding.rule for finding in told.advice()]
    quiet = run(INLINE, trials=4)
    assert [trial.metrics for trial in told.trials] == [trial.metrics for trial in quiet.trials]


def test_there_is_no_advice_where_there_is_nothing_to_gain(monkeypatch, capsys):
    monkeypatch.setattr(progress, "ADVISED", 0.0)
    for study in (
        tn.Study(model=tn.Model(Branching), trainer=trainer(), space=RATES, runtime=INLINE),
        tn.Study(model=tn.Model(mlp), trainer=trainer(), space=RATES, runtime=LANES),
    ):
        study.run(trials=4)
    assert "lanes:" not in capsys.readouterr().err


def test_out_of_memory_while_it_is_measured_splits_the_stack_too(monkeypatch, caplog):
    always_measured(monkeypatch)
    sizes = memory_for_two(monkeypatch)
    assert_alike(run(LANES), run(INLINE))
    assert {4, 2} <= set(sizes)
    assert warnings_of(caplog) == []


def test_the_reason_is_shown_with_the_progress(monkeypatch, capsys):
    always_measured(monkeypatch)
    study = tn.Study(model=tn.Model(Branching), trainer=trainer(), space=RATES, runtime=LANES)
    study.run(trials=4)
    assert capsys.readouterr().err.count("lanes: training one by one: data-dependent branch in forward") == 1


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, images):
        rows = images.flatten(1).view(-1, 8, 8)
        packed = nn.utils.rnn.pack_padded_sequence(rows, torch.full((len(rows),), 8), batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


def test_packed_sequences_are_trained_in_one_way_or_the_other():
    assert_alike(run(LANES, Packed, trials=3), run(INLINE, Packed, trials=3))
