"""Runs of tests/benchmarks/search.py, kept in a folder as small JSON files, one a run, and read again.

A run is known by problem, contestant, seed, trials, batch and noise; one of our own also by a digest of
tuneflow/search/*.py, so that it is made anew when a searcher changes. A change elsewhere (the space, the problems, the
version of a peer) is not seen: empty the folder then, or delete its files. Each file says which versions made it.
"""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tuneflow as tn

PACKAGES = {"hebo": ("HEBO", "pymoo", "gpytorch"), "ax": ("ax-platform", "botorch", "gpytorch"), "optuna": ("optuna",)}


class Results:
    """Runs in memory, and in `folder` where there is one. `settings` are those that all of them share."""

    def __init__(self, folder: Path | None, **settings: int):
        self.folder, self.settings, self.memory = folder, settings, {}
        self.code = hashlib.sha256(b"".join(path.read_bytes() for path in _searchers())).hexdigest()[:8]

    def find(self, contestant: str, problem: str, seed: int) -> dict[str, Any] | None:
        key = self._key(contestant, problem, seed)
        if key not in self.memory and self.folder is not None and (self.folder / key).exists():
            self.memory[key] = json.loads((self.folder / key).read_text())
        return self.memory.get(key)

    def keep(self, contestant: str, problem: str, seed: int, run: dict[str, Any]) -> dict[str, Any]:
        key = self._key(contestant, problem, seed)
        self.memory[key] = run
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            facts = {"contestant": contestant, "problem": problem, "seed": seed, **self.settings}
            parts = self.folder / f"{key}.part"  # renamed when whole: a run may be killed, or go on beside another
            parts.write_text(json.dumps(facts | run | {"versions": _versions(contestant)}))
            parts.replace(self.folder / key)
        return run

    def _key(self, contestant: str, problem: str, seed: int) -> str:
        peer = contestant.split()[0] in PACKAGES
        words = [problem, contestant, *([] if peer else [self.code]), f"seed {seed}"]
        words += [f"{name} {value}" for name, value in self.settings.items()]
        return "-".join(words).replace("/", "_").replace(" ", "_") + ".json"


def _searchers() -> list[Path]:
    return sorted((Path(tn.__file__).parent / "search").glob("*.py"))


def _versions(contestant: str) -> dict[str, str]:
    found = {}
    for package in ("numpy", "scipy", "torch", *PACKAGES.get(contestant.split()[0], ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
