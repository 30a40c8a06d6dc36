"""Notebooks of the examples: made by jupytext, executed by nbclient.

    python -m tests.helpers.notebooks                                           # all of them, in examples/
    python -m tests.helpers.notebooks 02_searchers --into out --flags="--seeds 2"  # one, elsewhere, with small budgets

An example is a Python file in percent format. One of its cells sets `FLAGS`, the command line; a notebook has none, and
`--flags` puts its own there while the notebook runs. The stored notebook has the cells of the example.
"""

import argparse
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def scripts() -> list[Path]:
    """The examples, in the order of their numbers."""
    return sorted(EXAMPLES.glob("[0-9]*.py"))


def notebook_of(script: Path) -> Any:
    """The script's cells as a notebook without outputs; the same script gives the same notebook."""
    import jupytext
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=jupytext.read(script).cells, metadata=PYTHON)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def execute(notebook: Any, script: Path, flags: list[str]) -> None:
    """Run the notebook's cells in an empty folder that holds a copy of its script, and keep their outputs."""
    from nbclient import NotebookClient

    (settings,) = (cell for cell in notebook.cells if cell.source.startswith("FLAGS = "))
    written = settings.source
    settings.source += f"\nFLAGS = {flags!r}" if flags else ""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(script, folder)
        client = NotebookClient(
            notebook, resources={"metadata": {"path": folder}}, record_timing=False, coalesce_streams=True
        )
        client.execute(env={**os.environ, "IPYTHONDIR": folder})
    settings.source = written
    notebook.metadata = {**PYTHON, "language_info": {"name": "python"}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the notebooks of the examples and execute them.")
    parser.add_argument("names", nargs="*", help="of examples, without .py; all of them by default")
    parser.add_argument("--into", type=Path, default=EXAMPLES, help="the folder for the notebooks")
    parser.add_argument("--flags", type=shlex.split, default=[], help="the command line that the example sees")
    options = parser.parse_args()
    import nbformat

    for script in scripts():
        if options.names and script.stem not in options.names:
            continue
        notebook = notebook_of(script)
        execute(notebook, script, options.flags)
        nbformat.write(notebook, options.into / f"{script.stem}.ipynb")
        print(script.stem, flush=True)


if __name__ == "__main__":
    main()
