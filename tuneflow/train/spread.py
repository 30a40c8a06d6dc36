"""Spread: how a dict or a tuple of inputs reaches the arguments of a module's forward; the one place that decides.

A module gets a forward pre-hook, so that whatever calls it with one dict or tuple of inputs calls it right: training,
evaluation, initialization, lanes, and the user of the trained model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.nn.parameter import is_lazy

from tuneflow.errors import listed, plural
from tuneflow.heuristics.lazy_layers import copy_of
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.nested import leaves
from tuneflow.seeds import seeded_globals
from tuneflow.train.forward_arguments import ForwardArguments, forward_name

How = Literal["whole", "keywords", "positions", "value"]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
WORDS = {
    "whole": "reach {forward} as a whole",
    "keywords": "are spread over the keyword arguments of {forward}",
    "positions": "are spread over the positional arguments of {forward}",
    "value": "reach {forward} as the one value that they hold",
}


@dataclass(frozen=True)
class Spread:
    """A forward pre-hook that turns one dict or tuple of inputs into arguments; every other call stays as it is.

    Attributes:
        how: "keywords" or "positions" for arguments, "value" for the only entry of a dict, "whole" for the inputs
            themselves.
        without: the entry of a dict that is left out, the targets' own; empty for none.
    """

    how: How
    without: str = ""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        del module
        nested = len(args) == 1 and not kwargs and isinstance(args[0], Mapping | tuple | list)
        return self.arguments(args[0]) if nested else None

    def arguments(self, inputs: Any) -> Arguments:
        """Return the positional and the keyword arguments that stand for `inputs`."""
        if isinstance(inputs, Mapping) and self.without in inputs:
            inputs = {key: value for key, value in inputs.items() if key != self.without}
        if self.how == "keywords" and isinstance(inputs, Mapping):
            return (), dict(inputs)
        if self.how == "keywords" and hasattr(inputs, "_asdict"):
            return (), inputs._asdict()
        if self.how == "positions" and not isinstance(inputs, Mapping):
            return tuple(inputs), {}
        if self.how == "value" and isinstance(inputs, Mapping) and len(inputs) == 1:
            return (next(iter(inputs.values())),), {}
        return (inputs,), {}

    def describe(self, module: nn.Module, inputs: Any) -> str:
        """Return a line about what reaches the module."""
        names, forward = [key for key in _names(inputs) if key != self.without], ForwardArguments(module)
        parts = listed(names) if names else f"{len(inputs)} parts"
        line = f"inputs: {parts} {WORDS[self.how].format(forward=forward_name(module))}"
        others = [name for name in names if name not in forward.names]
        ignored = self.how == "keywords" and forward.names and others
        return f"{line}, which may ignore {listed(others)}: it takes them by **kwargs only" if ignored else line


def connect(module: nn.Module, inputs: Any, target: str = "") -> Spread | None:
    """Give `module` the hook that it needs for inputs like these, and return it; None where it needs none.

    Args:
        module: in place; its parameters, buffers and modes are left as they were.
        inputs: a batch of a few rows, as the module gets it.
        target: the entry of a dict that holds the targets; it is passed on only where forward names it.

    Raises:
        TypeError: forward cannot take such inputs, or a scripted module would need a hook.
    """
    spread = spread_of(module, inputs, target)
    return None if spread is None else install(module, spread)


def install(module: nn.Module, spread: Spread) -> Spread:
    """Give `module` this hook, in the place of another such.

    Raises:
        TypeError: it is a scripted module, which takes none.
    """
    for key in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, Spread)]:
        del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]  # a winner's own
    try:
        module.register_forward_pre_hook(spread, prepend=True, with_kwargs=True)
    except RuntimeError:
        raise TypeError(
            "a scripted module is called with its inputs as they are, got several inputs that are to be spread over its"
            " arguments; call it in the forward of a plain nn.Module that takes them one by one."
        ) from None
    return spread


def installed(module: nn.Module) -> Spread | None:
    """Return the hook that `connect` gave to a module, if it did."""
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, Spread)), None)


def spread_of(module: nn.Module, inputs: Any, target: str = "") -> Spread | None:
    """Return the spread that inputs like these need; None where the module takes them as they are.

    A dict is spread over keyword arguments when each of its keys names an argument of forward, a named tuple likewise;
    any other tuple over the positional ones when forward requires more than one. Where that does not settle it, the
    inputs are tried on the module: as a whole first, then spread.
    """
    if isinstance(inputs, Mapping):
        return _of_dict(ForwardArguments(module), inputs, target)
    if not isinstance(inputs, tuple | list):
        return None
    forward = ForwardArguments(module)
    if hasattr(inputs, "_fields") and forward.takes_names(inputs._fields):
        return Spread("keywords")
    return _of_tuple(forward, inputs)


def _of_dict(forward: ForwardArguments, inputs: Mapping[Any, Any], target: str) -> Spread | None:
    without = target if target in inputs and target not in forward.names else ""
    keys = [key for key in inputs if key != without]
    if forward.takes_names(keys):
        return Spread("keywords", without)
    tried = []
    if forward.any_names and set(forward.required) <= set(keys):
        if forward.misspelt(keys):  # which **kwargs would take, and ignore
            raise TypeError(_unfit_keys(forward, keys))
        tried.append(Spread("keywords", without))
    if len(forward.required) <= 1 and (forward.positions or forward.any_number):
        tried.append(Spread("whole", without))
        tried += [Spread("value", without)] if len(keys) == 1 else []
    found = _first_that_works(forward.module, tried, inputs)
    if isinstance(found, Spread):
        return None if found == Spread("whole") else found
    if any(key in forward.names for key in keys) or isinstance(found, TypeError | AttributeError):
        raise TypeError(_unfit_keys(forward, keys))
    return Spread("whole", without) if without else None  # it fails inside, which the dry run explains


def _unfit_keys(forward: ForwardArguments, keys: list[Any]) -> str:
    extra = [str(key) for key in keys if key not in forward.names]
    missing = [name for name in forward.required if name not in keys]
    given = f"inputs are a dict with {listed(map(str, keys))}, but {forward}"
    if missing and not extra:
        return f"{given} also needs {listed(missing)}; add it to the inputs, or give it a default."
    unknown = forward.misspelt(keys) or f'"{listed(extra)}".'
    return f"{given} takes no argument {unknown} Name the entries as forward does, and leave out others."


def _of_tuple(forward: ForwardArguments, inputs: tuple[Any, ...] | list[Any]) -> Spread | None:
    least, most = len(forward.required), len(forward.positions)
    fits = not forward.only_named and least <= len(inputs) and (len(inputs) <= most or forward.any_number)
    if least > 1 and fits:
        return Spread("positions")
    tried = [Spread("whole"), *([Spread("positions")] if fits else [])] if least <= 1 else []
    found = _first_that_works(forward.module, tried, inputs)
    if isinstance(found, TypeError | AttributeError) and not fits:
        raise TypeError(f"inputs are a tuple of {len(inputs)}, but {_unfit_number(forward)}")
    return found if isinstance(found, Spread) and found.how == "positions" else None


def _unfit_number(forward: ForwardArguments) -> str:
    least, most = len(forward.required), len(forward.positions)
    if forward.only_named:
        return f"{forward} takes {listed(forward.only_named)} by name only; give the inputs as a dict."
    number = plural(most, "argument") if most == least else f"{least} to {most} arguments"
    return f"{forward} takes {number}; give as many, or make one tensor of them."


def _first_that_works(module: nn.Module, spreads: list[Spread], inputs: Any) -> Spread | Exception:
    """Return the first spread that a forward pass succeeds with, or the exception of the first."""
    errors: list[Exception] = []
    for spread in spreads:
        error = _error_of(module, spread, inputs)
        if error is None:
            return spread
        errors.append(error)
    return errors[0] if errors else TypeError("forward takes several arguments")


def _error_of(module: nn.Module, spread: Spread, inputs: Any) -> Exception | None:
    """Return the exception of a forward pass on these inputs, without gradients; the module stays as it was."""
    args, kwargs = spread.arguments(inputs)
    lazy = any(map(is_lazy, (*module.parameters(), *module.buffers())))
    device = next((tensor.device for tensor in leaves(inputs)), None)
    try:
        tried = copy_of(module) if lazy else module
        with seeded_globals("spread", device=device), looked_at(tried):
            tried(*args, **kwargs)
    except Exception as error:
        return error
    return None


def _names(inputs: Any) -> list[str]:
    return list(map(str, inputs)) if isinstance(inputs, Mapping) else list(getattr(inputs, "_fields", ()))
