"""State that no optimizer and no saved state would hold is named before trial 0."""

import sys

import pytest
import torch
from torch import nn

from tests.helpers.dry_run_cases import CLASSES, IMAGES, Net, check, linear, net


class Late(Net):
    """A module whose forward pass makes a parameter, a layer, or a lazy layer that never runs."""

    def __init__(self, forward, **parts):
        super().__init__(forward)
        for name, part in parts.items():
            setattr(self, name, part)


def new_layer(self, x):
    if self.late is None:
        self.late = nn.Linear(10, 10)
    return self.late(self.layer(x))


def replaced(self, x):
    if self.training:
        self.scale = nn.Parameter(self.scale.detach() * 0.9)
    return self.layer(x) * self.scale


def dropped(self, x):
    self.scale = None
    return self.layer(x)


class Counts(Net):
    def __init__(self):
        super().__init__(lambda self, x: self.layer(x) * self.advance())
        self.calls = 0

    def advance(self):
        self.calls += self.training
        return 1.0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


REFUSED = {
    "layer made in forward": (
        lambda: Late(new_layer, late=None),
        ['parameter "late.weight" appears in the forward pass', "nn.LazyLinear"],
    ),
    "parameter replaced": (
        lambda: Late(replaced, scale=nn.Parameter(torch.ones(10))),
        ['parameter "scale" is replaced', "the optimizer holds the first"],
    ),
    "parameter dropped": (lambda: Late(dropped, scale=nn.Parameter(torch.ones(10))), ['parameter "scale" is gone']),
    "lazy layer that never runs": (
        lambda: Late(lambda self, x: self.layer(x), spare=nn.LazyLinear(3)),
        ['"spare.weight" is lazy', "leave it out"],
    ),
    "extra state": (Counts, ["what get_extra_state returns", "keep it in a buffer"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_appears_after_building_is_named(name):
    builder, said = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        check(builder)
    assert [words for words in said if words not in str(caught.value)] == []


def test_a_builder_that_exits_is_refused():
    with pytest.raises(ValueError, match="cannot be built: SystemExit: 2"):
        check(lambda: sys.exit(2))


class Labeled(Net):
    def get_extra_state(self):
        return {"classes": ["a", "b"]}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(
    "builder",
    [
        lambda: Labeled(lambda self, x: self.layer(x)),
        net(lambda self, x: self.layer(x), lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10))),
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(10)),
        lambda: torch.jit.script(linear()),
    ],
)
def test_state_that_stays_is_not_refused(builder):
    check(builder, (IMAGES[:96], CLASSES[:96]))
