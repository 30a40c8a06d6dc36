"""Kinds of input normalization: standardized, whitened, to a range, robust, by column or part, or an object's own."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.errors import did_you_mean, ending_where, listed
from tuneflow.heuristics.input_scaling import Moments, Normalizer, is_standard, normalizer_of, others
from tuneflow.heuristics.whitening import fit_whitening
from tuneflow.signature import name_of

KINDS = ("whiten", "minmax", "robust")
NUMBERS = 2**24  # of a sample, above which quantiles are taken over fewer rows


class TrainingInputs(Protocol):
    """The inputs of the training rows, to fit a normalizer to."""

    def batches(self) -> Iterable[Any]:
        """Yield all of them, batch by batch."""

    def sample(self) -> Any:
        """Return all rows of a tn.Data at once, or so many of a Dataset as fit into memory."""


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


def checked(kind: Any) -> Any:
    """Return `kind` if it is one of normalization: a word, a bool, columns as a tuple, or something with `fit`.

    Raises:
        TypeError, ValueError: it is none.
    """
    if kind is None or isinstance(kind, bool | np.bool_):
        return bool(kind)
    if isinstance(kind, str):
        if kind not in KINDS:
            near = did_you_mean(kind, KINDS)
            raise ValueError(f"Model: normalize needs to be True, False, {_WORDS}, got {kind!r}.{near}")
        return kind
    if isinstance(kind, Sequence | set | frozenset | range) and not isinstance(kind, bytes):
        return _columns(kind)
    target = kind.func if isinstance(kind, partial) else kind
    if not callable(getattr(target, "fit", None)):
        raise TypeError(f"Model: normalize needs to be True, False, {_WORDS}, got {kind!r}.")
    return kind


_WORDS = (
    '"whiten", "minmax", "robust", a list of columns (numbers) or of parts (keys of a dict), or an object with'
    " fit(inputs) that returns a module"
)


def described(kind: Any) -> str:
    """Return a kind as in an argument, without the addresses of objects."""
    if isinstance(kind, bool | str):
        return repr(kind)
    if isinstance(kind, tuple):
        return repr(list(kind))
    if isinstance(kind, type | partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in getattr(kind, "keywords", {}).items())
        return f"{name_of(kind)}({settings})" if settings else name_of(kind)
    if any("__repr__" in vars(base) for base in type(kind).__mro__[:-1]):
        return repr(kind)
    plain = {key: value for key, value in vars(kind).items() if isinstance(value, bool | int | float | str)}
    return f"{type(kind).__name__}({', '.join(f'{key}={value!r}' for key, value in plain.items())})"


def fit_kind(kind: Any, inputs: TrainingInputs) -> nn.Module | None:
    """Fit the normalizer of a kind other than True and False; None where it changes nothing.

    Args:
        kind: as `checked` returns it.
        inputs: of the training rows only.

    Raises:
        ValueError, TypeError: the inputs are not of the kind that it takes.
    """
    if kind == "whiten":
        return fit_whitening(_numbers(inputs, kind))
    if kind == "minmax":
        return _fit_range(_numbers(inputs, kind))
    if kind == "robust":
        next(iter(_numbers(inputs, kind)))
        return _fit_quartiles(inputs.sample())
    if isinstance(kind, tuple):
        first = next(iter(inputs.batches()))
        fit = _fit_columns if isinstance(first, Tensor) else _fit_parts
        return fit(kind, first, inputs) if kind else None
    return _fit_own(kind, inputs)


def fit_columns(columns: Sequence[int], batches: Iterable[Tensor]) -> Normalizer | None:
    """Return the normalizer that standardizes these columns of the last dimension each, and leaves the others alone.

    None where they have mean 0 and standard deviation 1 already.
    """
    moments, like, numbers = Moments(), torch.zeros(0), list(columns)
    for batch in batches:
        moments.add(batch[..., numbers].reshape(-1, len(numbers)))
        like = batch[:1]
    mean, std = moments.mean.flatten().cpu(), moments.std.flatten().cpu()
    if is_standard(mean, std):
        return None
    dtype = torch.get_default_dtype()
    means, deviations = torch.zeros(like.shape[-1], dtype=dtype), torch.ones(like.shape[-1], dtype=dtype)
    means[numbers], deviations[numbers] = mean.to(dtype), torch.where(std > 0, std, 1.0).to(dtype)
    return Normalizer(means, deviations)


def fitter_of(kind: Any) -> Any:
    """Return the object that has `fit`: `kind`, or the instance of this class or partial."""
    return kind() if inspect.isclass(kind) or isinstance(kind, partial) else kind


# The kinds.


def _fit_range(batches: Iterable[Tensor]) -> Normalizer:
    """Return the normalizer to the range from 0 to 1, per channel or column; a constant becomes 0."""
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for batch in batches:
        over = others(batch.ndim)
        low = torch.minimum(low, batch.amin(over, keepdim=True).double())
        high = torch.maximum(high, batch.amax(over, keepdim=True).double())
    return _affine(low, high - low)


def _fit_quartiles(values: Tensor) -> Normalizer:
    """Return the normalizer that subtracts medians and divides by interquartile ranges, per channel or column.

    Where that range is 0, as of a column that is mostly 0, it divides by the standard deviation.
    """
    stride = -(-values.numel() // NUMBERS)
    array = values[::stride].double().cpu().numpy()
    over = others(array.ndim)
    low, middle, high = (torch.as_tensor(q) for q in np.quantile(array, (0.25, 0.5, 0.75), axis=over, keepdims=True))
    spread = high - low
    deviation = torch.as_tensor(array.std(axis=over, keepdims=True))
    return _affine(middle, torch.where(spread > 1e-8 * middle.abs(), spread, deviation))


def _affine(shift: Tensor, size: Tensor) -> Normalizer:
    dtype = torch.get_default_dtype()
    size = torch.where(size > 1e-8 * shift.abs(), size, 1.0)
    return Normalizer(shift.to(dtype), size.to(dtype))


def _fit_columns(columns: tuple[Any, ...], first: Tensor, inputs: TrainingInputs) -> Normalizer | None:
    _check_numbers(first, list(columns))
    if first.ndim not in (2, 3):
        raise ValueError(
            f"Model: normalize={list(columns)} names columns, of inputs with 2 or 3 dimensions, got"
            f" {tuple(first.shape)}; normalize=True standardizes images channel by channel."
        )
    width = first.shape[-1]
    for column in columns:
        if isinstance(column, str) or not -width <= column < width:
            raise ValueError(
                f"Model: normalize={list(columns)} names column {column!r}, and the inputs have {width} columns, from 0"
                f" to {width - 1}."
            )
    return fit_columns(sorted({column % width for column in columns}), inputs.batches())


def _fit_parts(keys: tuple[Any, ...], first: Any, inputs: TrainingInputs) -> PartNormalizer | None:
    here = list(first) if isinstance(first, Mapping) else list(range(len(first)))
    for key in keys:
        if key not in here:
            near = did_you_mean(key, map(str, here)) if isinstance(key, str) else ""
            raise ValueError(
                f"Model: normalize={list(keys)} names part {key!r}.{near} The inputs have {listed(map(str, here))}."
            )
        _check_numbers(first[key], [key])
    moments = {key: Moments() for key in keys}
    for batch in inputs.batches():
        for key in keys:
            moments[key].add(batch[key])
    fitted = {key: normalizer_of(part) for key, part in moments.items()}
    parts = {key: part for key, part in fitted.items() if part is not None}
    return PartNormalizer(parts) if parts else None


def _fit_own(kind: Any, inputs: TrainingInputs) -> nn.Module:
    try:
        fitted = fitter_of(kind).fit(inputs.sample())
    except Exception as error:
        message = f"Model: normalize={described(kind)}: fit fails on the training rows: {type(error).__name__}: {error}"
        raise ending_where(error, ValueError(message)) from None
    if not isinstance(fitted, nn.Module):
        raise TypeError(
            f"Model: normalize={described(kind)}: fit needs to return a torch.nn.Module that takes raw inputs, got"
            f" {type(fitted).__name__}."
        )
    return fitted.eval().requires_grad_(False)


# Arguments.


def _columns(kind: Iterable[Any]) -> tuple[Any, ...]:
    """Return columns or keys, each once, in order."""
    columns = list(dict.fromkeys(sorted(kind, key=str) if isinstance(kind, set | frozenset) else kind))
    for column in columns:
        if isinstance(column, bool) or not isinstance(column, int | np.integer | str):
            raise TypeError(
                f"Model: normalize=[...] names columns by number, or parts of a dict by key, got {column!r}."
            )
    return tuple(column if isinstance(column, str) else int(column) for column in columns)


def _numbers(inputs: TrainingInputs, kind: str) -> Iterable[Tensor]:
    for batch in inputs.batches():
        _check_numbers(batch, kind)
        yield batch


def _check_numbers(values: Any, kind: Any) -> None:
    """Raise TypeError unless values are a tensor of floating-point numbers or bytes."""
    if isinstance(values, Tensor) and (values.is_floating_point() or values.dtype == torch.uint8):
        return
    if isinstance(values, Tensor):
        what, way = f"a tensor of {str(values.dtype).removeprefix('torch.')}", "normalize=True leaves those alone"
    else:
        what, way = type(values).__name__, 'a list of keys, such as normalize=["numbers"], takes parts'
    raise TypeError(f"Model: normalize={kind!r} takes floating-point numbers, got {what}; {way}.")
