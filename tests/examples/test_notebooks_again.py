"""Each notebook runs again in a kernel, with a small budget, and has the outputs that the stored one has."""

import pytest

from tests.helpers.forked import output_of
from tests.helpers.notebooks import cells, scripts, sources

BUDGETS = {
    "01_article_cnn": "--images 32 --epochs 1 --trials 2",
    "02_searchers": "--seeds 2 --trials 4 --epochs 1 --rows 64",
    "03_learning_rate": "--epochs 1 --seeds 1 --points 2",
    "04_initialization": "--epochs 1 --seeds 1 --rows 64",
    "05_stop_and_resume": "--trials 4 --epochs 3 --rows 256",
    "06_custom_searcher": "--seeds 2 --trials 2 --epochs 1 --rows 64",
    "07_softmax": "--seeds 1 --epochs 1 --rows 128",
    "08_smaller_and_faster": "--size 8 --rows 64 --epochs 1 --more 1 --trials 2 --seconds 0.05",
    "09_harder_to_attack": "--rows 64 --epochs 1 --more 1 --trials 1 --tested 12 --seconds 0.05",
    "10_look_and_adjust": "--rows 64 --epochs 1 --trials 4",
}


def outputs(path):
    """For each cell with outputs its number and their kinds."""
    found = enumerate(cells(path))
    return [(n, {part.get("name", part["output_type"]) for part in c["outputs"]}) for n, c in found if c.get("outputs")]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A folder with each notebook as a kernel executed it with a small budget, or the error that ended it."""
    for package in ("jupytext", "nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("notebooks")
    code = f"from pathlib import Path; from tests.helpers.notebooks import write_all; write_all(Path.cwd(), {BUDGETS})"
    (folder / "write.py").write_text(code)
    output_of(folder / "write.py", cwd=folder, HOME=str(folder), JUPYTER_RUNTIME_DIR=str(folder))
    return folder


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.stem)
def test_a_notebook_runs_in_a_kernel_with_a_small_budget(script, executed):
    error = executed / f"{script.stem}.error"
    assert not error.exists(), error.read_text()
    made = executed / f"{script.stem}.ipynb"
    assert sources(cells(made)) == sources(cells(script.with_suffix(".ipynb")))
    assert [number for number, _ in outputs(made)] == [number for number, _ in outputs(script.with_suffix(".ipynb"))]
