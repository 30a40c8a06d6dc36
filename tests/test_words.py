"""Docstrings open with a noun phrase or a verb in the present, and prose has one spelling."""

import ast
import re
from pathlib import Path

import tuneflow as tn

ROOT = Path(tn.__file__).parent
DEFINITIONS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FORBIDDEN = re.compile(r"(What|Whether|How|Who|Whose|As|Which|Where|When|That)\b")
BRITISH = re.compile(r"\b[a-z]*(ormalis|nitialis|tandardis|ptimis(e|a|i(?!sm|st))|olour|ehaviour|eighbour|entre\b)\w*")


def docstrings():
    """(file:name, whether it is public, docstring) of everything in the package that has one."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, DEFINITIONS) and (doc := ast.get_docstring(node)):
                name = getattr(node, "name", "")
                yield f"{path.relative_to(ROOT)}:{name}", not name.startswith("_"), doc


def test_docstrings_open_with_what_the_thing_is_or_does():
    """None of the forbidden openers in public docstrings, under 2 % of all."""
    every = [(name, public, bool(FORBIDDEN.match(doc))) for name, public, doc in docstrings()]
    assert [name for name, public, wrong in every if public and wrong] == []
    assert sum(wrong for _, _, wrong in every) < 0.02 * len(every)


def test_docstrings_have_american_spelling():
    assert [(name, found[0]) for name, _, doc in docstrings() if (found := BRITISH.search(doc))] == []
