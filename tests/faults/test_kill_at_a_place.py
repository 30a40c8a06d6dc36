"""kill -9 where it hurts most: in a commit, in the writing of a state, in the middle of the write-ahead log."""

import shutil
import signal

import numpy as np
import pytest

from tests.faults.places_to_die import DATABASE, STATES, die_at
from tests.faults.small_trainings import FORK, digest, ended_with, finished, net, reports, run
from tuneflow.study.folder_check import check_folder


def run_and_die(folder, place, count):
    die_at(place, count)
    run(folder)


def assert_whole(folder, whole):
    """The study goes on to what it would have been, and leaves nothing behind."""
    assert finished(folder) == whole
    assert check_folder(folder).problems == ()
    assert list((folder / "states").glob("*.tmp")) == []


@pytest.mark.parametrize("count", [1, 2, 7, 12])
@pytest.mark.parametrize("place", DATABASE + STATES)
def test_a_study_that_is_killed_at_a_place_goes_on_as_if_it_had_not(tmp_path, start, whole, place, count):
    process = start(run_and_die, tmp_path, place, count)
    assert ended_with(process) == -signal.SIGKILL
    assert_whole(tmp_path, whole)


@pytest.mark.usefixtures("any_number_of_deaths")
@pytest.mark.parametrize("place", ["within a commit", "within the writing of a state"])
def test_a_study_that_is_killed_at_the_same_place_every_time_gets_on(tmp_path, start, whole, place):
    for _ in range(5):
        assert ended_with(start(run_and_die, tmp_path, place, 6)) in (0, -signal.SIGKILL)
    assert_whole(tmp_path, whole)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder whose process was killed after its last commit, so that all of it is in the write-ahead log."""
    folder = tmp_path_factory.mktemp("killed") / "study"
    process = FORK.Process(target=run_and_die, args=(folder, "after a commit", 14))
    process.start()
    assert ended_with(process) == -signal.SIGKILL
    assert (folder / "study.sqlite-wal").stat().st_size > 10_000
    return folder


def cut(content, rng):
    return content[: rng.integers(len(content))]


def flipped(content, rng):
    changed = bytearray(content)
    changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def zeroed(content, rng):
    place = rng.integers(len(content))
    return content[:place] + bytes(len(content) - place)


@pytest.mark.parametrize("damage", [cut, flipped, zeroed], ids=lambda damage: damage.__name__)
def test_a_log_that_a_crash_of_the_machine_left_torn_costs_its_last_commits_and_no_more(
    tmp_path, killed, whole, damage
):
    """SQLite drops what follows the first damaged frame; a row without its state is trained again."""
    rng = np.random.default_rng(1)
    seen = set()
    for count in range(8):
        folder = shutil.copytree(killed, tmp_path / str(count))
        log = folder / "study.sqlite-wal"
        log.write_bytes(damage(log.read_bytes(), rng))
        (folder / "study.sqlite-shm").unlink()  # as after a crash of the machine
        seen.add(reports(folder))
        assert finished(folder) == whole
    assert len(seen) > 1


def test_a_digest_sees_one_changed_weight():
    module = net(0.1)
    before = digest(module)
    module[1].bias.data[3] += 1e-3
    assert digest(module) != before
