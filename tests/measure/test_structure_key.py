"""A structure's key changes with whatever can change its cost, and not with numbers."""

import copy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.helpers.measured_networks import convnet, quantized
from tuneflow.measure.structure_key import structure_key


class Repeats(nn.Module):
    def __init__(self, count=2, activation=torch.relu):
        super().__init__()
        self.count, self.activation, self.inner = count, activation, nn.Linear(4, 4)


def closing_over(count):
    class Again(nn.Module):
        def forward(self, x):
            for _ in range(count):
                x = sum([part.relu() for part in x.unbind()])
            return x

    return Again()


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


def holding(value):
    net = Repeats()
    net.held = value
    return net


def calling_itself():
    def again(x):
        return again(x)

    return holding(again)


@dataclass
class Sizes:
    depth: int


X = torch.ones(2, 1, 8, 8)
DIFFERENT = {
    "width": lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4)),
    "plain": lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
    "tied": tied,
    "bf16": lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).bfloat16(),
    "relu": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)),
    "stride": lambda: nn.Conv2d(1, 4, 3, stride=2),
    "dilation": lambda: nn.Conv2d(1, 4, 3, dilation=2),
    "channels_last": lambda: nn.Conv2d(3, 4, 3, stride=2).to(memory_format=torch.channels_last),
    "not channels_last": lambda: nn.Conv2d(3, 4, 3, stride=2),
    "twice": Repeats,
    "three times": lambda: Repeats(3),
    "a lambda": lambda: Repeats(activation=lambda x: x.relu()),
    "another lambda": lambda: Repeats(activation=lambda x: x.tanh()),
    "a closure": lambda: closing_over(2),
    "another closure": lambda: closing_over(3),
    "tanh": lambda: Repeats(activation=torch.tanh),
    "float": convnet,
    "twice as large": lambda: nn.Upsample(scale_factor=2),
    "4 times as large": lambda: nn.Upsample(scale_factor=4),
    "a share": lambda: holding(0.1),
    "another share": lambda: holding(0.9),
    "a dict": lambda: holding({"sizes": [Sizes(1)]}),
    "another dict": lambda: holding({"sizes": [Sizes(2)]}),
    "a namespace": lambda: holding(SimpleNamespace(depth=range(2))),
    "another namespace": lambda: holding(SimpleNamespace(depth=range(3))),
    "a partial": lambda: holding(partial(torch.mul, other=2)),
    "another partial": lambda: holding(partial(torch.mul, other=3)),
    "a default": lambda: holding(lambda x, n=1: x * n),
    "another default": lambda: holding(lambda x, n=2: x * n),
    "a recursion": calling_itself,
    "recurrent": lambda: nn.LSTM(2, 2),
    "int8": lambda: quantized(convnet(), X),
}


def test_a_key_is_the_same_each_time():
    module = quantized(convnet(), X)
    assert len({structure_key(module) for _ in range(5)}) == 1


def test_keys_differ_with_the_structure():
    assert len({structure_key(make()) for make in DIFFERENT.values()}) == len(DIFFERENT)


@pytest.mark.parametrize("name", DIFFERENT)
def test_keys_are_the_same_for_other_numbers(name):
    torch.manual_seed(0)
    first, second = structure_key(DIFFERENT[name]()), structure_key(copy.deepcopy(DIFFERENT[name]()))
    assert first == second


def test_the_rate_of_a_dropout_and_the_mode_are_numbers():
    assert structure_key(nn.Dropout(0.1)) == structure_key(nn.Dropout(0.2).eval())
