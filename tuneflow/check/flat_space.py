"""A flat space given to a Trainer: its parameters stand in no section, so nothing would take them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tuneflow.errors import listed
from tuneflow.model import Model
from tuneflow.signature import parameters_of
from tuneflow.space.nodes import Section
from tuneflow.space.search_space import SearchSpace
from tuneflow.train.trainer import Trainer


def check_sectioned(space: SearchSpace, model: Model, trainer: Trainer, sections: tuple[str, ...]) -> None:
    """Raise ValueError if parameters stand outside of the sections; the message shows the section of what takes them.

    Args:
        space: the study's.
        model: makes the modules.
        trainer: has loss, optimizer and augmentation.
        sections: the names of the sections.
    """
    flat = [name for name, entry in space.entries.items() if name not in sections and not _is_section(entry)]
    owners = {name: _owner(name, model, trainer) for name in flat}
    if flat and all(owners.values()):  # else a section is misspelt
        written = ", ".join(_section(owner, owners) for owner in dict.fromkeys(owners.values()))
        raise ValueError(
            f"SearchSpace: a Trainer tunes the arguments of its parts, got {listed(flat)} in no section; write"
            f" tn.SearchSpace({written})."
        )


def sections_of(names: Iterable[str], model: Model, trainer: Trainer) -> dict[str, str]:
    """Return the hint for each name that is an argument of something: `it in the section "model"`."""
    owners = {name: _owner(name, model, trainer) for name in names}
    return {name: f'it in the section "{owner}"' for name, owner in owners.items() if owner}


def _section(owner: str, owners: Mapping[str, str]) -> str:
    inside = ", ".join(f'"{name}": ...' for name in owners if owners[name] == owner)
    return f"{owner}={{{inside}}}"


def _is_section(entry: Any) -> bool:
    return isinstance(entry, Mapping | Section)


def _owner(name: str, model: Model, trainer: Trainer) -> str:
    """Return the section of what takes an argument `name`; empty if nothing does."""
    takers = {"optimizer": trainer.optimizer, "loss": trainer.loss, "augment": trainer.augment} | model.steps
    if model.winner is None:
        takers = {"model": model.builder} | takers
    for section, taker in takers.items():
        if taker is not None and name in [parameter.name for parameter in parameters_of(taker) or []]:
            return section
    return "trainer" if name in trainer.tunable else ""
