"""One thread for every test and every process that a test starts: small modules are slow with more, under load very."""

import os
from importlib.util import find_spec

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)

collect_ignore = [] if find_spec("ray") else ["tuneflow/execute/ray"]  # Ray is an extra

STARTS_RAY = {"test_every_executor", "test_ray", "test_worker_lanes"}  # one after the other: a cluster is the machine's


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With pytest-xdist, the tests of a file run in one process, as they share what is slow to start."""
    for item in items:
        name = item.path.stem
        item.add_marker(pytest.mark.xdist_group("ray" if name in STARTS_RAY else name))
