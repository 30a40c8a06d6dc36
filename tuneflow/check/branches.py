"""Branches of a space: the labels of its choices, each of which is to be tried once."""

from collections.abc import Mapping

from tuneflow.space.parameters import Choice
from tuneflow.space.search_space import Config, SearchSpace

Labels = set[tuple[str, object]]


def other_branches(space: SearchSpace, *configs: Config) -> list[Config]:
    """Return configurations with every label of the space's choices that none of `configs` has.

    Args:
        space: its `examples` are chosen from.
        configs: those that are tried anyway, or were before.

    Example:
        >>> from tuneflow.space.search_space import call
        >>> space = SearchSpace(kind=Choice({"a": call(dict), "b": call(dict)}))
        >>> [sorted(labels_of(space, other)) for other in other_branches(space, space.from_unit([0.9]))]
        [[('kind', 'a')]]
    """
    covered, others = set().union(*(labels_of(space, config) for config in configs)), []
    for example in space.examples():
        labels = labels_of(space, example)
        if not labels <= covered:
            others.append(example)
            covered |= labels
    return others


def labels_of(space: SearchSpace, config: Config) -> Labels:
    """Return (name, label) of every choice between named things that is active in `config`."""
    places = zip(space.coordinates, space.to_unit(config).tolist(), strict=True)
    return {
        (coordinate.name, coordinate.parameter.from_unit(place))
        for coordinate, place in places
        if place == place
        and isinstance(coordinate.parameter, Choice)
        and isinstance(coordinate.parameter.options, Mapping)
    }
