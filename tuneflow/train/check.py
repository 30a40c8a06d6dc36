"""What can be checked before trial 0: that every branch of the space fits, and can be built."""

from collections.abc import Mapping
from typing import Any

from tuneflow.errors import did_you_mean, listed
from tuneflow.model import Model
from tuneflow.runtime import Runtime
from tuneflow.signature import check_complete, check_keywords
from tuneflow.space import SearchSpace
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

SECTIONS = ("model", "optimizer", "loss", "trainer")


def check_space(space: SearchSpace, model: Model, trainer: Trainer, runtime: Runtime) -> None:
    """Raise unless the sections of `space` fit what they are for; build one configuration of each branch.

    Raises:
        ValueError: a section is not known, or a configuration cannot be built.
        TypeError: a section holds an argument that its callable does not take, or lacks one it needs.
    """
    for name in space.entries:
        if name not in SECTIONS:
            raise ValueError(
                f'the space has a section "{name}".{did_you_mean(name, SECTIONS)} Sections are {listed(SECTIONS)}.'
            )
    for config in space.examples():
        resolved = space.resolve(config)
        check_sections(resolved, model, trainer)
        try:
            trainer.init(Job(model, resolved, runtime))
        except Exception as error:
            raise ValueError(f"the configuration {config} cannot be built: {type(error).__name__}: {error}") from error


def check_sections(resolved: Mapping[str, Any], model: Model, trainer: Trainer) -> None:
    """Raise TypeError unless the resolved sections fit the signatures of what they are for."""
    for name, target, given in (
        ("model", model.builder, 0),
        ("optimizer", trainer.optimizer, 1),
        ("loss", trainer.loss, 0),
    ):
        section, where = resolved.get(name, {}), f'space section "{name}"'
        if isinstance(section, Mapping):
            if section and name == "loss" and not isinstance(target, type):
                raise TypeError(
                    f"{where}: needs a loss class to give arguments to, got {target!r};"
                    " pass the class itself to the Trainer."
                )
            check_keywords(target, section, where, given)
            if name != "loss" or isinstance(target, type):
                check_complete(target, section, where, given)
        elif not callable(section):
            raise TypeError(f"{where}: needs callables to choose from, got {section!r}.")
        elif name != "loss":
            check_complete(section, (), where, given)
    for name in resolved.get("trainer", {}):
        if name not in trainer.tunable:
            raise TypeError(
                f'space section "trainer": {type(trainer).__name__} has no setting "{name}" to tune.'
                f"{did_you_mean(name, trainer.tunable)} It has {listed(trainer.tunable)}."
            )
