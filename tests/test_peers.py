"""The same job in five packages: the scripts run, and the table of the docs counts what is in them."""

import ast
import io
import os
import re
import runpy
import subprocess
import sys
import tokenize
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "docs" / "peers"
PAGE = ROOT / "docs" / "howto" / "coming_from.md"

SCRIPTS = {  # by package: what they are imported as, their scripts, and what these need
    "tuneflow": ("tn", ["with_tuneflow"], []),
    "Optuna": ("optuna", ["with_optuna"], ["optuna", "plotly"]),
    "Ray Tune": ("tune", ["with_ray_tune"], ["ray", "pyarrow", "tensorboardX"]),
    "Ax": ("ax", ["with_ax"], ["ax"]),
    "Syne Tune": ("syne_tune", ["with_syne_tune", "syne_tune_trial"], ["syne_tune", "dill", "matplotlib"]),
}
OTHERS = {  # names of modules, and of PyTorch, plotly and Python
    "pruners", "visualization", "schedulers", "tune",
    "nn", "optim", "CrossEntropyLoss", "SGD", "parameters", "state_dict", "load_state_dict", "save", "load",
    "write_html", "items", "TemporaryDirectory", "with_name", "mkdir", "add_argument", "parse_known_args", "width",
    "dropout", "lr",
}  # fmt: skip


def sources(package):
    return [(PEERS / f"{script}.py").read_text() for script in SCRIPTS[package][1]]


def logical_lines(text):
    """Number of logical lines of a script, as Python has them, without its docstring and its imports."""
    tree = ast.parse(text)
    left_out = [tree.body[0], *(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))]
    ends = {node.end_lineno for node in left_out}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.NEWLINE and token.start[0] not in ends for token in tokens)


def names_of(package):
    """Names to know: those that a package has, and those that its objects have. Keyword arguments count in neither."""
    own, members, module = set(), set(), SCRIPTS[package][0]
    for node in (node for text in sources(package) for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == module:
            own |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            *_, root = (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))
            (own if root == module and isinstance(node.value, ast.Name | ast.Attribute) else members).add(node.attr)
    return own - OTHERS, members - own - OTHERS


def counts(package):
    """Lines and names of a package's scripts, as in the table."""
    lines, names = sum(map(logical_lines, sources(package))), map(len, names_of(package))
    return f"{lines} | {' + '.join(map(str, names))}"


@pytest.mark.parametrize("package", SCRIPTS)
def test_table_counts_the_lines_and_names_of_each_script(package):
    (row,) = re.findall(rf"^\| \[?{package}\b[^|]*\| (\d+ \| \d+ \+ \d+) \|", PAGE.read_text(), re.M)
    assert row == counts(package)


def smaller(package, folder):
    """Write the scripts of a package into a folder, with less to do; return the one to run."""
    for script in ["job", *SCRIPTS[package][1]]:
        text = (PEERS / f"{script}.py").read_text().replace("TRIALS, EPOCHS = 20, 5", "TRIALS, EPOCHS = 2, 1")
        text = text.replace("tn.data.digits()\n", "(part[:64] for part in tn.data.digits())\n")
        (folder / f"{script}.py").write_text(text)
    return folder / f"{SCRIPTS[package][1][0]}.py"


def test_job_in_tuneflow_prints_a_line_for_each_trial_and_writes_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "job", raising=False)
    runpy.run_path(str(smaller("tuneflow", tmp_path)))
    monkeypatch.delitem(sys.modules, "job")
    assert len(re.findall(r"^trial \d of 2 ", "".join(capsys.readouterr()), re.M)) == 2
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("package", [package for package in SCRIPTS if package != "tuneflow"])
def test_job_in_another_package_runs_where_that_is_installed(package, tmp_path):
    missing = [name for name in SCRIPTS[package][2] if find_spec(name) is None]
    if missing:
        pytest.skip(f"{package} needs {' and '.join(missing)}, which .ci/test-peers installs")
    command = [sys.executable, "-W", "ignore", smaller(package, tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, env=environment)
