"""The setting `rows`: every value that a space has for it is at most the number of training rows."""

from collections.abc import Iterator
from typing import Any

from tuneflow.space.parameters import Choice, Int
from tuneflow.space.search_space import SearchSpace
from tuneflow.train.trainer import Trainer


def check_rows(space: SearchSpace, trainer: Trainer) -> None:
    """Raise ValueError if the section `trainer` has more rows to train on than there are."""
    most = trainer.training_rows
    for rows in _numbers(space):
        if isinstance(rows, int) and rows > most:
            folds = " in the smallest fold" if trainer.folds > 1 else ""
            raise ValueError(
                f'space section "trainer": rows needs to be at most the {most} training rows{folds}, got {rows}.'
            )


def _numbers(space: SearchSpace) -> Iterator[Any]:
    """Yield the largest values that the space has for it."""
    for config in space.examples():
        section = space.resolve(config).get("trainer", {})
        yield section.get("rows") if isinstance(section, dict) else None
    for coordinate in space.coordinates:
        if coordinate.path[0] == "trainer" and coordinate.path[-1] == "rows":
            parameter = coordinate.parameter
            yield from [parameter.high] if isinstance(parameter, Int) else []
            yield from map(parameter.object, parameter.values) if isinstance(parameter, Choice) else []
