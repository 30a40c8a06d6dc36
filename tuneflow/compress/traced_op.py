"""One operation of a traced forward pass, with the channels of what it takes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tuneflow.compress.channel_spaces import Labels
from tuneflow.nested import parts_of

Channels = dict[int, Labels]  # dimension -> the channels that it numbers


@dataclass(frozen=True, eq=False)
class Traced:
    """A value of a forward pass.

    Attributes:
        value: as it was in the pass.
        channels: of its dimensions, counted from 0; empty for what is not a tensor.
        origin: a name for messages.
    """

    value: Any
    channels: Channels
    origin: str = ""

    @property
    def ndim(self) -> int:
        return self.value.ndim if isinstance(self.value, Tensor) else 0


@dataclass(frozen=True, eq=False)
class TracedOp:
    """A layer's call, or a function's or method's.

    Attributes:
        name: of the layer, or of the function without its underscores.
        layer: the layer; None for a function.
        args: its arguments, every value of the pass as a Traced.
        named: its keyword arguments, likewise.
        result: the outcome in the pass.
    """

    name: str
    layer: nn.Module | None
    args: tuple[Any, ...]
    named: dict[str, Any] = field(default_factory=dict)
    result: Any = None

    def __str__(self) -> str:
        return f"{self.name}()" if self.layer is None else f'"{self.name}" ({type(self.layer).__name__})'

    @property
    def first(self) -> Traced:
        """The first value of the pass among the arguments, such as the input of a layer."""
        return next(traced_in([self.args, self.named]), Traced(None, {}))

    @property
    def labels(self) -> list[Labels]:
        """The channels of everything that it takes."""
        return [labels for value in traced_in([self.args, self.named]) for labels in value.channels.values()]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position, the first is 0, or by name, as its value in the pass."""
        argument = self.args[position] if position < len(self.args) else self.named.get(name, default)
        return plain(argument)


def plain(argument: Any) -> Any:
    """Return an argument with the values of the pass in the place of every Traced."""
    if isinstance(argument, Traced):
        return argument.value
    if isinstance(argument, tuple | list):
        return type(argument)(map(plain, argument))
    return argument


def traced_in(argument: Any) -> Iterator[Traced]:
    """Yield every Traced in nested arguments."""
    if isinstance(argument, Traced):
        yield argument
    else:
        for part in (parts_of(argument) or {}).values():
            yield from traced_in(part)
