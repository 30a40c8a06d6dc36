"""Each example has a notebook beside it: the same cells, executed. tests/examples runs them again."""

import re

import pytest

from tests.helpers.notebooks import EXAMPLES, cells, notebook_of, scripts, sources

each_example = pytest.mark.parametrize("script", scripts(), ids=lambda script: script.stem)


def test_examples_are_numbered_without_gaps_and_have_their_notebooks():
    assert [int(script.stem[:2]) for script in scripts()] == list(range(1, len(scripts()) + 1))
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {script.stem for script in scripts()}


@each_example
def test_a_notebook_has_the_cells_of_its_example(script):
    pytest.importorskip("jupytext")
    assert sources(cells(script.with_suffix(".ipynb"))) == sources(notebook_of(script).cells)


@each_example
def test_a_notebook_was_executed_from_its_first_cell_to_its_last(script):
    code = [cell for cell in cells(script.with_suffix(".ipynb")) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert code[-1]["outputs"]


@each_example
def test_a_notebook_is_small_and_says_nothing_of_the_machine_that_made_it(script):
    text = script.with_suffix(".ipynb").read_text()
    assert len(text) < 300_000
    assert not re.search(r"/tmp|/root|/home|/work|site-packages|Traceback|Warning", text)
