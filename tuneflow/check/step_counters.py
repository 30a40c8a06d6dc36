"""Numbers in attributes that count steps although no state holds them, so that they may matter after the dry run."""

from contextlib import suppress
from typing import Any

from torch import nn

from tuneflow.errors import listed, warn
from tuneflow.optim.build import innermost
from tuneflow.train.session import Session


def warn_of_counters(run: Session) -> None:
    """Warn of attributes that an epoch of `run` counts up: of the module, the loss, the augmentation, the optimizer.

    The round trip finds one that matters within its few steps; a second phase after 100 steps it does not see.
    """
    before = _numbers(run)
    with suppress(Exception), run.job.at_work("epoch", 1):  # a loss may need larger batches
        run.train_epoch(1)
    counted = [name for name, value in _numbers(run).items() if value > before.get(name, 0)]
    if counted:
        warn(
            f"An epoch counts up {listed(counted)}, which no state holds. If training depends on it, a trial that is"
            " resumed goes on from another number, and a count of the loss or of augment from trial to trial; a buffer"
            " (register_buffer), or a number in optimizer.state or param_groups, is part of the state. A name"
            " that begins with _ says that it does not matter."
        )


def _numbers(run: Session) -> dict[str, int]:
    settings, optimizer = run.settings, innermost(run.optimizer)
    parts = {
        "the module": run.module,
        "the loss": settings.loss,
        "augment": settings.augment,
        "the optimizer": optimizer,
    }
    return {
        f'"{name}" of {what}': value
        for what, part in parts.items()
        for path, owner in _owners(part)
        for name, value in _counts(path, owner).items()
    }


def _owners(part: Any) -> list[tuple[str, Any]]:
    """Return an object, or every submodule of a module, with their dotted names."""
    return list(part.named_modules()) if isinstance(part, nn.Module) else [("", part)]


def _counts(path: str, owner: Any) -> dict[str, int]:
    attributes = getattr(owner, "__dict__", {}).items()
    return {f"{path}.{name}".lstrip("."): v for name, v in attributes if type(v) is int and not name.startswith("_")}
