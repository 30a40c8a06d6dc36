"""States beyond the memory budget: in files, the same, and gone with the study."""

import gc
import tempfile

import pytest
import torch

import tuneflow as tn
from tests.helpers.scripts.digits_study import make
from tuneflow.store.checkpoints import States
from tuneflow.train.job import TrainState


def state(epoch, fill=0.0):
    return TrainState(epoch, {"weights": [torch.full((256,), fill)], "steps": 3, "name": "x"})


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_states_size_is_that_of_its_tensors():
    assert state(1).size == 1024
    assert TrainState(0, {"a": {"b": (torch.zeros(3, dtype=torch.float64), None)}}).size == 24


@pytest.mark.parametrize("in_folder", [False, True])
def test_what_was_used_longest_ago_goes_to_a_file_and_comes_back_the_same(temporary, in_folder):
    states = States(temporary if in_folder else None, memory=3000)
    for trial in range(2):
        states.put(trial, state(1, float(trial)))
    states.get(0, 1)
    states.put(2, state(1, 2.0))
    assert files_in(temporary) == ["000001-000001.state"]
    assert torch.equal(states.get(1, 1).values["weights"][0], torch.ones(256))
    assert states.epochs(1) == {1}


def files_in(folder):
    return sorted(file.name for file in folder.rglob("*.state"))


def test_the_newest_state_is_held_even_when_it_is_larger_than_the_budget(temporary):
    states = States(None, memory=10)
    states.put(0, state(1))
    states.put(0, state(2))
    assert files_in(temporary) == ["000000-000001.state"]


def test_a_spilled_file_goes_when_its_state_is_not_needed_and_the_folder_with_the_object(temporary):
    states = States(None, memory=10)
    for epoch in (1, 2, 3):
        states.put(0, state(epoch))
    (folder,) = temporary.iterdir()
    assert len(list(folder.iterdir())) == 2
    states.keep(0, {3})
    assert not list(folder.iterdir())
    del states
    gc.collect()
    assert not folder.exists()


def test_a_study_with_hardly_any_memory_gives_the_same_trials_and_models(tmp_path):
    def run(**settings):
        study = make(None, "sgd", scheduler=tn.Halving(), keep=3, **settings)
        study.run(trials=4)
        weights = list(study.best.model().state_dict().values())
        return [(t.status, t.epochs, t.metrics) for t in study.trials], weights

    table, weights = run()
    spilled_table, spilled = run(memory=1)
    assert spilled_table == table
    assert all(map(torch.equal, spilled, weights))


def test_memory_needs_to_be_a_positive_whole_number():
    with pytest.raises(ValueError, match=r"Folder: memory .* got 0"):
        make(None, "sgd", memory=0)
