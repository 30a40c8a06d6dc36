"""Every argument of every public call, given what it is not for: taken with a meaning, or refused by its rule."""

import contextlib
import os
import traceback
import warnings

import pytest

from tests.helpers.public_calls import CALLS, TRAINING, WRONG, Unshown, arguments_of, kind_of
from tuneflow.errors import TuneflowError

NOT_NUMBERS = {"no", "a", "nan", "[]", "a dict in itself", "bytes", "True", "1j"}
NO_FLAGS = WRONG.keys() - {"True"}
NEVER = {"bool": NO_FLAGS, "int": NOT_NUMBERS | {"inf", "10**400"}, "float": NOT_NUMBERS | {"10**400"}}
ANY_SIZE = {("Study", "seed"), ("Study with a trainer", "seed"), ("minimize", "seed")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of this test's own to work in, for paths that are taken."""
    monkeypatch.chdir(tmp_path)


def outcome(name, argument, value):
    """Return "taken" or "refused" for a call with one argument replaced; else the error that is not in our words."""
    call, settings = CALLS[name]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(None):
            warnings.simplefilter("ignore")
            call(**settings | {argument: value})
    except (TuneflowError, FileNotFoundError):
        return "refused"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = f"{os.sep}tuneflow{os.sep}" in last.filename and "raise" in (last.line or "")
        return "refused" if isinstance(error, TypeError | ValueError) and ours else f"{type(error).__name__}: {error}"
    return "taken"


def outcomes(name):
    """Yield argument, value and outcome of everything that is wrong for a call."""
    for argument in arguments_of(name):
        for value in WRONG:
            if name not in TRAINING or value in NOT_NUMBERS | {"-1", "0"}:
                yield argument, value, outcome(name, argument, WRONG[value])


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_refused_by_its_rule_or_has_a_meaning(name):
    for argument, value, result in outcomes(name):
        call = f"{name}({argument}={value})"
        assert result in ("taken", "refused"), f"{call} fails with {result}"
        exact = (name, argument) in ANY_SIZE and value == "10**400"
        never = set() if exact else NEVER.get(kind_of(name, argument), set())
        assert result == "refused" or value not in never, f"{call} is taken, and has no meaning"


@pytest.mark.parametrize("name", CALLS)
def test_the_arguments_of_a_call_are_good_but_for_the_one_that_is_replaced(name):
    call, settings = CALLS[name]
    with contextlib.suppress(FileNotFoundError, TuneflowError):  # where there is nothing at its path
        call(**settings)


@pytest.mark.parametrize("name", ["Folder", "Runtime", "Study", "Study with a trainer", "Trainer"])
def test_a_value_that_cannot_be_shown_is_refused_by_its_rule(name):
    for argument in arguments_of(name):
        assert outcome(name, argument, Unshown()) == "refused", argument
