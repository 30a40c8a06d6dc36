"""Input fits: normalizers and target scale, fitted to the training rows, and the choice of the one for a module."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.data import Data
from tuneflow.data.input_range import range_of
from tuneflow.data.sources import Source
from tuneflow.errors import ending_where
from tuneflow.heuristics.by_part import ByPart, PartNormalizer, standardizing
from tuneflow.heuristics.input_scaling import cast_only
from tuneflow.heuristics.input_uses import InputUses, uses_of
from tuneflow.heuristics.normalizers import KINDS, described, fit_kind
from tuneflow.heuristics.target_scaling import Scale, fit_both
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import seeded_globals, torch_stream

KEPT = 8  # normalizers of a kind, for each device
SAMPLE = 2**14  # rows of a Dataset that an object's `fit` gets at once


@dataclass(frozen=True)
class StandardFit:
    """The fit to all training rows, in one pass.

    Attributes:
        rows: two rows of raw inputs.
        normalizer: standardizes inputs; None where they are to be left alone.
        cast: casts bytes only; None for other inputs.
        scale: of the targets; None where they are to be left alone.
    """

    rows: Any
    normalizer: nn.Module | None
    cast: nn.Module | None
    scale: Scale | None


class InputFits:
    """Fits to the rows of one source, each made once for a device and kept in a cache.

    Args:
        source: the training rows.
        cache: filled here.
    """

    def __init__(self, source: Source, cache: dict[Any, Any]) -> None:
        self._source, self._cache = source, cache

    def standard(self, runtime: Runtime) -> StandardFit:
        key = ("standard", runtime.device)
        if key not in self._cache:
            with seeded_globals(0, "normalizer"):  # a dataset may draw
                fitted, scale = fit_both(self._source.batches(4096))
            rows = runtime.place(next(iter(self._source.batches(2)))[0])
            cast = None if fitted is None else cast_only(rows)
            for part in (fitted, cast, scale):
                if part is not None:
                    part.to(runtime.device)
            self._cache[key] = StandardFit(rows, fitted, cast, scale)
        result: StandardFit = self._cache[key]
        return result

    def of(self, kind: Any, runtime: Runtime) -> nn.Module | None:
        """Return the normalizer of a kind other than True and False; the last few are kept."""
        kept: OrderedDict[Any, Any] = self._cache.setdefault(("kinds", runtime.device), OrderedDict())
        key = _key(kind)
        if key not in kept:
            with seeded_globals(0, "normalizer"):
                normalizer = fit_kind(kind, self)
            normalizer = None if normalizer is None else normalizer.to(runtime.device)
            _try(normalizer, kind, self.standard(runtime).rows)
            kept[key] = kind, normalizer
        kept.move_to_end(key)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        result: nn.Module | None = kept[key][1]
        return result

    def box(self) -> tuple[float, float]:
        """Return the lowest and the highest value in the inputs, in raw units.

        Raises:
            TypeError, ValueError: they have no range.
        """
        if "box" not in self._cache:
            with seeded_globals(0, "box"):  # a dataset may draw
                self._cache["box"] = range_of(self.batches())
        low, high = self._cache["box"]
        return low, high

    def batches(self) -> Iterator[Any]:
        """Yield the inputs of all rows."""
        return (inputs for inputs, _ in self._source.batches(4096))

    def sample(self) -> Any:
        """Return the inputs of all rows of a Data, or of so many of a Dataset, drawn at random."""
        if isinstance(self._source, Data):
            return self._source.inputs
        order = torch.randperm(len(self._source), generator=torch_stream("normalizer"))[:SAMPLE]
        return next(iter(self._source.batches(SAMPLE, order)))[0]


def choose_normalizer(kind: Any, module: nn.Module, fits: InputFits, runtime: Runtime) -> nn.Module | None:
    """Return the normalizer of a kind for a module; None where it takes raw inputs.

    Args:
        kind: as Model.normalization returns it, not False.
        module: its first layers are looked at.
        fits: to the training rows.
        runtime: places the normalizer.

    Raises:
        ValueError: the module looks at inputs by value that would be normalized, or brings a normalizer of its own
            where one of a certain kind is asked for.
        TypeError, ValueError: the inputs are not of the kind that it takes.
    """
    standard = fits.standard(runtime)
    if kind is True:
        if standard.normalizer is None:
            return None
        uses = _uses(module, standard)
        if uses.scales:
            return standard.cast
        return _beside(True, uses, standard, fits, runtime) if uses.looks else standard.normalizer
    normalizer = fits.of(kind, runtime)
    if isinstance(normalizer, PartNormalizer):
        _check_parts(kind, uses_of(module, standard.rows, normalizer.keys))
    elif normalizer is not None and isinstance(standard.rows, Tensor):
        uses = _uses(module, standard)
        _check(kind, uses, standard.rows)
        return _beside(kind, uses, standard, fits, runtime) if uses.looks and kind in KINDS else normalizer
    return normalizer


def _uses(module: nn.Module, standard: StandardFit) -> InputUses:
    return uses_of(module, standard.rows if standard.cast is None else standard.cast(standard.rows))


def _beside(kind: Any, uses: InputUses, standard: StandardFit, fits: InputFits, runtime: Runtime) -> nn.Module | None:
    """Return the normalizer of the columns that are not looked at by value."""
    width = standard.rows.shape[-1]
    looked = uses.columns(width)
    others = tuple(column for column in range(width) if column not in looked)
    if not others or standard.rows.ndim not in (2, 3):
        raise ValueError(_words(uses, kind))
    return fits.of(standardizing(others) if kind is True else ByPart(((others, kind),)), runtime)


def _check(kind: Any, uses: InputUses, rows: Tensor) -> None:
    """Raise ValueError where a normalizer of this kind would spoil the use that a module makes of its inputs."""
    if uses.brings:
        raise ValueError(
            f"the module brings a normalizer of its own, and Model(normalize={described(kind)}) would put another in"
            " front of it; leave normalize out."
        )
    width = rows.shape[-1] if rows.ndim > 1 else 1
    if isinstance(kind, ByPart) and kind.columns(width) & set(uses.columns(width)):
        raise ValueError(_words(uses, kind))


def _check_parts(kind: Any, uses: InputUses) -> None:
    """Raise ValueError where the module looks by value at a part of its inputs that is normalized."""
    if uses.looks:
        raise ValueError(_words(uses, kind))


def _words(uses: InputUses, kind: Any) -> str:
    look = uses.looks[0]
    return (
        f"the module looks at its inputs by value, with {look.call}{look.where}, before any layer with weights, and"
        f" normalize={described(kind)} would change those values; pass tn.Model(..., normalize=False), or the columns"
        " that may be standardized, such as normalize=[0, 1]."
    )


def _try(normalizer: nn.Module | None, kind: Any, rows: Any) -> None:
    """Raise ValueError if a normalizer fails on two rows."""
    try:
        with torch.no_grad():
            _ = rows if normalizer is None else normalizer(rows)
    except Exception as error:
        message = (
            f"Model: normalize={described(kind)}: the module that fit returned fails on two rows:"
            f" {type(error).__name__}: {error}"
        )
        raise ending_where(error, ValueError(message)) from None


def _key(kind: Any) -> Hashable:
    """Return the key of a kind: objects by identity, classes and partials by their arguments."""
    if isinstance(kind, str | ByPart):
        return kind
    if isinstance(kind, partial):
        return "partial", kind.func, repr(sorted(kind.keywords.items()))
    return kind if isinstance(kind, type) else ("object", id(kind))
