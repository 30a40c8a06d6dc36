"""One thread for every test and every process that a test starts: small modules are slow with more, under load very."""

import os
from importlib.util import find_spec

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)

collect_ignore = [] if find_spec("ray") else ["tuneflow/execute/ray"]  # Ray is an extra
collect_ignore += ["tuneflow/plot/artists.py"]  # which imports matplotlib, in every process of pytest-xdist
# Groups of tests that take longest; at the end one process would run one of them while the others have no work.
FIRST = [
    "ray",
    *("tests/execute/test_processes.py", "tests/execute/test_in_order.py", "tests/execute/test_by_value.py"),
    *("tests/execute/test_lanes.py", "tests/fused/test_lanes.py", "tests/testing/test_conformance.py"),
    *("tests/runtime/test_precision.py", "tests/search/test_constraints.py", "tests/execute/test_devices.py"),
    *("tests/search/test_gp.py", "tests/study/test_extend.py", "tests/test_demo.py", "tests/execute/test_retries.py"),
    *("tests/fused/test_evaluation.py", "tests/study/test_export.py", "tests/study/test_resume.py"),
]


def pytest_configure(config):
    """With pytest-xdist, groups run in the order in which their tests are collected."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # by the number of tests, which says little of how long they take


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With pytest-xdist, the tests of a file run in one process, as they share what is slow to start."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(_group(item), len(places)))
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _name_group(item)


def _name_group(item):
    """Add the group to the name of a test, by which pytest-xdist schedules; 3.8 itself fails to with pytest 9.2."""
    if hasattr(item, "_id") and not hasattr(item, "_nodeid"):
        item._id = type(item._id).parse(f"{item.nodeid}@{_group(item)}")


def _group(item):
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker.args else marker.kwargs["name"]
