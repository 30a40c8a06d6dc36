"""Build the optimizer of a module: from a list of its parameters, or from the module by a factory that needs it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from tuneflow.signature import name_of

Parameters = Mapping[str, Tensor]


@runtime_checkable
class ForModule(Protocol):
    """A factory of optimizers that needs more than a list of parameters."""

    def for_module(self, module: nn.Module, parameters: Parameters, steps: int | None, **settings: Any) -> Any:
        """Return the optimizer of a module.

        Args:
            module: its layers tell what a parameter is for.
            parameters: the trained ones by name, those of a loss under `loss.`.
            steps: optimizer steps of the whole trial; None where that is not known.
            settings: the section `optimizer` of the space.
        """


def build_optimizer(
    make: Callable[..., Any], module: nn.Module, parameters: Parameters, steps: int | None
) -> Optimizer:
    """Return the optimizer that `make` makes of trained parameters, or of the module where it has `for_module`.

    Args:
        make: a class or function that takes a list of parameters, or a factory; also with settings, as a partial.
        module: read only.
        parameters: the trained ones by name.
        steps: optimizer steps of the whole trial.
    """
    factory, settings = unwrapped(make)
    if isinstance(factory, ForModule):
        optimizer: Optimizer = factory.for_module(module, parameters, steps, **settings)
    else:
        optimizer = make(list(parameters.values()))
    return optimizer


def unwrapped(make: Any) -> tuple[Any, dict[str, Any]]:
    """Return a callable without its partial, and the keyword arguments of that."""
    return (make.func, dict(make.keywords)) if isinstance(make, partial) else (make, {})


def partial_of(make: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a callable with more keyword arguments, or itself without any."""
    return partial(make, **settings) if settings else make


def check_settings(make: Callable[..., Any], settings: Mapping[str, Any], where: str) -> None:
    """Raise TypeError unless settings within settings, as those of a group, fit; `where` opens the message."""
    factory, own = unwrapped(make)
    check = getattr(factory, "check_settings", None)
    if isinstance(factory, ForModule) and check is not None:
        check({**own, **settings}, where)


def optimizer_name(make: Callable[..., Any]) -> str:
    """Return a name of `make` that tells apart what it makes: groups and their patterns, or a class, with settings."""
    factory, settings = unwrapped(make)
    name = repr(factory) if isinstance(factory, ForModule) and not isinstance(factory, type) else name_of(make)
    inside = ", ".join(f"{key}={name_of(value) if callable(value) else value!r}" for key, value in settings.items())
    return f"{name}({inside})" if inside else name


def spans_trial(make: Callable[..., Any]) -> str:
    """Return the setting of `make` by which its optimizers depend on the full length of a trial; empty without one.

    A factory says so by a method `spans_trial(settings)`.
    """
    factory, settings = unwrapped(make)
    method = getattr(factory, "spans_trial", None) if isinstance(factory, ForModule) else None
    return "" if method is None else str(method(settings))


def innermost(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer whose steps are taken, where another one, as an average of weights, is around it."""
    inner = getattr(optimizer, "inner", None)
    return innermost(inner) if isinstance(inner, Optimizer) else optimizer
