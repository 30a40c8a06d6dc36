"""Conversion of what people bring to tensors; what holds no numbers row by row is refused with a way out."""

import dataclasses
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneflow.data.tables import is_table, matrix_of

CLASSES = "number classes from 0, as np.unique(values, return_inverse=True)[1] does"
PAD = "pad them, or give a Dataset and a DataLoader whose collate_fn pads each batch"


def as_tensors(values: Any, what: str) -> Any:
    """Convert arrays, tables and lists to tensors, floats to torch's default dtype; tuples and dicts part by part.

    Args:
        values: as `tn.Data` takes them.
        what: "inputs" or "targets", for messages.

    Raises:
        TypeError: they hold something else than numbers, or hold them in another way than row by row.
        ValueError: there are no rows, or rows of unequal length.
    """
    try:
        return _as_tensors(values, what)
    except RecursionError:
        raise ValueError(f"Data: {what} hold themselves, or are nested without an end.") from None


def _as_tensors(values: Any, what: str) -> Any:
    if isinstance(values, Mapping):
        return {key: _as_tensors(value, what) for key, value in values.items()}
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(_as_tensors(value, what) for value in values))
    if is_list_of_arrays(values) or (isinstance(values, tuple) and not _are_numbers(values)):
        return type(values)(_as_tensors(value, what) for value in values)
    tensor = values if isinstance(values, Tensor) else _from_array(values, what)
    _check_dense(tensor, what)
    if tensor.ndim == 0:
        raise ValueError(f"Data: {what} need rows, got a single number, shape (); give a list of them.")
    return tensor.detach().to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor.detach()


def check_no_rows(values: Any, rows: set[int], what: str) -> None:
    """Raise TypeError for a list or tuple of tensors that are rows, and not several inputs or targets.

    Args:
        values: as given, before conversion.
        rows: numbers of rows of the other part's tensors; empty where that is a list itself.
        what: "inputs" or "targets".
    """
    if not isinstance(values, list | tuple) or hasattr(values, "_fields") or not _all_arrays(values):
        return
    shapes = {tuple(value.shape) for value in values}
    lengths = {shape[0] if shape else 0 for shape in shapes}
    many = isinstance(values, list) and len(values) > max(lengths)
    if lengths == rows or not (rows == {len(values)} or many):
        return
    kind = "tensor" if isinstance(values[0], Tensor) else "array"
    stacked = "torch.stack" if kind == "tensor" else "np.stack"
    way = f"{stacked}({what}) makes one {kind} of them" if len(shapes) == 1 else f"they differ in shape: {PAD}"
    raise TypeError(f"Data: {what} are one {kind} with a row each, got a list of {len(values)} rows; {way}.")


def _all_arrays(values: Any) -> bool:
    return bool(values) and all(isinstance(value, Tensor | np.ndarray) for value in values)


def is_list_of_arrays(values: Any) -> bool:
    """True for a list that begins with a tensor or array."""
    return isinstance(values, list) and bool(values) and isinstance(values[0], Tensor | np.ndarray)


def is_list_of_rows(values: Any) -> bool:
    """True for a list that begins with a row of several parts: a dict, a tuple or a dataclass."""
    if not isinstance(values, list) or not values:
        return False
    return isinstance(values[0], Mapping | tuple) or dataclasses.is_dataclass(values[0])


def _are_numbers(values: tuple[Any, ...]) -> bool:
    """True for rows of one number each."""
    return bool(values) and all(isinstance(value, numbers.Number) for value in values)


def _check_dense(tensor: Tensor, what: str) -> None:
    """Raise TypeError unless the tensor holds a number for each element, all rows alike."""
    layout = str(tensor.layout).removeprefix("torch.")
    if tensor.is_nested:
        kind, way = "a nested one", f"torch.nested.to_padded_tensor({what}, 0)"
    elif tensor.layout is not torch.strided:
        kind, way = f"a sparse one ({layout}, shape {tuple(tensor.shape)})", f"{what}.to_dense()"
    elif tensor.is_quantized:
        kind, way = f"a quantized one ({tensor.dtype})", f"{what}.dequantize()"
    else:
        return
    raise TypeError(f"Data: {what} need to be a dense tensor, got {kind}; {way} makes one of it.")


def _from_array(values: Any, what: str) -> Tensor:
    if is_table(values):
        values = matrix_of(values, what)
    _check_kind(values, what)
    try:
        array = np.asarray(values)
    except (ValueError, RuntimeError):  # torch raises the latter, for a list that holds a tensor of several numbers
        raise ValueError(f"Data: {what} need rows of the same length, got unequal ones; {PAD}.") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"Data: {what} need to be numbers, got {_about(array, values, what)}.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim and (not array.flags.writeable or min(array.strides, default=0) < 0):
        array = array.copy()  # torch takes neither
    return torch.as_tensor(array)


def _check_kind(values: Any, what: str) -> None:
    """Raise TypeError for objects that NumPy would take for a single one, or misread."""
    kind = type(values).__name__
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(
            f"Data: {what} need to be a dense array, got a sparse one ({kind}, shape {tuple(values.shape)});"
            f" {what}.toarray() makes one of it."
        )
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError(f"Data: {what} need a number for every element, got a masked array; {what}.filled(0) fills it.")
    if isinstance(values, Iterator):
        raise TypeError(f"Data: {what} need to be a tensor, an array or a list, got a {kind}; list({what}) reads it.")
    if isinstance(values, set | frozenset | str | bytes) or values is None:
        raise TypeError(f"Data: {what} need to be a tensor, an array or a list of rows, got a {kind}.")


def _about(array: np.ndarray[Any, Any], values: Any, what: str) -> str:
    """Return what an array holds in place of numbers, and what can be done about it."""
    words = f"an array of {array.dtype}"
    if array.dtype.kind in "US":
        way = (
            CLASSES if what == "targets" else "number them, as a tokenizer or np.unique(..., return_inverse=True) does"
        )
        return f"{words}; {way}"
    if array.dtype.kind in "Mm":
        return f"{words}; count from a first one: (values - values.min()) / np.timedelta64(1, 'D')"
    if array.dtype.kind == "V":
        return f"{words}; give the columns as a dict of arrays"
    if array.ndim == 0:
        return f"a {type(values).__name__}; give a tensor, an array or a list"
    odd = ((place[0], value) for place, value in np.ndenumerate(array) if not isinstance(value, numbers.Real))
    row, one = next(odd, (0, array.flat[0]))
    held = "None" if one is None else f"a {type(one).__name__}"
    return f"{words} with {held} in row {row}; {_way_of(one, what)}"


def _way_of(one: Any, what: str) -> str:
    if one is None:
        return "fill such rows in or drop them"
    if isinstance(one, Mapping):
        return "give the columns as a dict of arrays, or name the targets: tn.Data(rows, targets=...)"
    if isinstance(one, str):
        return CLASSES
    return f"np.asarray({what}, dtype=float) makes numbers of what stands for one"
