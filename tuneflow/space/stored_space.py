"""A stored space: its entries made from the JSON that a study keeps, with names in the place of objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneflow.errors import StudyError
from tuneflow.space.nodes import Call, Section
from tuneflow.space.parameters import Choice, Constant, Float, Int
from tuneflow.space.permutation import Permutation
from tuneflow.space.priors import Normal


def entries_from_json(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a space from their JSON, as `SearchSpace.to_json` made it."""
    return {name: _entry_from_json(entry) for name, entry in entries.items()}


def _entry_from_json(data: Any) -> Any:
    """The inverse of a node's `to_json`, with names in the place of objects."""
    if not isinstance(data, Mapping):
        return data
    kind = data["kind"]
    if kind in ("float", "int"):
        prior = Normal(**data["prior"]) if "prior" in data else None
        return (Float if kind == "float" else Int)(data["low"], data["high"], data["log"], data["step"], prior)
    if kind == "constant":
        return Constant(data["value"])
    if kind == "choice":
        labels = data.get("labels")
        options = data["values"] if labels is None else entries_from_json(labels)
        return Choice(options, data["ordered"], data.get("prior"))
    if kind == "permutation":
        return Permutation(data["values"] if "values" in data else entries_from_json(data["labels"]))
    if kind == "call":
        return Call(_NameOnly(data["name"]), entries_from_json(data["arguments"]))
    if kind == "space":
        return Section(entries_from_json(data["entries"]))
    return _NameOnly(data["name"])


@dataclass(frozen=True)
class _NameOnly:
    """A placeholder for an object of which only the name was stored."""

    name: str

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise StudyError(f"{self.name} is known by its name only: the study was opened without its space.")
