"""kill -9 at random moments: whoever is killed, and when, the study becomes the one that was never interrupted."""

import os
import signal

import numpy as np
import pytest

import tuneflow as tn
from tests.faults.small_trainings import (
    FORK,
    ended_with,
    facts,
    finished,
    kill,
    make,
    reports,
    run,
    undisturbed,
    wait_until,
)
from tuneflow.study.folder_check import check_folder

KILLS, PAIRS, EPOCHS = 15, 20, 8
LONG = {"epochs": EPOCHS}  # so that every process gets on by an epoch or two


@pytest.fixture(scope="module")
def long():
    return undisturbed(6, **LONG)


@pytest.mark.usefixtures("any_number_of_deaths")
def test_fifteen_random_kills_change_nothing(tmp_path, start, long):
    rng = np.random.default_rng(7)
    for count in np.sort(rng.choice(np.arange(1, 6 * EPOCHS - 3), KILLS, replace=False)):
        process = start(run, tmp_path, 6, **LONG)
        wait_until(lambda count=count: reports(tmp_path) >= count)
        kill(process)
    assert finished(tmp_path, 6, **LONG) == long
    assert check_folder(tmp_path).problems == ()


@pytest.mark.usefixtures("any_number_of_deaths")
def test_two_processes_of_which_a_random_one_is_killed_ten_times_are_one(tmp_path, start, long):
    rng = np.random.default_rng(8)
    pair = [start(run, tmp_path, 6, **LONG) for _ in range(2)]
    for count in np.sort(rng.choice(np.arange(1, 6 * EPOCHS - 8), 10, replace=False)):
        wait_until(lambda count=count: reports(tmp_path) >= count)
        place = rng.integers(2)
        pair[place].kill()
        pair[place].join()
        pair[place] = start(run, tmp_path, 6, **LONG)
    assert [ended_with(process) for process in pair] == [0, 0]
    assert finished(tmp_path, 6, **LONG) == long


def run_together(folder, barrier, **settings):
    barrier.wait(60)
    run(folder, **settings)


def test_twenty_pairs_of_processes_that_begin_a_new_folder_at_once_share_it(tmp_path, start, whole):
    for number in range(PAIRS):
        barrier = FORK.Barrier(2)
        pair = [start(run_together, tmp_path / str(number), barrier) for _ in range(2)]
        assert [ended_with(process) for process in pair] == [0, 0], number
    for number in range(PAIRS):
        with make(tmp_path / str(number)) as study:
            assert facts(study) == whole, number


def minimize_together(folder, barrier, log):
    """Every call is a line of the log, whoever makes it."""

    def noted(x, y):
        with log.open("a") as file:
            file.write(f"{x} {y}\n")
        return x * y

    space = tn.SearchSpace(x=tn.Choice(list(range(8))), y=tn.Choice(list(range(8))))
    barrier.wait(60)
    tn.minimize(noted, space, trials=64, searcher=tn.Grid(), folder=folder)


def test_two_processes_try_every_point_of_a_grid_once(tmp_path, start):
    barrier, log = FORK.Barrier(2), tmp_path / "log"
    pair = [start(minimize_together, tmp_path / "study", barrier, log) for _ in range(2)]
    assert [ended_with(process) for process in pair] == [0, 0]
    assert sorted(log.read_text().splitlines()) == [f"{x} {y}" for x in range(8) for y in range(8)]
    assert {t.status for t in tn.open(tmp_path / "study").trials} == {"DONE"}


def die_without_an_epoch(folder):
    run(folder, callbacks=[lambda study, trial: trial.number == 1 and os.kill(os.getpid(), signal.SIGKILL)])


def test_a_trial_that_kills_its_process_three_times_has_failed_and_the_others_are_as_ever(tmp_path, start, whole):
    with make(tmp_path) as study:  # whose second trial dies where it reports, before it is written
        study.run(trials=1)
    for _ in range(3):
        assert ended_with(start(die_without_an_epoch, tmp_path)) == -signal.SIGKILL
    rest = finished(tmp_path)
    assert rest[1][2] == "FAILED"
    assert rest[:1] + rest[2:] == whole[:1] + whole[2:]
