"""The reference, which is generated from the code, has every public name; and each says what a reader needs."""

import importlib.util
import inspect
import re
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest
from typing_extensions import is_protocol

import tuneflow as tn

ROOT = Path(__file__).parents[1]


def loaded(path):
    """A script of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = loaded(ROOT / "docs" / "reference_pages.py")
NAMES = reference.names()
CLASSES = [name for name in NAMES if inspect.isclass(reference.public(name))]
CALLABLES = [*CLASSES, *(name for name in NAMES if inspect.isroutine(reference.public(name)))]
FROM_PAPERS = [
    "Halving",
    "Hyperband",
    "Median",
    "Population",
    "Sobol",
    "GP",
    "TPE",
    "CMAES",
    "Evolution",
    "NSGA2",
    "LeCun",
]


MADE_BY_THE_LIBRARY = ["train.loop_run.LoopRun"]


def doc_of(name):
    value = reference.public(name)
    bases = value.__mro__ if inspect.isclass(value) else [value]
    return "\n\n".join(inspect.getdoc(base) or "" for base in bases if base.__module__.startswith("tuneflow"))


def test_every_public_name_is_in_the_reference():
    modules = [name for name in tn.__all__ if isinstance(getattr(tn, name), ModuleType)]
    members = [f"{name}.{part}" for name in [*modules, "heuristics", "testing"] for part in members_of_module(name)]
    shown = [reference.public(name) for name in NAMES]  # tn.Data stands there as tn.data.Data
    assert [name for name in [*tn.__all__, *members] if not any(reference.public(name) is it for it in shown)] == []
    assert len(NAMES) == len(set(NAMES))


def members_of_module(name):
    return reference.public(name).__all__


def test_every_page_names_what_it_is_to_show(tmp_path):
    reference.write(tmp_path)
    shown = "".join(page.read_text() for page in tmp_path.glob("*.md"))
    entries = set(re.findall(r"^\.\. (?:auto|py:)\w+:: tuneflow\.(\S+)$", shown, re.MULTILINE))
    assert entries == set(NAMES) - {"__version__"}
    assert "`tuneflow.__version__`" in shown


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_described(name):
    """By name, in Args or Attributes, its bases' among them."""
    value = reference.public(name)
    if name in MADE_BY_THE_LIBRARY:
        return
    if inspect.isclass(value) and (issubclass(value, BaseException) or is_protocol(value)):
        return
    wanted = [argument for argument in inspect.signature(value).parameters if argument not in ("args", "kwargs")]
    described = set(re.findall(r"^ *([\w, *]+?)(?: \([^)]*\))?:", doc_of(name), re.MULTILINE))
    described = {part.strip(" *") for names in described for part in names.split(",")}
    assert [argument for argument in wanted if argument not in described] == []


@pytest.mark.parametrize("name", [name for name in CLASSES if name in tn.__all__])
def test_every_public_method_has_a_docstring(name):
    cls = reference.public(name)
    members = [member for member, value in vars(cls).items() if not member.startswith("_") and is_code(value)]
    assert [member for member in members if not has_docstring(cls, member)] == []


def has_docstring(cls, member):
    """True if the member has one, or that which it overrides."""
    return any(member in vars(base) and vars(base)[member].__doc__ for base in cls.__mro__)


def is_code(value):
    return inspect.isroutine(value) or isinstance(value, property | cached_property)


@pytest.mark.parametrize("name", [*reference.PAGES["searchers"][1], *reference.PAGES["schedulers"][1][:-1]])
def test_every_searcher_and_scheduler_has_an_example(name):
    assert ">>> " in doc_of(name)


@pytest.mark.parametrize("name", FROM_PAPERS)
def test_what_comes_from_a_paper_names_its_source(name):
    assert re.search(r"^Source: .*\d{4}", doc_of(name), re.MULTILINE)
