"""Runtime: the one place that knows devices and threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from tuneflow.errors import did_you_mean, listed

if TYPE_CHECKING:
    from tuneflow.execute.executor import Executor

T = TypeVar("T")


class Runtime:
    """Where training happens. Make one and share it; nothing else in tuneflow names a device.

    Args:
        device: "auto" (a CUDA device where there is one, else Apple's, else the CPU), or a torch device
            such as "cuda:1".
        threads: CPU threads while training, None for torch's current number. Scores are exactly repeatable for
            the same number only. 1 is best for small modules, and wherever other work runs on the same cores: there
            more than one made training up to 100 times slower.

    Raises:
        ValueError: the device is not there (those that are, are listed), or threads < 1.

    Example:
        >>> Runtime("cpu").place(torch.ones(2)).device
        device(type='cpu')
    """

    def __init__(self, device: str | torch.device = "auto", threads: int | None = None) -> None:
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ValueError(
                f"Runtime: threads needs to be a whole number >= 1, got {threads!r}; leave it out for torch's own."
            )
        self.device = _find_device(device)
        self.threads = threads

    def __repr__(self) -> str:
        threads = f", threads={self.threads or torch.get_num_threads()}" if self.device.type == "cpu" else ""
        return f'Runtime("{self.device}"{threads})'

    def place(self, thing: T) -> T:
        """`thing` on this runtime's device: a module (moved), a tensor, or tuples, lists and dicts of them."""
        placed: T = moved(thing, self.device)
        return placed

    def active(self) -> Threads:
        """A block within which torch uses this runtime's number of threads."""
        return Threads(self.threads)

    def describe(self) -> dict[str, Any]:
        """What the exact digits of a score depend on, as JSON: kept with a study."""
        return {"device": self.device.type, "threads": self.threads or torch.get_num_threads(), "executor": "inline"}

    def executor(self) -> Executor:
        """A new executor that runs slices on this runtime."""
        from tuneflow.execute.inline import Inline

        return Inline(self)


class Threads:
    """Within the block torch uses `count` threads, or as many as it does where that is None."""

    __slots__ = ("_before", "_count")

    def __init__(self, count: int | None) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._count is not None and self._count != self._before:
            torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        if torch.get_num_threads() != self._before:
            torch.set_num_threads(self._before)


def moved(thing: Any, device: torch.device) -> Any:
    """`thing` with every tensor in it on `device`; a module is moved in place."""
    if isinstance(thing, nn.Module):
        return thing.to(device)
    return mapped(lambda tensor: tensor.to(device, non_blocking=True), thing)


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """`batch` (a tensor, or tuples, lists and dicts of them) with `function` applied to every tensor."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(function, value) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(mapped(function, value) for value in batch)
    return batch


def _find_device(device: str | torch.device) -> torch.device:
    there = _devices()
    if device == "auto":
        return torch.device(there[-1])
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"Runtime: there is no device {device!r}.{did_you_mean(str(device), there)} Here: {listed(there)}."
        ) from None
    name = str(wanted)
    if name not in there and f"{name}:0" not in there:
        raise ValueError(f'Runtime: device "{name}" is not there. Here: {listed(there)}.')
    return wanted


def _devices() -> list[str]:
    """The devices of this machine, the one that "auto" takes last."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    found += [f"cuda:{i}" for i in reversed(range(torch.cuda.device_count()))]
    return found
