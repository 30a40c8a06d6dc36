"""Training loops of one's own: exact in pieces, strict about what they name, plain about what is wrong."""

import copy
import math
import pickle
import random
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.trainer_runs import run_with_reason, through_file
from tuneflow.check.hidden_state import check_loop
from tuneflow.errors import Diverged, StudyError
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.loop import Loop, loop
from tuneflow.train.loop_state import differences

TRAIN, VALID, _ = tn.data.digits()
INPUTS, TARGETS = TRAIN.inputs[:256] / 16, TRAIN.targets[:256]
EPOCHS = 4
STEPS = 4 * EPOCHS


def net(width=8, dropout=0.3):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    )


def job(config=None, device="cpu", **settings):
    config = {"optimizer": {"lr": 0.02}} if config is None else config
    return tn.types.Job(None, config, tn.Runtime(device), **settings)


def train(module, optimizer, after_step=lambda: None):
    """One pass over the digits, in the order of torch's global generator: the mean loss."""
    total = 0.0
    for rows in torch.randperm(len(INPUTS)).split(64):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(INPUTS[rows]), TARGETS[rows])
        loss.backward()
        optimizer.step()
        after_step()
        total += loss.item() / 4
    return total


def metrics(reports):
    return [(report.epoch, report.metrics) for report in reports]


def assert_pieces_equal_whole(trainer, job, cuts):
    whole, reports, _ = run_with_reason(trainer, job, cuts[-1])
    state, pieces = trainer.init(job), []
    for until in cuts:
        state, more, _ = run_with_reason(trainer, job, until, through_file(state))
        pieces += more
    assert metrics(pieces) == metrics(reports)
    assert len(reports) == cuts[-1]
    assert differences(whole.values, state.values) == []


# Loops that are right.


@loop(epochs=EPOCHS)
def sgd_one_cycle(config, run):
    """SGD with momentum under OneCycleLR."""
    module = run.place(net(dropout=0.0))
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9, **config["optimizer"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config["optimizer"]["lr"], total_steps=STEPS)
    for _ in run.epochs(module=module, optimizer=optimizer, schedule=schedule):
        loss = train(module, optimizer, schedule.step)
        yield {"loss": loss, "lr": optimizer.param_groups[0]["lr"], "momentum": optimizer.param_groups[0]["momentum"]}


@loop(epochs=EPOCHS)
def adam_dropout(config, run):
    module = run.place(net())
    optimizer = torch.optim.Adam(module.parameters(), amsgrad=True, **config["optimizer"])
    for _ in run.epochs(module=module, optimizer=optimizer):
        module.train()
        train(module, optimizer)
        module.eval()
        with torch.no_grad():
            yield {"loss": nn.functional.cross_entropy(module(INPUTS), TARGETS)}


class Average:
    """A moving average with a state_dict, as EMA helpers have it."""

    def __init__(self, module):
        self.weights = [p.detach().clone() for p in module.parameters()]
        self.steps = 0

    def update(self, module):
        self.steps += 1
        for weight, parameter in zip(self.weights, module.parameters(), strict=True):
            weight.lerp_(parameter.detach(), 0.1)

    def state_dict(self):
        return {"weights": self.weights, "steps": np.int64(self.steps)}

    def load_state_dict(self, state):
        self.weights, self.steps = state["weights"], state["steps"]


class Scaled(nn.Module):
    """A buffer that state_dict leaves out and training changes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, inputs):
        if self.training:
            self.scale.mul_(1.1)
        return self.linear(inputs.flatten(1)) * self.scale


@loop(epochs=EPOCHS)
def everything(config, run):
    """Every kind of thing that can be named, and every source of randomness."""
    module, head = Scaled(), torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.AdamW([*module.parameters(), head], **config["optimizer"])
    first = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
    second = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[2])
    average, scaler, swa = Average(module), torch.amp.GradScaler("cpu"), torch.optim.swa_utils.AveragedModel(module)
    best, seen, weights = {"loss": math.inf, "epoch": 0}, [], {"inner": [torch.zeros(3)]}
    alias = weights["inner"][0]
    start = torch.randn(3).sum() + random.random() + np.random.random() + run.epoch_seed  # noqa: NPY002
    named = {
        "module": module, "head": head, "optimizer": optimizer, "schedule": schedule, "average": average,
        "scaler": scaler, "swa": swa, "best": best, "seen": seen, "weights": weights, "result": module,
    }  # fmt: skip
    for epoch in run.epochs(**named):
        order = torch.randperm(len(INPUTS), generator=run.generator("order"))
        for rows in order.split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(INPUTS[rows]) + head, TARGETS[rows])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            average.update(module)
            swa.update_parameters(module)
        schedule.step()
        drawn = torch.rand(()).item() + random.random() + np.random.random()  # noqa: NPY002
        other = np.random.default_rng(run.epoch_seed).random()
        alias += 1.0
        seen.append(epoch)
        if loss < best["loss"]:
            best.update(loss=loss.item(), epoch=epoch)
        total = float(sum(w.sum() for w in average.weights))
        yield {
            "loss": loss, "drawn": drawn, "other": np.float32(other), "start": start, "sum": weights["inner"][0].sum(),
            "average": total, "seen": len(seen), "best": best["loss"], "steps": average.steps,
        }  # fmt: skip


@loop(epochs=6)
def patient(config, run):
    module = nn.Linear(2, 1)
    best = {"loss": math.inf, "epoch": 0}
    for epoch in run.epochs(module=module, best=best):
        if epoch - best["epoch"] > config["patience"]:
            return f"no better for {epoch - 1 - best['epoch']} epochs"
        loss = 1.0 if epoch < 3 else 0.5
        if loss < best["loss"]:
            best.update(loss=loss, epoch=epoch)
        yield {"loss": loss}


RIGHT = {"sgd": sgd_one_cycle, "adam": adam_dropout, "everything": everything}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("cuts", [(1, 2, 3, 4), (3, 4), (2, 4)])
def test_a_loop_in_pieces_equals_the_loop_at_once(name, cuts):
    assert_pieces_equal_whole(RIGHT[name], job(), cuts)


@pytest.mark.parametrize(
    "name", ["StepLR", "MultiStepLR", "CosineAnnealingWarmRestarts", "ReduceLROnPlateau", "CyclicLR", "PolynomialLR"]
)
def test_learning_rate_schedulers_resume_exactly(name):
    settings = {
        "StepLR": {"step_size": 2},
        "MultiStepLR": {"milestones": [2, 3]},
        "CosineAnnealingWarmRestarts": {"T_0": 3},
        "ReduceLROnPlateau": {"patience": 0, "threshold": 0.5},
        "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
        "PolynomialLR": {"total_iters": 3},
    }[name]

    @loop(epochs=EPOCHS)
    def scheduled(config, run):
        module = net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        schedule = getattr(torch.optim.lr_scheduler, name)(optimizer, **settings)
        for _ in run.epochs(module=module, optimizer=optimizer, schedule=schedule):
            loss = train(module, optimizer)
            schedule.step(*([loss] if name == "ReduceLROnPlateau" else []))
            yield {"loss": loss, "lr": optimizer.param_groups[0]["lr"]}

    _, reports, _ = run_with_reason(scheduled, job(), EPOCHS)
    assert len({report.metrics["lr"] for report in reports}) > 1
    assert_pieces_equal_whole(scheduled, job(), (1, 2, 3, 4))


def test_a_data_loader_that_shuffles_from_the_global_generator_resumes_exactly():
    @loop(epochs=3)
    def loaded(config, run):
        rows = torch.utils.data.TensorDataset(INPUTS, TARGETS)
        batches = torch.utils.data.DataLoader(rows, batch_size=64, shuffle=True)
        module = net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in run.epochs(module=module, optimizer=optimizer):
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(inputs), targets)
                loss.backward()
                optimizer.step()
            yield {"loss": loss}

    assert_pieces_equal_whole(loaded, job(), (1, 3))


def test_a_state_is_not_touched_by_training_on():
    state, _, _ = run_with_reason(everything, job(), 1)
    before = copy.deepcopy(state.values)
    run_with_reason(everything, job(), 3, state)
    everything.init(job())
    assert differences(state.values, before) == []


def test_states_of_one_run_share_no_tensor():
    states = [state for state, _ in everything.advance(job(), everything.init(job()), 3)]
    held = [tensor.data_ptr() for state in states for tensor in tensors(state.values)]
    assert len(held) == len(set(held)) > 30


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value] if value.numel() else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in inner for tensor in tensors(part)]


def test_a_pause_leaves_the_training_that_goes_on_alone():
    training = everything.advance(job(), everything.init(job()), 2)
    state, _ = next(training)
    run_with_reason(everything, job(), 2, state)
    second, _ = next(training)
    assert differences(second.values, run_with_reason(everything, job(), 2)[0].values) == []


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 6])
def test_a_reason_to_end_comes_at_the_same_epoch_however_the_trial_is_cut(stop):
    patience = {"patience": 2}
    whole, reports, reason = run_with_reason(patient, job(patience), 6)
    assert (len(reports), reason) == (5, "no better for 2 epochs")
    state, first, early = run_with_reason(patient, job(patience), stop)
    end, more, late = run_with_reason(patient, job(patience), 6, through_file(state))
    assert metrics(first + more) == metrics(reports)
    assert (early, late) == (("", reason) if stop < 6 else (reason, reason))
    assert differences(end.values, whole.values) == []


def test_the_executor_ends_a_trial_with_the_reason_that_the_loop_returned():
    executor = InlineExecutor(tn.Runtime("cpu"))
    executor.submit(Slice(3, 0, 6), patient, job({"patience": 2}), None)
    events = []
    while executor.busy:
        events += executor.wait()
    assert (events[-1].status, events[-1].reason, len(events)) == ("STOPPED", "no better for 2 epochs", 6)


def test_a_loop_that_has_reached_its_end_yields_nothing_more():
    state, _, _ = run_with_reason(adam_dropout, job(), EPOCHS)
    assert run_with_reason(adam_dropout, job(), EPOCHS, state)[1:] == ([], "")
    assert run_with_reason(adam_dropout, job(), EPOCHS + 5, state)[1:] == ([], "")


def test_the_same_seed_gives_the_same_loop_and_another_another():
    settings = [{}, {"seed": 1}, {"replica": 1}, {"trial": 0}, {"trial": 1}]
    runs = [metrics(run_with_reason(everything, job(**setting), 2)[1]) for setting in settings]
    assert runs[0] == metrics(run_with_reason(everything, job(), 2)[1])
    for key in ("loss", "drawn", "other", "start"):
        assert len({made[1][1][key] for made in runs}) == len(settings)


def test_each_epoch_and_each_name_has_draws_of_its_own():
    drawn = []

    @loop(epochs=2)
    def draws(config, run):
        drawn.append(torch.rand(1, generator=run.generator("order")).item())
        drawn.append(run.epoch_seed)
        for _ in run.epochs():
            drawn.extend(torch.rand(1, generator=run.generator(name)).item() for name in ("order", "noise"))
            drawn.append(run.epoch_seed)
            drawn.append(torch.rand(1).item())
            assert torch.equal(
                torch.rand(5, generator=run.generator("order")), torch.rand(5, generator=run.generator("order"))
            )
            yield {"loss": 1.0}

    state = tn.types.TrainState(0, draws.init(job()).values)
    drawn.clear()
    run_with_reason(draws, job(), 2, state)
    assert len(set(drawn)) == len(drawn) == 10
    assert all(0 <= seed < 2**32 for seed in drawn if isinstance(seed, int))


def test_the_global_generators_are_the_callers_again_at_every_yield():
    with generators_untouched():
        state = everything.init(job())
    training = everything.advance(job(), state, 3)
    for _ in range(3):
        with generators_untouched():
            next(training)
    with generators_untouched():
        training.close()
        everything.module(job(), state)
        check_loop(everything, job())


@pytest.mark.parametrize("fails", ["building", "training", "leaving"])
def test_the_global_generators_are_put_back_when_a_loop_fails(fails):
    @loop(epochs=2)
    def failing(config, run):
        torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
        if fails == "building" and config["now"]:
            raise KeyError("build")
        try:
            for _ in run.epochs():
                torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
                if fails == "training":
                    raise KeyError("train")
                yield {"loss": 1.0}
        finally:
            torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
            if fails == "leaving" and config["now"]:
                raise KeyError("leave")

    state = failing.init(job({"now": False}))
    with generators_untouched(), pytest.raises(KeyError):
        run_with_reason(failing, job({"now": True}), 1, state)


def test_draws_after_the_yield_do_not_move_the_next_epoch():
    def make(extra):
        @loop(epochs=2)
        def drawing(config, run):
            for _ in run.epochs():
                yield {"loss": torch.rand(())}
                torch.rand(extra)

        return metrics(run_with_reason(drawing, job(), 2)[1])

    assert make(0) == make(7)


def test_what_a_loop_does_to_its_configuration_stays_there():
    @loop(epochs=2)
    def popping(config, run):
        lr = config["optimizer"].pop("lr")
        for _ in run.epochs():
            yield {"loss": lr}

    config = {"optimizer": {"lr": 0.25}}
    assert_pieces_equal_whole(popping, job(config), (1, 2))
    assert config == {"optimizer": {"lr": 0.25}}


def test_a_fork_goes_on_with_its_own_settings():
    state, _, _ = run_with_reason(sgd_one_cycle, job({"optimizer": {"lr": 0.02}}), 2)
    fork = {"optimizer": {"lr": 0.04, "nesterov": True, "weight_decay": 0.1}}
    same, before, _ = run_with_reason(sgd_one_cycle, job(), 3, state)
    forked, after, _ = run_with_reason(sgd_one_cycle, job(fork), 3, state)
    assert after[0].metrics["lr"] == pytest.approx(2 * before[0].metrics["lr"])
    assert after[0].metrics["momentum"] == before[0].metrics["momentum"]
    group = forked.values["state"]["optimizer"]["param_groups"][0]
    assert (group["nesterov"], group["weight_decay"]) == (True, 0.1)
    assert differences(forked.values["state"]["module"], same.values["state"]["module"]) != []
    again, _, _ = run_with_reason(sgd_one_cycle, job(fork), 4, through_file(forked))
    assert differences(again.values, run_with_reason(sgd_one_cycle, job(fork), 4, state)[0].values) == []


@pytest.mark.parametrize("schedule", [None, "CosineAnnealingLR", "LambdaLR", "StepLR"])
def test_a_fork_with_another_rate_has_the_rate_that_it_would_have_alone(schedule):
    settings = {"CosineAnnealingLR": [4], "LambdaLR": [lambda epoch: 0.9**epoch], "StepLR": [1, 0.5], None: []}[
        schedule
    ]

    @loop(epochs=4)
    def rates(config, run):
        module = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(module.parameters(), lr=config["lr"])
        named = {"module": module, "optimizer": optimizer}
        if schedule:
            named["schedule"] = getattr(torch.optim.lr_scheduler, schedule)(optimizer, *settings)
        for _ in run.epochs(**named):
            used = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if schedule:
                named["schedule"].step()
            yield {"loss": used}

    state, _, _ = run_with_reason(rates, job({"lr": 0.1}), 2)
    forked, alone = (
        run_with_reason(rates, job({"lr": 0.3}), 4, state)[1],
        run_with_reason(rates, job({"lr": 0.3}), 4)[1][2:],
    )
    assert [r.metrics["loss"] for r in forked] == pytest.approx([r.metrics["loss"] for r in alone])


def test_a_fork_fills_a_learning_rate_that_is_a_tensor():
    @loop(epochs=2)
    def tensor_rate(config, run):
        module = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(module.parameters(), lr=torch.tensor(config["lr"]))
        for _ in run.epochs(module=module, optimizer=optimizer):
            yield {"lr": optimizer.param_groups[0]["lr"]}
            assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)

    state, _, _ = run_with_reason(tensor_rate, job({"lr": 0.5}), 1)
    _, (report,), _ = run_with_reason(tensor_rate, job({"lr": 0.25}), 2, state)
    assert report.metrics == {"lr": 0.25}


def test_a_fork_with_other_parameter_groups_is_refused_by_torch():
    @loop(epochs=2)
    def grouped(config, run):
        module = nn.Linear(1, 1)
        optimizer = torch.optim.SGD([{"params": [p]} for p in list(module.parameters())[: config["groups"]]], lr=0.1)
        for _ in run.epochs(module=module, optimizer=optimizer):
            yield {"loss": 1.0}

    state, _, _ = run_with_reason(grouped, job({"groups": 1}), 1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        run_with_reason(grouped, job({"groups": 2}), 2, state)


def test_the_module_of_a_loop_is_the_one_that_is_named_restored_and_in_evaluation_mode():
    state, _, _ = run_with_reason(adam_dropout, job(), 2)
    module = adam_dropout.module(job(), through_file(state))
    assert isinstance(module, nn.Sequential)
    assert not any(part.training for part in module.modules())
    assert all(
        torch.equal(tensor, state.values["state"]["module"][name]) for name, tensor in module.state_dict().items()
    )
    with torch.no_grad():
        module[1].weight.zero_()
    assert differences(run_with_reason(adam_dropout, job(), 2)[0].values, state.values) == []


def test_a_loop_without_a_module_has_none_to_give():
    @loop(epochs=1)
    def bare(config, run):
        for _ in run.epochs(numbers={"n": 1}):
            yield {"loss": 1.0}

    with pytest.raises(StudyError, match=r"loop bare names no nn\.Module in run\.epochs"):
        bare.module(job(), bare.init(job()))


def test_a_loop_finds_the_device_and_the_epochs_counted_from_one():
    @loop(epochs=3)
    def looks(config, run):
        assert run.device == torch.device("cpu")
        pair = run.place((torch.ones(2), {"a": torch.ones(1)}))
        assert pair[0].device == run.device
        for epoch in run.epochs():
            yield {"epoch": epoch}

    assert [report.metrics for report in run_with_reason(looks, job(), 3)[1]] == [
        {"epoch": 1.0},
        {"epoch": 2.0},
        {"epoch": 3.0},
    ]


def test_seconds_are_those_of_the_epoch(monkeypatch):
    clock = np.zeros(1)

    def pass_time(seconds):
        clock[0] += seconds

    monkeypatch.setattr("tuneflow.train.loop_run.time", SimpleNamespace(perf_counter=lambda: float(clock[0])))

    @loop(epochs=2)
    def takes(config, run):
        pass_time(100.0)
        for epoch in run.epochs():
            pass_time(epoch)
            yield {"loss": 1.0}
            pass_time(10.0)

    assert [report.seconds for report in run_with_reason(takes, job(), 2)[1]] == [1.0, 2.0]


def test_a_loop_says_what_it_is():
    assert sgd_one_cycle.describe() == {"loop": "sgd_one_cycle", "epochs": 4}
    assert repr(sgd_one_cycle) == "loop sgd_one_cycle, 4 epochs"
    assert (sgd_one_cycle.__doc__, sgd_one_cycle.__name__) == ("SGD with momentum under OneCycleLR.", "sgd_one_cycle")


def test_a_loop_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(sgd_one_cycle)) is sgd_one_cycle
    assert pickle.loads(pickle.dumps({"trainer": [patient]}))["trainer"] == [patient]


def test_a_loop_that_no_other_process_could_find_says_so_when_pickled():
    @loop(epochs=1)
    def inner(config, run):
        yield {}

    with pytest.raises(pickle.PicklingError, match=r"loop inner cannot go to another process.*at the top of a module"):
        pickle.dumps(inner)


# The dry run.


@pytest.mark.parametrize("name", RIGHT)
def test_the_dry_run_accepts_loops_that_name_their_state_and_returns_their_metrics(name):
    _, reports, _ = run_with_reason(RIGHT[name], job(), 1)
    assert check_loop(RIGHT[name], job()).metrics == list(reports[0].metrics)


def test_the_dry_run_accepts_a_loop_of_one_epoch_and_one_that_ends_at_once():
    @loop(epochs=1)
    def short(config, run):
        for _ in run.epochs():
            yield {"loss": torch.rand(())}

    @loop(epochs=5)
    def ending(config, run):
        for _ in run.epochs():
            return "nothing to do"
            yield

    assert check_loop(short, job()).metrics == ["loss"]
    assert check_loop(ending, job()).metrics == []


@pytest.mark.parametrize("first", [1, 2])
def test_the_dry_run_does_not_mind_a_configuration_that_diverges(first):
    @loop(epochs=5)
    def bursting(config, run):
        for epoch in run.epochs():
            yield {"loss": math.nan if epoch >= first else 1.0}

    assert check_loop(bursting, job()).metrics == ["loss"][: first - 1]


def refusal(loop, config=None):
    with pytest.raises(ValueError) as caught:
        check_loop(loop, job(config))
    return str(caught.value)


counter = {"n": 0}


def test_the_time_that_a_loop_began_is_no_state_that_it_carries():
    @loop(epochs=3)
    def timed(config, run):
        start = time.perf_counter()
        for _ in run.epochs():
            yield {"loss": 1.0, "late": float(time.perf_counter() - start > 1e6)}

    check_loop(timed, job())  # warnings are errors


def test_a_counter_outside_of_the_loop_is_refused():
    @loop(epochs=3)
    def counts(config, run):
        for _ in run.epochs():
            counter["n"] += 1
            yield {"loss": counter["n"]}

    message = refusal(counts)
    assert "loop counts hides state: 2 epochs at once and 1 + 1" in message
    assert "differ in epoch 2, in metric.loss" in message
    assert "counter outlives a trial, and has to live inside the function" in message


def test_a_refusal_is_not_hidden_by_a_loop_that_fails_when_it_is_looked_at_again():
    calls = []

    @loop(epochs=3)
    def counts(config, run):
        for _ in run.epochs():
            calls.append(1)
            if len(calls) > 4:
                raise KeyError("enough")
            yield {"loss": len(calls)}

    assert "loop counts hides state" in refusal(counts)


def test_a_counter_in_the_enclosing_function_is_refused_by_name():
    steps = 0

    @loop(epochs=3)
    def counts(config, run):
        nonlocal steps
        for _ in run.epochs():
            steps += 1
            yield {"loss": steps}

    assert 'Not named is steps: keep it in a dict, numbers = {"steps": ...}, and name that.' in refusal(counts)


def test_a_counter_in_the_loop_is_refused_by_name():
    @loop(epochs=3)
    def counts(config, run):
        module, steps, other = nn.Linear(1, 1), 0, 5
        for _ in run.epochs(module=module):
            steps = steps + other - 4
            yield {"loss": steps}

    message = refusal(counts)
    assert "differ in epoch 2, in metric.loss" in message
    assert "Not named is steps: keep it in a dict" in message
    assert "other" not in message
    assert "module" not in message


def test_an_optimizer_with_momentum_that_is_not_named_is_refused_by_name():
    @loop(epochs=3)
    def forgets(config, run):
        module = net(dropout=0.0)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in run.epochs(module=module):
            yield {"loss": train(module, optimizer)}

    message = refusal(forgets)
    assert "differ in epoch 2, in metric.loss, module.1.weight" in message
    assert "Not named is optimizer: write run.epochs(module=module, optimizer=optimizer)." in message


def test_an_optimizer_without_memory_may_stay_unnamed():
    @loop(epochs=3)
    def plain(config, run):
        module = net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in run.epochs(module=module):
            yield {"loss": train(module, optimizer)}

    assert check_loop(plain, job()).metrics == ["loss"]


@pytest.mark.parametrize("forgotten", ["module", "schedule", "average"])
def test_other_things_that_are_not_named_are_refused_by_name(forgotten):
    @loop(epochs=3)
    def forgets(config, run):
        module = net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        average = Average(module)
        named = {"module": module, "optimizer": optimizer, "schedule": schedule, "average": average}
        for _ in run.epochs(**{name: thing for name, thing in named.items() if name != forgotten}):
            loss = train(module, optimizer)
            schedule.step()
            average.update(module)
            yield {"loss": loss, "epoch": schedule.last_epoch, "average": average.weights[0].sum()}

    assert f"Not named is {forgotten}: write run.epochs(" in refusal(forgets)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_generator_that_draws_on_is_refused_with_the_way_out(kind):
    @loop(epochs=3)
    def draws(config, run):
        generator = run.generator("order") if kind == "torch" else np.random.default_rng(run.epoch_seed)
        for _ in run.epochs():
            drawn = torch.rand((), generator=generator) if kind == "torch" else generator.random()
            yield {"loss": drawn}

    assert 'generator draws on from epoch to epoch: make it in each pass, generator = run.generator("generator").' in (
        refusal(draws)
    )


def test_evaluation_mode_that_is_left_on_is_refused():
    @loop(epochs=3)
    def stays(config, run):
        module = net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in run.epochs(module=module, optimizer=optimizer):
            loss = train(module, optimizer)
            module.eval()
            yield {"loss": loss}

    assert "differ in epoch 2" in refusal(stays)


def test_a_loop_whose_end_depends_on_hidden_state_is_refused():
    @loop(epochs=3)
    def ends(config, run):
        done = 0
        for _ in run.epochs():
            done = done + 1
            if done == 2:
                return "enough"
            yield {"loss": 1.0}

    message = refusal(ends)
    assert "differ in epoch 2, in how it ends" in message
    assert "Not named is done" in message


def test_a_loop_whose_reason_depends_on_hidden_state_is_refused():
    @loop(epochs=3)
    def ends(config, run):
        seen = 0
        for epoch in run.epochs():
            if epoch == 2:
                return f"enough after {seen}"
            seen += epoch
            yield {"loss": 1.0}

    assert "differ in epoch 2, in how it ends" in refusal(ends)


def test_a_state_that_weights_only_refuses_is_refused():
    class Odd:
        def state_dict(self):
            return {"value": torch.nn.Buffer(torch.ones(1)).as_subclass(Strange)}

        def load_state_dict(self, state):
            pass

    @loop(epochs=2)
    def odd(config, run):
        for _ in run.epochs(odd=Odd()):
            yield {"loss": 1.0}

    assert "loop odd: its state cannot be saved and read back" in refusal(odd)


class Strange(torch.Tensor):
    pass


def test_differences_are_named_to_the_leaf_and_nan_equals_nan():
    one = {"a": torch.tensor([1.0, math.nan]), "b": [1, {"c": 2.0}], "d": math.nan, "e": True, "f": (1, 2)}
    assert differences(one, copy.deepcopy(one)) == []
    other = {"a": torch.tensor([2.0, math.nan]), "b": [1, {"c": 3.0}], "d": 0.0, "e": 1, "f": (1,), "g": 0}
    assert differences(one, other) == ["a", "b.1.c", "d", "e", "f.1", "g"]
    assert differences({"a": torch.ones(2)}, {"a": torch.ones(2, dtype=torch.float64)}) == ["a"]
    assert differences({"a": torch.ones(2)}, {"a": torch.ones(3)}) == ["a"]
    assert differences({"a": torch.ones(2)}, {"a": 1.0}) == ["a"]


@pytest.mark.parametrize(("apart", "found"), [(1e-4, []), (1e-2, ["t", "x"])])
def test_differences_may_be_asked_to_overlook_rounding(apart, found):
    one, other = torch.tensor([1.0, 1e-9]), torch.tensor([1.0 + apart, 1e-9 + apart / 2])
    assert differences({"t": one, "x": 1.0, "n": 3}, {"t": other, "x": 1 + apart, "n": 3}, close=1e-3) == found
    assert differences(torch.tensor([1, 2]), torch.tensor([1, 3]), close=10.0) == [""]
    assert differences({"t": one}, {"t": other}) == ["t"]


# What is wrong is said.


def raised(function, until=2, epochs=2, kind=ValueError, config=None):
    """What training a loop of `function` raises, as text."""
    with pytest.raises(kind) as caught:
        run_with_reason(loop(epochs=epochs)(function), job(config), until)
    return str(caught.value)


def test_a_second_yield_in_a_pass_is_an_error():
    def twice(config, run):
        for _ in run.epochs():
            yield {"loss": 1.0}
            yield {"loss": 2.0}

    assert "loop twice, epoch 1: yields a second time; one pass is one epoch" in raised(twice)


def test_a_pass_without_a_yield_is_an_error():
    def skips(config, run):
        for epoch in run.epochs():
            if epoch != 1:
                yield {"loss": 1.0}

    assert "loop skips, epoch 1: the pass ended without a yield" in raised(skips)


def test_a_yield_before_the_first_pass_is_an_error():
    def early(config, run):
        yield {"loss": 1.0}
        for _ in run.epochs():
            yield {"loss": 1.0}

    def between(config, run):
        passes = run.epochs()
        yield {"loss": 1.0}
        for _ in passes:
            yield {"loss": 1.0}

    for function in (early, between):
        assert f"loop {function.__name__}: yields before the first pass" in raised(function)


def test_epochs_is_called_once():
    def again(config, run):
        run.epochs()
        for _ in run.epochs():
            yield {"loss": 1.0}

    def never(config, run):
        if config is None:
            yield

    def unused(config, run):
        run.epochs()
        if config is None:
            yield

    def reasoned(config, run):
        run.epochs()
        return "too wide"
        yield

    assert "loop reasoned: ended before its first pass" in raised(reasoned)
    assert "loop again: run.epochs(...) is called twice" in raised(again)
    assert "loop never: never calls run.epochs(...)" in raised(never)
    assert "loop unused: ended" in raised(unused)


@pytest.mark.parametrize(
    ("yielded", "words"),
    [
        (None, "needs a dict of numbers such as {\"loss\": 0.3}, got None"),
        (0.5, "needs a dict of numbers such as {\"loss\": 0.3}, got 0.5"),
        ({}, "got {}"),
        (torch.ones(2, 3), "got a Tensor of shape (2, 3)"),
        ({"loss": 1.0, "classes": {"a": 1.0}}, '"classes" needs to be one number, got {\'a\': 1.0}; reduce it'),
        ({"loss": [1.0]}, '"loss" needs to be one number, got [1.0]'),
        ({"loss": None}, '"loss" needs to be one number, got None'),
        ({"loss": "0.5"}, "\"loss\" needs to be one number, got '0.5'"),
        ({"loss": torch.ones(2)}, '"loss" needs to be one number, got a Tensor of shape (2,)'),
        ({"loss": np.ones((2, 1))}, '"loss" needs to be one number, got a ndarray of shape (2, 1)'),
        ({"loss": 1j}, '"loss" needs to be one number, got 1j'),
        ({"loss": torch.tensor(1j)}, '"loss" needs to be one number, got a Tensor of shape ()'),
        ({"loss": "x" * 100}, '"loss" needs to be one number, got a str'),
        ({3: 1.0}, "names of metrics are strings, got 3"),
    ],
)  # fmt: skip
def test_a_yield_that_is_not_a_dict_of_numbers_is_an_error(yielded, words):
    def odd(config, run):
        for _ in run.epochs():
            yield yielded

    message = raised(odd, kind=TypeError)
    assert message.startswith("loop odd, epoch 1: ")
    assert words in message


def test_tensors_and_numpy_scalars_become_floats():
    def mixed(config, run):
        for _ in run.epochs():
            yield {
                "a": torch.ones((), requires_grad=True), "b": torch.tensor([2]), "c": np.float32(3), "d": np.int64(4),
                "e": np.ones((1, 1)), "f": True, "g": 7,
            }  # fmt: skip

    _, (report,), _ = run_with_reason(loop(epochs=1)(mixed), job(), 1)
    assert report.metrics == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 1.0, "f": 1.0, "g": 7.0}
    assert {type(value) for value in report.metrics.values()} == {float}


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(("rich", "words"), [(1, 'stopped yielding "accuracy"'), (2, 'began to yield "accuracy"')])
def test_every_epoch_yields_the_same_names(rich, words, paused):
    @loop(epochs=2)
    def drops(config, run):
        for epoch in run.epochs():
            yield {"loss": 1.0, "accuracy": 0.5} if epoch == rich else {"loss": 1.0}

    state = run_with_reason(drops, job(), 1)[0] if paused else None
    with pytest.raises(TypeError, match=f"loop drops, epoch 2: {words}; every epoch yields the same names"):
        run_with_reason(drops, job(), 2, state)


@pytest.mark.parametrize("bad", [math.nan, math.inf, torch.tensor(-math.inf)])
@pytest.mark.parametrize("cut", [False, True])
def test_a_loss_that_is_not_finite_is_a_trial_that_diverged(bad, cut):
    @loop(epochs=3)
    def bursts(config, run):
        for epoch in run.epochs():
            yield {"loss": bad if epoch == 2 else 0.25, "other": math.nan}

    state = run_with_reason(bursts, job(), 1)[0] if cut else None
    with pytest.raises(Diverged, match="loss not finite at epoch 2") as caught:
        run_with_reason(bursts, job(), 3, state)
    assert (caught.value.epoch, caught.value.step, caught.value.last) == (2, 0, 0.25)


def test_a_loop_that_ends_early_says_why():
    def breaks(config, run):
        for epoch in run.epochs():
            if epoch == 2:
                break
            yield {"loss": 1.0}

    def numbers(config, run):
        for epoch in run.epochs():
            if epoch == 2:
                return 3
            yield {"loss": 1.0}

    assert "loop breaks: ended in epoch 2 of 4 without a reason; return a string" in raised(breaks, 4, 4)
    assert "loop numbers: returned 3; return a string" in raised(numbers, 4, 4, TypeError)


def test_what_follows_the_yield_may_not_end_the_trial_nor_change_the_state():
    def returns(config, run):
        for epoch in run.epochs():
            yield {"loss": 1.0}
            if epoch == 2:
                return "enough"

    def steps(config, run):
        module = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for _ in run.epochs(module=module, optimizer=optimizer, schedule=schedule):
            optimizer.step()
            yield {"loss": 1.0}
            schedule.step()

    assert "loop returns: returned 'enough' after the yield of epoch 2" in raised(returns, 4, 4)
    message = raised(steps)
    assert "loop steps, epoch 1: optimizer.param_groups.0.lr, schedule.last_epoch" in message
    assert "make the yield the last thing in the pass" in message


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (3, 'cannot restore a int in place: keep it in a dict, thing = {"value": 3}, and name the dict'),
        (np.float64(2), "cannot restore a float64 in place"),
        ("word", "cannot restore a str in place"),
        (None, "cannot restore None: leave out what is not there"),
        ((1, 2), "cannot restore a tuple in place: name a list or a dict"),
        ({1, 2}, "cannot restore a set in place"),
        (np.ones(2), "cannot restore a NumPy array: name a tensor"),
        (torch.Generator(), "cannot restore a Generator: make one in each pass, with run.generator('thing')"),
        (np.random.default_rng(0), "cannot restore a Generator: make one in each pass"),
        (iter([1]), "cannot restore a list_iterator: it needs methods state_dict() and load_state_dict(state)"),
        (nn.Linear, "cannot restore a type"),
    ],
)
def test_what_cannot_be_restored_is_refused_by_name(thing, words):
    def names(config, run):
        for _ in run.epochs(thing=thing):
            yield {"loss": 1.0}

    message = raised(names, kind=TypeError)
    assert message.startswith(f"loop names: run.epochs(thing=...) {words}")


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ({"net": nn.Linear(1, 1)}, "loop names: thing.net is a Linear"),
        ([1, {"x": {1}}], "loop names: thing.1.x is a set"),
        ({"x": [np.ones(1)]}, "loop names: thing.x.0 is a ndarray"),
    ],
)
def test_what_a_container_holds_and_cannot_be_saved_is_refused_by_its_path(thing, words):
    def names(config, run):
        for _ in run.epochs(thing=thing):
            yield {"loss": 1.0}

    message = raised(names, kind=TypeError)
    assert words in message
    assert "run.epochs(thing=...)" in message


def test_a_state_of_another_shape_or_of_other_names_is_refused():
    @loop(epochs=2)
    def shaped(config, run):
        things = {"module": nn.Linear(config["width"], 1, bias=config["bias"]), "tensor": torch.zeros(config["rows"])}
        for _ in run.epochs(**{name: things[name] for name in config["names"]}):
            yield {"loss": 1.0}

    config = {"width": 3, "bias": True, "rows": 1, "names": ["module", "tensor"]}
    state = shaped.init(job(config))
    for change, words in (
        ({"width": 4}, r'"module.weight" is \(1, 3\) in the state and \(1, 4\) in what the loop made'),
        ({"bias": False}, r'"module.bias" is \(1,\) in the state and nothing in what'),
        ({"rows": 5}, r'"tensor" is \(1,\) in the state and \(5,\) in what'),
        (
            {"names": ["module"]},
            r"saved with run.epochs\(module, tensor\), and is to be restored into run.epochs\(module\)",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            run_with_reason(shaped, job({**config, **change}), 1, state)


def test_a_dict_of_weights_is_filled_so_that_their_optimizer_still_holds_them():
    @loop(epochs=3)
    def functional(config, run):
        weights = {"w": torch.zeros(4, requires_grad=True), "more": [torch.zeros(1, requires_grad=True)]}
        optimizer = torch.optim.Adam([weights["w"], *weights["more"]], lr=0.1)
        for _ in run.epochs(weights=weights, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (weights["w"] - torch.rand(4)).square().sum() + (weights["more"][0] - 1).square().sum()
            loss.backward()
            optimizer.step()
            yield {"loss": loss}

    assert_pieces_equal_whole(functional, job(), (1, 2, 3))


def test_a_container_that_grows_and_shrinks_is_restored_as_it_was():
    @loop(epochs=4)
    def replay(config, run):
        memory, counts = [], {"built": 1.0}
        for epoch in run.epochs(memory=memory, counts=counts):
            if epoch == 1:
                del counts["built"]
            counts[f"epoch {epoch % 2}"] = counts.get(f"epoch {epoch % 2}", 0) + 1
            memory.append(torch.zeros(2))
            for drawn in memory:
                drawn += torch.rand(2)
            if len(memory) > 2:
                memory.pop(0)
            yield {"sum": torch.stack(memory).sum(), "counts": sum(counts.values()), "length": len(counts)}

    assert_pieces_equal_whole(replay, job(), (1, 2, 3, 4))
    state, _, _ = run_with_reason(replay, job(), 2)
    before = copy.deepcopy(state.values)
    run_with_reason(replay, job(), 4, state)
    assert differences(state.values, before) == []


def test_containers_that_are_named_keep_their_kind_in_a_study():
    @loop(epochs=4)
    def counting(config, run):
        weight = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=1.0)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2])  # its milestones are a Counter
        named = {"counts": Counter(a=1), "lists": defaultdict(list)}
        for epoch in run.epochs(optimizer=optimizer, schedule=schedule, named=named):
            named["counts"]["b"] += 1
            named["lists"]["a"].append(epoch)
            optimizer.step()
            schedule.step()
            yield {"loss": -named["counts"]["b"] - len(named["lists"]["a"]) - schedule.get_last_lr()[0]}

    space = tn.SearchSpace(x=tn.Constant(1))
    study = tn.Study(trainer=counting, space=space, runtime=tn.Runtime("cpu", threads=1), progress=False)
    study.run(trials=1, epochs=2)
    study.run(trials=1)
    trial = study.trials[0]
    assert (trial.status, [report.metrics["loss"] for report in trial.reports]) == ("DONE", [-3.0, -4.1, -6.1, -8.1])


def test_a_loop_may_catch_its_own_errors():
    @loop(epochs=2)
    def careful(config, run):
        try:
            for _ in run.epochs(numbers={"n": 1}):
                yield {"loss": 1.0}
        except Exception:
            return "caught"

    assert_pieces_equal_whole(careful, job(), (1, 2))


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda config, run: None, "needs a generator function"),
        (3, "needs a generator function"),
        (nn.Linear, "needs a generator function"),
    ],
)
def test_only_a_generator_function_becomes_a_loop(thing, words):
    with pytest.raises(TypeError, match=words):
        loop(epochs=1)(thing)


def test_a_loop_takes_a_configuration_and_a_run():
    def alone(config):
        yield {}

    with pytest.raises(TypeError, match=r"loop alone needs to be a function of \(config, run\), it takes \(config\)"):
        loop(epochs=1)(alone)


@pytest.mark.parametrize("epochs", [0, -1, 2.0, True, None, "3"])
def test_epochs_is_a_whole_number(epochs):
    with pytest.raises(ValueError, match="loop: epochs needs to be a whole number >= 1, got"):
        loop(epochs=epochs)


def test_a_decorator_without_its_parentheses_says_how_it_is_written():
    with pytest.raises(TypeError, match=r"write @tn.loop\(epochs=10\) above bare"):

        @loop
        def bare(config, run):
            yield {}


def test_a_loop_is_a_trainer_for_every_epoch_of_an_executor():
    assert isinstance(everything, Loop)
    executor = InlineExecutor(tn.Runtime("cpu", threads=1))
    executor.submit(Slice(0, 0, 2), everything, job(), None)
    with generators_untouched():
        first = executor.wait()
    executor.stop(0)
    executor.submit(Slice(0, 1, 2), everything, job(), first[0].state)
    second = executor.wait()
    assert [event.report.metrics for event in (first[0], second[0])] == [
        report.metrics for report in run_with_reason(everything, job(), 2)[1]
    ]
    assert second[1].status == "DONE"
