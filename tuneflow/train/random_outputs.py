"""Random outputs of a module's shapes, and targets with holes in them, to compare a loss of rows with that of parts."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tuneflow.nested import leaves, mapped, parts_of, rows_taken
from tuneflow.runtime.precision import LOWERED
from tuneflow.seeds import torch_stream
from tuneflow.train.joined_outputs import outputs_taken
from tuneflow.train.running_measures import Chunk

LARGE = 2**13  # bytes of a row's inputs, beyond which they are not copied


class Comparison(NamedTuple):
    """The same rows as one chunk, and as two of unequal size."""

    whole: Chunk
    parts: tuple[Chunk, Chunk]


def drawn_comparisons(chunk: Chunk) -> Iterator[Comparison]:
    """Yield chunks like this one on the CPU, with random outputs: of any size, shares, and such as hit the targets.

    They depend on shapes, dtypes and targets only, so that every process draws the same.
    """
    there = Chunk(mapped(_to_cpu, chunk.inputs), mapped(_to_cpu, chunk.targets), chunk.outputs, chunk.rows)
    for number, (draw, hole) in enumerate(zip(DRAWS, HOLES, strict=True)):
        yield compared(_drawn_chunk(there, draw, hole, torch_stream(0, "random outputs", number)))
    yield compared(_hit_chunk(there, torch_stream(0, "random outputs", len(DRAWS))))
    for number, vary in enumerate(VARIED if _in_rows(there.targets, there.rows) else ()):
        for draw in (_normal, _between_0_and_1):
            yield compared(_varied_chunk(there, vary, draw, torch_stream(0, "random targets", number)))


def repeated(chunk: Chunk, count: int) -> Chunk:
    """Return a chunk of `count` rows that are drawn from those of another; large inputs are all those of its first."""
    chosen = torch.randint(chunk.rows, (count,), generator=torch_stream(0, "repeated rows"))

    def input_rows(tensor: Tensor) -> Tensor:
        large = tensor.ndim > 0 and len(tensor) == chunk.rows and tensor[:1].nbytes > LARGE
        return tensor[:1].expand(count, *tensor.shape[1:]) if large else rows_taken(tensor, chosen, chunk.rows)

    return Chunk(
        mapped(input_rows, chunk.inputs),
        rows_taken(chunk.targets, chosen, chunk.rows),
        outputs_taken(chunk.outputs, chosen, chunk.rows),
        count,
    )


def compared(chunk: Chunk, module: Callable[[Any], Any] | None = None) -> Comparison:
    """Return a chunk beside its two parts; with outputs of `module` where there is one, else with the chunk's own."""
    cut = max(1, 3 * chunk.rows // 7)
    parts = []
    for rows in (slice(0, cut), slice(cut, chunk.rows)):
        inputs, targets = (rows_taken(part, rows, chunk.rows) for part in (chunk.inputs, chunk.targets))
        outputs = outputs_taken(chunk.outputs, rows, chunk.rows) if module is None else module(inputs)
        parts.append(Chunk(inputs, targets, outputs, rows.stop - rows.start))
    return Comparison(chunk, (parts[0], parts[1]))


def is_random(outputs: Any) -> bool:
    """True if outputs are tensors and plain values, so that random ones can stand for them."""
    if isinstance(outputs, Tensor):
        return outputs.ndim > 0
    parts = parts_of(outputs)
    if parts is None:
        return outputs is None or isinstance(outputs, str | int | float | bool)
    return all(map(is_random, parts.values()))


Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


def _of_any_size(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    sizes = torch.exp(2 * torch.randn(shape[:1], generator=generator))
    return torch.randn(shape, generator=generator) * sizes.reshape(-1, *[1] * (len(shape) - 1))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _between_0_and_1(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _shares(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = 2 * torch.randn(shape, generator=generator)
    return values.softmax(1) if len(shape) > 1 else values.sigmoid()


def _log_shares(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return _shares(shape, generator).log()


DRAWS: tuple[Draw, ...] = (_of_any_size, _between_0_and_1, _shares, _log_shares, _normal, _normal)
HOLES = (None, None, 0, -100, -1, 255)  # the class number that a third of the targets have, in each drawing


def _drawn_chunk(chunk: Chunk, draw: Draw, hole: int | None, generator: torch.Generator) -> Chunk:
    def holed(targets: Tensor) -> Tensor:
        return targets if hole is None else _with_holes(targets, hole, generator)

    same = float(torch.rand((), generator=generator))
    targets = mapped(holed, chunk.targets)
    return chunk._replace(targets=targets, outputs=mapped(lambda t: _drawn(t, draw, same, generator), chunk.outputs))


def _hit_chunk(chunk: Chunk, generator: torch.Generator) -> Chunk:
    drawn = _drawn_chunk(chunk, _normal, None, generator)
    return drawn._replace(outputs=mapped(lambda t: _hitting(t, drawn.targets, generator), drawn.outputs))


def _in_rows(targets: Any, rows: int) -> bool:
    """True if targets are tensors with a row each, no lists of objects whose tensors belong together."""
    if isinstance(targets, Tensor):
        return targets.ndim > 0 and len(targets) == rows
    parts = parts_of(targets)
    return parts is not None and not isinstance(targets, list) and all(_in_rows(part, rows) for part in parts.values())


def _varied_chunk(chunk: Chunk, vary: Draw, draw: Draw, generator: torch.Generator) -> Chunk:
    """Return a chunk with random targets too: what these few rows have of a weight or a class is not all there is."""
    outputs = next(iter(leaves(chunk.outputs)), torch.zeros(()))
    classes = outputs.shape[1] if outputs.ndim > 1 and outputs.shape[1] > 1 else 2

    def varied(targets: Tensor) -> Tensor:
        if targets.ndim == 0 or targets.dtype.is_complex:
            return targets
        if not targets.is_floating_point():
            return torch.randint(classes, targets.shape, generator=generator).to(targets.dtype)
        return vary(tuple(targets.shape), generator).to(targets.dtype)

    return _drawn_chunk(chunk._replace(targets=mapped(varied, chunk.targets)), draw, None, generator)


def _zeros_and_ones(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator).float()


def _with_gaps(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(shape, generator=generator) < 1 / 3, torch.nan, _between_0_and_1(shape, generator))


VARIED: tuple[Draw, ...] = (_zeros_and_ones, _between_0_and_1, _with_gaps)


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _drawn(like: Tensor, draw: Draw, same: float, generator: torch.Generator) -> Tensor:
    """Return a tensor of the shape and dtype of another; a single number is `same` in all parts."""
    if like.ndim == 0:
        return torch.tensor(same).to(_dtype(like))
    if like.dtype.is_complex:
        return torch.complex(draw(like.shape, generator), draw(like.shape, generator)).to(like.dtype)
    if like.is_floating_point():
        return draw(tuple(like.shape), generator).to(_dtype(like))
    return torch.randint(2, like.shape, generator=generator).to(like.dtype)


def _dtype(like: Tensor) -> torch.dtype:
    return torch.float32 if like.dtype in LOWERED else like.dtype


def _with_holes(targets: Tensor, hole: int, generator: torch.Generator) -> Tensor:
    if targets.dtype != torch.int64 or targets.ndim == 0:
        return targets
    return torch.where(torch.rand(targets.shape, generator=generator) < 1 / 3, hole, targets)


def _hitting(outputs: Tensor, targets: Any, generator: torch.Generator) -> Tensor:
    """Return outputs (n, classes, ...) of which half are largest at the targets (n, ...), so that something is hit."""
    fits = isinstance(targets, Tensor) and targets.dtype == torch.int64 and outputs.is_floating_point()
    if not fits or outputs.ndim < 2 or targets.shape != (*outputs.shape[:1], *outputs.shape[2:]):
        return outputs
    hits = (torch.rand(targets.shape, generator=generator) < 0.5) & (targets >= 0)
    places = targets.clamp(0, outputs.shape[1] - 1).unsqueeze(1)
    return outputs.scatter_add(1, places, hits.to(outputs.dtype).unsqueeze(1) * 1e4)
