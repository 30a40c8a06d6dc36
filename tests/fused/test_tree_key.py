"""Structures of batches as keys."""

from collections import namedtuple

import pytest
import torch
from torch.utils import _pytree as pytree  # torch has no public one

from tuneflow.fused.tree_key import TreeKey

Pair = namedtuple("Pair", "x y")
ONE = torch.ones(1)
TREES = {
    "tensor": ONE,
    "tuple": (ONE, ONE),
    "list": [ONE, ONE],
    "named": Pair(ONE, ONE),
    "dict": {"x": ONE, "y": (ONE,)},
}


def key(tree):
    return TreeKey(pytree.tree_structure(tree))


@pytest.mark.parametrize("name", TREES)
def test_a_structure_finds_its_own_entry_alone(name):
    entries = {key(tree): each for each, tree in TREES.items()}
    assert entries[key(pytree.tree_map(torch.clone, TREES[name]))] == name
    assert len(entries) == len(TREES)
