"""A watch over the variables of a training loop: those that carry something over and that no state holds."""

import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from tuneflow.errors import listed
from tuneflow.train.loop_bindings import EpochNumbers
from tuneflow.train.loop_contents import (
    CONTAINERS,
    GENERATORS,
    LONG,
    PLAIN,
    Contents,
    Known,
    TensorIdentity,
    contents_by_place,
)
from tuneflow.train.loop_liveness import Carried, carried
from tuneflow.train.loop_state import LoopState, restorable

PASSES = 3  # of a run, in which all contents are compared; later those of new values and of plain containers
VALUES = (*PLAIN, *CONTAINERS, Tensor, np.ndarray)  # a variable bound to another of these has changed


class LoopWatch:
    """The variables that a training loop carries from pass to pass, without being named in `run.epochs(...)`.

    A variable is carried where a pass may read it before writing it. It is reported where it is bound to other values
    in the passes, or where what it holds changes after the first pass; what the first pass fills once is taken for a
    cache. Iterators are reported before anything has changed, since nothing can go on from one.

    Args:
        code: of the loop's function.
        tell: called with a new sentence about variables that were not reported before.
    """

    def __init__(self, code: CodeType, tell: Callable[[str], None]) -> None:
        self._code, self._tell = code, tell
        self._carried: Carried | None = None
        self._passes = 0
        self._before: dict[str, Any] = {}  # the carried variables before the first pass
        self._values: dict[str, Any] = {}  # and now
        self._contents: dict[str, Contents] = {}
        self._first: dict[str, Contents] = {}  # before the first pass
        self.reported: dict[str, Any] = {}  # what was reported, by its name

    def begin(self, frame: FrameType, named: LoopState, run: Any) -> None:
        """Take note of the variables before the first pass; called while the loop asks for it."""
        with suppress(Exception):  # an object of the user's may raise when it is looked into
            self._begin(frame, named, run)

    def _begin(self, frame: FrameType, named: LoopState, run: Any) -> None:
        self._names, self._known = named, Known(list(named.things.values()), run)
        functions = {
            name: value.__code__
            for name, value in frame.f_locals.items()
            if isinstance(value, FunctionType) and value.__code__ in self._code.co_consts
        }
        self._carried = carried(self._code, frame.f_lasti, functions)
        self._before = self._variables(frame, {name for name, _ in self._carried.live})
        self._values, self._contents = self._before, self._read(self._before)
        self._first = self._contents

    def after_pass(self, frame: FrameType, moved: Iterable[str] = ()) -> None:
        """Compare the variables with those before the pass; called when the loop has yielded.

        Args:
            frame: of the loop's function.
            moved: variables that held named objects, and are left out from now on.
        """
        changed: dict[str, Any] = {}
        self._before = {name: value for name, value in self._before.items() if name not in moved}
        if self._carried is not None:
            with suppress(Exception):
                changed = self._changed(frame)
        self.report(changed)

    def _changed(self, frame: FrameType) -> dict[str, Any]:
        """Return the variables that the last pass has changed."""
        self._passes += 1
        self._values = dict.fromkeys(self._before) | self._variables(frame, self._before)
        contents = self._read(self._values if self._passes <= PASSES else {**self._bound, **self._small})
        changed = self._iterators() if self._passes == 1 else {}
        changed |= self._bound_anew(contents)
        if self._passes > 1:
            changed |= self._places(self._contents, contents)
        self._contents = contents
        return changed

    @property
    def filled(self) -> dict[str, Any]:
        """The variables that hold something else than before the first pass, by name."""
        return self._places(_equatable(self._first), _equatable(self._contents))

    def differing(self, other: "LoopWatch") -> dict[str, Any]:
        """Return the variables that hold other values than those of another run of the same loop, by name."""
        return self._places(_equatable(self._contents), _equatable(other._contents))

    # What has changed.

    @property
    def _bound(self) -> dict[str, Any]:
        """The carried variables that passes bind to new values of their own."""
        rebound = self._carried.rebound if self._carried else frozenset()
        return {
            name: value
            for name, value in self._values.items()
            if name in rebound and isinstance(value, VALUES) and not self._known.has(value)
        }

    @property
    def _small(self) -> dict[str, Any]:
        """The containers of plain values, which take no time to read."""
        return {name: value for name, value in self._values.items() if _is_small(value)}

    def _bound_anew(self, contents: Mapping[str, Contents]) -> dict[str, Any]:
        """Return all variables that passes bind anew where one of them has changed."""
        bound = self._bound
        changed = any(contents.get(name) != self._contents.get(name, {}) for name in bound)
        return bound if changed else {}

    def _iterators(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self._before.items()
            if hasattr(value, "__next__") and not isinstance(value, io.IOBase | EpochNumbers)
        }

    def _places(self, before: Mapping[str, Contents], after: Mapping[str, Contents]) -> dict[str, Any]:
        """Return the carried variables, or attributes of them, in which two sets of contents differ."""
        changed: dict[str, Any] = {}
        for name, contents in after.items():
            was = before.get(name, {})
            for place in [place for place in {**was, **contents} if was.get(place) != contents.get(place)]:
                if self._carried is not None and self._carried.has(name, _first_part(place)):
                    inner = "" if restorable(self._values[name]) else _attributes(place)
                    changed[name + inner] = _value_at(self._values[name], inner)
        return {name: value for name, value in changed.items() if not _is_twice(name, value, changed)}

    def _read(self, variables: Mapping[str, Any]) -> dict[str, Contents]:
        return {name: self._contents_of(name, value) for name, value in variables.items()}

    def _contents_of(self, name: str, value: Any) -> Contents:
        """Return the contents of a variable; of a class, function or module those of the attributes that are read."""
        if not isinstance(value, type | FunctionType | ModuleType) or self._carried is None:
            return contents_by_place(value, self._known)
        parts = [part for variable, part in self._carried.live if variable == name and part.startswith(".")]
        values = {part: getattr(value, part[1:], None) for part in parts}
        return {
            part + place: leaf
            for part, inner in values.items()
            if isinstance(inner, VALUES)
            for place, leaf in contents_by_place(inner, self._known).items()
        }

    def _variables(self, frame: FrameType, names: Iterable[str]) -> dict[str, Any]:
        """Return the variables of these names that are bound."""
        code, local = self._code, frame.f_locals
        own = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        where = {name: local if name in own else frame.f_globals for name in sorted(names)}
        return {name: variables[name] for name, variables in where.items() if name in variables}

    def report(self, changed: Mapping[str, Any]) -> None:
        """Report the variables among these that were not reported before."""
        fresh = {name: value for name, value in changed.items() if name not in self.reported}
        self.reported |= fresh
        if fresh:
            change, are, them = ("changes", "is", "it") if len(fresh) == 1 else ("change", "are", "them")
            self._tell(
                f"{listed(fresh)} {change} from one epoch to the next and {are} not part of the state, so a trial that"
                f" stops and goes on, or is forked, begins anew with {them}. {' '.join(self.ways_out(fresh))}"
            )

    def ways_out(self, changed: Mapping[str, Any]) -> list[str]:
        """Return sentences on how variables become part of the state.

        Args:
            changed: the variables by name, or attributes of them such as `stopper.bad`.
        """
        own = {*self._code.co_varnames, *self._code.co_cellvars}
        outside = [name for name in changed if name.split(".")[0] not in own]
        words = [f"{listed(outside)} outlives a trial, and has to live inside the function."] if outside else []
        return _ways_out(self._names.things if self._carried else (), changed) + words


def _ways_out(named: Iterable[str], changed: Mapping[str, Any]) -> list[str]:
    kinds = {name: _kind(name, value) for name, value in changed.items()}
    by_kind = {kind: [name for name in kinds if kinds[name] == kind] for kind in dict.fromkeys(kinds.values())}
    words = []
    if objects := by_kind.get("object"):
        call = ", ".join(f"{name}={name}" for name in (*named, *objects))
        words.append(f"Not named is {listed(objects)}: write run.epochs({call}).")
    if numbers := by_kind.get("number"):
        entries = ", ".join(f'"{name}": ...' for name in numbers)
        it = "it" if len(numbers) == 1 else "them"
        words.append(f"Not named is {listed(numbers)}: keep {it} in a dict, numbers = {{{entries}}}, and name that.")
    words += [
        f'{name} draws on from epoch to epoch: make it in each pass, {name} = run.generator("{name}").'
        for name in by_kind.get("generator", ())
    ]
    return words + [way.format(names=listed(by_kind[kind])) for kind, way in _WAYS.items() if kind in by_kind]


_WAYS = {
    "attribute": (
        "Keep {names} in a dict that is named, or name the object, with methods state_dict() and"
        " load_state_dict(state)."
    ),
    "container": "Not named is {names}: make it a list or a dict, and name that.",
    "array": "Not named is {names}: make it a tensor, as torch.from_numpy does, and name that.",
    "iterator": (
        "Make {names} in each pass, since no state can hold an iterator; run.batches(data, batch_size) gives batches."
    ),
    "own generator": (
        "Leave {names} out: torch's global generator is seeded for each epoch; or take run.batches(data, batch_size)."
    ),
    "other": "Not named is {names}: it needs methods state_dict() and load_state_dict(state).",
}


def _kind(name: str, value: Any) -> str:
    if isinstance(value, GENERATORS):
        return "own generator" if "." in name else "generator"
    if "." in name:
        return "attribute"
    if restorable(value):
        return "object"
    if isinstance(value, PLAIN):
        return "number"
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, CONTAINERS):
        return "container"
    return "iterator" if hasattr(value, "__next__") else "other"


def _equatable(contents: Mapping[str, Contents]) -> dict[str, Contents]:
    """Return contents without those that cannot be compared with another run's."""
    return {
        name: {place: value for place, value in held.items() if not isinstance(value, TensorIdentity)}
        for name, held in contents.items()
    }


def _first_part(place: str) -> str:
    """Return the first attribute or item of a place."""
    if place.startswith("["):
        return place[: place.index("]") + 1]
    return "." + place[1:].split(".")[0].split("[")[0] if place else ""


def _attributes(place: str) -> str:
    """Return the attributes with which a place begins."""
    return place.split("[")[0]


def _value_at(value: Any, attributes: str) -> Any:
    for name in attributes.split(".")[1:]:
        value = getattr(value, name, None)
    return value


def _is_small(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, CONTAINERS) and len(value) <= LONG and all(isinstance(each, PLAIN) for each in inner)


def _is_twice(name: str, value: Any, changed: Mapping[str, Any]) -> bool:
    """True for a generator that has another name before this one."""
    first = next(other for other, held in changed.items() if held is value)
    return isinstance(value, GENERATORS) and first != name
