"""The value of a parameter in a configuration."""

from collections.abc import Sequence
from typing import Any

from tuneflow.space.nodes import label_and_settings


def is_active(config: Any, path: Sequence[str]) -> bool:
    """True if a configuration has a value at the path of a coordinate, None among the options included."""
    for name in path:
        if not isinstance(config, dict) or name not in config:
            return False
        config = config[name]
    return True


def setting_at(config: Any, path: Sequence[str]) -> Any:
    """Return the configuration's value at a path, the label of what has settings of its own; None where not active."""
    for name in path:
        if not isinstance(config, dict) or name not in config:
            return None
        config = config[name]
    return label_and_settings(config)[0]
