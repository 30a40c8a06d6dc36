"""RayRuntime: a Runtime whose trials are trained on a Ray cluster."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, Literal

import torch

from tuneflow.runtime.retries import Retries
from tuneflow.runtime.runtime import Runtime, check_timeout, lanes_of
from tuneflow.validate import check_positive, check_whole, is_word, shown


class RayRuntime(Runtime):
    """Trains as many trials at once as fit on a Ray cluster, in worker processes there; scores are Runtime's.

    Nothing but the runtime changes in a study. Workers are started by a run and ended with it. Functions and classes of
    the script, lambdas too, travel with what they use; modules that it imports are imported there.

    Args:
        address: of a running cluster: "auto" for the one that this machine belongs to, "host:port", or
            "ray://host:port" through Ray's client. None for a cluster of this machine alone, started by a run and
            ended with it. Where Ray is initialized in this process already, that is what is used, and left as it is.
        device: what a worker trains on: "auto" for a GPU where `gpus` gives it one, else the CPU; or "cpu", "cuda".
        cpus: CPUs that Ray sets aside for each worker, a fraction too.
        gpus: GPUs for each worker, a fraction too: with 0.25 four trials share one.
        workers: at most so many workers; None for as many as the cluster's nodes carry, those that come later too.
        threads: CPU threads of each worker, None for one for each of its whole cpus, at least 1.
        timeout: as Runtime's.
        lanes: up to so many trials at once in each worker, as Runtime's.
        precision, channels_last, retries: as Runtime's.

    Raises:
        ImportError: Ray is not installed.
        ValueError: an argument does not fit; the message names it.
    """

    def __init__(
        self,
        address: str | None = None,
        device: str | torch.device = "auto",
        cpus: float = 1,
        gpus: float = 0,
        workers: int | None = None,
        threads: int | None = None,
        timeout: float | None = None,
        lanes: int | Literal["auto"] = 1,
        precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32",
        channels_last: bool | Literal["auto"] = False,
        retries: Retries = None,
    ) -> None:
        if find_spec("ray") is None:
            raise ImportError("RayRuntime needs Ray, which is not installed; python -m pip install ray")
        _check_address(address)
        _check_share("cpus", cpus)
        if gpus != 0:
            _check_share("gpus", gpus)
        if workers is not None:
            workers = check_whole("RayRuntime: workers", workers, otherwise="for as many as the cluster carries")
        if threads is not None:
            threads = check_whole("RayRuntime: threads", threads, otherwise="for one for each cpu")
        check_timeout("RayRuntime: timeout", timeout)
        self.there = _device_there(str(device), gpus)
        threads = threads or max(1, int(cpus))
        lanes = lanes_of("RayRuntime: lanes", lanes)
        # Measurements in this process are on the workers' device where it exists here, else on the CPU.
        here = self.there if torch.cuda.is_available() else "cpu"
        super().__init__(here, threads, lanes=lanes, precision=precision, channels_last=channels_last, retries=retries)
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self.workers, self.timeout = workers, timeout

    def __repr__(self) -> str:
        words = [f'"{self.address}"'] if self.address is not None else []
        words += [f'device="{self.there}"', f"cpus={self.cpus:g}", f"gpus={self.gpus:g}"]
        words += [f"workers={self.workers}"] if self.workers is not None else []
        words += [f"threads={self.threads}"]
        return f"RayRuntime({', '.join([*words, *self._options()])})"

    def of_a_worker(self) -> dict[str, Any]:
        """Return the arguments of a worker's runtime, with the device on the cluster."""
        return {**super().of_a_worker(), "device": self.there}

    def describe(self) -> dict[str, Any]:
        """Describe the workers' runtime; equal to inline's on their device with as many threads."""
        return {**super().describe(), "device": self.there}


def _check_address(address: Any) -> None:
    known = r"auto|ray://.+|[^\s:/]+:\d+|\[.+\]:\d+"
    if address is None or (isinstance(address, str) and re.fullmatch(known, address)):
        return
    raise ValueError(
        f'RayRuntime: address needs to be "auto", "host:port" or "ray://host:port", got {shown(address)}; leave it out'
        " for a cluster of this machine alone."
    )


def _check_share(what: str, value: Any) -> None:
    check_positive(f"RayRuntime: {what}", value, "for the default")
    if value > 1 and value != int(value):
        raise ValueError(f"RayRuntime: {what} above 1 needs to be whole, got {value!r}; try {what}={round(value)}.")


def _device_there(device: str, gpus: float) -> str:
    """Return the device of a worker; Ray shows it only the GPUs assigned to it."""
    if not is_word(device, ("auto", "cpu", "cuda")):
        raise ValueError(
            f'RayRuntime: device needs to be "auto", "cpu" or "cuda", got {shown(device)}; which of its GPUs a worker'
            " has is for Ray to say."
        )
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise ValueError('RayRuntime: device="cuda" needs GPUs for its workers; try gpus=1, or a fraction.')
    if device == "cpu" and gpus:
        raise ValueError(f'RayRuntime: device="cpu" would leave gpus={gpus!r} unused; leave out one of them.')
    return device
