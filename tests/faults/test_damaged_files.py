"""study.sqlite and states that are damaged: the same data, or an error that names the file; never other data."""

import os
import shutil
import signal
from contextlib import suppress

import numpy as np
import pytest

import tuneflow as tn
from tests.faults.small_trainings import FORK, ended_with, facts, finished, make, run
from tuneflow.study.folder_check import check_folder


def emptied(content, rng):
    return b""


def halved(content, rng):
    return content[: len(content) // 2]


def torn(content, rng):
    return content[: rng.integers(1, len(content))]


def junk(content, rng):
    return rng.bytes(len(content))


def junk_in_the_middle(content, rng):
    place = int(rng.integers(len(content)))
    return content[:place] + rng.bytes(64) + content[place + 64 :]


def flipped(content, rng):
    changed = bytearray(content)
    changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def zeroed(content, rng):
    return bytes(len(content))


def zeroed_sector(content, rng):
    place = int(rng.integers(len(content))) // 512 * 512
    return content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]


def longer(content, rng):
    return content + rng.bytes(512)


DAMAGES = [emptied, halved, torn, junk, junk_in_the_middle, flipped, zeroed, zeroed_sector, longer]
TIMES = {emptied: 1, halved: 1, zeroed: 1, junk: 2, flipped: 25, junk_in_the_middle: 25}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A folder of a study that has ended, and is closed: all of it is in study.sqlite and states/."""
    folder = tmp_path_factory.mktemp("ended") / "study"
    run(folder)
    return folder


def read(folder):
    """The study's lines, as `tn.open` has them."""
    return list(tn.open(folder).lines())


def read_as_study(folder):
    """The facts, as a Study has them."""
    with make(folder) as study:
        return facts(study)


def problems_of(folder):
    """What `check` finds wrong."""
    return check_folder(folder).problems


def refused_or(reader, folder):
    """What a reader reads; None where it refuses with an error that names the folder."""
    try:
        return reader(folder)
    except (tn.errors.StoreError, tn.errors.FingerprintError) as error:
        return None if str(folder) in str(error) else error


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_of_the_database_is_named_or_harmless(tmp_path, ended, whole, damage):
    rng, lines = np.random.default_rng(4), read(ended)
    content = (ended / "study.sqlite").read_bytes()
    for number in range(TIMES.get(damage, 8)):
        folder = shutil.copytree(ended, tmp_path / str(number))
        (folder / "study.sqlite").write_bytes(damage(content, rng))
        opened, problems = refused_or(read, folder), refused_or(problems_of, folder)
        assert opened in (None, lines)
        assert opened == lines if problems == () else problems is None or isinstance(problems, tuple)
        assert refused_or(read_as_study, folder) in (None, whole)
        assert (folder / "states").is_dir()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_of_a_state_is_named_every_time(tmp_path, ended, damage):
    rng, folder = np.random.default_rng(5), shutil.copytree(ended, tmp_path / "study")
    file = sorted((folder / "states").iterdir())[1]
    content = file.read_bytes()
    with make(folder) as study:
        for _ in range(TIMES.get(damage, 8)):
            file.write_bytes(damage(content, rng))
            with pytest.raises(tn.errors.CheckpointError, match=file.name):
                study.result(1).model()
            (problem,) = check_folder(folder).problems
            assert file.name in problem


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder whose process was killed: a trial is under way, and rows are in the write-ahead log."""
    folder = tmp_path_factory.mktemp("killed") / "study"
    process = FORK.Process(target=run_until, args=(folder, 5))
    process.start()
    assert ended_with(process) == -signal.SIGKILL
    return folder


def run_until(folder, count):
    def die(study, trial):
        if sum(t.epochs for t in study.trials) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, callbacks=[die])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_of_the_state_of_a_trial_under_way_is_named_and_without_the_file_it_goes_on(
    tmp_path, killed, whole, damage
):
    folder = shutil.copytree(killed, tmp_path / "study")
    for file in (folder / "states").glob("000001-*"):
        file.write_bytes(damage(file.read_bytes(), np.random.default_rng(6)))
    with pytest.raises(tn.errors.CheckpointError, match=r"states/000001-.*Remove it"):
        finished(folder)
    for file in (folder / "states").glob("000001-*"):
        file.unlink()
    assert finished(folder) == whole


@pytest.mark.parametrize("name", ["study.sqlite-shm", "study.sqlite-wal"])
@pytest.mark.parametrize("damage", [emptied, junk, zeroed, flipped], ids=lambda damage: damage.__name__)
def test_damage_of_the_files_beside_the_database_costs_no_trial(tmp_path, killed, whole, damage, name):
    folder = shutil.copytree(killed, tmp_path / "study")
    file = folder / name
    file.write_bytes(damage(file.read_bytes(), np.random.default_rng(7)))
    with suppress(tn.errors.StoreError):  # where nothing of it had reached the database itself
        assert finished(folder) == whole
