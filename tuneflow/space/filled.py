"""Filled configurations: those of an earlier, smaller space, with values for the names that it lacked."""

from collections.abc import Mapping
from typing import Any

from tuneflow.space.nodes import Branch, Node, Record, label_and_settings


def filled(node: Node, part: Any, name: str, values: Mapping[str, Any]) -> Any:
    """Return a part of a configuration with `values` in the place of what is missing; it is not checked.

    Args:
        node: the part of the space that it belongs to.
        part: the part, as an earlier space had it.
        name: its dotted name; empty for a whole configuration.
        values: dotted name to the value of a name that earlier spaces lack.
    """
    if isinstance(node, Record) and isinstance(part, Mapping):
        return dict(part) | _entries(node, part, f"{name}." if name else "", values)
    if isinstance(node, Branch):
        label, settings = label_and_settings(part)
        if label in node.branches:
            return {label: filled(node.branches[label], settings, f"{name}.{label}", values)}
    return part


def _entries(node: Record, part: Mapping[str, Any], prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {key: prefix + key for key in node.parts if key in part or prefix + key in values}
    return {
        key: filled(node.parts[key], part[key] if key in part else values[name], name, values)
        for key, name in names.items()
    }
