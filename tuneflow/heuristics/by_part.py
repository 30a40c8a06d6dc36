"""Normalization by part: each column of a tensor, or entry of a dict or tuple, with a kind of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tuneflow.errors import did_you_mean, listed
from tuneflow.heuristics.input_scaling import Moments, Normalizer, is_standard, normalizer_of
from tuneflow.heuristics.whitening import Whitening


class TrainingInputs(Protocol):
    """The inputs of the training rows, to fit a normalizer to."""

    def batches(self) -> Iterator[Any]:
        """Yield all of them, batch by batch."""

    def sample(self) -> Any:
        """Return all rows of a tn.Data at once, or so many of a Dataset as fit into memory."""


@dataclass(frozen=True)
class ByPart:
    """Kinds of normalization by part.

    Attributes:
        kinds: pairs of columns, a key or an index, and the kind of these: True or a word.
        listed: True if it was a list, of parts that are all standardized.
    """

    kinds: tuple[tuple[Any, Any], ...]
    listed: bool = False

    def __repr__(self) -> str:
        return repr([key for key, _ in self.kinds] if self.listed else dict(self.kinds))

    def columns(self, width: int) -> set[int]:
        """Return the columns of `width` that it changes."""
        return {column % width for key, _ in self.kinds for column in _columns(key)}


class PartNormalizer(nn.Module):
    """Normalizes some parts of inputs that are a dict, tuple or list; the others pass.

    Args:
        normalizers: a module for each key or index.
    """

    def __init__(self, normalizers: Mapping[Any, nn.Module]) -> None:
        super().__init__()
        self.keys = list(normalizers)
        self.parts = nn.ModuleList(normalizers.values())

    def forward(self, inputs: Any) -> Any:
        changed = {key: part(inputs[key]) for key, part in zip(self.keys, self.parts, strict=True)}
        if isinstance(inputs, Mapping):
            return {**inputs, **changed}
        values = [changed.get(index, value) for index, value in enumerate(inputs)]
        return type(inputs)(*values) if hasattr(inputs, "_fields") else type(inputs)(values)


def standardizing(parts: Sequence[Any]) -> ByPart:
    """Return the kind that standardizes these columns or entries."""
    return ByPart(tuple((part, True) for part in parts), listed=True)


def fit_by_part(
    kind: ByPart, inputs: TrainingInputs, fit: Callable[[Any, TrainingInputs], nn.Module | None]
) -> nn.Module | None:
    """Fit the normalizer of each part; None where they change nothing.

    Args:
        kind: the parts and their kinds.
        inputs: of the training rows only.
        fit: fits the normalizer of one word to inputs.

    Raises:
        ValueError, TypeError: the inputs have no such parts, or parts that a kind does not take.
    """
    first = next(iter(inputs.batches()))
    if isinstance(first, Tensor):
        return _fit_columns(kind, first, inputs, fit) if kind.kinds else None
    _check_keys(kind, first)
    views = {key: _PartInputs(inputs, lambda batch, key=key: batch[key]) for key, _ in kind.kinds}  # type: ignore[misc]
    for key, view in views.items():
        check_numbers(next(view.batches()), [key])
    fitted = {key: _standard(views[key]) if each is True else fit(each, views[key]) for key, each in kind.kinds}
    parts = {key: part for key, part in fitted.items() if part is not None}
    return PartNormalizer(parts) if parts else None


def check_numbers(values: Any, kind: Any) -> None:
    """Raise TypeError unless values are a tensor of floating-point numbers or bytes."""
    if isinstance(values, Tensor) and (values.is_floating_point() or values.dtype == torch.uint8):
        return
    if isinstance(values, Tensor):
        what, way = f"a tensor of {str(values.dtype).removeprefix('torch.')}", "normalize=True leaves those alone"
    else:
        example = {"numbers": kind} if isinstance(values, Mapping) else {0: kind}
        what, way = type(values).__name__, f"for some of its parts, say which: normalize={example}"
    raise TypeError(f"Model: normalize={kind!r} takes floating-point numbers, got {what}; {way}.")


class _PartInputs:
    """One part of the training inputs."""

    def __init__(self, inputs: TrainingInputs, take: Callable[[Any], Any]) -> None:
        self._inputs, self._take = inputs, take

    def batches(self) -> Iterator[Any]:
        return map(self._take, self._inputs.batches())

    def sample(self) -> Any:
        return self._take(self._inputs.sample())


def _moments(inputs: TrainingInputs) -> Moments:
    moments = Moments()
    for batch in inputs.batches():
        moments.add(batch)
    return moments


def _standard(inputs: TrainingInputs) -> Normalizer | None:
    return normalizer_of(_moments(inputs))


# Columns of a tensor.


def _fit_columns(kind: ByPart, first: Tensor, inputs: TrainingInputs, fit: Any) -> Normalizer | Whitening | None:
    """Return the normalizer of the columns of the last dimension; one matrix where some are whitened."""
    _check_columns(kind, first)
    width, dtype = first.shape[-1], torch.get_default_dtype()
    mean, matrix = torch.zeros(width, dtype=dtype), torch.eye(width, dtype=dtype)
    standard, whitened = True, False
    for key, each in kind.kinds:
        numbers = [column % width for column in _columns(key)]
        view = _PartInputs(inputs, lambda batch, numbers=numbers: batch[..., numbers].reshape(-1, len(numbers)))  # type: ignore[misc]
        part = _each_standard(view) if each is True else fit(each, view)
        if part is not None:
            standard, whitened = False, whitened or isinstance(part, Whitening)
            scaled = part.matrix.cpu() if isinstance(part, Whitening) else (1 / part.std.cpu().flatten()).diag()
            mean[numbers] = part.mean.cpu().flatten()
            matrix[torch.tensor(numbers)[:, None], numbers] = scaled
    if standard:
        return None
    return Whitening(mean, matrix) if whitened else Normalizer(mean, 1 / matrix.diagonal())


def _each_standard(view: TrainingInputs) -> Normalizer | None:
    """Return the normalizer that standardizes each column by itself; None where all are standard already."""
    moments = _moments(view)
    mean, std = moments.mean, moments.std
    if is_standard(mean, std):
        return None
    dtype = torch.get_default_dtype()
    return Normalizer(mean.to(dtype), torch.where(std > 0, std, 1.0).to(dtype))


# Checks.


def _columns(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _check_columns(kind: ByPart, first: Tensor) -> None:
    check_numbers(first, kind)
    if first.ndim not in (2, 3):
        raise ValueError(
            f"Model: normalize={kind} names columns, of inputs with 2 or 3 dimensions, got"
            f" {tuple(first.shape)}; normalize=True standardizes images channel by channel."
        )
    width, before = first.shape[-1], set()
    for column in (column for key, _ in kind.kinds for column in _columns(key)):
        if isinstance(column, str) or not -width <= column < width:
            raise ValueError(
                f"Model: normalize={kind} names column {column!r}, and the inputs have {width} columns, from 0"
                f" to {width - 1}."
            )
        if not kind.listed and column % width in before:
            raise ValueError(f"Model: normalize={kind} names column {column} twice; give each one kind.")
        before.add(column % width)


def _check_keys(kind: ByPart, first: Any) -> None:
    here = list(first) if isinstance(first, Mapping) else list(range(len(first)))
    for key, _ in kind.kinds:
        if key not in here:
            near = did_you_mean(key, map(str, here)) if isinstance(key, str) else ""
            raise ValueError(
                f"Model: normalize={kind} names part {key!r}.{near} The inputs have {listed(map(str, here))}."
            )
