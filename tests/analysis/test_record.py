import pytest
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import make
from tuneflow.analysis.record import record_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record") / "study"
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=folder)
    for value in (0.5, 0.25, 0.75):
        study.tell(study.ask(), value)
    return study


def test_a_study_and_its_folder_have_the_same_record(study):
    live, read = study.record(), tn.open(study.folder).record()
    assert (live.name, live.facts, list(live.trials)) == (read.name, read.facts, list(read.trials))
    assert live.best == read.best == study.trials[1]


def test_record_of_takes_studies_folders_and_records(study):
    record = study.record()
    assert record_of(record) is record
    assert record_of(study).name == record_of(tn.open(study.folder)).name == str(study.folder)


def test_with_several_objectives_there_is_no_best():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize=["a", "b"])
    study.tell(study.ask(), {"a": 1.0, "b": 2.0})
    assert study.record().best is None
    assert study.record().metrics == ["a", "b"]


def test_probes_are_told_apart_by_what_not_all_of_them_have():
    space = {
        "model": {"width": tn.Int(4, 6), "act": tn.Choice({"relu": nn.ReLU, "tanh": nn.Tanh})},
        "optimizer": {"lr": 0.1},
    }
    study = make({**space, "trainer": {"batch_size": tn.Int(32, 64)}})
    config = {"model": {"width": 4, "act": "relu"}, "optimizer": {"lr": 0.1}, "trainer": {"batch_size": 32}}
    for width in (6, 4):
        study.history.probe(study.space.cast({**config, "model": {"width": width, "act": "relu"}}))
    assert list(study.record().probes) == [
        "probe act relu batch_size 32 width 6",
        "probe act relu batch_size 32 width 4",
    ]
