"""Runtime: the one place that knows devices, threads and precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, TypeVar

import torch
from torch import nn

from tuneflow.nested import mapped
from tuneflow.runtime.devices import find_devices
from tuneflow.runtime.environment import Environment
from tuneflow.runtime.precision import autocast, check_precision, in_channels_last, label, layout_of
from tuneflow.runtime.retries import Retries, retries_of
from tuneflow.runtime.threads import checked_count, share
from tuneflow.signature import name_of
from tuneflow.validate import check_positive, check_whole, is_word, shown

T = TypeVar("T")

SLOTS = 16  # of lanes="auto": more do not get faster, see docs/benchmarks.md


class Runtime:
    """The device, precision, threads and parallelism of training; nothing else in tuneflow names a device.

    Args:
        device: "auto" (a CUDA device if there is one, else Apple's, else the CPU), or a torch device
            such as "cuda:1". With several workers "auto" and "cuda" take all GPUs that are visible, in turn.
        threads: CPU threads while training; None for torch's current number, or each worker's share of the cores
            if that is less. Scores repeat exactly for the same number only. 1 is best for small modules, and wherever
            other work runs on the same cores: there more than one made training up to 100 times slower.
        workers: number of worker processes, each with one trial at a time, or as many as `lanes`; 1 trains in this
            process. Scores are the same. Processes are started by a run and ended with it. Each imports the script, so
            the script needs an `if __name__ == "__main__":`. Functions and classes are found by name at the top of a
            module; others, those of a notebook too, travel by value where cloudpickle is installed.
        timeout: seconds that an epoch may take in a worker process, which is killed when it reports none for longer;
            None for no limit. They count from the first step of a trial: to import, load, build and trace what it needs
            a worker has ten times as long. With lanes it covers an epoch of all of them: so many times that of one
            trial.
        lanes: largest number of trials of one structure to train as one program, in each worker, where a measurement
            shows that this is faster; "auto" for as many as pay. 1 trains each by itself. Scores are the same but for
            rounding.
        precision: "fp32", or another arithmetic, with other scores: "bf16" and "fp16" compute forward and
            backward passes in 16 bits where torch's autocast does; weights, their updates, losses and metrics stay in
            float32. fp16 scales its gradients, and skips a step where they overflow. "auto" is fp32, and a study's
            first run shows what bf16 would bring, with channels_last where there are images.
        channels_last: store 4-dimensional weights and inputs, those of images, pixel by pixel instead of channel by
            channel; often faster, with scores that differ by rounding. "auto" is False, and shows what it would bring.
        executor: your own way to train slices: a function, or class, that is called with the study's runtime at the
            start of each run and returns an object with the six verbs of `tuneflow.execute.executor.Executor`. None for
            the one that the arguments above ask for.
        retries: exceptions after which a trial goes on from its last epoch instead of failing: a class, several
            classes (once each), or a dict of class to the number of retries for each trial in a run, such as
            `{torch.OutOfMemoryError: 2, ConnectionError: 3}`. Classes derived from them count too. After one for want
            of memory, a tn.Trainer takes micro-batches of half the size.
        devices: the GPUs that worker processes are spread over in turn, such as ["cuda:0", "cuda:2"] or [0, 2]; at most
            as many as there are workers. A worker sees its own only, as "cuda:0". None for what `device` asks for.

    Attributes:
        device: what this process trains and measures on; of several devices the first.
        devices: those that the workers train on.
        precision, channels_last: the values used in training; never "auto".
        retries: number of retries by name of class.
        on_epoch: called when an epoch begins, after all that has to be imported, loaded and built for it; None for
            nothing. A worker process tells its parent so, from when on `timeout` counts.
        advises: the names of those that were passed as "auto".
        dtype: torch's default dtype in training; None for the caller's. A study's is that of the time it was made.

    Raises:
        ValueError: a device is not there (those that are, are listed), or does not compute in this precision; devices
            are more than workers; or threads, workers, timeout or lanes is too small.
        TypeError: precision or channels_last is of another kind, executor cannot be called, or retries names what is no
            class of exceptions.

    Example:
        >>> Runtime("cpu").place(torch.ones(2)).device
        device(type='cpu')
    """

    def __init__(
        self,
        device: str | torch.device = "auto",
        threads: int | None = None,
        workers: int = 1,
        timeout: float | None = None,
        lanes: int | Literal["auto"] = 1,
        precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32",
        channels_last: bool | Literal["auto"] = False,
        executor: Callable[[Runtime], Any] | None = None,
        retries: Retries = None,
        devices: Sequence[str | torch.device | int] | None = None,
    ) -> None:
        if threads is not None:
            threads = checked_count("Runtime: threads", threads, "for torch's own")
        workers = checked_count("Runtime: workers", workers, "to train in this process")
        check_timeout("Runtime: timeout", timeout)
        if timeout is not None and workers == 1:
            raise ValueError(
                "Runtime: timeout needs worker processes, of which one that hangs can be killed: workers=2."
            )
        self.devices = find_devices(device, devices, workers)
        self.device = self.devices[0]
        self.lanes = lanes_of("Runtime: lanes", lanes)
        self.workers: int | None = workers  # None: as many as there is room for
        self.timeout = timeout
        self.threads = threads if threads is not None or workers == 1 else share(workers)
        if executor is not None and not callable(executor):
            raise TypeError(
                f"Runtime: executor needs to be a function of the runtime that returns one, got {shown(executor)}; pass"
                " the class, or lambda runtime: executor."
            )
        self.executor = executor
        self.retries = retries_of(retries)
        self.on_epoch: Callable[[], None] | None = None
        check_precision(precision, self.device)
        given = {"precision": precision, "channels_last": layout_of(channels_last)}
        self.dtype: torch.dtype | None = None
        self.advises = tuple(name for name, value in given.items() if value == "auto")
        self.precision: str = "fp32" if precision == "auto" else precision
        self.channels_last: bool = given["channels_last"] is True

    def __repr__(self) -> str:
        several = len(self.devices) > 1
        words = [f'"{self.device.type if several else self.device}"']
        if self.device.type == "cpu":
            words.append(f"threads={self.threads or torch.get_num_threads()}")
        if self.workers != 1:
            words.append(f"workers={self.workers}")
        if several:
            words.append(f"devices={[each.index for each in self.devices]}")
        return f"Runtime({', '.join([*words, *self._options()])})"

    def _options(self) -> list[str]:
        """The part of the repr from timeout on: the arguments that are not the default."""
        words = []
        if self.timeout is not None:
            words.append(f"timeout={self.timeout:g}")
        if self.lanes != 1:
            words.append(f"lanes={self.lanes!r}")
        if self.executor is not None:
            words.append(f"executor={name_of(self.executor)}")
        if self.retries:
            counts = [f"{name.removeprefix('builtins.')}: {count}" for name, count in self.retries.items()]
            words.append(f"retries={{{', '.join(counts)}}}")
        for name, default in (("precision", "fp32"), ("channels_last", False)):
            value = "auto" if name in self.advises else getattr(self, name)
            if value != default:
                words.append(f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}")
        return words

    @property
    def label(self) -> str:
        """The label of scores, such as `bf16 with channels_last`; empty for the default."""
        return label(self.precision, self.channels_last)

    def place(self, thing: T) -> T:
        """Move to this runtime's device, in its layout.

        Args:
            thing: a module, which is changed in place; or a tensor, or tuples, lists and dicts of tensors.

        Returns:
            The module itself, or a moved copy where anything had to be moved.
        """
        if isinstance(thing, nn.Module):
            module = thing.to(self.device)
            return in_channels_last(module) if self.channels_last else module
        placed: T = mapped(lambda tensor: tensor.to(self.device, non_blocking=True), thing)
        return mapped(in_channels_last, placed) if self.channels_last else placed

    def begin_epoch(self) -> None:
        """Call `on_epoch`: an epoch begins to take its steps."""
        if self.on_epoch is not None:
            self.on_epoch()

    def active(self) -> Environment:
        """A block with this runtime's number of threads, and with the settings that scores depend on; one at a time.

        See `Environment`: default dtype and device, gradients, autocast and NumPy's error state are the caller's again
        after it.
        """
        return Environment(self.threads, self.dtype, self.device)

    def autocast(self, on: bool = True) -> AbstractContextManager[Any]:
        """A block within which torch computes in this runtime's precision: for a forward pass and its loss.

        Args:
            on: False makes it one in float32, inside of such a block.
        """
        return autocast(self.precision, self.device, on)

    def scaler(self) -> torch.amp.GradScaler | None:
        """A new scaler of gradients where the precision needs one, as fp16 does."""
        return torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None

    def in_fp32(self) -> Runtime:
        """This runtime with precision "fp32"."""
        made = copy.copy(self)
        made.precision = "fp32"
        return made

    def of_a_study(self) -> Self:
        """This runtime with the present default dtype of torch, for all that a study trains."""
        made = copy.copy(self)
        made.dtype = torch.get_default_dtype()
        return made

    def describe(self) -> dict[str, Any]:
        """Return the settings that the exact digits of scores depend on, as JSON; the number of workers is none."""
        return {
            "device": self.device.type,
            "threads": self.threads or torch.get_num_threads(),
            "executor": "inline" if self.lanes == 1 else "fused",
            "precision": self.precision,
            "channels_last": self.channels_last,
            "dtype": str(self.dtype or torch.get_default_dtype()).removeprefix("torch."),
        }

    def of_a_worker(self) -> dict[str, Any]:
        """The arguments of the runtime that each of its workers makes for itself; of several GPUs it sees one."""
        return {
            "device": str(self.device) if len(self.devices) == 1 else f"{self.device.type}:0",
            "threads": self.threads or 1,
            "lanes": self.lanes,
            "precision": self.precision,
            "channels_last": self.channels_last,
        }

    @property
    def slots(self) -> int:
        """The number of trials that train at once in each process."""
        return SLOTS if self.lanes == "auto" else self.lanes


def lanes_of(what: str, value: Any) -> Any:
    """Return `value` if it is a whole number >= 1, or "auto".

    Raises:
        ValueError: it is anything else; the message opens with `what`.
    """
    if is_word(value, ("auto",)):
        return value
    return check_whole(what, value, otherwise='to train each trial by itself, or give "auto"')


def check_timeout(what: str, value: Any) -> None:
    """Raise ValueError unless `value` is None or a number of seconds > 0."""
    if value is not None:
        check_positive(what, value, "for none", "a number of seconds")
