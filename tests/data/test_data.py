"""Data: rows in, the same rows out; and the real sets of images."""

import gzip
import struct
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import tuneflow as tn
from tests.helpers import space_strategies as some
from tests.helpers.global_generators import generators_untouched
from tests.helpers.space_strategies import laws
from tuneflow.data import data as module
from tuneflow.data.data import Data
from tuneflow.data.datasets import FASHION_FOLDER, fashion_mnist, read_idx
from tuneflow.data.loaded import DatasetSource
from tuneflow.data.sources import as_source

Pair = namedtuple("Pair", ["left", "right"])


def rows_of(n, kind="tensor"):
    """Data of n rows of which row i holds the number i everywhere."""
    numbers = torch.arange(n)
    wide = numbers[:, None].float().expand(n, 3).contiguous()
    inputs = {"tensor": wide, "tuple": (wide, numbers), "dict": {"a": wide, "b": numbers}, "list": [wide, numbers]}[
        kind
    ]
    return Data(inputs, numbers)


kinds = st.sampled_from(["tensor", "tuple", "dict", "list"])


def numbers_in(inputs):
    """The row numbers that inputs of `rows_of` hold, each leaf checked to hold the same."""
    leaves = (
        list(inputs.values()) if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple | list) else [inputs]
    )
    found = [leaf.reshape(len(leaf), -1)[:, 0].long().tolist() for leaf in leaves]
    assert all(numbers == found[0] for numbers in found)
    return found[0]


# Laws.


@laws
@given(st.integers(1, 20), st.integers(1, 25), kinds, st.data())
def test_batches_are_plain_indexing(n, size, kind, data):
    order = data.draw(st.none() | st.lists(st.integers(0, n - 1), min_size=1, max_size=30))
    wanted = list(range(n)) if order is None else order
    batches = list(rows_of(n, kind).batches(size, None if order is None else torch.tensor(order)))
    assert [numbers_in(inputs) for inputs, _ in batches] == [wanted[i : i + size] for i in range(0, len(wanted), size)]
    assert [targets.tolist() for _, targets in batches] == [numbers_in(inputs) for inputs, _ in batches]


@laws
@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 200), kinds)
def test_batches_do_not_depend_on_how_many_rows_are_gathered_at_once(n, size, block, kind):
    data, order = rows_of(n, kind), torch.arange(n).flip(0)
    whole = [numbers_in(inputs) for inputs, _ in data.batches(size, order)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert [numbers_in(inputs) for inputs, _ in data.batches(size, order)] == whole


@laws
@given(st.integers(1, 20), kinds, st.data())
def test_rows_are_taken_as_by_an_array(n, kind, data):
    forwards = st.slices(n).filter(lambda rows: (rows.step or 1) > 0)  # as torch has them
    numbers = st.lists(st.integers(-n, n - 1), min_size=1)
    rows = data.draw(forwards | numbers | st.lists(st.booleans(), min_size=n, max_size=n))
    wanted = np.arange(n)[rows].tolist()
    assume(wanted)
    assert numbers_in(rows_of(n, kind)[rows].inputs) == wanted
    assert rows_of(n, kind)[rows].targets.tolist() == wanted


@laws
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), some.seeds, kinds)
def test_parts_of_a_split_hold_every_row_once(sizes, seed, kind):
    n = sum(sizes)
    parts = rows_of(n, kind).split(*(size / n for size in sizes), seed=seed)
    assert [len(part) for part in parts] == sizes
    assert sorted(number for part in parts for number in numbers_in(part.inputs)) == list(range(n))
    assert all(numbers_in(part.inputs) == part.targets.tolist() for part in parts)


def test_split_obeys_its_seed_and_touches_no_global_generator():
    with generators_untouched():
        orders = [[part.targets.tolist() for part in rows_of(50).split(0.6, 0.4, seed=seed)] for seed in (0, 0, 1, -1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3]


def test_shares_below_one_leave_rows_out():
    parts = rows_of(10).split(0.5, 0.2)
    assert [len(part) for part in parts] == [5, 2]
    assert not set(parts[0].targets.tolist()) & set(parts[1].targets.tolist())


class Numbers(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data.inputs[i], self.data.targets[i]


@laws
@given(st.integers(1, 20), st.integers(1, 25), st.booleans())
def test_items_give_the_batches_of_the_same_data(n, size, shuffled):
    data, order = rows_of(n), torch.arange(n).roll(n // 2).flip(0) if shuffled else None
    pairs = zip(data.batches(size, order), DatasetSource(Numbers(data)).batches(size, order), strict=True)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


# Digests.


@laws
@given(st.integers(0, 11), st.integers(0, 3))
def test_digest_changes_with_any_value(place, row):
    data = Data(torch.arange(12.0).reshape(4, 3), torch.arange(4))
    inputs, targets = data.inputs.clone(), data.targets.clone()
    inputs.view(-1)[place] += 1e-3
    targets[row] += 1
    digests = {data.digest(), Data(inputs, data.targets).digest(), Data(data.inputs, targets).digest()}
    assert len(digests) == 3


def test_digest_changes_with_dtype_and_shape():
    zeros = torch.zeros(4, 6)
    shapes = [
        zeros,
        zeros.int(),
        zeros.byte(),
        zeros.bool(),
        zeros.reshape(4, 2, 3),
        zeros.reshape(4, 3, 2),
        zeros[:, :5],
    ]
    made = [Data(inputs, torch.zeros(4)) for inputs in [*shapes, (zeros, zeros)]] + [Data(zeros, torch.zeros(4).long())]
    assert len({data.digest() for data in made}) == len(made)


def test_digest_is_of_values_and_not_of_memory():
    values = torch.arange(12.0).reshape(3, 4)
    assert Data(values.t(), [0, 1, 2, 3]).digest() == Data(values.t().contiguous(), np.arange(4)).digest()
    assert Data(values[:2], [0, 1]).digest() == Data(values, [0, 1, 2])[:2].digest()


# What comes in, and what is refused.


def test_floats_take_the_default_dtype_and_integers_stay():
    for kind in (np.float16, np.float32, np.float64):
        assert Data(np.zeros((2, 3), kind), [0, 1]).inputs.dtype == torch.float32
    for kind in (torch.uint8, torch.int32, torch.int64, torch.bool):
        assert Data(torch.zeros(2, 3, dtype=kind), [0, 1]).inputs.dtype == kind


def test_targets_of_whole_numbers_become_int64():
    for kind in (np.uint8, np.int32, np.int64):
        assert Data(np.zeros(2), np.zeros(2, kind)).targets.dtype == torch.int64
    assert Data(np.zeros(2), np.zeros(2)).targets.dtype == torch.float32
    assert Data(np.zeros(2), np.zeros(2, bool)).targets.dtype == torch.bool


def test_named_pairs_of_inputs_stay_named():
    data = Data(Pair(torch.zeros(3, 2), torch.ones(3)), torch.arange(3))
    assert isinstance(data.inputs, Pair)
    assert next(iter(data.batches(2)))[0].left.shape == (2, 2)


def test_repr_shows_shapes():
    assert repr(rows_of(4)) == "Data((4, 3) float32 -> (4,) int64)"
    assert repr(rows_of(4, "dict")) == "Data({'a': (4, 3), 'b': (4,)} -> (4,) int64)"


def test_bytes_are_those_of_every_tensor():
    assert rows_of(4, "tuple").nbytes == 4 * 3 * 4 + 4 * 8 + 4 * 8


BAD = [
    (lambda: Data(torch.zeros(3, 2), torch.zeros(4)), ValueError, ["same number of rows", "3 and 4"]),
    (lambda: Data((torch.zeros(3), torch.zeros(4)), torch.zeros(4)), ValueError, ["same number of rows", "3, 4 and 4"]),
    (lambda: Data(torch.zeros(0, 2), torch.zeros(0)), ValueError, ["at least one row", "0"]),
    (lambda: rows_of(4)[[]], ValueError, ["at least one row", "0"]),
    (lambda: rows_of(4)[4:], ValueError, ["at least one row", "0"]),
    (lambda: rows_of(4)[2], TypeError, ["slice or a list", "got 2", "data[2:3]"]),
    (lambda: rows_of(4)[np.int64(2)], TypeError, ["slice or a list", "2"]),
    (lambda: rows_of(4).split(), ValueError, ["shares", "()"]),
    (lambda: rows_of(4).split(0.9, 0.2), ValueError, ["shares", "at most 1", "(0.9, 0.2)"]),
    (lambda: rows_of(4).split(0.0, 1.0), ValueError, ["shares", "above 0", "(0.0, 1.0)"]),
    (lambda: rows_of(4).split(1.5, -0.5), ValueError, ["shares", "above 0", "(1.5, -0.5)"]),
    (lambda: rows_of(4).split(0.01, 0.99), ValueError, ["at least one row"]),
    (lambda: DatasetSource(Numbers([])), ValueError, ["Numbers", "at least one item"]),
]


@pytest.mark.parametrize(("make", "error", "pieces"), BAD, ids=[" ".join(row[-1]) for row in BAD])
def test_bad_data_is_refused_with_what_was_got(make, error, pieces):
    with pytest.raises(error) as caught:
        make()
    assert all(piece in str(caught.value) for piece in pieces), caught.value


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def test_source_is_data_a_pair_or_a_map_style_dataset():
    data = rows_of(4)
    assert as_source(data, "here") is data
    for pair in ((data.inputs, data.targets), TensorDataset(data.inputs, data.targets)):
        assert as_source(pair, "here").digest() == data.digest()
    assert as_source(Numbers(data), "here").digest() == "Numbers, 4 items"


@pytest.mark.parametrize(
    "data", [Stream(), [1, 2], torch.zeros(3), (1, 2, 3), None], ids=lambda data: type(data).__name__
)
def test_source_of_another_kind_is_named(data):
    with pytest.raises(TypeError) as caught:
        as_source(data, "Trainer: train")
    message = str(caught.value)
    assert message.startswith("Trainer: train needs a tn.Data")
    assert f"got {type(data).__name__}" in message


# Digits.


def test_digits_are_float_images_of_every_class():
    train, valid, test = tn.data.digits()
    assert [len(part) for part in (train, valid, test)] == [1077, 360, 360]
    for part in (train, valid, test):
        assert part.inputs.dtype == torch.float32
        assert part.inputs.shape[1:] == (1, 8, 8)
        assert (part.inputs.min(), part.inputs.max()) == (0, 16)
        assert part.targets.dtype == torch.int64
        assert part.targets.bincount().shape == (10,)
        assert part.targets.bincount().min() >= len(part) // 15


def test_parts_of_digits_hold_every_image_once():
    with np.load(Path(tn.__file__).parent / "_digits/digits.npz") as stored:
        wanted = np.column_stack([stored["inputs"], stored["targets"]])
    parts = [np.column_stack([part.inputs.flatten(1), part.targets]) for part in tn.data.digits()]
    assert sorted(np.concatenate(parts).tolist()) == sorted(wanted.tolist())


def test_digits_are_the_same_parts_for_ever():
    """Golden digests of tuneflow 0.1: scores on other parts could not be compared with published ones."""
    with generators_untouched():
        assert [part.digest() for part in tn.data.digits()] == [
            "9d98b96efea97b39",
            "1d331a760344115b",
            "10c70285aa1e9593",
        ]


# Fashion-MNIST, from files of its format.


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("t10k", 5)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


@laws
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 1000))
def test_idx_file_is_read_as_it_was_written(tmp_path_factory, shape, seed):
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    write_idx(path, array)
    again = read_idx(path)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, array)
    assert again.flags.writeable


def test_fashion_mnist_has_the_rows_of_its_files_once(folder):
    train, valid, test = fashion_mnist(folder, valid=4)
    assert [len(part) for part in (train, valid, test)] == [8, 4, 5]
    images = read_idx(folder / "train-images-idx3-ubyte.gz").reshape(12, -1)
    got = torch.cat([train.inputs, valid.inputs]).flatten(1).numpy()
    assert sorted(got.tolist()) == sorted(images.tolist())
    for part in (train, valid):
        rows = [images.tolist().index(image.flatten().tolist()) for image in part.inputs]
        assert [row % 10 for row in rows] == part.targets.tolist()
    assert test.targets.tolist() == [0, 1, 2, 3, 4]


def test_fashion_mnist_has_byte_images_and_class_numbers(folder):
    for part in fashion_mnist(str(folder), valid=4):
        assert part.inputs.dtype == torch.uint8
        assert part.inputs.shape[1:] == (1, 28, 28)
        assert part.targets.dtype == torch.int64


def test_fashion_mnist_is_split_alike_every_time(folder):
    with generators_untouched():
        first = [part.digest() for part in fashion_mnist(folder, valid=4)]
    assert [part.digest() for part in fashion_mnist(folder, valid=4)] == first


@pytest.mark.parametrize("valid", [0, 12, -1, 99])
def test_fashion_mnist_refuses_a_validation_part_that_does_not_fit(folder, valid):
    with pytest.raises(ValueError, match=f"valid needs to be from 1 to 11, got {valid}"):
        fashion_mnist(folder, valid=valid)


def test_missing_files_are_named_with_where_to_get_them(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(folder)
    message = str(caught.value)
    assert all(piece in message for piece in [str(folder), "t10k-labels-idx1-ubyte.gz", "dataset-fashion-mnist"])
    assert "train" not in message.replace(str(folder), "")


def header(*numbers):
    return struct.pack(">HBBI", *numbers)


TORN = {
    "not zipped": b"hello",
    "empty": gzip.compress(b""),
    "short header": gzip.compress(b"\0\0"),
    "other kind": gzip.compress(header(0, 13, 1, 3) + bytes(12)),
    "rows missing": gzip.compress(header(0, 8, 1, 9) + bytes(3)),
    "cut off": gzip.compress(header(0, 8, 1, 9) + bytes(range(9)))[:-12],
}


@pytest.mark.parametrize("content", TORN.values(), ids=TORN.keys())
def test_damaged_idx_file_is_named(tmp_path, content):
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"damaged\.gz"):
        read_idx(path)


@pytest.mark.skipif(not Path(FASHION_FOLDER).is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_real_fashion_mnist_is_the_published_one():
    train, valid, test = fashion_mnist()
    assert [len(part) for part in (train, valid, test)] == [50_000, 10_000, 10_000]
    assert (train.targets.bincount() + valid.targets.bincount()).tolist() == [6000] * 10
    assert test.targets.bincount().tolist() == [1000] * 10
    pixels = torch.cat([train.inputs, valid.inputs]).float() / 255
    assert (round(pixels.mean().item(), 3), round(pixels.std().item(), 3)) == (0.286, 0.353)  # as its users quote them
