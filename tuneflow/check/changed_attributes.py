"""Attributes that training changes although no state holds them: of the module and of the loss."""

from collections.abc import Hashable
from typing import Any

from torch import nn

from tuneflow.errors import listed
from tuneflow.fused.module_facts import attributes_of, comparable
from tuneflow.train.session import Session


def changed_attributes(run: Session) -> str:
    """Return the names of attributes that an epoch of `run` changes, in words; empty if there are none."""
    before = _attributes(run)
    with run.job.at_work("epoch", 1):
        run.train_epoch(1)
    after = _attributes(run)
    names = [name for name, value in after.items() if before.get(name, value) != value or name not in before]
    return listed(names) if names else ""


def _attributes(run: Session) -> dict[str, Hashable]:
    parts = {"the module": run.module, "the loss": run.settings.loss}
    return {f'"{name}" of {what}': value for what, part in parts.items() for name, value in _plain(part).items()}


def _plain(part: Any) -> dict[str, Hashable]:
    if isinstance(part, nn.Module):
        return attributes_of(part)
    return {name: comparable(value) for name, value in getattr(part, "__dict__", {}).items()}
