"""Muon for hidden matrices with AdamW for the rest: which is which, and that the steps are torch's."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, job, trainer
from tests.helpers.dry_run_cases import check
from tests.helpers.trainer_runs import facts, flat, run, through_file

MuonAdamW = tn.optim.MuonAdamW
pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")


def deep(outputs=10):
    first = nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU()
    return nn.Sequential(*first, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs))


def language(tied):
    net = nn.ModuleDict(
        {"embed": nn.Embedding(7, 4), "conv": nn.Conv1d(4, 4, 3), "mix": nn.Linear(4, 4), "out": nn.Linear(4, 7)}
    )
    if tied:
        net["out"].weight = net["embed"].weight
    return net


def parts(net, **settings):
    """Names of what Muon and what AdamW train."""
    names = {id(p): name for name, p in net.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in MuonAdamW(net, **settings).param_groups]


@pytest.mark.parametrize(
    ("net", "settings", "hidden"),
    [
        (deep(), {}, ["1.weight", "4.weight"]),
        (deep(), {"rest": "1"}, ["4.weight", "6.weight"]),
        (deep(), {"rest": ["1.weight", "6.*"]}, ["4.weight"]),
        (language(False), {}, ["mix.weight"]),
        (language(True), {}, ["mix.weight"]),
    ],
)
def test_hidden_matrices_are_muons_and_all_else_is_adamws(net, settings, hidden):
    muon, adamw = parts(net, **settings)
    assert muon == hidden
    assert sorted(muon + adamw) == sorted(name for name, _ in net.named_parameters())


def test_its_steps_are_those_of_torchs_two():
    torch.manual_seed(0)
    ours, theirs = deep(), deep()
    theirs.load_state_dict(ours.state_dict())
    both = MuonAdamW(ours, lr=0.01, adamw={"lr": 0.003, "betas": (0.8, 0.9)})
    hidden = [theirs[1].weight, theirs[4].weight]
    rest = [p for p in theirs.parameters() if not any(p is h for h in hidden)]
    split = [
        torch.optim.Muon(hidden, lr=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.003, betas=(0.8, 0.9), weight_decay=0.1),
    ]
    for inputs, targets in TRAIN[:96].batches(32):
        for net, optimizers in ((ours, [both]), (theirs, split)):
            nn.functional.cross_entropy(net(inputs), targets).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("make", [MuonAdamW, tn.optim.Averaged(MuonAdamW, decay=0.9)], ids=["plain", "averaged"])
def test_it_resumes_exactly_and_both_rates_are_scheduled(make):
    ours = trainer(TRAIN[:200], VALID[:100], optimizer=make, epochs=3, schedule=tn.rates.Step(at=(0.5,), by=0.5))
    trial = job({"optimizer": {"lr": 0.01, "adamw": {"lr": 0.002}}}, deep)
    whole, reports = run(ours, trial)
    state, _ = run(ours, trial, 1)
    last, more = run(ours, trial, 3, through_file(state))
    assert flat(last.values) == flat(whole.values)
    assert facts(more) == facts(reports[1:])
    assert [group["lr"] for group in last.values["optimizer"]["param_groups"]] == [0.005, 0.001]


def test_a_fork_changes_the_rate_of_one_part():
    ours = trainer(TRAIN[:200], VALID[:100], optimizer=MuonAdamW, epochs=3)
    before, after = (
        job({"optimizer": {"lr": 0.01, "adamw": {"lr": rate, "weight_decay": 0}}}, deep) for rate in (0.01, 0)
    )
    state, _ = run(ours, before, 1)
    forked, _ = run(ours, after, 2, state)
    one, other = state.values["module"], forked.values["module"]
    assert torch.equal(one["6.weight"], other["6.weight"])
    assert not torch.equal(one["4.weight"], other["4.weight"])


def hidden_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 10))


def test_both_rates_are_tuned():
    rate = tn.Float(1e-4, 1e-1, log=True)
    check(hidden_net, optimizer=MuonAdamW, space={"optimizer": {"lr": rate, "adamw": {"lr": rate}}})


@pytest.mark.parametrize(
    ("section", "builder", "words"),
    [
        ({"adamw": {"lrr": 0.1}}, hidden_net, '"adamw": AdamW takes no argument "lrr"'),
        ({"adamw": 0.1}, hidden_net, '"adamw" needs a dict of settings'),
        ({"adam": {"lr": 0.1}}, hidden_net, 'MuonAdamW takes no argument "adam"'),
        ({"rest": "head"}, hidden_net, 'rest: the pattern "head" matches no parameter'),
        ({}, lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), "Muon trains hidden matrices"),
    ],
)
def test_what_does_not_fit_is_refused_before_trial_0(section, builder, words):
    with pytest.raises((ValueError, TypeError), match=words):
        check(builder, optimizer=MuonAdamW, space={"optimizer": {"lr": 0.01, **section}})


def test_it_goes_around_groups_and_not_into_them():
    with pytest.raises(TypeError, match="needs a plain optimizer class, got MuonAdamW"):
        tn.optim.Groups(MuonAdamW, head="6")
