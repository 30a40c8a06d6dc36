"""Trials of machines that are gone: the run says who they wait for, and frees them when it is known."""

import time
from contextlib import closing

import pytest

import tuneflow as tn
from tests.helpers.remote_owners import hold, own, store_of, until
from tuneflow.__main__ import main
from tuneflow.store import sightings
from tuneflow.train.function_trainer import Function

WAITS = "trial 0 waits for podA (process 12, not heard of in 0 s); if that is dead, `python -m tuneflow check"


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(sightings, "BEAT", 0.003)


def slow(x):
    time.sleep(0.005)
    return x


def make(folder, **settings):
    space = tn.SearchSpace(x=tn.Float(0, 1))
    return tn.Study(space=space, minimize="value", folder=folder, progress=False, **settings)


def left_behind(folder, **settings):
    """A folder whose first trial a machine has left behind."""
    with make(folder, **settings) as study:
        study.ask()
        own(folder, 0)
    return folder


@pytest.fixture
def left(tmp_path):
    return left_behind(tmp_path, trainer=Function(slow))


@pytest.fixture
def asked(tmp_path):
    return left_behind(tmp_path)


def test_a_run_that_ends_before_says_who_is_waited_for(left, capsys):
    with make(left, trainer=Function(slow)) as study:
        study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["RUNNING", "DONE"]
    assert capsys.readouterr().err.startswith(f"{WAITS} {left} --free podA` frees it at once")


@pytest.mark.usefixtures("fast")
def test_a_run_that_lasts_frees_the_trial_and_ends_it(left, capsys):
    with make(left, trainer=Function(slow)) as study:
        study.run(trials=30)
    assert {trial.status for trial in study.trials} == {"DONE"}
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("fast")
def test_ask_says_who_is_waited_for_and_gives_the_trial_when_it_is_free(asked, capsys):
    with make(asked) as study:
        assert study.ask(trials=1) is None
        assert study.ask(trials=1) is None
        assert capsys.readouterr().err.count("waits for podA") == 1
        assert until(lambda: study.ask(trials=1)).number == 0


def test_tell_names_who_has_the_trial(asked):
    with make(asked) as study, pytest.raises(tn.errors.StudyError, match=r"trial 0 is with podA \(process 12, "):
        study.tell(0, 1.0)


def test_check_frees_by_the_name_of_a_host(left, capsys):
    assert main(["check", str(left), "--free", "podA"]) == 0
    assert capsys.readouterr().out == f"{left}: trial 0 of podA (process 12) is free; the next run goes on\n"
    assert main(["check", str(left), "--free", "podA"]) == 1
    assert "no trial under way is of a host or owner 'podA'; the study waits for nothing." in capsys.readouterr().err
    with make(left, trainer=Function(slow)) as study:
        study.run(trials=1)
    assert study.trials[0].status == "DONE"


def test_check_frees_nothing_where_there_is_no_study(tmp_path, capsys):
    assert main(["check", str(tmp_path), "--free", "podA"]) == 1
    assert "holds no study" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# With lag=.


@pytest.fixture
def ordered(tmp_path):
    """A folder that one process at a time may run."""
    with make(tmp_path, trainer=Function(slow), lag=1) as study:
        study.run(trials=1)
    return tmp_path


@pytest.mark.usefixtures("fast")
def test_a_study_of_a_dead_machine_is_waited_for_and_taken_over(ordered):
    with make(ordered, trainer=Function(slow), lag=1) as study:
        hold(ordered)
        with pytest.warns(UserWarning, match="this study waits for podA"):
            study.run(trials=3)
    assert [trial.status for trial in study.trials] == ["DONE"] * 3


@pytest.mark.usefixtures("fast")
@pytest.mark.filterwarnings("ignore:this study waits for podA")  # until its first beat is seen
def test_a_study_that_another_machine_runs_is_refused_by_its_name(ordered):
    with closing(store_of("podA", ordered)) as alive, make(ordered, trainer=Function(slow), lag=1) as study:
        assert alive.hold()
        with pytest.raises(tn.errors.StudyError, match="It waits for podA"):
            study.run(trials=2)
