"""A builder that seeds the global generators is noticed, since replicas would share its weights; others are not."""

import copy
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.dry_run_cases import CLASSES, IMAGES, RATE, check, linear


def seeded(seed):
    def build():
        seed()
        return linear()

    return build


def numpy_weights():
    np.random.seed(7)  # noqa: NPY002
    module = linear()
    module[1].weight = nn.Parameter(torch.from_numpy(np.random.randn(10, 192)).float())  # noqa: NPY002
    nn.init.zeros_(module[1].bias)
    return module


def python_weights():
    random.seed(7)
    module = linear()
    nn.init.constant_(module[1].bias, 0.0)
    module[1].weight = nn.Parameter(torch.tensor([[random.random() for _ in range(192)] for _ in range(10)]))
    return module


def everything():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)


READY = linear()


def loaded():
    module = linear()
    module.load_state_dict(READY.state_dict())
    return module


def zeros():
    module = linear()
    nn.init.zeros_(module[1].weight)
    nn.init.zeros_(module[1].bias)
    torch.manual_seed(3)
    return module


def shuffled():
    np.random.seed(7)  # noqa: NPY002
    np.random.permutation(10)  # noqa: NPY002
    return linear()


SEEDING = {
    "torch": (seeded(lambda: torch.manual_seed(42)), "of torch by itself"),
    "NumPy": (numpy_weights, "of NumPy by itself"),
    "Python": (python_weights, "of Python by itself"),
    "all": (seeded(everything), "of torch and NumPy and Python by itself"),
}
OTHERS = {
    "draws": linear,
    "copy": lambda: copy.deepcopy(READY),
    "loaded": loaded,
    "zeros": zeros,
    "NumPy for another purpose": shuffled,
    "lazy": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
    "its own generator": seeded(lambda: torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("name", SEEDING)
def test_a_builder_that_seeds_is_warned_of(name):
    builder, said = SEEDING[name]
    with pytest.warns(UserWarning, match=said):
        check(builder)


@pytest.mark.parametrize("name", OTHERS)
def test_a_builder_that_does_not_seed_is_not_warned_of(name):
    check(OTHERS[name])


def test_the_warning_comes_once_for_all_branches():
    choice = tn.Choice({"a": tn.call(torch.optim.SGD, lr=0.1), "b": tn.call(torch.optim.Adam, lr=0.1)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(SEEDING["torch"][0], (IMAGES, CLASSES), space={**RATE, "optimizer": choice})
    assert len([w for w in caught if "seeds the generator" in str(w.message)]) == 1
