"""Every optimizer of torch, alone, in groups and averaged, resumes to the bit from a state that was in a file."""

from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, job, trainer
from tests.helpers.trainer_runs import facts, flat, run, through_file

ALL = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    if name not in ("Optimizer", "LBFGS", "SparseAdam")
}
FLAGS = {
    "SGD nesterov, fused": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "Adam amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "AdamW foreach": partial(torch.optim.AdamW, foreach=True),
    "Adam fused": partial(torch.optim.Adam, fused=True),
    "RMSprop centered": partial(torch.optim.RMSprop, centered=True, momentum=0.5),
    "NAdam decoupled": partial(torch.optim.NAdam, decoupled_weight_decay=True, weight_decay=0.1),
    "Adagrad decaying": partial(torch.optim.Adagrad, lr_decay=0.1, initial_accumulator_value=0.1),
    "rate as a tensor": partial(torch.optim.Adam, lr=torch.tensor(0.01)),
}
WAYS = {
    "alone": lambda kind: kind,
    "groups": lambda kind: tn.optim.Groups(kind, last="2"),
    "averaged": lambda kind: tn.optim.Averaged(kind, decay=0.9),
}


def two_matrices():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.Linear(8, 10, bias=False))


def assert_resumes(optimizer, section):
    ours = trainer(TRAIN[:96], VALID[:32], optimizer=optimizer, epochs=3, schedule=tn.rates.Cosine(0.1))
    trial = job({"optimizer": section}, two_matrices)
    whole, reports = run(ours, trial)
    state, _ = run(ours, trial, 1)
    last, more = run(ours, trial, 3, through_file(state))
    assert flat(last.values) == flat(whole.values)
    assert facts(more) == facts(reports[1:])
    assert not torch.equal(last.values["module"]["1.weight"], state.values["module"]["1.weight"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_resumes_exactly(name, way):
    section = {"lr": 0.01} | ({"last": {"lr": 0.003}} if way == "groups" else {})
    assert_resumes(WAYS[way](ALL[name]), section)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_resume_exactly(name):
    assert_resumes(FLAGS[name], {})
