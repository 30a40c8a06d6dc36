"""What tn.Data takes apart from arrays, and what it refuses: each by what it is, with a way out."""

from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch

import tuneflow as tn
from tests.helpers.tables import Table

X = np.arange(12.0).reshape(4, 3)
T = torch.tensor(X)
Y = [0, 1, 0, 1]


PRICES = Table(size=[1, 2, 3, 4], rooms=[1.5, 2.0, 2.5, 3.0], price=[10, 20, 30, 40])

REFUSED = {
    "sparse": (T.to_sparse(), Y, ["a sparse one (sparse_coo, shape (4, 3))", "inputs.to_dense()"]),
    "sparse rows": (lambda: T.to_sparse_csr(), Y, ["sparse_csr", "inputs.to_dense()"]),
    "of scipy": (scipy.sparse.csr_matrix(X), Y, ["csr_matrix, shape (4, 3)", "inputs.toarray()"]),
    "sparse array": (scipy.sparse.coo_array(X), Y, ["coo_array", "inputs.toarray()"]),
    "nested": (
        torch.nested.nested_tensor([T[0], T[1, :2]], layout=torch.jagged),
        [0, 1],
        ["a nested one", "to_padded"],
    ),
    "quantized": (
        lambda: torch.quantize_per_tensor(T.float(), 0.1, 0, torch.qint8),
        Y,
        ["quantized", "inputs.dequantize()"],
    ),
    "masked": (np.ma.masked_equal(X, 3.0), Y, ["a masked array", "inputs.filled(0)"]),
    "list of rows": (list(T), Y, ["one tensor with a row each, got a list of 4 rows", "torch.stack(inputs)"]),
    "tuple of rows": (tuple(T), Y, ["torch.stack(inputs)"]),
    "list of arrays": (list(X), Y, ["one array with a row each", "np.stack(inputs)"]),
    "rows on both sides": ([*T, *T], [*T, *T], ["torch.stack(inputs)"]),
    "rows of targets": (
        T,
        [torch.tensor([1.0, 2.0])] * 4,
        ["targets are one tensor with a row", "torch.stack(targets)"],
    ),
    "ragged tensors": ([T[0], T[1, :2], T[2], T[3]], Y, ["differ in shape", "collate_fn pads"]),
    "ragged lists": ([[1], [2, 3], [4], [5]], Y, ["same length, got unequal ones", "collate_fn pads"]),
    "strings": (X, ["cat", "dog", "cat", "dog"], ["<U3", "np.unique(values, return_inverse=True)[1]"]),
    "text": (["a b", "c", "d", "e"], Y, ["<U3", "a tokenizer"]),
    "dates": (np.array(["2026-01-01"] * 4, "datetime64[D]"), Y, ["datetime64[D]", "np.timedelta64(1, 'D')"]),
    "None among rows": ([[1.0, 2.0], [3.0, None], [5.0, 6.0], [7.0, 8.0]], Y, ["None in row 1", "drop"]),
    "None among targets": (X, [0, None, 1, 1], ["targets need to be numbers", "None in row 1"]),
    "list of dicts": ([{"a": 1, "b": 2}] * 4, Y, ["a dict in row 0", "a dict of arrays", "tn.Data(rows, targets="]),
    "objects": ([object()] * 4, Y, ["a object in row 0", "dtype=float"]),
    "structured": (np.zeros(4, [("a", float), ("b", int)]), Y, ["a dict of arrays"]),
    "generator": ((row for row in X), Y, ["got a generator; list(inputs) reads it"]),
    "set": ({1, 2, 3, 4}, Y, ["got a set"]),
    "nothing": (None, Y, ["got a NoneType"]),
    "anything": (SimpleNamespace(), Y, ["a SimpleNamespace; give a tensor"]),
    "inside a dict": ({"a": T.to_sparse(), "b": T}, Y, ["inputs.to_dense()"]),
    "column of text": (Table(city=["x", "y", "x", "z"], a=[1, 2, 3, 4]), Y, ['"city" of text', "pd.get_dummies"]),
    "column of dates": (Table(when=np.array(["2026-01-01"] * 4, "M8[D]"), a=Y), Y, ['"when" of dates', ".dt.days"]),
    "column with gaps": (Table(a=np.array([1, None, 2, 3], object)), Y, ['"a" of gaps', "fillna"]),
    "no such column": (PRICES, "prize", ['no column "prize"', 'Did you mean "price"?']),
    "no such entry": ({"a": T, "b": Y}, "c", ['no entry "c"', "a, b"]),
    "name without names": (X, "price", ["targets='price' names a part of a DataFrame", "ndarray"]),
    "targets alone": ({"labels": Y}, "labels", ["inputs beside its targets"]),
    "no such part": ((T, Y), 2, ["targets=2 needs rows of as many parts, got tuple of 2"]),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:.*quantize:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_numbers_row_by_row_is_refused_with_a_way_out(name):
    inputs, targets, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        tn.Data(inputs() if callable(inputs) else inputs, targets)
    assert str(caught.value).startswith("Data: ")
    assert [word for word in words if word not in str(caught.value)] == []


TAKEN = {
    "reversed": X[::-1],
    "read-only": np.broadcast_to(X[:1], (4, 3)),
    "other byte order": X.astype(">f4"),
    "with a graph": torch.tensor(X, requires_grad=True) * 2,
    "not masked": np.ma.asarray(X),
    "table": PRICES[["size", "rooms"]],
    "user dict": UserDict({"a": X, "b": T}),
    "tuple as long as the rows": (T, T, T, T),
    "tuple of numbers": (1.0, 2.0, 3.0, 4.0),
}


@pytest.mark.parametrize("name", TAKEN)
def test_arrays_of_any_make_become_plain_tensors(name):
    data = tn.Data(TAKEN[name], Y)
    assert len(data) == 4
    parts = data.inputs if isinstance(data.inputs, tuple) else [data.inputs]
    parts = list(data.inputs.values()) if isinstance(data.inputs, dict) else parts
    assert all(part.dtype == torch.float32 and not part.requires_grad for part in parts)
    if name == "reversed":
        assert torch.equal(data.inputs, T.flip(0).float())


# Targets by name.


def test_columns_of_a_table_become_a_matrix_and_targets():
    data = tn.Data(PRICES, targets="price")
    assert data.inputs.tolist() == [[1.0, 1.5], [2.0, 2.0], [3.0, 2.5], [4.0, 3.0]]
    assert data.targets.tolist() == [10, 20, 30, 40]
    assert tn.Data(PRICES, targets=["price"]).targets.tolist() == [[10.0], [20.0], [30.0], [40.0]]


def test_named_targets_of_a_dict_stay_among_the_inputs_as_one_tensor():
    data = tn.Data({"a": X, "labels": np.array(Y, np.int32)}, targets="labels")
    assert data.target == data[1:3].target == data.split(0.5, 0.5)[0].target == "labels"
    assert data.inputs["labels"] is data.targets
    assert data.targets.dtype == torch.int64


LISTS = {
    "dicts": ([{"a": X[i], "labels": y} for i, y in enumerate(Y)], "labels"),
    "pairs": ([(X[i], y) for i, y in enumerate(Y)], 1),
    "tensors": (torch.utils.data.TensorDataset(T, torch.tensor(Y)), 1),
}


@pytest.mark.parametrize("name", LISTS)
def test_rows_in_memory_become_arrays(name):
    rows, targets = LISTS[name]
    data = tn.Data(rows, targets=targets)
    assert data.targets.tolist() == Y
    assert torch.equal(data.inputs["a"] if name == "dicts" else data.inputs, T.float())


def test_stream_with_named_targets_is_told_to_be_read():
    with pytest.raises(TypeError, match=r"got inputs of type generator; read it once: list\(rows\)"):
        tn.Data(({"a": row} for row in X), targets="a")


def test_digest_knows_the_names_of_the_parts():
    digests = {tn.Data({one: X, other: X + 1}, Y).digest() for one, other in ("ab", "ba")}
    assert len(digests) == 2


@pytest.mark.parametrize(("inputs", "place"), [((T, X, Y), 2), ((T, X, Y), -1), ((Y, T, X), 0)])
def test_numbered_targets_of_a_tuple_are_taken_out(inputs, place):
    data = tn.Data(inputs, targets=place)
    assert data.targets.tolist() == Y
    assert [tuple(part.shape) for part in data.inputs] == [(4, 3), (4, 3)]
    assert isinstance(tn.Data((T, Y), targets=-1).inputs, torch.Tensor)
