"""The exceptions: one tree, drawn at the top of their file; and the middles of messages."""

import copy
import inspect
import pickle
import re

import pytest

import tuneflow as tn
from tuneflow import errors
from tuneflow.errors import did_you_mean, listed

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}


def drawn():
    """Name to the name of its parent, as the docstring draws them."""
    parents, path = {}, {}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ([│├└─ ]*)([A-Z]\w+)(  |$)", line):
            depth = len(found[1]) // 4
            path[depth] = found[2]
            parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_exceptions_form_the_tree_that_is_drawn():
    assert {name: kind.__base__.__name__ for name, kind in CLASSES.items()} == drawn()


def test_every_exception_is_caught_as_a_tuneflow_error():
    assert len(CLASSES) > 1
    assert all(issubclass(kind, tn.errors.TuneflowError) for kind in CLASSES.values())
    assert not any(issubclass(kind, ValueError | TypeError) for kind in CLASSES.values())


@pytest.mark.parametrize("last", [None, 0.1234567890123])
@pytest.mark.parametrize("step", [0, 7])
def test_diverged_survives_pickling_and_copying(step, last):
    error = tn.errors.Diverged(3, step, last)
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is tn.errors.Diverged
        assert (again.epoch, again.step, again.last) == (3, step, last)
        assert str(again) == str(error)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_every_exception_survives_pickling(kind):
    error = kind(1, 2, 0.5) if kind is tn.errors.Diverged else kind("what happened")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)


def test_diverged_says_where_and_from_what():
    assert str(tn.errors.Diverged(3, 7, 0.5)) == "loss not finite at epoch 3, step 7 (last finite loss 0.5)"
    assert str(tn.errors.Diverged(1, 0, None)) == "loss not finite at epoch 1, evaluation (no finite loss before)"


def test_close_words_are_proposed_and_others_are_not():
    assert did_you_mean("optimiser", ["model", "optimizer"]) == ' Did you mean "optimizer"?'
    assert did_you_mean("zzz", ["model", "optimizer"]) == ""
    assert did_you_mean("x", []) == ""


def test_lists_in_messages_are_short():
    assert listed(["a", "b"]) == "a, b"
    assert listed([]) == "nothing"
    assert listed(map(str, range(12))).endswith("10, 11")
    assert listed(map(str, range(13))).endswith("10, 11, ... (13 in all)")
