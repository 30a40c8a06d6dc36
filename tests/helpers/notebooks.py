"""Notebooks of the examples: made by jupytext, executed by nbclient.

    python -m tests.helpers.notebooks                                           # all of them, in examples/
    python -m tests.helpers.notebooks 02_searchers --into out --flags="--seeds 2"  # one, elsewhere, with small budgets

An example is a Python file in percent format. One of its cells sets `FLAGS`, the command line; a notebook has none, and
`--flags` puts its own there while the notebook runs. The stored notebook has the cells of the example.
"""

import argparse
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def scripts() -> list[Path]:
    """The examples, in the order of their numbers."""
    return sorted(EXAMPLES.glob("[0-9]*.py"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook's file."""
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return found


def sources(found: Iterable[Any]) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in found]


def notebook_of(script: Path) -> Any:
    """The script's cells as a notebook without outputs; the same script gives the same notebook."""
    import jupytext
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=jupytext.read(script).cells, metadata=PYTHON)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def execute(notebook: Any, script: Path, flags: list[str], kernel: Any = None) -> None:
    """Run the notebook's cells in an empty folder that holds a copy of its script, and keep their outputs.

    `kernel`: the manager of one that runs already, which is emptied first; None for a new one.
    """
    import nbformat
    from nbclient import NotebookClient

    (settings,) = (cell for cell in notebook.cells if cell.source.startswith("FLAGS = "))
    written = settings.source
    settings.source += f"\nFLAGS = {flags!r}" if flags else ""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(script, folder)
        if kernel is not None:
            emptied = f"import os\nos.chdir({folder!r})\n%reset -f"
            notebook.cells.insert(0, nbformat.v4.new_code_cell(emptied))
        client = NotebookClient(
            notebook, km=kernel, resources={"metadata": {"path": folder}}, record_timing=False, coalesce_streams=True
        )
        client.execute(**({"env": {**os.environ, "IPYTHONDIR": folder}} if kernel is None else {}))
    if kernel is not None:
        del notebook.cells[0]
    settings.source = written
    notebook.metadata = {**PYTHON, "language_info": {"name": "python"}}


def main(command: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the notebooks of the examples and execute them.")
    parser.add_argument("names", nargs="*", help="of examples, without .py; all of them by default")
    parser.add_argument("--into", type=Path, default=EXAMPLES, help="the folder for the notebooks")
    parser.add_argument("--flags", type=shlex.split, default=[], help="the command line that the example sees")
    options = parser.parse_args(command)
    for script in scripts():
        if not options.names or script.stem in options.names:
            write(script, options.into, options.flags)
            print(script.stem, flush=True)


def write(script: Path, into: Path, flags: list[str], kernel: Any = None) -> None:
    """Write the executed notebook of a script into a folder."""
    import nbformat

    notebook = notebook_of(script)
    execute(notebook, script, flags, kernel)
    nbformat.write(notebook, into / f"{script.stem}.ipynb")


def write_all(into: Path, flags: dict[str, str]) -> None:
    """Write the executed notebook of each script, or the error that ended it, one after the other in one kernel."""
    from jupyter_client.manager import KernelManager

    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel(env={**os.environ, "IPYTHONDIR": str(into)})
    try:
        for script in scripts():
            try:
                write(script, into, shlex.split(flags[script.stem]), kernel)
            except Exception as error:
                (into / f"{script.stem}.error").write_text(str(error))
    finally:
        kernel.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
