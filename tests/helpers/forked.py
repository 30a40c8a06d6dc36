"""Scripts and modules as programs, each in a process of its own that is forked from this one.

So nobody waits for a process that starts from nothing to import torch, which takes it seconds. A program sees its own
command line, folder, environment and standard output, warnings are errors, and signals do what they do in a new one.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

FORKS = "fork" in multiprocessing.get_all_start_methods()


def start(script, *arguments, cwd=".", output=os.devnull, **environment):
    """Start a script, given by its path, or a module, by its name; return its process."""
    if not FORKS:
        pytest.skip("needs fork: a process that starts from nothing takes seconds to import torch")
    import torch._dynamo  # noqa: F401 (a second of each program's time, with its first optimizer)

    command = (script, [*map(str, arguments)], str(cwd), output, environment)
    process = multiprocessing.get_context("fork").Process(target=_program, args=command)
    with warnings.catch_warnings():  # of threads that are there when it forks: a program needs nothing of theirs
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def output_of(script, *arguments, cwd, **environment):
    """Run a program to its end; return its standard output. It fails unless the program ends with 0."""
    (out, error) = (Path(cwd) / f".{name}-{os.getpid()}" for name in ("out", "err"))
    try:
        process = start(script, *arguments, cwd=cwd, output=(out, error), **environment)
        process.join()
        assert process.exitcode == 0, error.read_text()
        return out.read_text()
    finally:
        out.unlink(missing_ok=True)
        error.unlink(missing_ok=True)


def _program(script, arguments, cwd, output, environment):
    gc.freeze()  # what this process has from its parent is the parent's to close
    os.environ.update(environment)
    tempfile.tempdir = None  # it follows from the environment
    os.chdir(cwd)
    if isinstance(output, tuple):
        for number, (name, path) in enumerate(zip(("stdout", "stderr"), output, strict=True), 1):
            setattr(sys, name, path.open("w"))
            os.dup2(getattr(sys, name).fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("error")
    sys.argv = [str(script), *arguments]
    sys.modules.pop("ipykernel", None)  # a test of notebooks imports it, and the examples look for it
    if isinstance(script, Path):
        sys.path[0] = str(script.parent)
        runpy.run_path(str(script), run_name="__main__")
    else:
        sys.modules.pop(f"{script}.__main__", None)  # a test may have imported it
        runpy.run_module(script, run_name="__main__", alter_sys=True)
