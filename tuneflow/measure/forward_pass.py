"""The forward pass that is measured: a batch of real rows on the module's device, and a block that changes nothing."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.sources import as_source
from tuneflow.heuristics.unchanged import unchanged
from tuneflow.nested import leaves, mapped, row_count, rows_taken
from tuneflow.runtime.environment import Environment
from tuneflow.seeds import seeded_globals


@contextmanager
def measuring(module: nn.Module, threads: int | None = None) -> Iterator[None]:
    """A block to measure `module` in: evaluation mode, no gradients, no autocast, so many CPU threads.

    Modes, buffers and the global generators are restored.
    """
    device = device_of(module)
    with ExitStack() as stack:
        stack.enter_context(Environment(threads, None, device))
        stack.enter_context(seeded_globals("measure", device=device))
        stack.enter_context(torch.no_grad())
        if hasattr(module, "training"):  # a frozen TorchScript module has no modes
            stack.enter_context(unchanged(module))
            with suppress(NotImplementedError):  # nor can those of an exported one be set
                module.eval()
        yield


def eagerly() -> AbstractContextManager[Any]:
    """Return a block in which compiled modules run eagerly, so that their operations are seen."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """A block in which the layers of a Transformer run one by one, and not as one operation that hides them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first tensor; the CPU for one without any, as a quantized one is."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def inputs_of(data: Any, rows: int, device: torch.device) -> Any:
    """Return the inputs of so many rows on a device; the rows of smaller data are repeated.

    Args:
        data: a tn.Data, a pair (inputs, targets), a Dataset or a DataLoader; or inputs alone: a tensor, a list, a dict,
            or a tuple of any number but two, which are given as (inputs, None).
        rows: number of rows.
        device: where the inputs go.
    """
    if isinstance(data, Tensor | Mapping | list) or (isinstance(data, tuple) and len(data) != 2):
        inputs = data
    elif isinstance(data, tuple) and data[1] is None:
        inputs = data[0]
    else:
        inputs, _ = next(iter(as_source(data, "measure: data").batches(rows)))
    if any(leaf.ndim and not len(leaf) for leaf in leaves(inputs)):
        raise ValueError("measure: data needs at least one row, got none.")
    count = row_count(inputs)
    if count:
        chosen = slice(0, rows) if count >= rows else torch.arange(rows) % count
        inputs = rows_taken(inputs, chosen, count)
    return mapped(lambda tensor: tensor.to(device), inputs)


def forward_of(module: nn.Module, inputs: Any) -> Callable[[], Any]:
    """Return the forward pass of `module` on `inputs`, without arguments; it has been called once.

    A dict or tuple is passed whole where the module takes it so, else spread over the arguments of its forward.
    """

    def whole() -> Any:
        return module(inputs)

    def spread() -> Any:
        return module(**inputs) if isinstance(inputs, Mapping) else module(*inputs)

    try:
        whole()
        return whole
    except TypeError:
        if not isinstance(inputs, Mapping | tuple | list):
            raise
        try:
            spread()
            return spread
        except TypeError:
            pass
        raise
