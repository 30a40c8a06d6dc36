"""A state that does not survive being written and read is refused in the dry run, and what is lost is named."""

import copy
import threading
from functools import partial

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers.dry_run_cases import NAN, Net, check, net
from tests.helpers.global_generators import generators_untouched
from tuneflow.check.round_trip import through_a_file
from tuneflow.train.loop_state import different_paths as differences

# A state that does not survive.


def counting(self, x):
    self.calls = getattr(self, "calls", 0) + self.training
    return self.layer(x) * (1 + 0.1 * self.calls)


class Phases(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups if self.count > 50 else ():
            group["lr"] = 0.001
        super().step(closure)


class Warming:
    def __init__(self):
        self.steps = self._seen = 0
        self.calls_of_nothing = 3

    def __call__(self, outputs, targets):
        self.steps, self._seen = self.steps + 1, self._seen + 1
        return torch.nn.functional.cross_entropy(outputs, targets) * (1.0 if self.steps < 5000 else 0.3)


class Curriculum(Warming):
    def __call__(self, inputs):
        self.steps += 1
        return inputs * (1 + (self.steps > 5000))


def in_two_phases(self, x):
    self.layer.calls = getattr(self.layer, "calls", 0) + self.training
    return self.layer(x) * (1 if self.layer.calls < 50 else 2)


COUNTERS = {
    "optimizer": (lambda: check(optimizer=Phases), 'counts up "count" of the optimizer, which no state holds'),
    "loss": (lambda: check(loss=Warming()), 'counts up "steps" of the loss, which'),
    "augment": (lambda: check(augment=Curriculum()), '"steps" of augment'),
    "module": (lambda: check(net(in_two_phases)), '"layer.calls" of the module'),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_of_steps_that_no_state_holds_is_warned_of(name):
    do, words = COUNTERS[name]
    with pytest.warns(UserWarning, match=words):
        do()


class Forgets(torch.optim.SGD):
    def load_state_dict(self, state):
        pass


class Counts(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["lr"] = 0.01 / self.steps
        super().step(closure)


class Drops(tn.Trainer):
    def advance(self, job, state, until):
        state = tn.types.TrainState(state.epoch, {**state.values, "optimizer": self.init(job).values["optimizer"]})
        return super().advance(job, state, until)


class Lists(tn.Trainer):
    def advance(self, job, state, until):
        for reached, report in super().advance(job, state, until):
            yield tn.types.TrainState(reached.epoch, {**reached.values, "mine": [1, 2.0, threading]}), report


def drifting(self, x):
    self.drift.add_(float(np.random.default_rng().random()))
    return self.layer(x) * self.drift


class Drifting(Net):
    def __init__(self):
        super().__init__(drifting)
        self.register_buffer("drift", torch.ones(()))


momentum = partial(torch.optim.SGD, momentum=0.9)
LOST = {
    "attribute": (
        lambda: check(net(counting)),
        ['parameter "layer.1.weight" differs', "All of the state came back", "a counter in forward", "register_buffer"],
    ),
    "optimizer that forgets": (
        lambda: check(optimizer=partial(Forgets, momentum=0.9)),
        ['optimizer state "momentum_buffer" of parameter 0 of the state does not come back'],
    ),
    "optimizer that counts": (lambda: check(optimizer=Counts), ["differs", "an attribute of the optimizer"]),
    "trainer that drops momentum": (
        lambda: check(kind=Drops, optimizer=momentum),
        ['parameter "1.weight" differs', "The trainer does not take up all of the state"],
    ),
    "randomness": (
        lambda: check(Drifting, normalize=False),
        ["Two runs without a stop differ too", "np.random.default_rng()"],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_state_that_does_not_survive_is_named(name):
    do, said = LOST[name]
    with generators_untouched(), pytest.raises(ValueError) as caught:
        do()
    message = str(caught.value)
    assert "training does not go on exactly from a saved state" in message
    assert [words for words in said if words not in message] == [], message


def test_what_a_checkpoint_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r'got builtins.module as "mine.2" of the state'):
        check(kind=Lists)


def test_state_through_a_file_is_the_state():
    values = {"a": [torch.tensor([1.0, NAN]), {"b": (1, 2.5, None, "x")}], 3: torch.zeros((), dtype=torch.bfloat16)}
    assert list(differences(values, through_a_file(tn.types.TrainState(3, values)).values)) == []


@pytest.mark.parametrize(
    ("other", "path"),
    [
        ({"a": [torch.tensor([1.0, 2.0]), 1], "b": NAN}, ("a", 0)),
        ({"a": [torch.tensor([1.0, NAN], dtype=torch.float64), 1], "b": NAN}, ("a", 0)),
        ({"a": [torch.tensor([1.0, NAN]), True], "b": NAN}, ("a", 1)),
        ({"a": [torch.tensor([1.0, NAN]), 1], "b": 0.0}, ("b",)),
        ({"a": [torch.tensor([1.0, NAN]), 1], "b": NAN, "c": 0}, ("c",)),
        ({"a": [torch.tensor([1.0, NAN])], "b": NAN}, ("a", 1)),
    ],
)
def test_differences_are_found_where_they_are(other, path):
    values = {"a": [torch.tensor([1.0, NAN]), 1], "b": NAN}
    assert list(differences(values, copy.deepcopy(values))) == []
    assert list(differences(values, other)) == list(differences(other, values)) == [path]
