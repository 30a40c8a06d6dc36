"""What can be checked before trial 0: that every branch of the space fits, and can be built."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tuneflow.errors import did_you_mean, listed
from tuneflow.model import Model
from tuneflow.runtime import Runtime
from tuneflow.signature import check_complete, check_keywords
from tuneflow.space import SearchSpace
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

SECTIONS = ("model", "optimizer", "loss", "augment", "trainer")


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
        trainer.configured(resolved)
        try:
            trainer.init(Job(model, resolved, runtime))
        except Exception as error:
            raise ValueError(f"the configuration {config} cannot be built: {type(error).__name__}: {error}") from error


def check_sections(resolved: Mapping[str, Any], model: Model, trainer: Trainer) -> None:
    """Raise TypeError unless the resolved sections fit the signatures of what they are for."""
    for name, target, given in (
        ("model", model.builder, 0),
        ("optimizer", trainer.optimizer, 1),
        ("loss", trainer.loss, 0 if isinstance(trainer.loss, type) else 2),
        ("augment", trainer.augment, 0 if isinstance(trainer.augment, type) else 1),
    ):
        section, where = resolved.get(name, {}), f'space section "{name}"'
        if isinstance(section, Mapping):
            _check_arguments(target, section, where, given)
        elif not callable(section):
            raise TypeError(f"{where}: needs callables to choose from, got {section!r}.")
        elif name in ("model", "optimizer"):
            check_complete(section, (), where, given)


def _check_arguments(target: Any, section: Mapping[str, Any], where: str, given: int) -> None:
    if target is None and section:
        raise TypeError(f"{where}: the Trainer was given nothing that takes these arguments; pass it there.")
    if isinstance(target, nn.Module) and section:
        raise TypeError(
            f"{where}: needs a class to give arguments to, got a ready {target!r}; pass the class to the Trainer."
        )
    if callable(target) and not isinstance(target, nn.Module):
        check_keywords(target, section, where, given)
        check_complete(target, section, where, given)
