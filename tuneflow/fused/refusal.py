"""The exception for trials that cannot be trained as one program, with the line of user code that prevents it."""

import linecache
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from tuneflow.errors import TuneflowError

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


class CannotFuse(TuneflowError):
    """This module, loss or optimizer cannot be fused; the message is the reason. Training it alone still works."""


def location_below(function: str) -> str:
    """Return the innermost user code below `function` on the stack, as `" at net.py:31: if x.sum() > 0:"`."""
    frames = traceback.extract_stack()
    start = max((n for n, frame in enumerate(frames) if frame.name == function), default=0)
    return _location(frames[start:])


def because(error: BaseException) -> CannotFuse:
    """Convert an error raised while tracing to a CannotFuse with the line of user code."""
    if isinstance(error, CannotFuse):
        return error
    first = str(error).strip().split("\n")[0][:160]
    location = _location(traceback.extract_tb(error.__traceback__))
    return CannotFuse(f"cannot be traced{location}{';' if location else ':'} {type(error).__name__}: {first}")


def _location(frames: Sequence[traceback.FrameSummary]) -> str:
    """Format the innermost frame of user code, or else of torch.nn, with its source; empty if there is none."""
    user = [f for f in frames if not f.filename.startswith(_OURS) and not f.filename.startswith("<")]
    user = [f for f in user if not _is_library(f.filename)]
    layers = [f for f in frames if "/torch/nn/modules/" in f.filename.replace("\\", "/")]
    for found in (user[::-1] or layers[::-1])[:1]:
        line = linecache.getline(found.filename, found.lineno or 0).strip()
        return f" at {Path(found.filename).name}:{found.lineno}" + (f": {line}" if line else "")
    return ""


def _is_library(filename: str) -> bool:
    """True for a file of the standard library."""
    return Path(filename).parent == Path(traceback.__file__).parent
