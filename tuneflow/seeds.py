"""Random generators from keys: randomness is a counter, not a state.

Every draw in tuneflow comes from a generator that is made, on the spot, from a key such as `(study seed, replica,
"order", epoch)`. So nothing random has to be saved: a resumed or forked trial makes the same generators again.
"""

import hashlib
import os
import random
import threading
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence

__all__ = ["digest", "stream", "torch_stream"]


def digest(*key: int | str) -> int:
    """Return a 128-bit number that depends on every part of `key`; any int is a valid seed.

    Args:
        key: ints and strings, such as `(study seed, "order", epoch)`.

    Example:
        >>> digest(0, "order", 3) == digest(0, "order", 3) != digest(0, "order", 4)
        True
    """
    return int.from_bytes(_hash(key, 16), "little")


def stream(*key: int | str) -> np.random.Generator:
    """Return a NumPy generator for `key`: the same key gives the same draws on every machine.

    Args:
        key: ints and strings, such as `(study seed, "search", trial)`.

    Example:
        >>> stream(0, "search", 7).random() == stream(0, "search", 7).random()
        True
    """
    return np.random.Generator(np.random.PCG64(_Hashed(key)))  # type: ignore[arg-type]


class lazy_stream:  # noqa: N801 (called like a function)
    """A generator like that of `stream`, made on first use; for callers that seldom draw."""

    def __init__(self, *key: int | str) -> None:
        self._key = key

    def __getattr__(self, name: str) -> Any:
        if name == "_made":
            self._made = stream(*self._key)
            return self._made
        return getattr(self._made, name)


def torch_stream(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for `key`.

    Args:
        key: ints and strings, such as `(study seed, "order", epoch)`.
        device: where the generator draws; CPU and CUDA generators draw differently.
    """
    return torch.Generator(device).manual_seed(digest(*key) & (2**63 - 1))


class _OneAtATime:
    """A block that one thread of this process is in at a time; the thread may enter it again inside.

    Torch's, NumPy's and Python's global generators belong to the process: two threads that draw from them at once would
    change each other's numbers.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.__init__)  # type: ignore[misc]  # no thread of a fork holds it

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


ONE_AT_A_TIME = _OneAtATime()

_spares: list[np.random.MT19937] = []  # lent to NumPy's global generator: quicker than saving and setting its state


class seeded_globals:  # noqa: N801 (called like a function)
    """Within the block, torch's, Python's and NumPy's global generators are those of `key`.

    Module constructors, dropout and user code draw from the global generators. They are put back as
    they were when the block is left, so that a caller's own randomness is untouched. One thread at a time is in such
    a block; a thread of the caller's own that draws from them meanwhile is not kept from it.

    Args:
        device: also the generator of this device, when it is not the CPU.
    """

    __slots__ = ("_before", "_device", "_number", "_spare")

    def __init__(self, *key: int | str, device: torch.device | None = None) -> None:
        self._number = digest(*key) & (2**63 - 1)
        self._device = device if device is not None and device.type != "cpu" else None

    def __enter__(self) -> None:
        ONE_AT_A_TIME.__enter__()
        number, device = self._number, self._device
        kept = None if device is None else _device_state(device)
        numpy_global = np.random.get_bit_generator()  # type: ignore[attr-defined]
        self._before = (torch.default_generator.get_state(), random.getstate(), numpy_global, kept)
        self._spare = _spares.pop() if _spares else np.random.MT19937(0)
        torch.default_generator.manual_seed(number)
        if device is not None:
            _seed_device(device, number)
        random.seed(number)
        np.random.set_bit_generator(self._spare)  # type: ignore[attr-defined]
        np.random.seed(number & (2**32 - 1))  # noqa: NPY002

    def __exit__(self, *_: object) -> None:
        cpu, python, numpy_global, kept = self._before
        torch.default_generator.set_state(cpu)
        random.setstate(python)
        np.random.set_bit_generator(numpy_global)  # type: ignore[attr-defined]
        _spares.append(self._spare)
        if self._device is not None and kept is not None:
            _set_device_state(self._device, kept)
        ONE_AT_A_TIME.__exit__()


class kept_globals:  # noqa: N801 (called like a function)
    """A reusable block: within it the global generators continue from where the block was last left.

    They begin as within `seeded_globals` of the same key, and the caller's are restored in the same way.

    Attributes:
        generator: torch's global generator of `device` as it is within the block; a draw from it is one there.
    """

    def __init__(self, *key: int | str, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type != "cpu" else None
        self._cpu = torch.Generator()
        self.generator = self._cpu if self._device is None else torch.Generator(self._device)
        self.restart(*key)

    def restart(self, *key: int | str) -> None:
        """Restart with another key; `generator` stays the same object."""
        self._key = key
        self._others: tuple[Any, Any] | None = None  # Python's and NumPy's, once the block was entered
        number = digest(*key) & (2**63 - 1)
        self._cpu.manual_seed(number)
        self.generator.manual_seed(number)

    def __enter__(self) -> None:
        self._outer = seeded_globals(*self._key, device=self._device)
        self._outer.__enter__()
        torch.default_generator.set_state(self._cpu.get_state())
        if self._device is not None:
            _set_device_state(self._device, self.generator.get_state())
        if self._others is not None:
            random.setstate(self._others[0])
            np.random.set_state(self._others[1])  # noqa: NPY002

    def __exit__(self, *_: object) -> None:
        self._others = (random.getstate(), np.random.get_state())  # noqa: NPY002
        self._cpu.set_state(torch.default_generator.get_state())
        if self._device is not None:
            self.generator.set_state(_device_state(self._device))
        self._outer.__exit__()


class _Hashed(ISeedSequence):
    """A seed sequence that hashes a key, 15 times faster than NumPy's own mixing."""

    def __init__(self, key: tuple[int | str, ...]) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.frombuffer(_hash(self._key, n_words * np.dtype(dtype).itemsize), dtype)


def _hash(key: tuple[int | str, ...], size: int) -> bytes:
    try:
        text = "\x1f".join([part if isinstance(part, str) else f"#{int(part)}" for part in key])
    except (OverflowError, TypeError, ValueError):
        raise TypeError(f"seeds: a key is made of whole numbers and strings, got {key!r}.") from None
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def _device_state(device: torch.device) -> torch.Tensor:
    module = getattr(torch, device.type)
    state: torch.Tensor = module.get_rng_state(device) if device.type == "cuda" else module.get_rng_state()
    return state


def _seed_device(device: torch.device, number: int) -> None:
    if device.type == "cuda":
        with torch.cuda.device(device):  # manual_seed seeds the current device
            torch.cuda.manual_seed(number)
    else:
        getattr(torch, device.type).manual_seed(number)


def _set_device_state(device: torch.device, state: torch.Tensor) -> None:
    module = getattr(torch, device.type)
    if device.type == "cuda":
        module.set_rng_state(state, device)
    else:
        module.set_rng_state(state)
