"""What cannot be trained as one program, and the place in the user's code that says why."""

import linecache
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from tuneflow.errors import TuneflowError

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


class CannotFuse(TuneflowError):
    """This module, loss or optimizer cannot be fused; the message is the reason. Training it alone still works."""


def place_below(function: str) -> str:
    """`" at net.py:31: if x.sum() > 0:"`: where the user's code stands that was called, in the end, by `function`."""
    frames = traceback.extract_stack()
    start = max((n for n, frame in enumerate(frames) if frame.name == function), default=0)
    return _place(frames[start:])


def because(error: BaseException) -> CannotFuse:
    """`error`, raised while tracing, as a refusal with its place."""
    if isinstance(error, CannotFuse):
        return error
    first = str(error).strip().split("\n")[0][:160]
    place = _place(traceback.extract_tb(error.__traceback__))
    return CannotFuse(f"cannot be traced{place}{';' if place else ':'} {type(error).__name__}: {first}")


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """The innermost frame of the user's, or else of torch.nn, with its source; empty where there is none."""
    user = [f for f in frames if not f.filename.startswith(_OURS) and not f.filename.startswith("<")]
    user = [f for f in user if not _is_library(f.filename)]
    layers = [f for f in frames if "/torch/nn/modules/" in f.filename.replace("\\", "/")]
    for found in (user[::-1] or layers[::-1])[:1]:
        line = linecache.getline(found.filename, found.lineno or 0).strip()
        return f" at {Path(found.filename).name}:{found.lineno}" + (f": {line}" if line else "")
    return ""


def _is_library(filename: str) -> bool:
    """Whether this is Python's own, as contextlib is."""
    return Path(filename).parent == Path(traceback.__file__).parent
