"""A probe measures, leaves everything as it was, keeps its budget, and says what it cannot know."""

import json
import math

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tuneflow.probing.race import Race, affordable, lowest, next_racer, race
from tuneflow.probing.shortened_schedule import shortened


def mlp(width=32, activation=nn.Tanh):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), activation(), nn.Linear(width, 10))


def normed(width=8):
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(36 * width, 10),
    )


@pytest.fixture(scope="module")
def digits():
    train, valid, _ = tn.data.digits()
    return train[:640], valid


def trainer_of(digits, optimizer=torch.optim.SGD, **settings):
    given = {"loss": nn.CrossEntropyLoss(), "epochs": 10, "batch_size": 32, **settings}
    return tn.Trainer(*digits, optimizer=optimizer, **given)


def measured(digits, builder=mlp, config=None, init="lecun", share=0.05, **settings):
    return tn.probe(
        tn.Model(builder, init=init),
        trainer_of(digits, **settings),
        tn.Runtime("cpu", threads=1),
        config={"optimizer": {"momentum": 0.9}} if config is None else config,
        share=share,
    )


def test_the_rate_trains_where_ten_times_more_or_a_hundred_times_less_does_not_do_as_well(digits):
    found = measured(digits)
    trainer = trainer_of(digits)

    def loss_at(rate):
        job = tn.types.Job(
            tn.Model(mlp, init="lecun"), {"optimizer": {"lr": rate, "momentum": 0.9}}, tn.Runtime("cpu", threads=1)
        )
        return [report.metrics["loss"] for _, report in trainer.advance(job, trainer.init(job), 10)][-1]

    here = loss_at(found.rate)
    assert here < 0.25
    assert here < loss_at(found.rate / 100)
    assert here < loss_at(found.rate * 30)


def test_a_probe_is_settled_by_its_seed_but_for_its_seconds(digits):
    one, other = measured(digits), measured(digits)
    assert {**one.to_json(), "seconds": 0} == {**other.to_json(), "seconds": 0}


def test_a_probe_survives_json(digits):
    found = measured(digits, normed)
    assert tn.Probe.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_probe_leaves_model_trainer_data_and_generators_alone(digits):
    kept = mlp()
    before = {name: tensor.clone() for name, tensor in kept.state_dict().items()}
    inputs = digits[0].inputs.clone()
    trainer = trainer_of(digits, loss=nn.CrossEntropyLoss(weight=torch.ones(10)))
    with generators_untouched():
        tn.probe(tn.Model(lambda: normed()), trainer, tn.Runtime("cpu", threads=1))
    assert torch.equal(inputs, digits[0].inputs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.state_dict().items())
    assert trainer.epochs == 10


@pytest.mark.parametrize("epochs", [2, 400])
def test_the_budget_is_kept(digits, epochs):
    found = measured(digits, epochs=epochs)
    steps = 20 * epochs
    budget = 420 if steps < 3_000 else 0.05 * steps
    assert found.steps == steps
    assert found.gradients <= budget * 1.02
    assert found.race is not None


def test_without_a_budget_there_is_no_race_and_more_doubt(digits):
    found = measured(digits, epochs=200, share=0.01)
    assert found.race is None
    assert found.rate == found.estimate
    assert found.doubt == 0.6
    assert "no race" in found.notes[-1]


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(digits, share):
    with pytest.raises(ValueError, match="share needs to be within"):
        measured(digits, share=share)


def test_adams_rate_comes_from_its_own_curvature(digits):
    found = measured(digits, optimizer=torch.optim.Adam, config={})
    assert found.optimizer == "Adam"
    assert found.momentum is None
    assert found.estimate == pytest.approx(1 / found.curvature)
    assert 1e-3 < found.rate < 0.1


def test_sgds_rate_goes_with_its_momentum(digits):
    plain, heavy = measured(digits, config={}), measured(digits)
    assert plain.estimate == pytest.approx(1 / plain.curvature)
    assert heavy.estimate == pytest.approx(0.1 / heavy.curvature)


def test_an_optimizer_without_a_rule_is_raced_from_a_range_test(digits):
    found = measured(digits, optimizer=torch.optim.Adagrad, config={"optimizer": {"lr": 1e-7}})
    assert found.estimate is None
    assert found.curvature is None
    assert "no rule is known for Adagrad" in found.notes[0]
    assert "range test's minimum / 10" in found.notes[1]
    assert 1e-3 < found.rate < 1.0


def test_a_loss_without_upward_curvature_is_raced_from_a_range_test(digits):
    class Linear(tn.Trainer):
        def loss_of(self, module, batch):
            return module(batch[0]).mean() + 10.0

    trainer = Linear(*digits, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=10, batch_size=32)
    net = tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    found = tn.probe(net, trainer, tn.Runtime("cpu", threads=1))
    assert found.curvature is None
    assert "the curvature gives no rate: the loss bends nowhere upwards" in found.notes[0]


def test_the_loss_before_training_stands_beside_that_of_the_class_prior(digits):
    found = measured(digits)
    assert found.prior == pytest.approx(math.log(10), abs=0.2)
    assert abs(found.loss - found.prior) < 0.3
    assert found.health.weights
    assert found.noise > 0


def test_a_loss_that_is_not_finite_screens(digits):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return self.linear(x.flatten(1)) / 0

    found = measured(digits, Broken, init="default")
    assert found.screened == "the loss before the first step is nan"
    assert found.race is None


def test_training_that_diverges_at_every_rate_screens(digits):
    class Explodes(tn.Trainer):
        def loss_of(self, module, batch):
            loss = super().loss_of(module, batch)
            return loss * (float("nan") if module[1].weight.grad is not None else 1.0)

    trainer = Explodes(*digits, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=10, batch_size=32)
    found = tn.probe(tn.Model(mlp), trainer, tn.Runtime("cpu", threads=1))
    assert found.screened.startswith("training diverged at every rate from ")


def test_frozen_layers_and_groups_raise_the_doubt(digits):
    def frozen():
        net = mlp()
        net[1].requires_grad_(False)
        return net

    assert measured(digits, frozen).doubt == 1.0
    assert measured(digits).doubt == 0.4


def test_it_prints_and_draws(digits):
    found = measured(digits)
    words = str(found).splitlines()
    assert words[0] == "optimizer       SGD, momentum 0.9, batch 32, 200 steps"
    assert any(line.startswith("rate  ") for line in words)
    page = found._repr_html_()
    assert page.count("<svg") == 1
    assert "SGD" in page


def test_a_race_in_which_nothing_learns_says_that_its_rate_is_a_guess(digits):
    def deep():
        layers = [part for _ in range(12) for part in (nn.Linear(64, 64), nn.Sigmoid())]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))

    found = measured(digits, deep, init="default", epochs=2)
    assert any("no racer has learned anything" in note for note in found.notes)
    assert found.doubt == 1.0


def test_an_optimizer_far_from_its_rate_keeps_the_budget_and_finds_it(digits):
    class Own(torch.optim.SGD):
        pass

    found = measured(digits, optimizer=Own, config={"optimizer": {"lr": 1e-5}})
    assert found.gradients <= 421
    assert 0.01 < found.rate < 3.0


def even(losses):
    """Standard errors too small for any two of these lanes to be alike."""
    return dict.fromkeys(losses, 1e-6)


def test_the_next_racer_is_a_neighbor_that_the_best_one_lacks():
    def wanted(losses, reach, start=3.0):
        return next_racer(losses, even(losses), reach, start)

    assert wanted({0: 1.0}, 4) == 1
    assert wanted({0: 1.0, 1: 2.0}, 4) == -1
    assert wanted({0: 1.0, 1: 0.5}, 4) == 2
    assert wanted({-1: 2.0, 0: 1.0, 1: 1.5}, 4) is None
    assert wanted({0: math.inf}, 4) == -1
    assert wanted({3: 1.0, 4: 0.5}, 4) is None
    assert wanted({-1: math.inf, 0: math.inf}, 1) is None


def test_beneath_a_cliff_one_more_lane_stands_in_between():
    def wanted(losses):
        return next_racer(losses, even(losses), 4, 3.0)

    assert wanted({-1: 2.0, 0: 1.0, 1: math.inf}) == 0.5
    assert wanted({-1: 2.0, 0: 1.0, 1: 3.5}) == 0.5
    assert wanted({-1: 2.0, 0: 1.0, 0.5: 0.9, 1: math.inf}) is None
    assert wanted({-1: 2.0, 0: 1.0, 0.5: 1.1, 1: math.inf}) is None


def test_where_lanes_are_alike_but_for_an_error_the_lowest_of_them_leads():
    losses, errors = {0: 1.05, 1: 1.0, 2: 2.0}, {0: 0.1, 1: 0.0, 2: 0.1}
    assert next_racer(losses, errors, 4, 3.0) == -1
    losses, errors = {-1: 1.35, **losses}, {-1: 0.1, **errors}
    assert next_racer(losses, errors, 4, 3.0) is None
    # one error above the best: a sixth of the way from 0, half an error above it, to -1, 3.5 above it
    assert lowest(losses, errors) == pytest.approx(-1 / 6)
    assert lowest({0: 1.05, 1: 1.0, 2: 2.0}, {0: 0.1, 1: 0.0, 2: 0.1}) == 0
    assert next_racer({0: 1.25, 1: 1.0, 2: 2.0}, {0: 0.1, 1: 0.0, 2: 0.1}, 4, 3.0) == -1  # not clearly worse
    assert next_racer({0: 1.35, 1: 1.0, 2: 2.0}, {0: 0.1, 1: 0.0, 2: 0.1}, 4, 3.0) is None
    assert Race((1.0, 2.0, 3.0), (1.05, 1.0, 2.0), 1.0, 20, 60, (0.1, 0.0, 0.1)).edge
    assert not Race((1.0, 2.0, 3.0), (1.2, 1.0, 2.0), 2.0, 20, 60, (0.1, 0.0, 0.1)).edge


def test_the_parabola_through_three_lanes_finds_its_lowest_point():
    def bottom(losses):
        return lowest(losses, even(losses))

    assert bottom({-1: 1.0, 0: 0.0, 1: 1.0}) == 0
    assert bottom({place: (place - 0.3) ** 2 for place in (-1, 0, 1)}) == pytest.approx(0.3)
    assert bottom({place: (place - 0.3) ** 2 for place in (-1, 0, 0.5, 1)}) == pytest.approx(0.3)
    assert bottom({-1: 0.0, 0: 1.0, 1: 2.0}) == -1
    assert bottom({-1: 1.0, 0: 0.5, 1: math.inf}) == 0
    assert bottom({0: math.inf, 1: math.inf}) == 0


def test_lanes_differ_by_their_rate_only(digits):
    """A race with one lane that is the run itself, judged at its end, ends where the run does."""
    valid = digits[1][:352]  # 16 parts of 22
    for schedule in (tn.rates.Fixed(), tn.rates.Warmup(0.7), tn.rates.OneCycle()):
        trainer = trainer_of((digits[0], valid), epochs=1, schedule=schedule)
        job = tn.types.Job(tn.Model(mlp), {"optimizer": {"lr": 0.05, "momentum": 0.9}}, tn.Runtime("cpu", threads=1))
        (report,) = (report for _, report in trainer.advance(job, trainer.init(job), 1))
        found = race(trainer.configured(job.config), job, 0.05, 20, racers=1, looks=(1.0,))
        assert isinstance(found, Race)
        assert found.losses == (pytest.approx(report.metrics["loss"], rel=1e-6),)


def test_looks_change_nothing_but_the_judgment(digits):
    """Dropout and running means go on as if nobody had looked."""
    trainer = trainer_of(digits)
    job = tn.types.Job(tn.Model(normed), {"optimizer": {"lr": 0.05}}, tn.Runtime("cpu", threads=1))
    once, twice = (race(trainer, job, 0.05, 20, racers=1, looks=looks) for looks in ((1.0,), (0.5, 1.0)))
    first = race(trainer, job, 0.05, 10, racers=1, looks=(1.0,))
    assert 2 * twice.losses[0] == pytest.approx(once.losses[0] + first.losses[0], rel=0.05)


def test_a_lane_costs_what_was_planned(digits):
    for batch_size in (4, 32, 256):
        trainer = trainer_of(digits, batch_size=batch_size)
        job = tn.types.Job(tn.Model(mlp), {"optimizer": {"lr": 0.01}}, tn.Runtime("cpu", threads=1))
        steps = affordable(trainer, len(digits[1]), 60.0)
        assert 48 <= steps < 60
        assert 57 <= race(trainer, job, 0.01, steps, racers=1).gradients <= 60


def test_a_shortened_warm_up_keeps_its_pace_up_to_half_the_steps():
    schedule = tn.rates.Warmup(0.1, tn.rates.Cosine())

    def factors(whole, steps):
        short = shortened(schedule, whole)
        return [short.factor(step, steps) for step in range(steps)]

    whole = [schedule.factor(step, 400) for step in range(400)]
    assert factors(400, 400) == whole
    assert factors(400, 100)[:41] == whole[:41]
    assert factors(400, 100)[40] == 1
    assert factors(400, 20)[10] == 1  # half of them
    assert all(0 < late < 0.02 for late in (factors(400, 100)[-1], factors(400, 200)[-1]))
    for steps in (20, 100):
        falling = factors(400, steps)[min(40, steps // 2) :]
        assert falling == sorted(falling, reverse=True)
