"""Checks of plain arguments, with one wording: whole numbers, positive numbers, seconds, flags, words, paths."""

import math
import os
import sys
from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuneflow.errors import did_you_mean, listed

LARGEST = 2**63 - 1  # what a study's file can hold
LONG = 200  # characters of a value in a message
SMALLEST = sys.float_info.min  # of what is not 0 where denormal numbers are flushed, as in training


def is_number(value: Any) -> bool:
    """True for a finite int or float, NumPy's too; a bool is neither, nor is an int that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: Any, least: float = 1) -> bool:
    """True for an int from `least` to 2**63 - 1, NumPy's too; a bool is none."""
    return is_int(value) and least <= int(value) <= LARGEST


def is_int(value: Any) -> bool:
    """True for an int of any size, NumPy's too; a bool is none."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def is_word(value: Any, words: Collection[str]) -> bool:
    """True for one of some words; an array, or what else compares in its own way, is none."""
    return isinstance(value, str) and value in words


def is_flag(value: Any) -> bool:
    """True for True and False, NumPy's and a tensor of one too."""
    return isinstance(value, bool | np.bool_) or (
        isinstance(value, torch.Tensor) and value.dtype == torch.bool and not value.ndim
    )


def items_of(value: Any) -> list[Any] | None:
    """Return what an iterable holds; None for what is none, as a string or an array of no dimension."""
    try:
        return None if isinstance(value, str) else list(value)
    except TypeError:
        return None


def repr_of(value: Any) -> str:
    """Return a value's repr, or its kind where it has none."""
    try:
        return repr(value)
    except Exception:  # a number of thousands of digits, or a class of others
        return f"a {type(value).__name__} that cannot be shown"


def shown(value: Any) -> str:
    """Return a value for a message: its repr, cut where it is long, or its kind where it has none."""
    text = repr_of(value)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}... ({len(text):,} characters)"


def check_whole(name: str, value: Any, least: int = 1, otherwise: str = "") -> int:
    """Return `value` if it is a whole number >= `least`.

    Args:
        name: the argument as the message shows it, such as `Trainer: epochs`.
        value: the argument.
        least: the smallest allowed number; the largest is 2**63 - 1.
        otherwise: what leaving the argument out gives, such as `for none`; ends the message.

    Raises:
        ValueError: it is anything else.
    """
    if not is_whole(value, least):
        most = " and below 2**63" if is_int(value) and value > LARGEST else ""
        rule = f"{name} needs to be a whole number >= {least}{most}"
        raise ValueError(f"{rule}, got {shown(value)}{_way_out(otherwise)}.")
    return int(value)


def check_positive(name: str, value: Any, otherwise: str = "", kind: str = "a number") -> None:
    """Raise ValueError unless `value` is a finite number > 0.

    Args:
        name: the argument as the message shows it, such as `Trainer: clip`.
        value: the argument.
        otherwise: what leaving the argument out gives, such as `for none`; ends the message.
        kind: the number with its unit, such as `a number of seconds`.
    """
    if not is_number(value) or value < SMALLEST:
        least = f">= {SMALLEST:.1e}, as less counts as 0 in training" if is_number(value) and value > 0 else "> 0"
        raise ValueError(f"{name} needs to be {kind} {least}, got {shown(value)}{_way_out(otherwise)}.")


def check_seconds(name: str, value: Any, otherwise: str = "") -> float:
    """Return `value` if it is a number of seconds >= 0, which may be infinite.

    Args:
        name: the argument as the message shows it, such as `run: seconds`.
        value: the argument.
        otherwise: the way out that ends the message, such as `with 0 every epoch is written`.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, NaN, or more than a float can hold.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} needs to be a number of seconds, got {shown(value)}.")
    seconds = float(value) if is_number(value) or value == math.inf else -1.0
    if seconds < 0:
        way = f"; {otherwise}" if otherwise else ""
        raise ValueError(f"{name} needs to be a number of seconds >= 0, got {shown(value)}{way}.")
    return seconds


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, NumPy's and torch's too: a word such as "no" would count as True.

    Raises:
        TypeError: it is anything else.
    """
    if not is_flag(value):
        raise TypeError(f"{name} needs to be True or False, got {shown(value)}.")
    return bool(value)


def path_of(name: str, value: Any) -> Path:
    """Return `value` as a path, with `~` expanded.

    Raises:
        ValueError, TypeError: it cannot be one; the message opens with `name`.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text or "://" in text or not _is_encodable(text):
        kind = ValueError if isinstance(text, str) else TypeError
        raise kind(f'{name} needs to be a path such as "runs/first", got {shown(value)}.')
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{name} begins with ~ and names no user of this machine, got {text!r}.") from None


def check_word(name: str, value: Any, words: Collection[str]) -> str:
    """Return `value` if it is one of some words.

    Raises:
        ValueError: it is anything else.
    """
    if not is_word(value, words):
        options = listed(f'"{word}"' for word in words)
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        raise ValueError(f"{name} needs to be one of {options}, got {shown(value)}.{near}")
    return str(value)


def _is_encodable(text: str) -> bool:
    """True for what a file system can be asked for: it has no half of a character."""
    try:
        return bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False


def _way_out(otherwise: str) -> str:
    return f"; leave it out {otherwise}" if otherwise else ""
