import pytest

import tuneflow as tn
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
