"""Kinds of input normalization: standardized, whitened, to a range, robust, by column or part, or an object's own."""

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.errors import did_you_mean, ending_where, listed
from tuneflow.heuristics.by_part import ByPart, TrainingInputs, check_numbers, fit_by_part, standardizing
from tuneflow.heuristics.input_scaling import Normalizer, others
from tuneflow.heuristics.whitening import fit_whitening
from tuneflow.signature import name_of

KINDS = ("whiten", "minmax", "robust")
NUMBERS = 2**24  # of a sample, above which quantiles are taken over fewer rows


def checked(kind: Any) -> Any:
    """Return `kind` if it is one of normalization: a word, a bool, a ByPart for columns, or something with `fit`.

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
        return standardizing(_columns(kind))
    if isinstance(kind, Mapping):
        return _kinds(kind)
    if isinstance(kind, ByPart):
        return kind
    target = kind.func if isinstance(kind, partial) else kind
    if not callable(getattr(target, "fit", None)):
        raise TypeError(f"Model: normalize needs to be True, False, {_WORDS}, got {kind!r}.")
    return kind


_WORDS = (
    '"whiten", "minmax", "robust", a list of columns (numbers) or of parts (keys of a dict), a dict with the kind of'
    " each, or an object with fit(inputs) that returns a module"
)


def described(kind: Any) -> str:
    """Return a kind as in an argument, without the addresses of objects."""
    if isinstance(kind, bool | str | ByPart):
        return repr(kind)
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
    if isinstance(kind, ByPart):
        return fit_by_part(kind, inputs, fit_kind)
    return _fit_own(kind, inputs)


def fitter_of(kind: Any) -> Any:
    """Return the object that has `fit`: a copy of `kind`, which may store its fit, or an instance of the class."""
    return kind() if inspect.isclass(kind) or isinstance(kind, partial) else copy.deepcopy(kind)


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


def _kinds(kinds: Mapping[Any, Any]) -> ByPart:
    """Return the kinds of parts; those of False are left out."""
    parts = []
    for key, kind in kinds.items():
        columns = _columns(key if isinstance(key, tuple) else [key])
        if not isinstance(kind, bool) and kind not in KINDS:
            raise TypeError(
                f"Model: normalize={{...}} gives each part True, False, {listed(map(repr, KINDS))}, got {kind!r} for"
                f" {key!r}; an object with fit(inputs) takes all inputs, and may change some of them."
            )
        if kind is not False:
            parts.append((columns if isinstance(key, tuple) else columns[0], kind))
    return ByPart(tuple(parts))


def _numbers(inputs: TrainingInputs, kind: str) -> Iterable[Tensor]:
    for batch in inputs.batches():
        check_numbers(batch, kind)
        yield batch
