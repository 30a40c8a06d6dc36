"""Folds of a Trainer: which rows, checked; each fold trained and scaled by its own rows; the mean and its error."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

import tuneflow as tn
from tests.helpers.counting_runtime import Counting
from tests.helpers.trainer_runs import facts, run, run_with_reason, through_file
from tuneflow.data.data_view import DataView
from tuneflow.data.folds import classes_of, folds_of
from tuneflow.data.orders import Shuffled
from tuneflow.data.sources import as_source
from tuneflow.errors import Diverged
from tuneflow.train.loop_state import differences
from tuneflow.train.repeated import Repeated, repeated

ROWS = 60
INPUTS = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(ROWS) % 7 % 3  # 27 of class 0, 17 of class 1, 16 of class 2
SETTINGS = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16}


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def regressor():
    return nn.Linear(4, 1)


def trainer(data=(INPUTS, CLASSES), folds=3, **settings):
    return tn.Trainer(data, folds=folds, **SETTINGS | settings)


def job(builder=net, **settings):
    return tn.types.Job(tn.Model(builder), {"optimizer": {"lr": 0.1, "momentum": 0.9}}, tn.Runtime("cpu"), **settings)


def numbers(pairs):
    return [(train.tolist(), valid.tolist()) for train, valid in pairs]


class Rows(Dataset):
    """Rows one by one; `targets` are at hand, as in torchvision."""

    def __init__(self, inputs=INPUTS, targets=CLASSES):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, number):
        return self.inputs[number], self.targets[number]


class Table(Dataset):
    """Rows as dicts, and columns by name, as a Dataset of Hugging Face has them."""

    column_names = ("x", "kind")

    def __len__(self):
        return ROWS

    def __getitem__(self, key):
        return CLASSES.tolist() if key == "kind" else {"x": INPUTS[key], "kind": CLASSES[key]}


# Which rows.


@pytest.mark.parametrize("count", [2, 3, 7, 60])
@pytest.mark.parametrize("targets", [CLASSES, CLASSES.bool(), CLASSES.bool().float()[:, None], torch.randn(ROWS)])
def test_every_row_is_validated_on_once_and_the_parts_differ_by_one_row_at_most(count, targets):
    folds = folds_of(count, tn.Data(INPUTS, targets))
    assert sorted(torch.cat([valid for _, valid in folds.pairs]).tolist()) == list(range(ROWS))
    sizes = [len(valid) for _, valid in folds.pairs]
    assert max(sizes) - min(sizes) <= 1
    assert all(sorted([*train.tolist(), *valid.tolist()]) == list(range(ROWS)) for train, valid in folds.pairs)


@pytest.mark.parametrize("kind", ["data", "pair", "dataset", "subset", "loader", "table", "floats"])
def test_every_fold_has_as_many_rows_of_a_class_but_for_one(kind):
    sources = {
        "data": tn.Data(INPUTS, CLASSES),
        "pair": (INPUTS, CLASSES),
        "dataset": Rows(),
        "subset": Subset(Rows(torch.cat([INPUTS, INPUTS]), torch.cat([CLASSES + 1, CLASSES])), range(ROWS, 2 * ROWS)),
        "loader": DataLoader(Rows(targets=CLASSES.tolist()), batch_size=7),
        "table": tn.Data(Table(), targets="kind"),
        "floats": (INPUTS, (CLASSES == 1).float()),
    }
    source = as_source(sources[kind], "rows")
    classes = classes_of(source)
    assert torch.equal(classes, (CLASSES == 1).long() if kind == "floats" else CLASSES)
    counts = torch.stack([torch.bincount(classes[valid]) for _, valid in folds_of(4, source).pairs])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1


@pytest.mark.parametrize("targets", [torch.randn(ROWS), torch.zeros(ROWS, 2), (CLASSES, CLASSES), torch.randn(ROWS, 1)])
def test_targets_that_are_no_classes_are_divided_at_random(targets):
    assert classes_of(tn.Data(INPUTS, targets)) is None
    (_, first), *_ = folds_of(3, tn.Data(INPUTS, targets)).pairs
    assert first.tolist() != list(range(20))


def test_the_division_depends_on_number_and_targets_only():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = folds_of(3, tn.Data(INPUTS, CLASSES))
    again = folds_of(3, tn.Data(torch.zeros(ROWS, 1), CLASSES))
    assert numbers(first.pairs) == numbers(again.pairs)
    assert first.describe() == again.describe() != folds_of(4, tn.Data(INPUTS, CLASSES)).describe()


HALVES = ([*range(30)], [*range(30, 60)])


@pytest.mark.parametrize(
    "pairs",
    [
        [HALVES, HALVES[::-1]],
        (pair for pair in [HALVES, HALVES[::-1]]),
        np.array([HALVES, HALVES[::-1]]),
        [(np.arange(ROWS) < 30, np.arange(ROWS) >= 30), (torch.arange(ROWS) >= 30, torch.arange(ROWS) < 30)],
        [(slice(30), slice(30, None)), (range(30, 60), torch.arange(30, dtype=torch.int32))],
    ],
)
def test_pairs_are_row_numbers_masks_or_slices_of_any_kind(pairs):
    assert numbers(folds_of(pairs, tn.Data(INPUTS, CLASSES)).pairs) == [HALVES, HALVES[::-1]]


@pytest.mark.parametrize(
    ("folds", "error", "words"),
    [
        (1, ValueError, "folds needs to be a whole number >= 2, got 1"),
        (True, ValueError, "folds needs to be a whole number >= 2, got True"),
        (61, ValueError, "folds=61 needs at least as many rows, got 60 rows"),
        ("5", TypeError, "a number or .* pairs of row numbers, got '5'"),
        (2.5, TypeError, "a number or .* pairs of row numbers, got 2.5"),
        ([HALVES], ValueError, r"at least 2 pairs, got 1; a single split is Trainer\(data\[train\], data\[valid\]\)"),
        ([1, 2], TypeError, "fold 0 needs a pair .* got int"),
        ([HALVES, ([0, 1], [1, 2])], ValueError, "fold 1: .* got 1 row on both sides, the first is row 1"),
        ([HALVES, ([0], [60])], ValueError, "fold 1, valid rows: there are rows 0 to 59, got 60"),
        ([([-1], [0]), HALVES], ValueError, "fold 0, train rows: there are rows 0 to 59, got -1"),
        ([HALVES, ([0], [])], ValueError, "fold 1, valid rows: needs at least one row, got none"),
        ([HALVES, (np.zeros(ROWS, bool), [1])], ValueError, "fold 1, train rows: needs at least one row, got none"),
        ([HALVES, (np.ones(5, bool), [1])], ValueError, "a mask needs one value for each of 60 rows, got 5"),
        ([HALVES, ([0.5], [1])], TypeError, "row numbers need to be whole numbers, got float64"),
        ([HALVES, ([[0]], [1])], TypeError, "needs a flat list of row numbers or a mask, got list"),
        ([HALVES, ([[0], [1, 2]], [1])], TypeError, "needs a flat list of row numbers or a mask, got list"),
    ],
)
def test_folds_that_are_none_are_refused_in_words(folds, error, words):
    with pytest.raises(error, match=words):
        trainer(folds=folds)


def test_a_splitter_is_asked_for_its_pairs():
    class Splitter:
        def split(self, inputs, targets):
            yield from [HALVES, HALVES[::-1]]

    with pytest.raises(TypeError, match=r"give it the data: list\(folds.split\(inputs, targets\)\)"):
        trainer(folds=Splitter())
    assert trainer(folds=Splitter().split(INPUTS, CLASSES)).folds == 2


@pytest.mark.parametrize("parts", [{}, {"valid": (INPUTS, CLASSES), "folds": 3}])
def test_a_trainer_has_either_valid_or_folds(parts):
    with pytest.raises(TypeError, match=r"needs either valid, .* or folds, .* got (neither|both)"):
        tn.Trainer((INPUTS, CLASSES), **parts, **SETTINGS)


# A view of rows.


@pytest.mark.parametrize("inputs", [INPUTS, {"a": INPUTS, "b": (INPUTS[:, 0], INPUTS)}])
def test_a_view_is_the_data_of_its_rows(inputs):
    data, rows = tn.Data(inputs, CLASSES), torch.tensor([4, 1, 7, 9, 30])
    view, copy, order = DataView(data, rows), data[rows], torch.tensor([3, 0, 0, 2])
    assert (len(view), view.nbytes, view.digest(), repr(view)) == (5, copy.nbytes, copy.digest(), repr(copy))
    for ours, theirs in ((view.batches(2), copy.batches(2)), (view.batches(3, order), copy.batches(3, order))):
        assert differences(list(ours), list(theirs)) == []
    assert (
        view[1:3].digest()
        == view[[1, 2]].digest()
        == view[np.array([0, 1, 1, 0, 0], bool)].digest()
        == copy[1:3].digest()
    )


# Training.


def on_rows(fold):
    """A trainer of the same rows by hand."""
    data = tn.Data(INPUTS, CLASSES)
    train, valid = folds_of(3, data).pairs[fold]
    return tn.Trainer(data[train], data[valid], **SETTINGS)


def test_a_fold_is_a_trainer_of_its_rows():
    ours = trainer()
    for fold in range(3):
        this = job(fold=fold)
        assert facts(run(ours, this)[1]) == facts(run(on_rows(fold), this)[1])


def test_the_score_is_the_mean_over_the_folds_and_its_error():
    _, reports = run(repeated(trainer(), 1), job())
    alone = [run(on_rows(fold), job(fold=fold))[1] for fold in range(3)]
    for epoch, report in enumerate(reports):
        losses = np.array([reports[epoch].metrics["loss"] for reports in alone])
        assert report.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-12)
        assert report.errors["loss"] == pytest.approx(losses.std(ddof=1) / 3**0.5, rel=1e-12)


def test_the_error_of_replicas_on_folds_is_that_of_the_folds():
    ours = Repeated(trainer(), 2)
    state, (report,) = run(ours, job(), 1)
    jobs = ours.jobs(job())
    assert [(each.replica, each.fold) for each in jobs] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    losses = np.array([run(trainer(), each, 1)[1][0].metrics["loss"] for each in jobs]).reshape(2, 3)
    assert report.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert report.errors["loss"] == pytest.approx(losses.mean(0).std(ddof=1) / 3**0.5, rel=1e-12)
    assert len(ours.modules(job(), state)) == 6


def test_folds_in_pieces_equal_folds_at_once():
    ours, this = repeated(trainer(schedule=tn.rates.OneCycle()), 1), job()
    whole, reports, _ = run_with_reason(ours, this, 2)
    state, first, _ = run_with_reason(ours, this, 1)
    state, second, _ = run_with_reason(pickle.loads(pickle.dumps(ours)), this, 2, through_file(state))
    assert facts([*first, *second]) == facts(reports)
    assert differences(state.values, whole.values) == []


def test_folds_and_replicas_have_seeds_of_their_own():
    jobs = [job(), job(fold=0), job(fold=1), job(replica=1), job(replica=1, fold=1), job(trial=1), job(trial=1, fold=1)]
    assert len({each.key for each in jobs}) == len(jobs)
    assert len({tuple(each.order(1, Shuffled(20)).tolist()) for each in jobs}) == len(jobs)
    assert replace(job(fold=1), config={}).key == job(fold=1).key


class Spy(nn.Module):
    """A linear map that notes which rows it sees in training, by their first column."""

    seen: set[float] = set()

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        if self.training:
            Spy.seen.update(x[:, 0].tolist())
        return self.linear(x)


@pytest.mark.parametrize(
    "source", [tn.Data, lambda *pair: Rows(*pair), lambda *pair: DataLoader(Rows(*pair), batch_size=16)]
)
def test_nothing_is_fitted_to_the_validation_rows_of_a_fold(source):
    targets = 50 + 10 * INPUTS.sum(1, keepdim=True)
    alone = [9.0 + 3 * INPUTS, targets]
    settings = {"loss": nn.MSELoss(), "folds": [HALVES, HALVES[::-1]], "epochs": 1}
    expected = []
    for spoiled in (False, True):
        inputs, wanted = (part.clone() for part in alone)
        if spoiled:  # the validation rows of fold 0
            inputs[30:], wanted[30:] = 1e4, -1e5
        ours = trainer(source(inputs, wanted), **settings)
        Spy.seen.clear()
        state, _ = run(ours, job(Spy, fold=0))
        module = ours.module(job(Spy, fold=0), state)
        expected.append((through_file(state).values, Spy.seen.copy(), module(alone[0])))
    assert differences(*(values for values, _, _ in expected)) == []
    assert expected[0][1] == expected[1][1]
    assert len(expected[0][1]) == 30
    assert torch.equal(expected[0][2], expected[1][2])


def test_the_rows_of_a_fold_are_prepared_once():
    ours, runtime, placed = trainer(), Counting("cpu"), []
    for fold in (0, 0, 1, 1):
        ours.init(replace(job(fold=fold), runtime=runtime))
        placed.append(runtime.rows)
    assert placed[0] == placed[1] >= 2 * ROWS
    assert placed[2] == placed[3] == 2 * placed[0]


def test_all_rows_are_trained_on_without_a_fold():
    ours = trainer(loss=nn.MSELoss(), data=(INPUTS, INPUTS[:, :1]))
    Spy.seen.clear()
    run(ours, job(Spy), 1)
    assert len(Spy.seen) == ROWS


@pytest.mark.parametrize("data", [(INPUTS, CLASSES), Rows(), DataLoader(Rows(), batch_size=16)])
def test_datasets_and_loaders_have_the_folds_of_data(data):
    ours = trainer(data, epochs=1)
    this = job(fold=1)
    assert facts(run(ours, this)[1])[0][1] == pytest.approx(facts(run(on_rows(1), this, 1)[1])[0][1])


def test_a_loader_s_part_keeps_its_collate_fn_and_workers():
    def doubled(rows):
        return 2 * torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])

    loader = DataLoader(Rows(), collate_fn=doubled, num_workers=0)
    part, _ = folds_of(2, as_source(loader, "rows")).parts(0)
    inputs, _ = next(part.batches(40))
    assert torch.equal(inputs, 2 * INPUTS[folds_of(2, tn.Data(INPUTS, CLASSES)).pairs[0][0]])


def test_the_reason_of_a_trial_that_diverged_names_the_fold():
    class Bursts(tn.Trainer):
        def loss_of(self, module, batch):
            return super().loss_of(module, batch) * (torch.nan if len(self.train) == 50 else 1.0)

    ours = Repeated(Bursts((INPUTS, CLASSES), folds=[HALVES, (slice(50), slice(50, 60))], **SETTINGS), 1)
    with pytest.raises(Diverged) as caught:
        run(ours, job(), 1)
    assert caught.value.__notes__ == ["in fold 1"]


def test_other_folds_are_another_study():
    described = [trainer(folds=folds).describe()["data"] for folds in (3, 4, [HALVES, HALVES[::-1]])]
    assert len({str(data) for data in described}) == 3
    assert all(set(data) == {"train", "folds"} for data in described)


def test_there_is_no_fold_beyond_the_last():
    with pytest.raises(ValueError, match="there are folds 0 to 2, got 3"):
        trainer().in_fold(3)
