"""The growth of a search space: the changes that keep every earlier configuration, and those that do not."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tuneflow.space.containment import contains
from tuneflow.space.nodes import Branch, ConstantNode, Leaf, Record
from tuneflow.space.parameters import Choice
from tuneflow.space.search_space import SearchSpace
from tuneflow.space.values import object_repr
from tuneflow.study.earlier_values import IN_A_DICT, Arguments, EarlierValues, NotKnown
from tuneflow.study.space_changes import in_words, space_changes


class SpacePart(Protocol):
    """A node of a space, or an object behind a label."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Change:
    """A change of a space.

    Attributes:
        text: the change, in words.
        grew: True if every earlier configuration is still one.
        name: the dotted name of what is new, where earlier trials had `value`.
        value: as a configuration stores it.
        stated: True if nothing but a new Constant tells the value.
    """

    text: str
    grew: bool = True
    name: str = ""
    value: Any = None
    stated: bool = False

    def __str__(self) -> str:
        return f"{self.text}: {self.value!r} in the trials before" if self.name else self.text


def space_growth(before: Mapping[str, Any], now: SearchSpace, earlier: EarlierValues) -> list[Change]:
    """Return the changes of a space.

    Args:
        before: the earlier space, as `SearchSpace.to_json` described it.
        now: the space.
        earlier: the values that trials had for names which the earlier space lacks.
    """
    described = now.to_json()
    if before == described:
        return []
    changes = list(changes_of(SearchSpace.from_json(before).root, now.root, earlier))
    one, other = before.get("where", []), described.get("where", [])
    if one != other:
        relaxed = not Counter(other) - Counter(one)
        changes.append(Change(f"where was {one or None!r}, now {other or None!r}", relaxed))
    return changes


def changes_of(before: SpacePart, now: SpacePart, earlier: EarlierValues, name: str = "") -> Iterator[Change]:
    """Yield the changes of a space, or of a part of it, in the order of its names.

    Args:
        before: the root of the earlier space, of which only the names of objects are known.
        now: the root of the space.
        earlier: the values that trials had for names which the earlier space lacks.
        name: the dotted name of the part; empty for a whole space.
    """
    if isinstance(before, Record) and isinstance(now, Record) and _function(before) == _function(now):
        yield from _names(before, now, earlier if now.function is None else Arguments(now.function), name)
    elif _choice(before) and _choice(now):
        yield from _labels(before, now, name)
    elif before.to_json() == now.to_json():
        return
    elif isinstance(before, Leaf) and isinstance(now, Leaf) and contains(now.parameter, before.parameter):
        yield Change(f"{name} was {before.parameter!r}, now {now.parameter!r}")
    else:
        for text in space_changes(name, before.to_json(), now.to_json()):
            yield Change(text, grew=False)


def _names(before: Record, now: Record, earlier: EarlierValues, name: str) -> Iterator[Change]:
    for key in {**before.parts, **now.parts}:
        dotted = f"{name}.{key}" if name else key
        if key not in now.parts:
            yield Change(f"{dotted} is gone, was {in_words(before.parts[key].to_json())}", grew=False)
        elif key not in before.parts:
            yield _new(now.parts[key], earlier, key, dotted)
        else:
            old = before.parts[key]
            inside = earlier.inside(key, old.parts) if isinstance(old, Record) else earlier
            yield from changes_of(old, now.parts[key], inside, dotted)


def _new(node: SpacePart, earlier: EarlierValues, key: str, name: str) -> Change:
    text = f"{name} is new, {in_words(node.to_json())}"
    inside = earlier.inside(key, ()) if isinstance(node, Record) else earlier
    try:
        return Change(text, name=name, value=_stored(node, earlier, key), stated=inside.stated)
    except NotKnown as reason:
        return Change(f"{text}, and {reason}", grew=False)


def _labels(before: SpacePart, now: SpacePart, name: str) -> Iterator[Change]:
    old, new = _options(before), _options(now)
    for label in {**old, **new}:
        dotted = f"{name}.{label}"
        if label not in new:
            yield Change(f"{dotted} is gone, was {in_words(old[label].to_json())}", grew=False)
        elif label not in old:
            yield Change(f"{dotted} is new, {in_words(new[label].to_json())}")
        else:
            yield from _option(old[label], new[label], dotted)
    for word in ("ordered", "prior"):
        one, other = (getattr(_choice(node), word) for node in (before, now))
        if one != other:
            yield Change(f"{name}: {word} was {one!r}, now {other!r}")


def _option(before: SpacePart, now: SpacePart, name: str) -> Iterator[Change]:
    """Yield the changes behind a label; an object that got arguments to tune is a call without any before."""
    if isinstance(before, _Object) and isinstance(now, Record) and before.name == _function(now):
        before = Record({}, now.function)
    yield from changes_of(before, now, IN_A_DICT, name)


# The values of new names.


def _stored(node: SpacePart, earlier: EarlierValues, key: str) -> Any:
    """Return what a configuration stores for a new name, where trials had the value of `earlier`.

    Raises:
        NotKnown: it is not known, or is not in the space.
    """
    if isinstance(node, Record) and node.function is None:
        inside = earlier.inside(key, ())
        return {name: _stored(part, inside, name) for name, part in node.parts.items()}
    if isinstance(node, ConstantNode) and earlier.stated:
        return node.value
    value = earlier.of(key)
    for stored in _candidates(node, value):
        return stored
    raise NotKnown(f"{earlier.described(value)} is not in it")


def _candidates(node: SpacePart, value: Any) -> Iterator[Any]:
    """Yield what a configuration may store for an object: values, labels, or a label with its settings."""
    if isinstance(node, Record):
        yield from _as_call(node, value)
    elif _choice(node):
        for label, option in _options(node).items():
            yield from ({label: settings} for settings in _as_call(option, value))
            if isinstance(option, _Object) and _same(option.thing, value):
                yield label
    elif isinstance(node, Leaf):
        try:
            yield node.parameter.cast(value)
        except (ValueError, TypeError):
            return


def _as_call(node: SpacePart, value: Any) -> Iterator[dict[str, Any]]:
    """Yield the arguments with which a call would be `value`: the function itself, or a partial of it."""
    if not isinstance(node, Record) or node.function is None:
        return
    own = isinstance(value, partial) and value is not node.function
    function, args, fixed = (value.func, value.args, value.keywords) if own else (value, (), {})
    if function is not node.function or args or not fixed.keys() <= node.parts.keys():
        return
    arguments = Arguments(partial(function, **fixed))
    try:
        yield {name: _stored(part, arguments, name) for name, part in node.parts.items()}
    except NotKnown:
        return


def _same(option: Any, value: Any) -> bool:
    """True if an option is this value, or a class whose instances without arguments are equal to it."""
    if option is value:
        return True
    try:
        if isinstance(option, type):
            return type(value) is option and bool(option() == value)
        return type(option) is type(value) and bool(option == value)
    except Exception:
        return False


# Choices between labels.


@dataclass(frozen=True)
class _Object:
    """A plain object behind a label."""

    thing: Any

    @property
    def name(self) -> str:
        return object_repr(self.thing)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "object", "name": self.name}


def _choice(node: SpacePart) -> Choice | None:
    """Return the choice between labels that a node is; None where it is none."""
    leaf = node.leaf if isinstance(node, Branch) else node
    choice = leaf.parameter if isinstance(leaf, Leaf) else None
    return choice if isinstance(choice, Choice) and isinstance(choice.options, Mapping) else None


def _options(node: SpacePart) -> dict[str, SpacePart]:
    """Return what is behind the labels of a choice; nothing where the node is none."""
    choice, branches = _choice(node), node.branches if isinstance(node, Branch) else {}
    options: Any = choice.options if choice else {}
    return {label: branches[label] if label in branches else _Object(thing) for label, thing in options.items()}


def _function(node: Record) -> str:
    return "" if node.function is None else object_repr(node.function)
