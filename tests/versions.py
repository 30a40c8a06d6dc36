"""The suite under the lowest and the newest allowed versions, in virtual environments of their own.

Run: python tests/versions.py                       # both
     python tests/versions.py lowest --keep FOLDER  # one of them; what was installed stays, for a second run

The lowest is the lowest Python of pyproject.toml, with the lower bound of each dependency; the newest is the newest
Python that this machine has, with what pip chooses for it. CI's own suite runs with constraints.txt.

It runs the part of the suite that depends on other versions' numbers, kernels, formats and deprecations (a warning is
an error there as well): spaces and searchers (SciPy, NumPy's generators), training, optimizers, lanes and heuristics
(torch), the store and its states, and studies that are resumed. Left out are worker processes, the extras, which have
bounds of their own and want other versions of these packages, and what costs minutes: documentation, examples, demo.

On x86-64 Linux the package index has torch for CUDA alone, about 3 GB for each environment and 6 GB once installed;
both are removed unless kept.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = [re.split(r"[<>=]", need)[0] for need in PROJECT["dependencies"]]
TOOLS = ["pytest>=8", "hypothesis>=6.100", "cmaes>=0.11"]  # what the selected tests import
MINORS = range(11, 20)  # of Python 3, that are looked for
SELECTION = [
    *("tests/space", "tests/search", "tests/schedule", "tests/train", "tests/optim", "tests/fused", "tests/heuristics"),
    *("tests/store", "tests/runtime", "tests/test_seeds.py", "tests/test_metrics.py", "tests/test_ranking_metrics.py"),
    *("tests/study/test_study.py", "tests/study/test_resume.py", "tests/study/test_forks.py"),
]


@dataclass(frozen=True)
class Environment:
    """What is installed: an interpreter, and requirements of pip."""

    name: str
    python: str
    needs: list[str]


def lowest(pythons: dict[int, str]) -> Environment:
    first = int(re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1])
    if first not in pythons:
        sys.exit(f"versions: no Python 3.{first} on this machine; put one on PATH.")
    return Environment("lowest", pythons[first], [need.replace(">=", "==") for need in PROJECT["dependencies"]])


def newest(pythons: dict[int, str]) -> Environment:
    return Environment("newest", pythons[max(pythons)], PROJECT["dependencies"])


CHOICES = {"lowest": lowest, "newest": newest}


def installed_pythons() -> dict[int, str]:
    """Return the interpreters of this machine by minor version: on PATH, and pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = {minor: [f"python3.{minor}", *sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))] for minor in MINORS}
    able = {minor: [str(path) for path in paths if _runs(str(path))] for minor, paths in named.items()}
    return {minor: paths[-1] for minor, paths in able.items() if paths}


def _runs(python: str) -> bool:
    found = shutil.which(python)
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0


def install(environment: Environment, folder: Path) -> str:
    """Make the virtual environment in `folder`; return why that failed, or nothing."""
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([environment.python, "-m", "venv", folder], check=True)
    command = [python, "-m", "pip", "install", "-q", *environment.needs, *TOOLS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def versions(folder: Path) -> list[str]:
    """Return the versions of Python and of the packages that are installed."""
    names = f"import platform, importlib.metadata as m; print(platform.python_version(), *map(m.version, {PACKAGES}))"
    return subprocess.run(
        [folder / "bin/python", "-c", names], capture_output=True, text=True, check=True
    ).stdout.split()


def run_suite(folder: Path, selection: list[str]) -> list[str]:
    """Run tests; return how many passed, failed and were skipped, and the seconds they took."""
    results = folder / "results.xml"
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        folder / "bin/python",
        "-m",
        "pytest",
        "--continue-on-collection-errors",
        f"--junitxml={results}",
        *selection,
    ]
    subprocess.run(command, cwd=ROOT, env=environ, check=False)
    suite = ElementTree.parse(results).getroot().find("testsuite").attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return [str(int(suite["tests"]) - failed - skipped), str(failed), str(skipped), f"{float(suite['time']):.0f}"]


def row(environment: Environment, folder: Path, selection: list[str]) -> list[str]:
    """Return an environment's row of the table."""
    reason = install(environment, folder)
    if reason:
        return [environment.name, environment.python, f"cannot be installed: {reason}"]
    return [environment.name, *versions(folder), *run_suite(folder, selection)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="*", choices=[[], *CHOICES], help="all by default")
    parser.add_argument("--keep", type=Path, help="a folder for the environments, which stay there")
    parser.add_argument("--tests", nargs="+", default=SELECTION, help="in place of the selection")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="versions-") as temporary:
        for name in options.environments or CHOICES:
            folder = (options.keep or Path(temporary)).absolute() / name
            rows.append(row(CHOICES[name](installed_pythons()), folder, options.tests))
            if options.keep is None:
                shutil.rmtree(folder, ignore_errors=True)
    header = ["", "Python", *PACKAGES, "passed", "failed", "skipped", "seconds"]
    print(*(f"| {' | '.join(each)} |" for each in (header, ["---"] * len(header), *rows)), sep="\n")
    sys.exit(any(len(each) < len(header) or each[-3] != "0" for each in rows))


if __name__ == "__main__":
    main()
