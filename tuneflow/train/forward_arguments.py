"""The arguments that a module's forward takes, read off its signature."""

import inspect
from typing import Any

from torch import nn

from tuneflow.errors import did_you_mean
from tuneflow.signature import parameters_of


class ForwardArguments:
    """The arguments that a module's forward takes.

    Attributes:
        names: those that have a name.
        required: those without a default.
        positions: those that may be given by position.
        only_named: those without a default that may not.
        any_names, any_number: True where forward takes others too, by **kwargs and *args.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        inner = getattr(module, "_orig_mod", module)  # what was compiled
        parameters = parameters_of(inner.forward)
        everything = _parameters_of_schema(inner) if parameters is None else parameters
        fixed = [p for p in everything if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.names = [p.name for p in fixed if p.kind is not p.POSITIONAL_ONLY]
        self.required = [p.name for p in fixed if p.default is p.empty]
        self.positions = [p.name for p in fixed if p.kind is not p.KEYWORD_ONLY]
        self.only_named = [name for name in self.required if name not in self.positions]
        kinds = {p.kind for p in parameters or ()}
        self.any_names = inspect.Parameter.VAR_KEYWORD in kinds or not everything
        self.any_number = inspect.Parameter.VAR_POSITIONAL in kinds or not everything

    def takes_names(self, keys: Any) -> bool:
        """True if a call with these keywords, and nothing else, fits and each is named in the signature."""
        return set(keys) <= set(self.names) and set(self.required) <= set(keys)

    def misspelt(self, keys: list[Any]) -> str:
        """Return a key that is close to an argument which is not given, with a hint; empty for none."""
        missing = [name for name in self.names if name not in keys]
        hints = {key: did_you_mean(str(key), missing) for key in keys if key not in self.names}
        return next((f'"{key}".{hint}' for key, hint in hints.items() if hint), "")

    def __str__(self) -> str:
        return f"{forward_name(self.module)}({', '.join(dict.fromkeys([*self.positions, *self.names]))})"


def _parameters_of_schema(module: nn.Module) -> list[inspect.Parameter]:
    """Return the parameters of a traced module, which has no signature."""
    schema = getattr(module.forward, "schema", None)
    names = [] if schema is None else [argument.name for argument in schema.arguments[1:]]
    return [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]


def forward_name(module: nn.Module) -> str:
    """Return what a module's forward is called in messages, such as `Net.forward`."""
    return f"{type(getattr(module, '_orig_mod', module)).__name__}.forward"
