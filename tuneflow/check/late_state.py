"""The dry run of state that appears after a module is built: parameters that no optimizer holds, and extra state."""

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import Parameter

from tuneflow.train.loop_state import differences


class BuiltState:
    """The parameters and the extra state of a new module, to compare with those after it has run.

    Args:
        module: as built; it is not changed.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self._extra = _extra_state(module)

    def check(self, module: nn.Module) -> None:
        """Raise unless the module trains the parameters that it was built with, and extra state that is as it was.

        Raises:
            ValueError: a parameter appeared, was replaced or is gone, or what `get_extra_state` returns has changed.
        """
        now = dict(module.named_parameters(remove_duplicate=False))
        for name in {**self._parameters, **now}:
            pair = self._parameters.get(name), now.get(name)
            if pair[0] is not pair[1] and any(p is not None and p.requires_grad for p in pair):
                raise ValueError(_about(name, *pair))
        extra = _extra_state(module)
        for name, before in self._extra.items():
            if differences([before], [extra.get(name)]):
                raise ValueError(
                    f"{name or type(module).__name__} keeps what get_extra_state returns, and training changes it, but"
                    " a state holds parameters and buffers only; keep it in a buffer: self.register_buffer(...)."
                )


def _about(name: str, before: Parameter | None, now: Parameter | None) -> str:
    if before is None:
        return (
            f'parameter "{name}" appears in the forward pass, after the optimizer was made, which never trains it; make'
            " it in __init__, or take a lazy layer such as nn.LazyLinear, which gets its shape before that."
        )
    if now is None:
        return f'parameter "{name}" is gone after a forward pass; what is trained needs to stay in the module.'
    return (
        f'parameter "{name}" is replaced by another in the forward pass, while the optimizer holds the first; change it'
        " in place: with torch.no_grad(): self.weight.copy_(...)."
    )


def _extra_state(module: nn.Module) -> dict[str, Any]:
    """Return a copy of the extra state of every submodule that has some; none where it cannot be copied."""
    states = {}
    for name, part in module.named_modules():
        own = type(part).get_extra_state is not nn.Module.get_extra_state
        if own and not isinstance(part, torch.jit.ScriptModule):
            with suppress(Exception):
                states[name] = copy.deepcopy(part.get_extra_state())
    return states
