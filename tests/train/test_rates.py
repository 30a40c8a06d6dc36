"""Learning-rate schedules: closed forms, torch's own, and that they span the whole trial whatever the pieces."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import tuneflow as tn
from tests.helpers.digits_training import job, linear, trainer
from tests.helpers.trainer_runs import flat, run

STEPS = 34  # optimizer steps of an epoch on the digits


def rates_of(schedule, steps, optimizer=None, epochs=1):
    """The learning rate of every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5, momentum=0.9) if optimizer is None else optimizer
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    live = schedule.attach(optimizer, settings, steps, epochs)
    seen = []
    for step in range(steps * epochs):
        live.before(step)
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        live.after_step()
    return seen


def torch_rates(factory, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5, momentum=0.9)
    scheduler, seen = factory(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_is_torchs_cosine():
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20, eta_min=0.05), 20)
    assert rates_of(tn.rates.Cosine(final=0.1), 20) == pytest.approx(theirs)


def test_one_cycle_is_torchs_one_cycle():
    theirs = torch_rates(lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.5, total_steps=40), 40)
    assert rates_of(tn.rates.OneCycle(), 40) == pytest.approx(theirs)


def test_one_cycle_moves_momentum_and_betas():
    sgd = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5, momentum=0.9)
    adam = torch.optim.Adam([nn.Parameter(torch.ones(1))], lr=0.5)
    for optimizer in (sgd, adam):
        rates_of(tn.rates.OneCycle(), 10, optimizer)
    assert sgd.param_groups[0]["momentum"] == pytest.approx(0.95)
    assert adam.param_groups[0]["betas"] == (pytest.approx(0.95), 0.999)


def test_step_and_warmup_closed_forms():
    assert rates_of(tn.rates.Step(at=(0.5, 0.75), by=0.1), 8) == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005] * 2)
    assert rates_of(tn.rates.Warmup(share=0.4), 10) == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.5] * 6)
    cosine = rates_of(tn.rates.Cosine(), 6)
    assert rates_of(tn.rates.Warmup(0.4, tn.rates.Cosine()), 10)[4:] == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", [tn.rates.Warmup, tn.rates.OneCycle])
def test_a_number_of_epochs_is_no_share(schedule):
    with pytest.raises(ValueError, match=r"is a share of the trial's steps and needs to be within \[0, 1\], got 10"):
        schedule(10)
    with pytest.raises(ValueError, match=r"is a share of the trial's steps.*, got Fixed\(\)"):
        schedule(tn.rates.Fixed())


def test_plateau_is_torchs_plateau():
    losses = [3.0, 2.0, 2.0, 2.1, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9, 1.9]
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    theirs = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(theirs, patience=2)
    live = tn.rates.Plateau(patience=2).attach(optimizer, [{"lr": 0.5}], 1, len(losses))
    for step, loss in enumerate(losses):
        live.before(step)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])
        live.after_epoch({"loss": loss})
        scheduler.step(loss)


SCHEDULES = {
    "constant": tn.rates.Fixed(),
    "step": tn.rates.Step(at=(0.3, 0.6)),
    "cosine": tn.rates.Cosine(),
    "one cycle": tn.rates.OneCycle(),
    "warm-up": tn.rates.Warmup(0.3, tn.rates.Cosine()),
    "plateau": tn.rates.Plateau(patience=0, threshold=0.5),
    "torch step": tn.rates.Torch(partial(lr_scheduler.StepLR, step_size=1)),
    "torch milestones": tn.rates.Torch(partial(lr_scheduler.MultiStepLR, milestones=[1, 3])),
    "torch cosine": tn.rates.Torch(lambda o, steps: lr_scheduler.CosineAnnealingLR(o, steps), unit="step"),
    "torch one cycle": tn.rates.Torch(
        lambda o, steps: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=steps), unit="step"
    ),
    "torch lambda": tn.rates.Torch(partial(lr_scheduler.LambdaLR, lr_lambda=lambda e: 0.5**e)),
    "torch plateau": tn.rates.Torch(partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.5)),
    "torch sequence": tn.rates.Torch(
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.5)], milestones=[2]
        )
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    "optimizer", [{"lr": 0.05, "momentum": 0.9}, tn.call(torch.optim.Adam, lr=0.01)], ids=["sgd", "adam"]
)
def test_training_in_pieces_under_a_schedule_equals_training_at_once(name, optimizer, tmp_path):
    from tuneflow.store.checkpoints import read, write

    ours = trainer(schedule=SCHEDULES[name], epochs=5)
    space = tn.SearchSpace(optimizer=optimizer)
    this = job(space.resolve(space.from_unit([])))
    whole, reports = run(ours, this, 5)
    state, pieces = None, []
    for until in (1, 2, 4, 5):
        state, more = run(ours, this, until, state)
        write(tmp_path / "state", state)
        state = read(tmp_path / "state")
        pieces += more
    assert flat(state.values) == flat(whole.values)
    assert [r.metrics for r in pieces] == [r.metrics for r in reports]


@pytest.mark.parametrize("name", ["constant", "cosine", "plateau", "torch step", "torch cosine"])
def test_a_fork_with_another_rate_trains_as_if_it_had_had_that_rate(name):
    """From the same state, the rates of the rest of the trial are those of the new configuration."""
    ours = trainer(schedule=SCHEDULES[name], epochs=4, loss=nn.CrossEntropyLoss())
    slow, fast = (job({"optimizer": {"lr": lr}}, builder=linear) for lr in (0.01, 0.02))
    state, _ = run(ours, slow, 2)
    fresh, _ = run(ours, fast, 3)
    forked, _ = run(ours, fast, 3, state)
    assert forked.values["optimizer"]["param_groups"][0]["lr"] == pytest.approx(
        fresh.values["optimizer"]["param_groups"][0]["lr"]
    )


def test_a_schedule_can_be_tuned():
    space = tn.SearchSpace(
        optimizer={"lr": 0.1},
        trainer={
            "schedule": tn.Choice(
                {"constant": tn.rates.Fixed(), "cosine": tn.call(tn.rates.Cosine, final=tn.Float(0.0, 0.5))}
            ),
            "clip": tn.Choice([None, 1.0]),
        },
    )
    study = tn.Study(
        model=tn.Model(linear), trainer=trainer(epochs=1), space=space, searcher=tn.Sobol(), progress=False
    )
    study.run(trials=4)
    assert {t.status for t in study.trials} == {"DONE"}
    assert len({t.metrics["loss"] for t in study.trials}) > 1


def test_patience_ends_a_trial_and_says_why():
    ours = trainer(patience=1, epochs=9)
    study = tn.Study(
        model=tn.Model(linear),
        trainer=ours,
        space=tn.SearchSpace(optimizer={"lr": 0.0}),
        minimize="loss",
        progress=False,
    )
    study.run(trials=1)
    (trial,) = study.trials
    assert (trial.status, trial.epochs, trial.reason) == ("STOPPED", 2, "loss no better for 1 epoch")
    assert study.best.number == 0


def test_patience_watches_the_metric_it_is_told():
    _, reports = run(
        trainer(patience=tn.Patience(1, "accuracy", maximize=True), epochs=9), job({"optimizer": {"lr": 0.0}}), 9
    )
    assert len(reports) == 2
    with pytest.raises(ValueError, match='"acc" is not reported; reported are loss, accuracy, train_loss'):
        run(trainer(patience=tn.Patience(1, "acc")), job(), 2)


@pytest.mark.parametrize("loss", ["plain", "weighted", "summed", "ignoring"])
def test_micro_batches_are_the_same_optimization(loss):
    made = {
        "plain": nn.CrossEntropyLoss(),
        "weighted": nn.CrossEntropyLoss(weight=torch.arange(1.0, 11.0)),
        "summed": nn.CrossEntropyLoss(reduction="sum"),
        "ignoring": nn.CrossEntropyLoss(ignore_index=3),
    }[loss]
    this = job({"optimizer": {"lr": 0.001}}, builder=linear)
    whole, _ = run(trainer(loss=made), this, 2)
    parts, _ = run(trainer(loss=made, micro_batch=5), this, 2)
    start = trainer(loss=made).init(this).values["module"]
    for name, weights in whole.values["module"].items():
        moved = (weights - start[name]).norm()
        assert (parts.values["module"][name] - weights).norm() <= 1e-4 * moved


def test_clip_bounds_the_step():
    ours, this = trainer(clip=1e-3, batch_size=2000), job({"optimizer": {"lr": 1.0}}, builder=linear)
    start = ours.init(this).values["module"]
    state, _ = run(ours, this, 1)
    moved = sum((state.values["module"][n] - t).square().sum() for n, t in start.items()).sqrt().item()
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_augmentation_sees_raw_training_inputs_only_and_is_exact_in_pieces():
    seen = []

    def shift(inputs, pixels=1):
        seen.append(inputs.max().item())
        return torch.roll(inputs, int(torch.randint(-pixels, pixels + 1, ())), dims=-1)

    ours = trainer(augment=shift)
    whole, _ = run(ours, job(), 3)
    assert max(seen) == 16.0
    assert len(seen) == 3 * STEPS
    pieces, _ = run(ours, job(), 3, run(ours, job(), 1)[0])
    assert flat(pieces.values) == flat(whole.values)
    tuned, _ = run(ours, job({"optimizer": {"lr": 0.05, "momentum": 0.9}, "augment": {"pixels": 0}}), 3)
    assert flat(tuned.values["module"]) != flat(whole.values["module"])


BAD = {
    "clip": (lambda: trainer(clip=0), ValueError, "clip needs to be a number > 0, got 0"),
    "schedule": (lambda: trainer(schedule=3), TypeError, r"schedule needs one of tn\.rates, got 3"),
    "patience": (lambda: trainer(patience=0), ValueError, "patience needs to be a whole number >= 1, got 0"),
    "micro batch": (lambda: trainer(micro_batch=0), ValueError, "micro_batch needs to be .* got 0"),
    "unit": (lambda: tn.rates.Torch(lr_scheduler.StepLR, unit="batch"), ValueError, "unit .* got 'batch'"),
    "factory": (
        lambda: run(trainer(schedule=tn.rates.Torch(lambda o: 3)), job(), 1),
        TypeError,
        "needs to return a torch LRScheduler, got int",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_named(name):
    broken, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        broken()


@pytest.mark.parametrize("epochs", [4, 8])
def test_a_step_and_a_warm_up_in_epochs_do_not_depend_on_the_length(epochs):
    step = rates_of(tn.rates.Step(at=(1, 3), by=0.1), 2, epochs=epochs)
    assert step == pytest.approx([0.5] * 2 + [0.05] * 4 + [0.005] * (2 * epochs - 6))
    warm = rates_of(tn.rates.Warmup(epochs=1.5, then=tn.rates.Step(at=(1,), by=0.1)), 2, epochs=epochs)
    assert warm == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5] + [0.05] * (2 * epochs - 5))


@pytest.mark.parametrize("at", [1.5, 0, -1, True, 2.0])
def test_a_step_is_a_share_or_a_whole_number_of_epochs(at):
    with pytest.raises(ValueError, match=rf"rates\.Step: at needs shares .* got {at}\."):
        tn.rates.Step(at=(at,))
    with pytest.raises(ValueError, match=r"rates\.Warmup: epochs needs to be a number >= 0, got -1"):
        tn.rates.Warmup(epochs=-1)


class Root(tn.rates.Schedule):
    def factor(self, step, steps):
        return (step + 1) ** -0.5


class Half(tn.rates.Schedule):
    def factor(self, step, steps):
        return 1.0 if step < steps / 2 else 0.5


class Closed(tn.rates.Schedule):
    """Over ten epochs of 3 steps, whatever the trial's length."""

    def factor(self, step, steps):
        return max(0.0, 1 - step / 30)


class Own(tn.rates.Schedule):
    def attach(self, optimizer, settings, steps_per_epoch, epochs):
        return tn.rates.Fixed().attach(optimizer, settings, steps_per_epoch, epochs)


BOUND = {
    "fixed": (tn.rates.Fixed(), ""),
    "plateau": (tn.rates.Plateau(), ""),
    "step in epochs": (tn.rates.Step(at=(5, 8)), ""),
    "step in shares": (tn.rates.Step(), r"Step\(at=\(0\.5, 0\.75\), by=0\.1\) spans the full 10 epochs"),
    "cosine": (tn.rates.Cosine(), r"Cosine\(final=0\.0\) spans the full 10 epochs"),
    "one cycle": (tn.rates.OneCycle(), "OneCycle.* spans the full 10 epochs"),
    "one cycle of momentum": (tn.rates.OneCycle(start=1.0, final=1.0), "OneCycle.* spans the full 10 epochs"),
    "warm-up": (tn.rates.Warmup(), "Warmup.* spans the full 10 epochs"),
    "no warm-up": (tn.rates.Warmup(0.0), ""),
    "warm-up in epochs": (tn.rates.Warmup(epochs=2), ""),
    "warm-up, then cosine": (tn.rates.Warmup(epochs=2, then=tn.rates.Cosine()), "Warmup.* spans"),
    "user's": (Root(), ""),
    "user's in shares": (Half(), "Half.* spans"),
    "user's at 0": (Closed(), "Closed.* has come to a rate of 0"),
    "user's with a state": (Own(), r"Own has no method finished\(\)"),
    "torch": (tn.rates.Torch(partial(lr_scheduler.StepLR, step_size=1)), ""),
    "torch with steps": (tn.rates.Torch(lambda o, steps: lr_scheduler.CosineAnnealingLR(o, steps)), "Torch.* spans"),
}


@pytest.mark.parametrize("name", BOUND)
def test_a_schedule_says_why_a_trial_cannot_be_longer(name):
    import re

    schedule, reason = BOUND[name]
    said = schedule.finished(3, 10, 20)
    assert re.search(reason, said) if reason else said == ""
