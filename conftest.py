"""One thread for every test and every process that a test starts: small modules are slow with more, under load very."""

import os
from importlib.util import find_spec

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)

WITH_RAY = ["cloud", "cluster", "seat", "actor", "ray"]  # files that import it; Ray is an extra

collect_ignore = [] if find_spec("ray") else [f"tuneflow/execute/{name}.py" for name in WITH_RAY]
