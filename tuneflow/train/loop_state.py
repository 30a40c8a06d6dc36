"""LoopState: the objects that a training loop names as its state, saved as a value and restored in place."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tuneflow.errors import listed
from tuneflow.heuristics.lazy_layers import lazy_tensors
from tuneflow.heuristics.restoring import misfit, restore_tensors, same_numbers
from tuneflow.model import tensors_of
from tuneflow.nested import Path, copied, paths

PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)  # what torch.load(weights_only=True) reads
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState)
Leaf = Callable[[Tensor], Tensor]


class LoopState:
    """Live objects by name, and their state as a value.

    The state of a module is all its parameters and buffers, of an optimizer or another object its `state_dict()`, of a
    tensor its elements, and of a dict or list its contents.

    Args:
        where: opens the messages, such as `loop train_mine`.
        things: the objects by name; one that has several names is held once. "result" is the module to hand over.

    Attributes:
        things: the objects by name, each once.

    Raises:
        TypeError: an object cannot be saved and restored, or the result is no module; the message names it and gives
            the way out.
    """

    def __init__(self, where: str, things: Mapping[str, Any]) -> None:
        self.things, self._where, self._result = _each_once(things), where, _result_of(where, things)
        for name, thing in self.things.items():
            if not restorable(thing):
                raise TypeError(f"{where}: run.epochs({name}=...) cannot restore {_refusal(name, thing)}")
            if isinstance(thing, nn.Module) and (lazy := lazy_tensors(thing)):
                raise TypeError(
                    f'{where}: run.epochs({name}=...) cannot restore "{lazy[0]}", a lazy tensor without a shape; run a'
                    " batch through the module before, and make the optimizer after that."
                )
        self._initial = {name: _numbers_of(thing) for name, thing in self.things.items()}

    @property
    def module(self) -> nn.Module | None:
        """The module to hand over: the result, or else the first module among them."""
        if self._result is not None:
            return self._result
        return next((thing for thing in self.things.values() if isinstance(thing, nn.Module)), None)

    @property
    def undecided(self) -> list[str]:
        """Names of the modules of which any may be the one to hand over; empty where that is clear."""
        modules = {name: thing for name, thing in self.things.items() if isinstance(thing, nn.Module)}
        inner = {part for module in modules.values() for part in module.modules() if part is not module}
        whole = [name for name, module in modules.items() if module not in inner and tensors_of(module)]
        return whole if self._result is None and len(whole) > 1 else []

    def values(self) -> dict[str, Any]:
        """Return the state: nested dicts and lists of new tensors and plain values."""
        return {"state": self._state(lambda tensor: tensor.detach().clone()), "made": copied(self._initial)}

    def changed_since(self, values: Mapping[str, Any]) -> list[str]:
        """Paths of the leaves that are no longer as in `values`."""
        return differences(values["state"], self._state(lambda tensor: tensor.detach()))

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restore every object in place; `values` is not modified.

        If an optimizer or a learning-rate scheduler was constructed with other numbers than the state's, as in a fork
        with another configuration, the new numbers take effect; a learning rate that has moved since is scaled by the
        same factor.

        Raises:
            ValueError: names or shapes are not those of the state.
        """
        saved, initial = values["state"], values["made"]
        if saved.keys() != self.things.keys():
            raise ValueError(
                f"{self._where}: the state was saved with run.epochs({listed(saved)}),"
                f" and is to be restored into run.epochs({listed(self.things)})."
            )
        for name, thing in self.things.items():
            if isinstance(thing, nn.Module):
                self._fill_module(name, thing, saved[name])
            elif isinstance(thing, Tensor):
                self._fill(name, thing, saved[name])
            elif isinstance(thing, dict | list):
                _refill(thing, saved[name])
            else:
                state = saved[name]
                if initial[name] != self._initial[name]:
                    state = _with_changes(state, initial[name], self._initial[name])
                thing.load_state_dict(copied(state))

    def _state(self, leaf: Leaf) -> dict[str, Any]:
        return {
            name: _saved(contents_of(thing), f"{self._where}: {name}", leaf, f"run.epochs({name}=...)")
            for name, thing in self.things.items()
        }

    def _fill_module(self, name: str, module: nn.Module, saved: Mapping[str, Tensor]) -> None:
        if wrong := misfit(module, saved):
            self._refuse(f"{name}.{wrong.name}", wrong.saved, wrong.live)
        restore_tensors(module, saved)

    def _fill(self, name: str, live: Tensor, saved: Tensor) -> None:
        if live.shape != saved.shape:
            self._refuse(name, str(tuple(saved.shape)), str(tuple(live.shape)))
        if not same_numbers(saved, live):
            self._refuse(name, f"of {saved.dtype}", f"of {live.dtype}")
        with torch.no_grad():
            live.copy_(saved)

    def _refuse(self, path: str, saved: str, live: str) -> NoReturn:
        raise ValueError(f'{self._where}: "{path}" is {saved} in the state and {live} in what the loop made.')


def _each_once(things: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named objects without those that have another name already; "result" is the last to be looked at."""
    names, held = sorted(things, key="result".__eq__), dict[int, str]()
    for name in names:
        held.setdefault(id(things[name]), name)
    return {name: thing for name, thing in things.items() if held[id(thing)] == name}


def _result_of(where: str, things: Mapping[str, Any]) -> nn.Module | None:
    result = things.get("result")
    if "result" in things and not isinstance(result, nn.Module):
        raise TypeError(
            f"{where}: run.epochs(result=...) names the module that is handed over, got a {type(result).__name__};"
            " pass an nn.Module, and name other state by another word."
        )
    return result


def restorable(thing: Any) -> bool:
    """True if a state can hold `thing` and restore it in place."""
    if isinstance(thing, type):
        return False
    if isinstance(thing, Tensor | dict | list):
        return True
    return callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))


def different_paths(one: Any, other: Any, close: float = 0.0) -> Iterator[Path]:
    """Yield the paths of the leaves in which two nested values differ, or that only one of them has; NaN equals NaN.

    Args:
        one: nested dicts, lists and tuples of tensors and plain values.
        other: the same.
        close: allowed difference of two floating-point values, as a share of the largest value; 0 for none.
    """
    ours, theirs = paths(one), paths(other)
    for path in {**ours, **theirs}:
        if path not in ours or path not in theirs or not _same(ours[path], theirs[path], close):
            yield path


def differences(one: Any, other: Any, close: float = 0.0) -> list[str]:
    """Return the same paths in words, such as `net.0.weight`."""
    return [".".join(map(str, path)) for path in different_paths(one, other, close)]


def _same(one: Any, other: Any, close: float) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if torch.equal(one, other) or not (one.is_floating_point() or one.is_complex()):
            return torch.equal(one, other)
        same = (one == other) | (one.isnan() & other.isnan())
        largest = one[one.isfinite()].abs().amax() if close and one.isfinite().any() else 0.0
        return bool((same | ((one - other).abs() <= close * largest)).all())
    if isinstance(one, Tensor) or isinstance(other, Tensor) or type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=close) or (one != one and other != other)
    return bool(one == other)


def _refusal(name: str, thing: Any) -> str:
    kind = type(thing).__name__
    if isinstance(thing, GENERATORS):
        return f"a {kind}: make one in each pass, with run.generator({name!r}) or from run.epoch_seed."
    if thing is None:
        return "None: leave out what is not there."
    if isinstance(thing, bool | int | float | str | np.generic):
        return f'a {kind} in place: keep it in a dict, {name} = {{"value": {thing!r}}}, and name the dict.'
    if isinstance(thing, tuple | set | frozenset):
        return f"a {kind} in place: name a list or a dict."
    if isinstance(thing, np.ndarray):
        return "a NumPy array: name a tensor, torch.from_numpy shares its memory with the array."
    return (
        f"a {kind}: it needs methods state_dict() and load_state_dict(state), as torch's optimizers have them;"
        " or name the module, tensor, dict or list in it that changes."
    )


def contents_of(thing: Any) -> Any:
    """Return the state of a restorable object, not copied."""
    if isinstance(thing, nn.Module):
        return tensors_of(thing)
    return thing if isinstance(thing, Tensor | dict | list) else thing.state_dict()


def _saved(value: Any, path: str, leaf: Leaf, root: str) -> Any:
    """Return nested containers with `leaf` of every tensor and NumPy scalars as Python's; raise for all else."""
    if isinstance(value, Tensor):
        return leaf(value)
    if isinstance(value, Mapping):
        saved = {key: _saved(inner, f"{path}.{key}", leaf, root) for key, inner in value.items()}
        return type(value)(saved) if isinstance(value, Counter | OrderedDict) else saved
    if isinstance(value, list | tuple):
        inner = [_saved(inner, f"{path}.{place}", leaf, root) for place, inner in enumerate(value)]
        return inner if isinstance(value, list) else tuple(inner)
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, PLAIN):
        raise TypeError(
            f"{path} is a {type(value).__name__}, and a state holds tensors and plain numbers only;"
            f" keep a tensor or a number there, or give {root} what it stands for by a name of its own."
        )
    return value


def _refill(live: Any, saved: Any) -> None:
    """Set the contents of a dict or list; tensors of the same shape are filled, so that other references see it."""
    if isinstance(live, list):
        live[:] = [_refilled(live[i] if i < len(live) else None, inner) for i, inner in enumerate(saved)]
    else:
        filled = {key: _refilled(live.get(key), inner) for key, inner in saved.items()}
        live.clear()
        live.update(filled)


def _refilled(live: Any, saved: Any) -> Any:
    if isinstance(live, Tensor) and isinstance(saved, Tensor) and live.shape == saved.shape:
        with torch.no_grad():
            return live.copy_(saved)
    if any(isinstance(live, kind) and isinstance(saved, kind) for kind in (dict, list)):  # also subclasses
        _refill(live, saved)
        return live
    return copied(saved)


def _numbers_of(thing: Any) -> Any:
    """Return the numbers that an optimizer or scheduler was constructed with; nothing of other objects."""
    return _numbers(thing.state_dict()) if isinstance(thing, Optimizer | LRScheduler) else {}


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(inner) for inner in value]
    if isinstance(value, Tensor | np.generic) and math.prod(value.shape) == 1:
        return value.item()
    return value if isinstance(value, bool | int | float | str) else None


def _with_changes(saved: Any, was: Any, now: Any, name: Any = "") -> Any:
    """Return `saved` with the numbers of `now` that are not those of `was`."""
    if isinstance(saved, Mapping) and isinstance(was, Mapping) and isinstance(now, Mapping):
        return {key: _with_changes(inner, was.get(key), now.get(key), key) for key, inner in saved.items()}
    if isinstance(saved, list | tuple) and isinstance(was, list) and isinstance(now, list):
        if not len(saved) == len(was) == len(now):
            return saved
        return type(saved)(_with_changes(*three, name) for three in zip(saved, was, now, strict=True))
    if was == now or now is None:
        return saved
    moved = name == "lr" and was and float(saved) != was
    value = float(saved) * (now / was) if moved else now
    return torch.full_like(saved, value) if isinstance(saved, Tensor) else value
