"""The shape of the house: imports go one way, and the public face is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import tuneflow as tn

ROOT = Path(tn.__file__).parent

# The rooms, from the ground up: a module imports only from rooms above its own line, or from its own room.
ROOMS = [
    ["version", "errors"],
    ["seeds", "signature"],
    ["priors", "nn", "chart"],
    ["values"],
    ["parameters"],
    ["tree"],
    ["space"],
    ["objective"],
    ["trial"],
    ["search"],
    ["schedule"],
    ["precision"],
    ["runtime"],
    ["rayruntime"],
    ["loaders"],
    ["data", "metrics"],
    ["heuristics"],
    ["model"],
    ["fused"],
    ["train"],
    ["execute"],
    ["store"],
    ["optimism", "fingerprint", "goals", "ledger", "order", "interrupt", "arguments"],
    ["confirm"],
    ["result"],
    ["probe"],
    ["probes"],
    ["progress"],
    ["budget"],
    ["driver"],
    ["study", "archive"],
    ["optimise", "testing"],
    ["demo", "__init__"],
    ["__main__"],
]
PLACE = {name: place for place, names in enumerate(ROOMS) for name in names}

# The one import that goes down: a Runtime makes the executor that it is asked for.
ALLOWED = {("runtime", "execute"), ("rayruntime", "execute")}


def imports_of(path):
    """(imported room, its module) for every tuneflow import in a file, those inside functions among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tuneflow":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("tuneflow."))


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_module_has_a_room():
    assert {room_of(path) for path in ROOT.rglob("*.py")} == set(PLACE)


def test_imports_go_upwards_only():
    wrong = [
        (str(path.relative_to(ROOT)), imported)
        for path in ROOT.rglob("*.py")
        for imported in imports_of(path)
        if imported != room_of(path)
        and PLACE[imported] >= PLACE[room_of(path)]
        and (room_of(path), imported) not in ALLOWED
    ]
    assert wrong == []


def test_public_names_are_sorted_and_there():
    assert tn.__all__ == sorted(tn.__all__)
    public = {name for name, value in vars(tn).items() if not name.startswith("_")}
    rooms = {path.stem for path in ROOT.iterdir() if path.name != "__init__.py"}
    assert set(tn.__all__) - {"__version__"} == public - (rooms - set(tn.__all__))


def test_public_classes_and_functions_have_docstrings():
    assert [name for name in tn.__all__ if name != "__version__" and not getattr(tn, name).__doc__] == []


def test_import_brings_no_optional_or_slow_package():
    slow = ["scipy.stats", "scipy.special", "torch._dynamo", "optuna", "ray"]
    code = f"import sys, tuneflow; print([name for name in {slow} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
