"""Results of tests are kept with the study, unless they are on rows that it was tuned on."""

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, make


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make(folder=tmp_path_factory.mktemp("tests"))
    study.run(trials=2)
    return study


def kept(study):
    return {one.trial: one for one in study.record().tested}


def test_the_last_test_of_a_trial_is_kept(study):
    best = study.best
    best.test(TEST[:50])
    scores = study.test(TEST)
    tested = kept(study)[best.number]
    assert dict(tested.estimates) == dict(scores)
    assert (tested.rows, tested.ended) == (len(TEST), 2)
    assert str(tested).startswith(f"trial {best.number}: ")
    assert tn.open(study.folder).record().tested == study.record().tested


USED = {
    "train": TRAIN[:320],
    "part of train": TRAIN[:50],
    "valid": VALID,
    "valid in another order": VALID[list(range(len(VALID)))[::-1]],
    "pair": (VALID.inputs, VALID.targets),
}


@pytest.mark.parametrize("data", USED.values(), ids=USED)
def test_rows_that_the_study_was_tuned_on_are_tested_and_not_kept(study, data, caplog):
    before = kept(study)
    with caplog.at_level(logging.INFO, "tuneflow"):
        assert study.best.test(data)["accuracy"].value > 0
    assert "mostly those of training or validation" in caplog.text
    assert kept(study) == before


def test_parts_of_one_dataset_are_told_apart_by_their_rows():
    whole = TensorDataset(TRAIN.inputs, TRAIN.targets)
    train, valid, test = (Subset(whole, range(start, start + 50)) for start in (0, 50, 100))
    trainer = tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1)
    study = make(trainer=trainer, maximize=None, minimize="loss")
    study.run(trials=1)
    study.test(Subset(valid, range(20)))
    assert kept(study) == {}
    study.test(test)
    assert len(kept(study)) == 1


def test_each_member_of_a_front_keeps_its_test():
    study = make(maximize="accuracy", minimize="loss")
    study.run(trials=3)
    scores = study.test(TEST[:50])
    assert kept(study).keys() == scores.keys()


def test_a_closed_study_tests_without_keeping(tmp_path, caplog):
    with make(folder=tmp_path) as study:
        study.run(trials=1)
        best = study.best
    with caplog.at_level(logging.WARNING, "tuneflow"):
        assert best.test(TEST[:50])["accuracy"].value > 0
    assert "not kept with the study" in caplog.text
    assert tn.open(tmp_path).tested == []
