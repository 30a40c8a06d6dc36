"""The dry run of an optimizer: its step needs no more than the gradient that a training step has."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from tuneflow.errors import listed
from tuneflow.optim.build import innermost
from tuneflow.train.session import Session

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
KNOWN = ("torch.optim.", "tuneflow.")  # modules whose optimizers call a closure once, before they move anything


def check_optimizer(session: Callable[[], Session]) -> None:
    """Raise TypeError for an optimizer that needs the loss again, or anything else beside the gradients.

    One step is taken with a closure that counts its calls, unless the optimizer is torch's: an optimizer that computes
    the loss twice, or at other weights, would train as a lesser one without it, or fail in its first step.

    Args:
        session: makes a new session of a few rows; up to three are made.
    """
    optimizer = innermost(session().optimizer)
    name = type(optimizer).__name__
    _check_signature(optimizer, name)
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise TypeError(
            f"optimizer {name} takes sparse gradients only; take torch.optim.Adam, and Embedding(sparse=False)."
        )
    if type(optimizer).__module__.startswith(KNOWN) or "closure" not in _arguments(optimizer):
        return
    failure, calls = _alone(session()), _with_closure(session())
    if calls is not None and (failure is not None or len(calls) > 1 or not all(calls)):
        raise TypeError(
            _closure_needed(name)
            if failure is not None
            else f"{_twice(name)}, and a training step computes it once{WAY}"
        )


WAY = "; take an optimizer that does without, such as torch.optim.SGD or Adam."


def _closure_needed(name: str) -> str:
    return f"optimizer {name} needs a closure that computes the loss again, and a training step has none{WAY}"


def _twice(name: str) -> str:
    return f"optimizer {name} computes the loss again within a step, at other weights"


def _check_signature(optimizer: Any, name: str) -> None:
    required = [p.name for p in _arguments(optimizer).values() if p.default is p.empty and p.kind not in VARIADIC]
    if "closure" in required:
        raise TypeError(_closure_needed(name))
    if required:
        raise TypeError(f"optimizer {name} needs {listed(required)} in each step, and a training step has none{WAY}")
    if callable(getattr(optimizer, "first_step", None)) and callable(getattr(optimizer, "second_step", None)):
        raise TypeError(f"{_twice(name)} (first_step, second_step), and a training step computes it once{WAY}")


def _arguments(optimizer: Any) -> dict[str, inspect.Parameter]:
    """The parameters of the class's step: that of an object may be one that a torch scheduler has put there."""
    try:
        _, *own = inspect.signature(type(optimizer).step).parameters.values()
    except (AttributeError, ValueError, TypeError):
        return {}
    return {p.name: p for p in own}


def _alone(session: Session) -> Exception | None:
    """Return the error of a step without a closure, if there is one."""
    with session.job.at_work("check", 0):
        session.backward(next(session.batches(1)))
        try:
            session.optimizer.step()
        except Exception as error:
            return error
    return None


def _with_closure(session: Session) -> list[bool] | None:
    """Take a step with a closure; return whether the weights were still untouched at each of its calls.

    None where that step fails.
    """
    calls: list[bool] = []
    with session.job.at_work("check", 0), suppress(Exception):
        batch = next(session.batches(1))
        before = [p.detach().clone() for p in session.parameters]

        def closure() -> Tensor:
            calls.append(all(torch.equal(p, was) for p, was in zip(session.parameters, before, strict=True)))
            with torch.enable_grad():
                session.optimizer.zero_grad()
                loss = session.loss_of(session.whole, batch)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        session.backward(batch)  # some read the gradients before they call
        session.optimizer.step(closure)  # type: ignore[arg-type]
        return calls
    return None
