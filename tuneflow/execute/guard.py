"""Restore process-wide settings that user code may have changed."""

import os
import warnings
from typing import Any, cast

import torch

from tuneflow.seeds import ONE_AT_A_TIME


class Guarded:
    """A block that restores torch's default dtype and gradient mode, the working directory and the warning filters."""

    __slots__ = ("_dtype", "_filters", "_folder", "_grad")

    def __enter__(self) -> None:
        ONE_AT_A_TIME.__enter__()
        self._dtype, self._grad = torch.get_default_dtype(), torch.is_grad_enabled()
        self._filters, self._folder = list(warnings.filters), _folder()

    def __exit__(self, *_: object) -> None:
        if torch.get_default_dtype() is not self._dtype:
            torch.set_default_dtype(self._dtype)
        if torch.is_grad_enabled() is not self._grad:
            torch.set_grad_enabled(self._grad)
        if list(warnings.filters) != self._filters:
            warnings.resetwarnings()
            cast(list[Any], warnings.filters).extend(self._filters)
        if self._folder is not None and _folder() != self._folder:
            os.chdir(self._folder)
        ONE_AT_A_TIME.__exit__()


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
