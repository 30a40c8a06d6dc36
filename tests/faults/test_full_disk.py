"""A disk, or a limit of the system, without room for more: it is named, what ended is safe, and all goes on after."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tuneflow as tn
from tests.faults.small_trainings import finished, make, outcome
from tuneflow.study.folder_check import check_folder

SIZES = [0, 4, 20, 36, 60, 100, 150]  # kilobytes to which any file may grow


def run_with_small_files(folder, kilobytes):
    """The message with which the study ends; "" where all of it fits."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, resource.RLIM_INFINITY))
    try:
        with make(folder) as study:
            study.run(trials=4)
    except tn.errors.StoreError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kilobytes", SIZES)
def test_files_that_may_not_grow_are_a_full_disk(tmp_path, whole, kilobytes):
    said = outcome(run_with_small_files, tmp_path, kilobytes)
    assert isinstance(said, str), said
    assert str(tmp_path) in said
    assert "disk full" in said
    assert "Make room and run again." in said
    assert finished(tmp_path) == whole
    assert check_folder(tmp_path).problems == ()


# A file system that is full.

SCRIPT = Path(__file__).parent / "full_disk.py"


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """What the script tells: studies on small file systems of their own, which got full and then had room."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, to mount a small file system")
    trial = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if trial.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {trial.stderr.strip()}")
    command = ["unshare", "-rm", sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("disks"))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


WAYS = ("the same study", "a new study", "another process")
DISKS = [f"{kind}, {way}" for kind in ("database", "states") for way in WAYS]


@pytest.mark.parametrize("disk", DISKS)
def test_full_disk_is_named_with_its_path_and_the_trials_that_are_safe(disk, full_disk):
    found = full_disk[disk]
    assert found["message"].startswith(found["folder"] + "/")
    assert f": disk full; {found['safe']} trials safe. Make room and run again." in found["message"]
    assert found["safe"] > 0


@pytest.mark.parametrize("disk", DISKS)
def test_study_of_a_disk_that_was_full_goes_on_to_the_same_table_and_models(disk, full_disk):
    assert (full_disk[disk]["table"], full_disk[disk]["models"]) == (True, True)


def test_disk_without_room_for_a_study_is_named(full_disk):
    for message in full_disk["no room"]:
        assert "/study.sqlite: disk full" in message
        assert "Make room" in message


def test_file_system_of_a_mount_with_a_space_in_its_name_is_found(full_disk):
    assert {found["system"] for name, found in full_disk.items() if name != "no room"} == {"tmpfs"}
