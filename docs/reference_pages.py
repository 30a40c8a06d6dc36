"""Write the reference, a page a topic, from the public names of the code; docs/conf.py calls it before each build."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

PAGES: dict[str, tuple[str, list[str]]] = {
    "spaces": ("Spaces", ["SearchSpace", "Float", "Int", "Choice", "Permutation", "Constant", "Normal", "call"]),
    "searchers": (
        "Searchers",
        ["Searcher", "Auto", "Grid", "Random", "Sobol", "LeCun", "GP", "TPE", "CMAES", "Evolution", "NSGA2", "Warm"],
    ),
    "schedulers": (
        "Schedulers",
        ["Scheduler", "Full", "Halving", "Hyperband", "Median", "Population", "schedule"],
    ),
    "training": (
        "Models and training",
        ["Model", "Trainer", "Patience", "loop", "train.loop_run.LoopRun", "rates", "optim"],
    ),
    "studies": (
        "Studies and results",
        [
            "Study",
            "Folder",
            "Trial",
            "Result",
            "load",
            "open",
            "minimize",
            "maximize",
            "within",
            "analysis.table.Table",
            "study.folder_result.FolderResult",
        ],
    ),
    "plots": ("Plots", ["plot"]),
    "compression": ("Smaller and faster", ["compress", "measure"]),
    "hardening": ("Harder to attack", ["harden"]),
    "runtime": ("Runtime", ["Runtime", "RayRuntime"]),
    "measurement": ("Measurement before training", ["probe", "Probe", "heuristics"]),
    "data": ("Data, metrics and modules", ["data", "metrics", "nn"]),
    "extending": (
        "For plug-ins",
        ["types", "execute.executor.Executor", "store.store.Store", "testing", "seeds"],
    ),
    "errors": ("Errors and version", ["errors", "__version__"]),
}
CONSTANTS = {"data.FASHION_FOLDER": "The folder of the images that Debian's package dataset-fashion-mnist installs."}
VERSION = "`tuneflow.__version__` is the version of the package, a string.\n"


def public(name: str) -> Any:
    """The object behind a name below `tuneflow`: an attribute, or a module that is not imported with it."""
    value: Any = importlib.import_module("tuneflow")
    path = "tuneflow"
    for part in name.split("."):
        path += f".{part}"
        value = getattr(value, part) if hasattr(value, part) else importlib.import_module(path)
    return value


def names() -> list[str]:
    """Every documented name below `tuneflow`; a module stands for what its `__all__` names."""
    found = []
    for _, listed in PAGES.values():
        for name in listed:
            value = public(name)
            members = [f"{name}.{member}" for member in exported(value)] if isinstance(value, ModuleType) else []
            found += [name, *members]
    return found


def exported(module: ModuleType) -> list[str]:
    """The public names of a module: its `__all__`, or the classes and functions that it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in own if not name.startswith("_")]


def members_of(cls: type) -> list[str]:
    """The public members of a class that have a docstring of their own, its bases' in tuneflow among them."""
    found: dict[str, None] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("tuneflow"):
            own = {name: value for name, value in vars(base).items() if not name.startswith("_")}
            found |= {name: None for name, value in own.items() if documented(value) and name not in found}
    return list(found)


def documented(value: Any) -> bool:
    value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    return (inspect.isroutine(value) or isinstance(value, property)) and bool(value.__doc__)


def directive(name: str) -> str:
    """The autodoc directive for one name."""
    value = public(name)
    if isinstance(value, ModuleType):
        return f".. automodule:: tuneflow.{name}\n" + "\n".join(directive(f"{name}.{part}") for part in exported(value))
    if name in CONSTANTS:
        return f".. py:data:: tuneflow.{name}\n   :value: {value!r}\n\n   {CONSTANTS[name]}\n"
    if not inspect.isclass(value):
        return f".. autofunction:: tuneflow.{name}\n"
    kind = "exception" if issubclass(value, BaseException) else "class"
    shown = "" if kind == "exception" else ", ".join(members_of(value))
    return f".. auto{kind}:: tuneflow.{name}\n" + (f"   :members: {shown}\n" if shown else "")


def page(title: str, listed: list[str]) -> str:
    """One page: a heading for each module, an entry for each name."""
    parts = [f"# {title}\n"]
    for name in listed:
        if name == "__version__":
            parts.append(VERSION)
            continue
        if isinstance(public(name), ModuleType):
            parts.append(f"## `tuneflow.{name}`\n")
        parts.append(f"```{{eval-rst}}\n{directive(name)}```\n")
    return "\n".join(parts)


def write(folder: Path) -> None:
    """Write all pages and their index; a page that has not changed keeps its time, so that Sphinx need not read it."""
    folder.mkdir(exist_ok=True)
    entries = "\n".join(PAGES)
    index = f"# Reference\n\nEvery public name of `import tuneflow as tn`.\n\n```{{toctree}}\n{entries}\n```\n"
    pages = {slug: page(*content) for slug, content in PAGES.items()} | {"index": index}
    for slug, text in pages.items():
        path = folder / f"{slug}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
