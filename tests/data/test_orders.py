"""Orders: torch's samplers as draws from a generator of ours, with the same weights, rows and replacement."""

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import tuneflow as tn
from tests.helpers.digits_training import job
from tests.helpers.global_generators import generators_untouched
from tests.helpers.trainer_runs import facts, flat, run
from tuneflow.data.loaded import LoaderSource
from tuneflow.data.orders import Drawn, Shuffled, Weighted

ROWS = 50
INPUTS = torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(0))
RARE = torch.arange(ROWS) < 5
WEIGHTS = torch.where(RARE, 9.0, 1.0)


class Rows(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        return INPUTS[row], row % 10


def loader(sampler=None, **settings):
    return DataLoader(Rows(), batch_size=16, sampler=sampler, **settings)


SAMPLERS = {
    "weighted": (WeightedRandomSampler(WEIGHTS, 30), 30),
    "weighted, each once": (WeightedRandomSampler(WEIGHTS, 30, replacement=False), 30),
    "weighted, more than the rows": (WeightedRandomSampler(WEIGHTS, 90), 90),
    "weights of some": (WeightedRandomSampler([1.0] * 10, 30), 30),
    "subset": (SubsetRandomSampler([3, 1, 40]), 3),
    "replaced": (RandomSampler(Rows(), replacement=True), 50),
    "some": (RandomSampler(Rows(), num_samples=20), 20),
    "more than all": (RandomSampler(Rows(), num_samples=70), 70),
    "all": (RandomSampler(Rows()), 50),
    "in order": (SequentialSampler(Rows()), 50),
}


def drawn(source, seed=0):
    order = source.order.draw(torch.Generator().manual_seed(seed))
    return [int(targets) for targets in torch.cat([t for _, t in source.batches(16, order)])], order


@pytest.mark.parametrize("name", SAMPLERS)
def test_epoch_has_the_rows_of_the_sampler_and_draws_by_our_generator(name):
    sampler, rows = SAMPLERS[name]
    source = LoaderSource(loader(sampler))
    with generators_untouched():
        one, again, other = (drawn(source, seed)[1].tolist() for seed in (0, 0, 1))
    assert len(one) == rows == source.order.rows
    assert one == again
    assert one != other
    if isinstance(sampler, SubsetRandomSampler):
        assert sorted(drawn(source)[0]) == [0, 1, 3]


@pytest.mark.parametrize(("replacement", "rows"), [(True, 20_000), (False, 10)])
def test_rows_come_as_often_as_with_torch(replacement, rows):
    """Counts of the rare rows over many epochs, within 5 standard errors; false alarms: less than 1 in a million."""
    sampler = WeightedRandomSampler(WEIGHTS, rows, replacement)
    ours, theirs = [], []
    torch.manual_seed(0)
    for seed in range(1 if replacement else 400):
        ours += drawn(LoaderSource(loader(sampler)), seed)[1].tolist()
        theirs += list(sampler)
    shares = [RARE[torch.tensor(rows)].double().mean() for rows in (ours, theirs)]
    assert abs(shares[0] - shares[1]) < 5 * (2 * 0.25 / len(ours)) ** 0.5
    if not replacement:
        assert all(len(set(ours[i : i + rows])) == rows for i in range(0, len(ours), rows))


def test_drawn_without_replacement_takes_every_row_before_any_comes_again():
    numbers = Drawn(5, 12, False).draw(torch.Generator().manual_seed(0)).tolist()
    assert sorted(numbers[:5]) == sorted(numbers[5:10]) == list(range(5))


PARTS = {
    "weighted": (Weighted(WEIGHTS.double(), 100, True), 10),
    "each once": (Weighted(WEIGHTS.double(), 50, False), 5),
    "drawn": (Drawn(ROWS, 20, True), 2),
    "shuffled": (Shuffled(ROWS), 5),
}


@pytest.mark.parametrize("name", PARTS)
def test_order_of_a_part_draws_from_it_alone(name):
    order, rows = PARTS[name]
    part = order.part([1, 3, 7, 20, 30])
    numbers = part.draw(torch.Generator().manual_seed(0))
    assert len(numbers) == part.rows == rows
    assert set(numbers.tolist()) <= set(range(5))


def test_part_of_a_loader_keeps_its_weights():
    part = LoaderSource(loader(WeightedRandomSampler(WEIGHTS, 1000)))[[0, 10, 20]]
    counts = torch.bincount(drawn(part)[1], minlength=3)
    assert counts.sum() == 60
    assert counts[0] > counts[1] + counts[2]


# Training.


def trainer(sampler, valid=None, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return tn.Trainer(loader(sampler), (INPUTS, torch.arange(ROWS) % 10) if valid is None else valid, **settings)


@pytest.mark.parametrize("name", ["weighted", "weighted, more than the rows", "subset", "some"])
def test_training_in_pieces_equals_training_at_once(name):
    sampler, rows = SAMPLERS[name]
    one, state = trainer(sampler), None
    whole, reports = run(one, job(), 2)
    for until in (1, 2):
        state, last = run(trainer(sampler), job(), until, state)
    assert flat(state.values) == flat(whole.values)
    assert facts(last) == facts(reports)[1:]
    session = one.configured(job().config).session(job())
    assert session.steps == -(-rows // 16)
    assert sum(len(targets) for _, targets in session.batches(1)) == rows


def test_training_loss_is_the_mean_over_the_rows_drawn():
    """A learning rate of 0: the loss of each row stays what it was."""
    ours, this = (
        trainer(SAMPLERS["weighted, more than the rows"][0]),
        job({"optimizer": {"lr": 0.0}}, lambda: nn.Linear(64, 10)),
    )
    state, (report, *_) = run(ours, this, 1)
    order = this.order(1, ours.train.order)
    losses = nn.CrossEntropyLoss(reduction="none")(ours.module(this, state)(INPUTS[order]), order % 10)
    assert report.metrics["train_loss"] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_other_weights_make_another_fingerprint():
    digests = {trainer(WeightedRandomSampler(WEIGHTS * w + 1, 30)).describe()["data"]["train"] for w in (0, 1)}
    assert len(digests) == 2


# Evaluation.


def test_evaluation_takes_the_rows_of_a_subset_in_their_order():
    ours = trainer(None, valid=loader(SubsetRandomSampler([3, 1, 40])))
    assert [targets.tolist() for _, targets in ours.valid.batches(16)] == [[3, 1, 0]]


@pytest.mark.parametrize("name", ["weighted", "replaced", "some"])
def test_evaluation_on_drawn_rows_is_refused(name):
    for valid in (loader(SAMPLERS[name][0]), tn.Data(loader(SAMPLERS[name][0]), targets=1)):
        with pytest.raises(ValueError, match=r"Trainer: valid: .*every row once, got a sampler .*training loader"):
            trainer(None, valid=valid)
