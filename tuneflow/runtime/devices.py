"""Devices: those of this machine, those that a runtime trains on, and whether one of them still responds."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tuneflow.errors import StudyError, did_you_mean, in_one_line, listed, plural
from tuneflow.validate import shown


class DeviceLost(StudyError):
    """This process can no longer use its device: the device is gone, or an error on it ended its use here.

    Args:
        reason: the error, in one line.
        detail: its traceback; may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        way_out = "a new process may: run the script again, and a study with a folder goes on"
        super().__init__(f"this process can no longer use its device ({reason}); {way_out}.")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type["DeviceLost"], tuple[str, str]]:
        return DeviceLost, (self.reason, self.detail)


def find_devices(device: str | torch.device, devices: Any, workers: int) -> tuple[torch.device, ...]:
    """Return the devices that so many workers train on in turn; the first is also that of this process.

    Args:
        device: as Runtime's. A kind of device stands for all of that kind where there are several workers.
        devices: as Runtime's.
        workers: the number of worker processes; 1 is this process.

    Raises:
        ValueError: a device is not there, or they do not fit the workers; the message names the argument.
    """
    if devices is not None:
        return _chosen(device, devices, workers)
    first = _find_device(device)
    spreads = workers > 1 and first.type == "cuda" and (device == "auto" or first.index is None)
    several = tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return several[:workers] if spreads and len(several) > 1 else (first,)


def _chosen(device: str | torch.device, devices: Any, workers: int) -> tuple[torch.device, ...]:
    if not isinstance(devices, list | tuple) or not devices:
        raise ValueError(
            'Runtime: devices needs to be a list of devices, such as ["cuda:0", "cuda:2"] or [0, 2],'
            f" got {shown(devices)}; leave it out for all there are."
        )
    kind = _find_device(device).type if isinstance(device, str) and device == "auto" else str(_find_device(device))
    found = tuple(_find_device(f"{kind}:{each}" if type(each) is int else each) for each in devices)
    named = listed(map(str, found))
    if {each.type for each in found} != {kind}:
        raise ValueError(
            f"Runtime: device needs to be the kind of all devices, got {str(device)!r} with {named}; leave out device,"
            " or name devices of one kind."
        )
    if len(set(found)) < len(found) or (len(found) > 1 and any(each.index is None for each in found)):
        raise ValueError(f"Runtime: devices needs each device once, with its number, got {named}.")
    if workers < len(found):
        raise ValueError(
            f"Runtime: a process trains on one device, got {plural(len(found), 'device')} for"
            f" {plural(workers, 'worker')}; set workers={len(found)}, or leave out some of devices={devices!r}."
        )
    return found


def _find_device(device: Any) -> torch.device:
    there = _devices_here()
    if isinstance(device, str) and device == "auto":
        return torch.device(there[-1])
    try:
        wanted = torch.device(device)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        raise ValueError(
            f"Runtime: there is no device {shown(device)}.{did_you_mean(shown(device), there)} Here: {listed(there)}."
        ) from None
    name = str(wanted)
    if name not in there and f"{name}:0" not in there:
        raise ValueError(f'Runtime: device "{name}" is not there. Here: {listed(there)}.')
    return wanted


def _devices_here() -> list[str]:
    """The devices of this machine, the one that "auto" takes last."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    found += [f"cuda:{i}" for i in reversed(range(torch.cuda.device_count()))]
    return found


def models_of(devices: Sequence[torch.device]) -> list[str]:
    """Return the names of the devices' models, each once; none where there is one device."""
    if len(devices) < 2:
        return []
    return list(dict.fromkeys(torch.cuda.get_device_name(device) for device in devices))


@contextmanager
def shown_alone(device: torch.device | None) -> Iterator[None]:
    """A block in which a process starts that sees this GPU only, as number 0.

    So code in it that says "cuda" takes this one, and nothing of it lies on another.

    Args:
        device: with its number; None for a process that sees all devices.
    """
    if device is None:
        yield
        return
    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(variable)
    os.environ[variable] = before.split(",")[device.index].strip() if before else str(device.index)
    try:
        yield
    finally:
        del os.environ[variable]
        os.environ.update({variable: before} if before is not None else {})


def check_responds(device: torch.device) -> None:
    """Raise DeviceLost if this process can no longer compute on the device, as after an assertion that failed on it."""
    if device.type == "cpu":
        return
    try:
        torch.ones(1, device=device).add(1).item()
    except torch.OutOfMemoryError:
        return  # others have its memory
    except Exception as error:
        raise DeviceLost(in_one_line(error).split("\n")[0]) from error
