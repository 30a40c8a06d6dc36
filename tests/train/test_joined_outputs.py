"""Outputs of chunks joined into those of all rows: every container keeps its type, and what has no rows is named."""

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tuneflow.nested import leaves, mapped, row_count, rows_taken
from tuneflow.train.joined_outputs import joined, unjoined

Pair = namedtuple("Pair", "logits hidden")


class Output(OrderedDict):
    """A mapping whose values are attributes too, as model hubs return them."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Plain:
    logits: Any
    hidden: Any = None


@dataclass
class Counted:
    logits: Any
    calls: int = field(default=3, init=False)


class Attributes(dict):
    """A mapping that sets its attributes once, when it is created."""

    def __init__(self, **values):
        super().__init__(**values)
        self.__dict__.update(values)


class OrderedAttributes(OrderedDict):
    def __init__(self, **values):
        super().__init__(**values)
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass
class Derived:
    logits: Any

    def __post_init__(self):
        self.shares = self.logits.softmax(1)


CONTAINERS = {
    "tuple": lambda t: (t, t),
    "list": lambda t: [t, t],
    "named tuple": lambda t: Pair(t, t),
    "dict": lambda t: {"logits": t, "name": "net", "none": None},
    "mapping with attributes": lambda t: Output(logits=t),
    "default dict": lambda t: defaultdict(list, logits=t),
    "mapping with attributes set once": lambda t: Attributes(logits=t, name="net"),
    "ordered mapping with attributes set once": lambda t: OrderedAttributes(logits=t),
    "dataclass with derived values": Derived,
    "user dict": lambda t: UserDict(logits=t),
    "frozen dataclass": Plain,
    "dataclass with a field of its own": Counted,
    "namespace": lambda t: SimpleNamespace(logits=t),
    "nested": lambda t: Plain(Pair(t, [t, {"a": t}]), "text"),
}
ROWS = torch.arange(14.0).reshape(7, 2)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_joined_chunks_are_the_whole_in_a_container_of_its_own_type(kind):
    make = CONTAINERS[kind]
    parts = [make(part) for part in ROWS.split([3, 3, 1])]
    whole = joined(parts, [3, 3, 1])
    assert type(whole) is type(parts[0])
    assert repr(whole) == repr(make(ROWS))
    assert not unjoined(whole)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_mapped_and_taken_rows_keep_the_type_and_leave_the_container_alone(kind):
    make = CONTAINERS[kind]
    value = make(ROWS)
    assert repr(mapped(lambda t: t + 1, value)) == repr(make(ROWS + 1))
    assert repr(rows_taken(value, slice(2, 5), 7)) == repr(make(ROWS[2:5]))
    assert repr(value) == repr(make(ROWS))
    assert row_count(value) == 7


def images(*sizes):
    return [{"boxes": torch.full((size, 4), float(size))} for size in sizes]


@pytest.mark.parametrize("sequence", [list, tuple])
def test_one_mapping_per_row_is_a_list_of_rows(sequence):
    parts = [sequence(images(1, 2, 3)), sequence(images(4, 5))]
    whole = joined(parts, [3, 2])
    assert [len(image["boxes"]) for image in whole] == [1, 2, 3, 4, 5]
    assert type(whole) is sequence
    assert len(rows_taken(whole, slice(1, 3), 5)) == 2
    assert row_count(whole) == 5


def test_names_beside_labels_are_rows():
    parts = [(torch.tensor([0, 1]), ["a", "b"]), (torch.tensor([2]), ["c"])]
    labels, names = joined(parts, [2, 1])
    assert labels.tolist() == [0, 1, 2]
    assert names == ["a", "b", "c"]
    assert rows_taken((labels, names), slice(1, 3), 3)[1] == ["b", "c"]


def test_rows_may_stand_in_a_later_axis_as_in_the_states_of_a_recurrent_layer():
    inputs, lstm = torch.randn(7, 4, 3), nn.LSTM(3, 5, num_layers=2, batch_first=True)
    with torch.no_grad():
        outputs, (hidden, cell) = lstm(inputs)
        whole = joined([lstm(part) for part in inputs.split([5, 2])], [5, 2])
    for mine, theirs in zip(leaves(whole), (outputs, hidden, cell), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("same", [torch.tensor(2.0), torch.arange(3.0), "text", None, 5])
def test_what_is_equal_in_every_chunk_is_kept(same):
    whole = joined([(torch.ones(4), same), (torch.ones(2), same)], [4, 2])
    assert whole[1] is same


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (torch.tensor(1.0), torch.tensor(2.0), "a single number, and differs from chunk to chunk"),
        (torch.ones(4, 7), torch.ones(2, 9), r"rows of unequal shape, such as \(7,\) and \(9,\)"),
        ("text", "other", "is a str, which cannot be joined"),
        (torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 1.0), "is a Normal"),
        ({"a": torch.ones(4)}, {"b": torch.ones(2)}, "differs in structure from chunk to chunk"),
        (
            nn.utils.rnn.pack_sequence([torch.ones(2, 3)]),
            nn.utils.rnn.pack_sequence([torch.ones(2, 3)]),
            "a PackedSequence",
        ),
    ],
)
def test_what_cannot_be_joined_is_named_with_its_place_and_leaves_the_rest_joined(one, other, reason):
    whole = joined([{"logits": torch.ones(4), "odd": one}, {"logits": torch.ones(2), "odd": other}], [4, 2])
    assert len(whole["logits"]) == 6
    (place,) = unjoined(whole)
    with pytest.raises(ValueError, match=rf'outputs\["odd"\].*{reason}'):
        raise ValueError(place.reason)


@pytest.mark.parametrize("make", [Attributes, OrderedAttributes], ids=lambda make: make.__name__)
def test_attributes_of_a_mapping_are_its_items_in_every_copy(make):
    first = make(logits=ROWS[:3])
    whole = joined([first, make(logits=ROWS[3:])], [3, 4])
    assert whole.logits is whole["logits"]
    assert first.logits is first["logits"]


def test_values_that_a_dataclass_derives_are_of_all_rows():
    whole = joined([Derived(ROWS[:3]), Derived(ROWS[3:])], [3, 4])
    assert torch.equal(whole.shares, ROWS.softmax(1))
