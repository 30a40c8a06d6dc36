"""A disk, or a limit of the system, without room for more: it is named, what ended is safe, and all goes on after."""

import resource

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
