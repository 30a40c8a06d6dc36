"""One thread for every test and every process that a test starts: small modules are slow with more, under load very."""

import os
from importlib.util import find_spec

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)

collect_ignore = [] if find_spec("ray") else ["tuneflow/execute/ray"]  # Ray is an extra


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With pytest-xdist, the tests of a file run in one process, as they share what is slow to start."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
