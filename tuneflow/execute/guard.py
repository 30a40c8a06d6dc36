"""What user code may leave behind in the process is put back after every step of it."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch


@contextmanager
def guarded() -> Iterator[None]:
    """Within the block code may change torch's default dtype and gradient mode, the working directory and the warning
    filters; they are put back when it is left."""
    dtype, grad, filters, folder = torch.get_default_dtype(), torch.is_grad_enabled(), list(warnings.filters), _folder()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if list(warnings.filters) != filters:
            warnings.resetwarnings()
            cast(list[Any], warnings.filters).extend(filters)
        if folder is not None and _folder() != folder:
            os.chdir(folder)


def _folder() -> str | None:
    with suppress(OSError):
        return os.getcwd()
    return None
