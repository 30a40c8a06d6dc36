"""DataLoaders: what they load in an order of ours, exactly repeatable; what cannot be is refused by name."""

import pickle
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    WeightedRandomSampler,
)

import tuneflow as tn
from tests.helpers.digits_training import job
from tests.helpers.global_generators import generators_untouched
from tests.helpers.trainer_runs import facts, flat, run
from tuneflow.data.data import Data
from tuneflow.data.loaded import DatasetSource, LoaderSource
from tuneflow.data.sources import as_source

ROWS = 50
INPUTS = torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(ROWS) % 10

# Python 3.12 and later warn when a process with threads forks, as a DataLoader's workers are made.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Rows(Dataset):
    """Rows with noise from a generator, none by default."""

    def __init__(self, noise=float, inputs=INPUTS):
        self.noise, self.inputs = noise, inputs

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, row):
        return self.inputs[row] + self.noise(), CLASSES[row]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


class Own(DataLoader):
    def __iter__(self):
        return iter([])


def shifted(rows):
    """A collate function of one's own."""
    inputs, targets = zip(*rows, strict=True)
    return torch.stack(inputs) + 100, torch.stack(targets)


def torch_noise():
    return torch.rand(())


def python_noise():
    return random.random()


def numpy_noise():
    return float(np.random.rand())  # noqa: NPY002


MARK = 0.0


def marking_worker(number):
    global MARK
    MARK = 100.0


def mark():
    return MARK


def noisy_worker(number):
    """Gives each worker's NumPy the seed of its torch."""
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002


def trainer(train, valid=(INPUTS, CLASSES), **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 4, "batch_size": 16} | settings
    return tn.Trainer(train, valid, **settings)


def loader(dataset=None, **settings):
    return DataLoader(Rows() if dataset is None else dataset, **{"batch_size": 16} | settings)


@pytest.mark.parametrize("settings", [{}, {"shuffle": True}, {"drop_last": True}, {"num_workers": 2}], ids=str)
@pytest.mark.parametrize("size", [7, 50, 99])
def test_loaded_gives_the_batches_of_the_same_items(size, settings):
    order = torch.arange(ROWS).flip(0)
    for rows in (None, order):
        pairs = zip(
            LoaderSource(loader(**settings)).batches(size, rows), DatasetSource(Rows()).batches(size, rows), strict=True
        )
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def test_collate_function_is_the_loaders():
    inputs, targets = next(LoaderSource(loader(collate_fn=shifted)).batches(4))
    assert torch.equal(inputs, INPUTS[:4] + 100)
    assert torch.equal(targets, CLASSES[:4])
    inputs, _ = next(LoaderSource(loader(collate_fn=shifted)).rows([3, 1]).batches(4))
    assert torch.equal(inputs, INPUTS[[3, 1]] + 100)


def test_workers_are_set_up_as_the_loader_says():
    loaded = LoaderSource(loader(Rows(mark), num_workers=1, worker_init_fn=marking_worker))
    assert torch.equal(next(loaded.batches(4))[0], INPUTS[:4] + 100)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_in_pieces_equals_training_at_once(workers):
    settings = {"num_workers": workers, "shuffle": True, "persistent_workers": workers > 0}
    states = []
    for pieces in ((2,), (1, 2)):
        ours, state = trainer(loader(Rows(torch_noise), **settings), loader(**settings)), None
        for until in pieces:
            state, reports = run(ours, job(), until, state)
        states.append((flat(state.values), facts(reports)[-1]))
    assert states[0] == states[1]


@pytest.mark.parametrize("noise", [torch_noise, python_noise, numpy_noise])
@pytest.mark.parametrize("workers", [0, 2])
def test_random_items_obey_the_seed(noise, workers):
    ours = trainer(loader(Rows(noise), num_workers=workers, worker_init_fn=noisy_worker))
    one, again, other = (flat(run(ours, job(seed=seed), 1)[0].values) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("workers", [0, 1])
def test_noise_is_another_in_every_epoch(workers):
    noisy, seen = LoaderSource(loader(Rows(torch_noise, torch.zeros(ROWS, 1)), num_workers=workers)), []
    for epoch in (1, 2, 1):
        with job().at_work("epoch", epoch), generators_untouched() if workers else nullcontext():
            seen.append(torch.cat([inputs for inputs, _ in noisy.batches(16)]).flatten().tolist())
    assert seen[0] == seen[2] != seen[1]
    assert len(set(seen[0])) == ROWS


def test_loader_trains_as_its_dataset_does():
    loaded, _ = run(trainer(loader(num_workers=2, shuffle=True)), job(), 2)
    items, _ = run(trainer(Rows()), job(), 2)
    tensors, _ = run(trainer((INPUTS, CLASSES)), job(), 2)
    assert flat(loaded.values) == flat(items.values) == flat(tensors.values)


def test_study_takes_a_loader():
    study = tn.Study(
        model=tn.Model(lambda: nn.Linear(64, 10)),
        trainer=trainer(loader(shuffle=True), loader(batch_size=64), epochs=1),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        progress=False,
    )
    study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["DONE", "DONE"]


def test_loader_that_is_loaded_can_travel():
    loaded = pickle.loads(
        pickle.dumps(LoaderSource(loader(num_workers=2, collate_fn=shifted, generator=torch.Generator())))
    )
    assert len(loaded) == ROWS
    assert loaded.digest() == LoaderSource(loader()).digest() == "Rows, 50 items"
    assert torch.equal(next(loaded.batches(4))[0], INPUTS[:4] + 100)


# Settings that are not used are warned of, once.

WARNED = {
    "size": ({"batch_size": 8}, ["batch_size=8 is not used", "batch_size=16"]),
    "last": ({"drop_last": True}, ["drop_last=True is not used"]),
    "both": ({"batch_size": 8, "drop_last": True}, ["batch_size=8 and drop_last=True is not used"]),
}


@pytest.mark.parametrize("name", WARNED)
def test_size_of_batches_that_is_not_used_is_warned_of_once(name):
    settings, said = WARNED[name]
    with pytest.warns(UserWarning, match="is not used") as caught:
        trainer(loader(**settings))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [words for words in ["Trainer: train", *said] if words not in str(caught[0].message)] == []


def test_no_warning_where_nothing_is_lost():
    trainer(loader(batch_size=25, drop_last=True), loader(batch_size=9), batch_size=25)


REFUSED = {
    "stream": (lambda: loader(Stream()), ["an IterableDataset (Stream)", "map-style Dataset", "tn.Data"]),
    "no batches": (lambda: loader(batch_size=None), ["batch_size=None", "one row at a time"]),
    "list": (lambda: loader(sampler=[0, 1, 2]), ["sampler=list", "leave it out", "WeightedRandomSampler"]),
    "weights of other rows": (
        lambda: loader(sampler=WeightedRandomSampler(torch.ones(ROWS + 1), ROWS)),
        ["a weight for each row, got 51 for 50 rows"],
    ),
    "weights below 0": (lambda: loader(sampler=WeightedRandomSampler([-1.0] * ROWS, ROWS)), ["not below 0"]),
    "too few weights": (
        lambda: loader(sampler=WeightedRandomSampler([1.0] * 5 + [0.0] * 45, 9, replacement=False)),
        ["9 rows without replacement", "got 5; use replacement=True"],
    ),
    "batch sampler": (
        lambda: DataLoader(Rows(), batch_sampler=BatchSampler(SequentialSampler(Rows()), 16, False)),
        ["batch_sampler=BatchSampler", "leave it out"],
    ),
    "list of batches": (lambda: DataLoader(Rows(), batch_sampler=[[0, 1], [2]]), ["batch_sampler=list"]),
    "own": (lambda: Own(Rows(), batch_size=16), ["subclass Own with an __iter__", "collate_fn"]),
    "empty": (lambda: loader(Rows(inputs=INPUTS[:0])), ["Rows: needs at least one item, got 0"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_loader_that_cannot_be_replayed_is_refused_by_name(name):
    make, said = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        trainer(make())
    assert [words for words in ["Trainer: train", *said] if words not in str(caught.value)] == []


class Endless(Dataset):
    def __getitem__(self, row):
        return INPUTS[0], 0


class Triples(Rows):
    def __getitem__(self, row):
        return self.inputs[row], self.inputs[row], 0


class Bare(Rows):
    def __getitem__(self, row):
        return self.inputs[row]


def test_dataset_without_a_length_is_refused():
    with pytest.raises(ValueError, match="Endless: needs a length"):
        DatasetSource(Endless())


@pytest.mark.parametrize(("dataset", "got"), [(Triples(), "got list of 3"), (Bare(), "got Tensor")])
def test_rows_that_are_no_pairs_are_named(dataset, got):
    for source in (DatasetSource(dataset), LoaderSource(loader(dataset))):
        with pytest.raises(ValueError, match=f"a row needs to be a pair .* {got}"):
            next(source.batches(4))


def test_what_is_no_data_is_told_what_is():
    with pytest.raises(TypeError, match=r"Trainer: valid needs .*DataLoader of one, got list"):
        as_source([1, 2], "Trainer: valid")
    assert isinstance(as_source(loader(), "x"), LoaderSource)
    assert isinstance(as_source(LoaderSource(loader()), "x"), LoaderSource)
    assert isinstance(as_source((INPUTS, CLASSES), "x"), Data)
