"""Processes that are started by a test, and gone after it."""

import math

import pytest
import torch

from tests.faults.small_trainings import FORK, quietly, undisturbed


def pytest_collection_modifyitems(items):
    """Python 3.12 and later warn when a process with threads forks; children need nothing that those threads hold."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"))


@pytest.fixture
def start():
    """Starts a function in a process of its own, forked from this one; at the end of the test none is left."""
    processes = []

    def start(function, *arguments, **settings):
        process = FORK.Process(target=quietly, args=(function, *arguments), kwargs=settings, daemon=True)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def whole():
    """The facts of the study of `small_trainings` that meets no fault; what torch imports late is imported after it."""
    torch.set_num_threads(1)
    return undisturbed()


@pytest.fixture
def any_number_of_deaths(monkeypatch):
    """A trial may lose any number of processes, as kills come faster here than epochs."""
    monkeypatch.setattr("tuneflow.study.ledger.TRIES", math.inf)
