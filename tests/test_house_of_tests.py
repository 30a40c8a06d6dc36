"""The house of tests: rooms as in tuneflow, helpers that are shared by name, laws seen from outside."""

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = {
    path.relative_to(TESTS): path.read_text() for path in sorted(TESTS.rglob("*.py")) if "benchmarks" not in path.parts
}
MODULES = {path: text for path, text in FILES.items() if path.name.startswith("test_")}
HELPERS = {path: text for path, text in FILES.items() if path.parts[0] == "helpers"}
MOST = 20  # private reaches in all of tests/
DOCUMENTED = {"_exit", "_repr_html_"}  # of os; and of what a notebook shows


def imports(text):
    """(line, dotted name) of every import; of `from a import b`, a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def reaches(text):
    """(line, name) of everything private that is taken from outside: as an attribute, a patch's name, or an import."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in ("self", "cls", "super()"):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("getattr", "setattr"):
            words = [
                each.value for each in node.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            yield from ((node.lineno, word) for word in words if any(map(is_private, word.split("."))))
    yield from ((line, name) for line, name in imports(text) if any(map(is_private, name.split("."))))


LOOKED_AT = """
import a._b
from c import _d
x._e, self._f, super()._g, y.__h__
monkeypatch.setattr("i._j", 1)
getattr(z, "_k")
"""


def test_private_reaches_are_found():
    assert sorted(reaches(LOOKED_AT)) == [(2, "a._b"), (3, "c._d"), (4, "_e"), (5, "i._j"), (6, "_k")]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_test_module_imports_another(path):
    others = [name for _, name in imports(MODULES[path]) if any(part.startswith("test_") for part in name.split("."))]
    assert others == []


def test_helpers_import_no_test_and_each_other_without_a_circle():
    names = {f"tests.{'.'.join(path.with_suffix('').parts)}.": path for path in HELPERS}
    used = {path: [f"{name}." for _, name in imports(text)] for path, text in HELPERS.items()}
    assert [name for each in used.values() for name in each if ".test_" in name] == []
    needs = {path: {names[n] for n in names for name in each if name.startswith(n)} for path, each in used.items()}
    while free := [path for path, needed in needs.items() if not needed & needs.keys()]:
        needs = {path: needed for path, needed in needs.items() if path not in free}
    assert needs == {}


def test_every_room_of_tests_is_a_room_of_tuneflow():
    rooms = sorted({path.parts[0] for path in MODULES if len(path.parts) > 1} - {"faults", "docs", "examples"})
    assert [room for room in rooms if not (TESTS.parent / "tuneflow" / room).is_dir()] == []


def test_private_reaches_are_few_and_each_says_why():
    found = [(path, line, name) for path, text in FILES.items() for line, name in reaches(text)]
    silent = [each for each in found if "  # " not in FILES[each[0]].splitlines()[each[1] - 1]]
    assert silent == [], "see the law from outside, or say on the line why that cannot be"
    assert len(found) < MOST


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_test_takes_the_name_of_another(path):
    """Of two functions of one name, Python would keep the second alone."""
    names = [node.name for node in ast.parse(MODULES[path]).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
