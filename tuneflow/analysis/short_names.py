"""Short names of parameters: as many words of the dotted name, from its end, as tell it from the others."""

from collections.abc import Collection, Iterable


def short_names(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Return for each dotted name the shortest end of it that no other name has.

    Args:
        names: of parameters.
        taken: what else stands beside them, such as metrics; no end of a name is one of these.

    Example:
        >>> short_names(["optimizer.sgd.lr", "optimizer.adam.lr", "model.width"])
        {'optimizer.sgd.lr': 'sgd.lr', 'optimizer.adam.lr': 'adam.lr', 'model.width': 'width'}
    """
    words = {name: name.split(".") for name in names}
    rest = [other.split(".") for other in taken]
    return {
        name: _short(own, [*rest, *(other for other in words.values() if other is not own)])
        for name, own in words.items()
    }


def _short(own: list[str], others: list[list[str]]) -> str:
    lengths = range(1, len(own))
    unique = (length for length in lengths if all(other[-length:] != own[-length:] for other in others))
    return ".".join(own[-next(unique, len(own)) :])
