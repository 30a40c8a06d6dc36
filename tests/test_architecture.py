"""The shape of the house: the public face is what it says."""

import subprocess
import sys
from pathlib import Path

import tuneflow as tn

ROOT = Path(tn.__file__).parent


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
