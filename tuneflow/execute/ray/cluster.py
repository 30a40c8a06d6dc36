"""The connection to a Ray cluster, and the room on its nodes."""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray

from tuneflow.errors import StudyError, listed
from tuneflow.execute.ray.alone import on_loopback, protect_token
from tuneflow.runtime.threads import cores

FRESH = 1.0  # seconds for which the list of nodes is taken to be up to date
PATIENCE = 10.0  # seconds that a cluster's head has to answer
KINDS = ("CPU", "GPU")
TOKEN = "and one that asks for a token needs RAY_AUTH_MODE=token here too"


class Cluster:
    """The connection of this process to Ray.

    Args:
        address: as RayRuntime's. Where Ray is initialized already, it is used as it is, and left so.

    Raises:
        StudyError: there is no cluster at the address, or Ray cannot be started.
    """

    def __init__(self, address: str | None) -> None:
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address)
        self._nodes: list[dict[str, float]] = []
        self._seen = -math.inf

    def room(self, cpus: float, gpus: float) -> int:
        """The number of workers that fit on its nodes as they are now, if nothing else runs there.

        Args:
            cpus: CPUs of a worker.
            gpus: GPUs of a worker.
        """
        return sum(workers_that_fit(node, cpus, gpus) for node in self._resources())

    def __str__(self) -> str:
        nodes = self._resources()
        each = listed(" and ".join(f"{node.get(kind, 0):g} {kind}" for kind in KINDS) for node in nodes)
        return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'} ({each})"

    def leave(self) -> None:
        """Disconnect, which ends a cluster that was started here; do nothing if Ray was initialized before."""
        if self._ours and ray.is_initialized():
            with _signals_kept():
                ray.shutdown()
        self._ours = False

    def _resources(self) -> list[dict[str, float]]:
        if time.monotonic() - self._seen > FRESH:
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._seen = time.monotonic()
        return self._nodes


def workers_that_fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return the number of workers, each with so many CPUs and GPUs, that fit on a node with these resources."""
    fits = [_times(node.get("CPU", 0.0), cpus)]
    if 0 < gpus < 1:  # a share is of one GPU
        fits.append(int(node.get("GPU", 0.0)) * _times(1.0, gpus))
    elif gpus:
        fits.append(_times(node.get("GPU", 0.0), gpus))
    return min(fits)


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-6)  # 0.3 / 0.1 is a little less than 3


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"num_cpus": cores(), "include_dashboard": False}
        protect_token()
    try:
        if address is not None:
            _check_answers(address)
        with _signals_kept(), nullcontext() if address is not None else on_loopback():
            ray.init("local" if address is None else address, **settings)
    except Exception as error:
        where = "can be started here" if address is None else f"is at {address!r}"
        way = "" if address is None else f"; `ray start --head` starts one, {TOKEN}"
        raise StudyError(f"RayRuntime: no Ray cluster {where} ({type(error).__name__}: {error}){way}.") from None


def _check_answers(address: str) -> None:
    """Raise OSError if nothing listens there: Ray would retry for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """A block that restores the SIGTERM handler, which Ray replaces and a study needs."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
