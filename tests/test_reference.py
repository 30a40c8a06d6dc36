"""The reference, which is generated from the code, has every public name."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

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


def test_every_public_name_is_in_the_reference():
    modules = [name for name in tn.__all__ if isinstance(getattr(tn, name), ModuleType)]
    members = [f"{name}.{part}" for name in [*modules, "heuristics", "testing"] for part in members_of_module(name)]
    assert set(tn.__all__) | set(members) <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def members_of_module(name):
    return reference.public(name).__all__


def test_every_page_names_what_it_is_to_show(tmp_path):
    reference.write(tmp_path)
    shown = "".join(page.read_text() for page in tmp_path.glob("*.md"))
    entries = set(re.findall(r"^\.\. auto\w+:: tuneflow\.(\S+)$", shown, re.MULTILINE))
    assert entries == set(NAMES) - {"__version__"}
    assert "`tuneflow.__version__`" in shown
