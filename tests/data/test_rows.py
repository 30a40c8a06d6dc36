"""Rows of a Dataset: in whichever container they come, with the targets under a name or an index, and collated."""

import pickle
from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, StackDataset

import tuneflow as tn
from tuneflow.data.loaded import DatasetSource, LoaderSource
from tuneflow.data.sources import as_source

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()
Row = namedtuple("Row", "x labels")
Turned = namedtuple("Turned", "labels x")


@dataclass
class Batch:
    x: torch.Tensor
    labels: torch.Tensor


class Rows(Dataset):
    """Rows made by a function of their number."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, row):
        return self.make(row)


class Lookalike:
    """Has a length and rows, and is no Dataset of torch's."""

    def __len__(self):
        return 40

    def __getitem__(self, row):
        return {"x": X[row], "labels": Y[row]}


def a_dict(row):
    return {"x": X[row], "labels": Y[row]}


def batch_of(kind):
    """A collate function that gives its batches as objects of a kind."""
    return lambda rows: kind(x=torch.stack([x for x, _ in rows]), labels=torch.stack([y for _, y in rows]))


def pairs(row):
    return X[row], Y[row]


def loader(kind):
    return DataLoader(Rows(pairs), batch_size=8, collate_fn=batch_of(kind))


NAMED = {
    "dicts": lambda: Rows(a_dict),
    "stacked": lambda: StackDataset(x=X, labels=Y),
    "lookalike": Lookalike,
    "loader of dicts": lambda: DataLoader(Rows(a_dict), batch_size=8),
    "workers": lambda: DataLoader(Rows(a_dict), batch_size=8, num_workers=1),
    "named tuples": lambda: Rows(lambda row: Turned(Y[row], X[row])),
    "batches of dicts": lambda: loader(dict),
    "batches of user dicts": lambda: loader(lambda **parts: UserDict(parts)),
    "batches of dataclasses": lambda: loader(Batch),
    "batches of named tuples": lambda: loader(Row),
}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", NAMED)
def test_targets_are_found_by_their_name(name):
    source = tn.Data(NAMED[name](), targets="labels")
    assert len(source) == 40
    assert source.target == "labels"
    inputs, targets = next(source.batches(4, torch.tensor([5, 3])))
    assert torch.equal(targets, Y[[5, 3]])
    assert torch.equal(inputs["x"], X[[5, 3]])
    assert inputs["labels"] is targets


@pytest.mark.parametrize("place", [2, -1])
def test_targets_are_found_by_their_index(place):
    inputs, targets = next(tn.Data(Rows(lambda row: (X[row], X[row, 0], Y[row])), targets=place).batches(4))
    assert torch.equal(targets, Y[:4])
    assert [part.shape for part in inputs] == [(4, 6), (4,)]


def test_source_of_rows_is_sliced_split_and_sent():
    source = tn.Data(Rows(a_dict), targets="labels")
    assert next(source[10:12].batches(4))[1].tolist() == Y[10:12].tolist()
    assert next(source[[7, 3]].batches(4))[1].tolist() == Y[[7, 3]].tolist()
    assert len(source[torch.arange(40) < 3]) == 3
    parts = source.split(0.75, 0.25, seed=1)
    assert [len(part) for part in parts] == [30, 10]
    alike = tn.Data({"x": X, "labels": Y}, targets="labels").split(0.75, 0.25, seed=1)
    assert next(parts[1].batches(10))[1].tolist() == alike[1].targets.tolist()
    sent = pickle.loads(pickle.dumps(tn.Data(Lookalike(), targets="labels")))
    assert sent.digest() == "Lookalike, 40 items"
    assert repr(source[:3]) == "Data(Rows, 3 items, targets='labels')"
    with pytest.raises(TypeError, match=r"data\[3:4\] is one row"):
        source[3]


UNPAIRED = {
    "dicts": (Rows(a_dict), ["dict with x, labels", 'tn.Data(dataset, targets="labels")']),
    "triples": (Rows(lambda row: (X[row], X[row], Y[row])), ["got list of 3", "tn.Data(dataset, targets=-1)"]),
    "turned round": (Rows(lambda row: Turned(Y[row], X[row])), ["the fields labels, x; turn them round"]),
    "dataclasses": (loader(Batch), ["Batch with x, labels", 'targets="labels"']),
    "a tensor": (Rows(lambda row: X[row]), ["got Tensor", "return such a pair"]),
}


@pytest.mark.parametrize("name", UNPAIRED)
def test_rows_that_are_no_pairs_are_told_how_to_name_the_targets(name):
    data, words = UNPAIRED[name]
    with pytest.raises(ValueError) as caught:
        next(as_source(data, "Trainer: train", 8).batches(4))
    assert [word for word in words if word not in str(caught.value)] == []


MISNAMED = {
    "another name": ("label", ['no entry "label"', 'Did you mean "labels"?', "A row has x, labels"]),
    "a part": (5, ["targets=5 needs rows of as many parts, got dict with x, labels"]),
}


@pytest.mark.parametrize("name", MISNAMED)
def test_name_that_rows_do_not_have_is_refused(name):
    targets, words = MISNAMED[name]
    with pytest.raises(ValueError) as caught:
        next(tn.Data(Rows(a_dict), targets=targets).batches(4))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(("data", "word"), [({"x": X, "y": Y}, "tn.Data(parts,"), (Lookalike, "type")])
def test_trainer_is_told_how_to_name_targets(data, word):
    with pytest.raises(TypeError) as caught:
        as_source(data, "Trainer: train")
    assert word in str(caught.value)


# Collating.

UNLIKE = {
    "ragged": (lambda row: (X[row, : 2 + row % 3], 0), ["the shape of the inputs, (2,), (3,)", "collate_fn can pad"]),
    "ragged targets": (lambda row: (X[row], X[row, : 2 + row % 3]), ["the shape of the targets, (2,), (3,)"]),
    "ragged entry": (lambda row: ({"ids": X[row, : 2 + row % 3]}, 0), ['the shape of entry "ids"']),
    "None": (lambda row: None if row == 1 else (X[row], 0), ["a row is None, first in row 1", "leave such rows out"]),
    "None inside": (lambda row: (X[row], None if row == 2 else 0), ["the targets is None, first in row 2"]),
    "lengths": (lambda row: ((X[row],) * (1 + row % 2), 0), ["the length of the inputs, 1 and 2"]),
    "entries": (lambda row: ({"ab"[row % 2]: X[row]}, 0), ["different entries, a and b"]),
    "kinds": (lambda row: (X[row] if row % 2 else 0.0, 0), ["the kind of the inputs, Tensor, float"]),
    "objects": (lambda row: (object(), 0), ["the inputs is a object", "tensors, arrays and numbers"]),
    "lists of numbers": (lambda row: ([1, 2, 3], 0), ["the inputs of a row is a list of numbers", "torch.tensor"]),
    "lists in a dict": (lambda row: ({"ids": [1, 2]}, 0), ['entry "ids" of a row is a list of numbers']),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_rows_that_cannot_be_collated_are_told_why(name):
    make, words = UNLIKE[name]
    for source in (DatasetSource(Rows(make)), LoaderSource(DataLoader(Rows(make), batch_size=8))):
        with pytest.raises(ValueError) as caught:
            next(source.batches(8))
        assert [word for word in ["Rows: ", *words] if word not in str(caught.value)] == []


def study(data, build, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 1, "batch_size": 8} | settings
    return tn.Study(
        model=tn.Model(build, normalize=False),
        trainer=tn.Trainer(data, data, **settings),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        progress=False,
    )


def test_ragged_dataset_is_refused_before_trial_0():
    with pytest.raises(ValueError, match="rows differ in the shape of the inputs"):
        study(Rows(UNLIKE["ragged"][0]), lambda: nn.Linear(6, 2))


# The model's side of named targets.


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 2)


class WithoutLabels(Classifier):
    def forward(self, x):
        return self.out(x)


class AnyNames(Classifier):
    """Would learn from the labels, if it got them."""

    def forward(self, **parts):
        assert list(parts) == ["x"]
        return self.out(parts["x"])


class TheWhole(Classifier):
    def forward(self, batch):
        assert list(batch) == ["x"]
        return self.out(batch["x"])


class WithLoss(Classifier):
    """Computes its own loss where it is given labels, as models of transformers do."""

    def forward(self, x=None, labels=None):
        logits = self.out(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def own_loss(outputs, targets):
    return outputs["loss"]


KINDS = {"arrays": lambda: {"x": X, "labels": Y}, "dataset": lambda: Rows(a_dict), "loader": NAMED["loader of dicts"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [WithoutLabels, AnyNames, TheWhole, lambda: nn.Linear(6, 2)])
def test_targets_are_kept_from_a_forward_that_does_not_name_them(kind, build):
    one = study(tn.Data(KINDS[kind](), targets="labels"), build)
    one.run(trials=1)
    assert one.trials[0].status == "DONE", one.trials[0].reason


@pytest.mark.parametrize("kind", KINDS)
def test_forward_that_names_the_targets_computes_its_own_loss(kind):
    data = tn.Data(KINDS[kind](), targets="labels")
    one = study(data, WithLoss, loss=own_loss)
    other = study((X, Y), lambda: nn.Linear(6, 2))
    for each in (one, other):
        each.run(trials=1)
    assert one.trials[0].status == "DONE", one.trials[0].reason
    assert one.best.metrics == pytest.approx(other.best.metrics, rel=1e-5)
    assert one.best.model()({"x": X})["loss"] is None
    assert one.best.model()(x=X)["logits"].shape == (40, 2)
