"""Follows a forward pass layer by layer, and finds the call that changes the number of rows."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tuneflow.nested import leaves

TORCH = str(Path(torch.__file__).parent)

VIEWS = (Tensor.view, Tensor.reshape, torch.reshape, Tensor.flatten, torch.flatten)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A call that gave a tensor another shape.

    Attributes:
        call: as in the code: `view(-1, 2048)`; empty for a layer as a whole.
        where: ` of layer "0: Flatten"`, ` of Net (net.py, line 12)`.
        before: shape of the tensor.
        after: shape of the result; None if the call failed.
    """

    call: str
    where: str
    before: Shape
    after: Shape | None = None

    @property
    def joins(self) -> bool:
        """True if leading dimensions became one and the others stayed: (rows, time, features) to (all, features)."""
        return self.after is not None and len(self.after) > 1 and self.before[1 - len(self.after) :] == self.after[1:]


@dataclass(frozen=True)
class Layer:
    """A layer during its forward pass, and the first tensor among its inputs."""

    name: str
    module: nn.Module
    input: Tensor | None

    def __str__(self) -> str:
        kind = type(self.module).__name__
        return f'layer "{self.name}: {kind}"' if self.name else kind


class Rules(Protocol):
    """Checks of single calls of torch while a loss is computed; each may raise."""

    def before(self, watch: "Watch", function: Callable[..., Any], args: Any, kwargs: Any) -> None: ...
    def after(self, watch: "Watch", function: Callable[..., Any], args: Any, result: Any) -> None: ...


class Watch(TorchFunctionMode):
    """A block that follows the calls of `module` on a batch; the results are not changed.

    Args:
        module: gets hooks for the time of the block.
        rows: number of rows of the batch.
        rules: called for every torch function.

    Attributes:
        at: the layers under way, the outermost first. After an exception: those in which it happened.
        changed: the first call that changed the number of rows from `rows`, unless a later one undid it.
        last: the last view, reshape or flatten.
        called: arguments and keyword arguments of the whole module.
        outputs: the module's result.
        maker: the layer that returned the outputs, where it is known.
        refusal: the exception that a rule raised.
        error: the exception that ended the block.
    """

    def __init__(self, module: nn.Module, rows: int, *rules: Rules) -> None:
        super().__init__()
        self._module, self.rows, self._rules = module, rows, rules
        self.at: list[Layer] = []
        self.changed: View | None = None
        self.last: View | None = None
        self.called: tuple[Any, dict[str, Any]] | None = None
        self.outputs: Any = None
        self.maker: Layer | None = None
        self.refusal: Exception | None = None
        self.error: BaseException | None = None
        self._latest: tuple[Layer, Any] | None = None

    def __enter__(self) -> Self:
        self._hooks = ExitStack()
        for name, layer in self._module.named_modules():
            if isinstance(layer, torch.jit.ScriptModule):
                continue  # it takes no hooks
            start = partial(self._start, name)
            self._hooks.enter_context(layer.register_forward_pre_hook(start, with_kwargs=True))
            self._hooks.enter_context(layer.register_forward_hook(self._end))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self.error = error
        self._hooks.close()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._ask("before", func, args, kwargs)
        if func in VIEWS and self.at and args and isinstance(args[0], Tensor):
            result = self._view(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
        self._ask("after", func, args, result)
        return result

    def _ask(self, when: str, *call: Any) -> None:
        try:
            for rules in self._rules:
                getattr(rules, when)(self, *call)
        except (ValueError, TypeError) as error:
            self.refusal = error
            raise

    def _view(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        arguments = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:]
        words = [*map(str, arguments), *(f"{name}={value}" for name, value in kwargs.items())]
        layer = self.at[-1]
        self.last = View(f"{func.__name__}({', '.join(words)})", f" of {layer}{_caller()}", tuple(args[0].shape))
        result = func(*args, **kwargs)
        self.last = replace(self.last, after=tuple(result.shape))
        self._note(self.last)
        return result

    def _note(self, view: View) -> None:
        before, after = view.before[:1], (view.after or ())[:1]
        if before == (self.rows,) != after and self.changed is None:
            self.changed = view
        elif before != (self.rows,) == after:
            self.changed = None

    def _start(self, name: str, layer: nn.Module, args: Any, kwargs: Any) -> None:
        self.at.append(Layer(name, layer, next(iter(leaves((args, kwargs))), None)))
        if not name:
            self.called = (args, kwargs)

    def _end(self, layer: nn.Module, _: Any, output: Any) -> None:
        at = self.at.pop()
        if isinstance(output, Tensor) and at.input is not None:
            self._note(View("", f"{at}", tuple(at.input.shape), tuple(output.shape)))
        if not list(layer.children()):
            self._latest = (at, output)
        if not at.name:
            self.outputs = output
            self.maker = self._latest[0] if self._latest is not None and self._latest[1] is output else None


def dtype_of(tensor: Tensor) -> str:
    """Return a tensor's dtype for a message, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def _caller() -> str:
    """Return ` (net.py, line 12)`, the line of user code that made the call; empty if a layer of torch made it."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    path = frame.f_code.co_filename
    return "" if path.startswith(TORCH) else f" ({Path(path).name}, line {frame.f_lineno})"
