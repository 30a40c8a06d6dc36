"""The public face: few names, few arguments, nothing slow on import."""

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import tuneflow as tn
import tuneflow.testing
from tuneflow.__main__ import parser


def arguments_of(cls):
    return len(inspect.signature(cls.__init__).parameters) - 1


def test_the_face_is_small():
    """A new name or argument needs one taken away, or a sentence here why not."""
    assert len([name for name in tn.__all__ if not isinstance(getattr(tn, name), ModuleType)]) <= 46
    assert arguments_of(tn.Study) <= 18
    assert arguments_of(tn.Trainer) <= 14


def test_the_command_line_has_at_most_eight_verbs():
    (verbs,) = [action.choices for action in parser()._actions if action.choices]  # argparse has no public way to them
    assert 1 <= len(verbs) <= 8


FACES = [
    tn,
    tn.compress,
    tn.data,
    tn.measure,
    tn.measure,
    tn.metrics,
    tn.nn,
    tn.optim,
    tn.plot,
    tn.rates,
    tn.schedule,
    tn.types,
    tuneflow.testing,
]


@pytest.mark.parametrize("module", FACES, ids=lambda module: module.__name__)
def test_what_a_face_names_is_there_and_documented(module):
    assert list(module.__all__) == sorted(module.__all__)
    assert [name for name in module.__all__ if name != "__version__" and not getattr(module, name).__doc__] == []


@pytest.mark.parametrize("module", [tn, tn.compress, tn.data, tn.measure, tn.plot], ids=lambda module: module.__name__)
def test_dir_shows_the_public_names_only(module):
    assert dir(module) == module.__all__


def test_import_brings_no_optional_or_slow_package():
    slow = ["scipy.stats", "scipy.special", "torch._dynamo", "optuna", "ray", "matplotlib"]
    code = f"import sys, tuneflow; print([name for name in {slow} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
