"""What cannot be trained as one program, and the place in the user's code that says why."""

import linecache
import traceback
from pathlib import Path
from types import TracebackType

import torch

from tuneflow.errors import TuneflowError

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


class Refused(TuneflowError):
    """This module, loss or optimizer cannot be fused; the message is the reason. Training it alone still works."""


def place_of(frames: traceback.StackSummary) -> tuple[str, str]:
    """(`" at net.py:31"`, the source of that line): the innermost frame of the user's, or else of torch.nn."""
    user = [f for f in frames if not f.filename.startswith(_OURS) and not f.filename.startswith("<")]
    layers = [f for f in frames if "/torch/nn/modules/" in f.filename.replace("\\", "/")]
    for found in (user[::-1] or layers[::-1])[:1]:
        line = linecache.getline(found.filename, found.lineno or 0).strip()
        return f" at {Path(found.filename).name}:{found.lineno}", line
    return "", ""


def because(error: BaseException) -> Refused:
    """`error`, raised while tracing, as a refusal with its place."""
    if isinstance(error, Refused):
        return error
    where, _ = place_of(_frames(error.__traceback__))
    first = str(error).strip().split("\n")[0][:160]
    return Refused(f"cannot be traced{where}: {type(error).__name__}: {first}")


def _frames(trace: TracebackType | None) -> traceback.StackSummary:
    """Those below the call that the library made itself."""
    frames = traceback.extract_tb(trace)
    last = max((n for n, f in enumerate(frames) if f.filename.startswith(_OURS[1])), default=-1)
    return traceback.StackSummary.from_list(frames[last + 1 :])
