"""The `__main__` of this process, as a new process sees it: imported from its file, or not there at all."""

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from inspect import unwrap
from multiprocessing.process import ORIGINAL_DIR  # type: ignore[attr-defined]
from typing import Any

PROMPTS = {"ipython", "ipython3"}  # scripts that multiprocessing does not import


def is_imported() -> bool:
    """True if a new process can import this one's `__main__`: it is a script or a module, and its file is there."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return not (spec.name == "__main__" or spec.name.endswith(".__main__"))
    path = _path()
    stem, suffix = os.path.splitext(os.path.basename(path))
    return suffix != ".ipynb" and stem not in PROMPTS and os.path.isfile(path)


@contextmanager
def hidden_unless_imported() -> Iterator[None]:
    """A block in which a process starts; it then does not look for a `__main__` that it cannot import."""
    main = sys.modules["__main__"]
    if is_imported() or "__file__" not in vars(main):
        yield
        return
    path = vars(main).pop("__file__")
    try:
        yield
    finally:
        vars(main)["__file__"] = path


def has(thing: Any) -> bool:
    """True unless a new process would lack this thing of `__main__`, since it was made at a prompt or by the guard.

    Args:
        thing: a function or a class, or an object with the `__qualname__` of one.
    """
    if not is_imported():
        return False
    if str(thing.__qualname__).split(".")[0] in _guarded(_path()):
        return False
    code = getattr(unwrap(thing), "__code__", None)
    return code is None or os.path.exists(os.path.join(ORIGINAL_DIR, code.co_filename))


def is_found_by_name(thing: Any, with_main: bool = True) -> bool:
    """True if a new process that imports this thing's module finds it there.

    Args:
        thing: a function or a class, or an object with the `__module__` and `__qualname__` of one.
        with_main: the new process imports `__main__` too, if it can be.
    """
    name, found = getattr(thing, "__module__", None), sys.modules.get(getattr(thing, "__module__", None) or "")
    if name == "__main__":
        if not with_main or not has(thing):
            return False
    elif getattr(found, "__spec__", None) is None:
        return False  # a module that was made by hand
    for part in str(thing.__qualname__).split("."):
        found = getattr(found, part, None)
    return found is thing


def _path() -> str:
    return os.path.join(ORIGINAL_DIR or "", getattr(sys.modules["__main__"], "__file__", None) or "")


@lru_cache(maxsize=4)
def _guarded(path: str) -> frozenset[str]:
    """The names of functions and classes that a script defines under `if __name__ == "__main__":` only."""
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    guards = [node for node in body if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)]
    inside = {name for guard in guards for node in guard.body for name in _defined(node)}
    others = [node for node in body if node not in guards]
    return frozenset(inside - {name for node in others for name in _defined(node)})


def _defined(node: ast.AST) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {inner.name for inner in ast.walk(node) if isinstance(inner, kinds)}
