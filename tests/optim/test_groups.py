"""Groups: parameters by name, each with settings of its own, and no weight decay on biases and norms."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import job, linear, trainer
from tests.helpers.dry_run_cases import check
from tests.helpers.trainer_runs import facts, flat, run, through_file
from tuneflow.probing.race import scale_rates


class Backbone(nn.Module):
    """Layers with names, BatchNorm, and an output layer."""

    def __init__(self, frozen=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 10)
        self.body.requires_grad_(not frozen)

    def forward(self, inputs):
        return self.head(self.body(inputs.flatten(1)))


def shapes(optimizer, *options):
    """The shapes and options of each group."""
    return [
        ([tuple(p.shape) for p in group["params"]], *(group[option] for option in options))
        for group in optimizer.param_groups
    ]


def test_each_group_has_its_own_settings_and_the_common_ones_for_the_rest():
    groups = tn.optim.Groups(torch.optim.SGD, head="head.*", norm=["body.1.weight", "body.1.bias"])
    optimizer = groups(Backbone(), lr=0.1, momentum=0.9, head={"lr": 1.0}, norm={"momentum": 0.0})
    assert shapes(optimizer, "lr", "momentum") == [
        ([(16, 64), (16,)], 0.1, 0.9),
        ([(10, 16), (10,)], 1.0, 0.9),
        ([(16,), (16,)], 0.1, 0.0),
    ]


def test_no_decay_spares_parameters_with_fewer_than_two_dimensions():
    optimizer = tn.optim.Groups(torch.optim.AdamW, no_decay=True)(Backbone(), weight_decay=0.5)
    assert shapes(optimizer, "weight_decay") == [
        ([(16, 64), (10, 16)], 0.5),
        ([(16,), (16,), (16,), (10,)], 0.0),
    ]


def test_no_decay_by_pattern_spares_these_alone():
    optimizer = tn.optim.Groups(torch.optim.AdamW, no_decay="head", head="head")(Backbone(), head={"weight_decay": 9.0})
    assert shapes(optimizer, "weight_decay") == [
        ([(16, 64), (16,), (16,), (16,)], 0.01),
        ([(10, 16), (10,)], 0.0),
    ]


def test_the_first_of_two_groups_that_match_has_the_parameter():
    optimizer = tn.optim.Groups(torch.optim.SGD, norm="body.1", all="*")(Backbone(), norm={"lr": 0.0})
    assert shapes(optimizer, "lr") == [([(16,), (16,)], 0.0), ([(16, 64), (16,), (10, 16), (10,)], 0.001)]


def test_a_tied_parameter_is_found_by_each_of_its_names():
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "out": nn.Linear(3, 5, bias=False)})
    net["out"].weight = net["embed"].weight
    assert shapes(tn.optim.Groups(torch.optim.SGD, last="out.weight")(net, last={"lr": 2.0}), "lr") == [([(5, 3)], 2.0)]


def test_names_of_a_compiled_module_are_those_of_the_module_within():
    optimizer = tn.optim.Groups(torch.optim.SGD, last="head.*")(
        nn.ModuleDict({"_orig_mod": Backbone()}), last={"lr": 2.0}
    )
    assert shapes(optimizer, "lr")[1] == ([(10, 16), (10,)], 2.0)


def test_a_group_of_frozen_parameters_is_left_out():
    optimizer = tn.optim.Groups(torch.optim.SGD, body="body.*")(Backbone(frozen=True), body={"lr": 1.0})
    assert shapes(optimizer, "lr") == [([(10, 16), (10,)], 0.001)]


def grouped(**settings):
    return trainer(optimizer=tn.optim.Groups(torch.optim.SGD, no_decay=True, head="head"), **settings)


def trial(**optimizer):
    section = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "head": {"lr": 0.1}} | optimizer
    return job({"optimizer": section}, builder=Backbone)


@pytest.mark.parametrize("schedule", [tn.rates.Fixed(), tn.rates.OneCycle(), tn.rates.Plateau(patience=0)])
def test_groups_resume_exactly(schedule):
    ours = grouped(schedule=schedule)
    whole, reports = run(ours, trial(), 3)
    first, _ = run(ours, trial(), 1)
    last, more = run(ours, trial(), 3, through_file(first))
    assert flat(last.values) == flat(whole.values)
    assert facts(more) == facts(reports[1:])


def test_training_with_groups_is_training_with_torchs_own():
    def make(parameters, lr, momentum, weight_decay):
        (w1, b1, scale, shift, w2, b2), rest = parameters, {"weight_decay": 0.0}
        groups = [{"params": [w1]}, {"params": [b1, scale, shift], **rest}]
        groups += [{"params": [w2], "lr": 0.1}, {"params": [b2], "lr": 0.1, **rest}]
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)

    section = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    plain, _ = run(trainer(optimizer=make), job({"optimizer": section}, builder=Backbone), 2)
    ours, _ = run(grouped(), trial(), 2)
    assert flat(ours.values["module"]) == flat(plain.values["module"])


def test_a_schedule_multiplies_the_rate_of_every_group():
    ours = grouped(schedule=tn.rates.Step(at=(0.5,), by=0.5), epochs=2)
    state, _ = run(ours, trial(), 2)
    rates = [group["lr"] for group in state.values["optimizer"]["param_groups"]]
    assert rates == [0.025, 0.025, 0.05, 0.05]


def test_a_fork_changes_the_groups_that_its_configuration_changes():
    ours = grouped()
    state, _ = run(ours, trial(), 1)
    forked, _ = run(ours, trial(head={"lr": 0.0}), 2, state)
    before, after = state.values["module"], forked.values["module"]
    assert torch.equal(before["head.weight"], after["head.weight"])
    assert not torch.equal(before["body.0.weight"], after["body.0.weight"])


REFUSED = {
    "a pattern of nothing": (
        {"head": "fc.*"},
        {},
        ['group "head": the pattern "fc.*" matches no parameter', "1.weight"],
    ),
    "a pattern nearly right": ({"head": "1.wieght"}, {}, ['Did you mean "1.weight"?']),
    "nothing left": ({"all": "*", "head": "1"}, {}, ["are in groups before it", "narrower group first"]),
    "no_decay of nothing": ({"no_decay": ["norm*"]}, {}, ['no_decay: the pattern "norm*" matches no parameter']),
    "a setting misspelt": (
        {"head": "1"},
        {"head": {"lrr": 0.1}},
        ['group "head": SGD takes no argument "lrr"', '"lr"'],
    ),
    "a group misspelt": ({"head": "1"}, {"haed": {"lr": 0.1}}, ['no argument "haed"', 'Did you mean "head"?']),
    "no dict": ({"head": "1"}, {"head": 0.1}, ['the group "head" needs a dict of settings', "got 0.1"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_groups_that_do_not_fit_are_refused_before_trial_0(name):
    groups, section, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        check(optimizer=tn.optim.Groups(torch.optim.SGD, **groups), space={"optimizer": {"lr": 0.1, **section}})
    assert [word for word in words if word not in str(caught.value)] == []


def chosen(parameters, rate):
    return torch.optim.SGD(parameters, lr=rate)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tn.optim.Groups(tn.optim.Groups(torch.optim.SGD)), "Groups makes groups of its own"),
        (lambda: tn.optim.Groups(tn.optim.Averaged(torch.optim.SGD)), "Averaged goes around Groups"),
        (lambda: tn.optim.Groups("adam"), "needs an optimizer class"),
        (lambda: tn.optim.Groups(torch.optim.SGD, lr="head"), 'no argument of SGD, got "lr"'),
        (lambda: tn.optim.Groups(torch.optim.SGD, head=3), "needs a pattern"),
        (lambda: tn.optim.Groups(torch.optim.Rprop, no_decay=True)(Backbone()), 'Rprop has no setting "weight_decay"'),
        (lambda: tn.optim.Groups(chosen, head="head")(Backbone(), rate=1.0, head={"rate": 2.0}), 'no setting "rate"'),
    ],
)
def test_what_has_no_groups_is_refused(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_a_choice_of_optimizers_holds_groups_and_checks_their_settings():
    groups = tn.optim.Groups(torch.optim.AdamW, head="1")
    call = tn.call(groups, lr=0.01, head={"lr": tn.Float(0.001, 1.0, log=True)})
    check(space={"optimizer": tn.Choice({"adamw": call, "sgd": tn.call(torch.optim.SGD, lr=0.1)})})
    wrong = tn.call(groups, lr=0.01, head={"rate": tn.Float(0.001, 1.0)})
    with pytest.raises(TypeError, match='group "head": AdamW takes no argument "rate"'):
        check(space={"optimizer": tn.Choice({"adamw": wrong})})


def test_a_study_knows_that_its_groups_have_changed():
    one, other = (trainer(optimizer=tn.optim.Groups(torch.optim.SGD, head=head)) for head in ("head", "head.weight"))
    assert one.describe()["optimizer"] != other.describe()["optimizer"]


def test_the_probe_doubts_its_rate_where_groups_have_rates_of_their_own():
    ours = trainer(optimizer=tn.optim.Groups(torch.optim.SGD, no_decay=True, last="1.bias"), epochs=20)
    common, other = ({"optimizer": {"lr": 0.05, **last}} for last in ({}, {"last": {"lr": 0.1}}))
    assert tn.probe(tn.Model(linear), ours, config=common).doubt < 1.0
    assert tn.probe(tn.Model(linear), ours, config=other).doubt == 1.0


class Weighted(nn.Module):
    """A loss with a parameter."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.ones(()))

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * (-self.share).exp() + self.share


def test_parameters_of_a_loss_are_a_group_under_its_name():
    ours = trainer(optimizer=tn.optim.Groups(torch.optim.SGD, weights="loss.*"), loss=Weighted())
    state, _ = run(ours, job({"optimizer": {"lr": 0.05, "weights": {"lr": 0.0}}}, builder=Backbone), 1)
    groups = state.values["optimizer"]["param_groups"]
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.05, 6), (0.0, 1)]
    assert state.values["loss"]["share"] == 1.0


def test_a_factory_of_ones_own_gets_names_steps_and_settings():
    seen = {}

    class ByDepth:
        def __call__(self, module, rate, decay=0.5):
            return self.for_module(module, dict(module.named_parameters()), None, rate, decay)

        def for_module(self, module, parameters, steps, rate, decay=0.5):
            seen.update(names=list(parameters), steps=steps, module=type(module))
            return torch.optim.SGD([{"params": [p], "lr": rate * decay**n} for n, p in enumerate(parameters.values())])

    ours = trainer(optimizer=ByDepth(), epochs=4, batch_size=100)
    ours.configured({"optimizer": {"rate": 0.1}}).session(job({}, builder=Backbone))
    assert seen["names"] == [name for name, _ in Backbone().named_parameters()]
    assert (seen["steps"], seen["module"]) == (4 * -(-len(ours.train) // 100), Backbone)
    with pytest.raises(TypeError, match=r"takes no argument .rte."):
        check(optimizer=ByDepth(), space={"optimizer": {"rate": 0.1, "rte": 0.2}})


def test_the_race_moves_the_rates_of_all_groups_in_proportion():
    ours = trainer(optimizer=tn.optim.Groups(torch.optim.SGD, still="1.weight", last="2.*"), epochs=4)
    config = {"optimizer": {"lr": 0.05, "still": {"lr": 0.0}, "last": {"lr": 0.1}}}
    session = ours.configured(config).session(job(config))
    scale_rates(session, 0.5)
    assert [group["lr"] for group in session.optimizer.param_groups] == [0.5, 0.0, 1.0]
    losses = tn.probe(tn.Model(linear), trainer(), config=config | {"optimizer": {"lr": 0.05}}).race.losses
    assert len(set(losses)) == len(losses)
