"""Result: a trial together with the model it trained; and how that model is saved and loaded."""

import hashlib
import io
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tuneflow.errors import CheckpointError, StudyError, listed
from tuneflow.heuristics.input_scaling import NormalizedModule, Normalizer
from tuneflow.heuristics.target_scaling import RescaledModule
from tuneflow.history.trial import WORTHLESS, Trial
from tuneflow.metrics import Estimate, estimate
from tuneflow.model import Model, tensors_of
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.checkpoints import States, write_bytes
from tuneflow.study.confirm import Confirmed, plural
from tuneflow.study.selection_bias import optimism
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.version import __version__

Array = NDArray[np.float64]

FORMAT = 2  # 1 knew no targets' scale


class Scores(Mapping[str, Estimate]):
    """Metrics of one model on data it has not seen: name to Estimate; prints as a line for each."""

    def __init__(self, estimates: Mapping[str, Estimate]) -> None:
        self._estimates = dict(estimates)

    def __getitem__(self, name: str) -> Estimate:
        return self._estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def __repr__(self) -> str:
        wide = max(map(len, self._estimates), default=0)
        rows = [f"{name:<{wide}}  {value}" for name, value in self._estimates.items()]
        examples = max((e.examples for e in self._estimates.values()), default=0)
        return "\n".join([*rows, f"[95 % interval over {examples} examples]"] if examples else rows)


def _score(metric: str, metrics: Mapping[str, float], errors: Mapping[str, float]) -> str:
    doubt = f" +- {errors[metric]:.4f}" if metric in errors else ""
    return f"{metric} {metrics[metric]:.4f}{doubt}" if metric in metrics else f"no {metric}"


def _short(value: Any) -> Any:
    """Nested values with floats of four digits, to be read by people."""
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _labels(name: str, stored: Any, resolved: Any) -> list[str]:
    """Names of the parts of a configuration whose stored value is not what was passed on."""
    if isinstance(stored, Mapping) and isinstance(resolved, Mapping):
        return [label for key in stored for label in _labels(f"{name}.{key}", stored[key], resolved[key])]
    return [] if type(stored) is type(resolved) and stored == resolved else [name]


@dataclass(frozen=True)
class Provenance:
    """Where the model of a result comes from."""

    job: Job
    trainer: TrainerProtocol
    states: States
    metrics: tuple[str, ...]  # the study's objectives, and what has limits
    epoch: int  # the epoch that speaks for the trial
    rivals: tuple[Array, Array] | None = field(default=None, compare=False)  # of the best: all costs and their errors


@dataclass(frozen=True, repr=False)
class Result(Trial):
    """A finished trial that can hand over its trained model.

    Attributes:
        confirmed: what `study.confirm` found for it; None where it was not chosen by that.
    """

    origin: Provenance | None = None
    confirmed: Confirmed | None = None

    @property
    def _from(self) -> Provenance:
        if self.origin is None:
            raise StudyError(
                f"trial {self.number} comes without its study; take it from study.best or study.result(number)."
            )
        return self.origin

    @property
    def optimism(self) -> float:
        """By about how much the best score observed is too good, for being the best of many noisy ones, in its units.

        It supposes that the errors of the trials are independent. Trained on the same data and judged by the same
        examples they are so in part, and the truth is less. NaN where it is not the best trial, or no error is known.
        """
        return math.nan if self._from.rivals is None else optimism(*self._from.rivals)

    def __repr__(self) -> str:
        origin = self._from
        metrics, errors = (self.confirmed or self).metrics, (self.confirmed or self).errors
        scores = ", ".join(_score(metric, metrics, errors) for metric in origin.metrics)
        when = ", ".join(
            filter(None, (self._known_by, f"epoch {origin.epoch} of {self.epochs}", origin.job.runtime.label))
        )
        return f"trial {self.number}: {scores} ({when}), {_short(self.config)}"

    @property
    def _known_by(self) -> str:
        """How its score is known, in words; empty where it is as observed, and the only one."""
        origin, main = self._from, self._from.metrics[0]
        if self.confirmed is not None:
            return f"{plural(self.confirmed.seeds, 'fresh seed')}, observed {self.metrics[main]:.4f}"
        if origin.rivals is None or len(origin.rivals[0]) < 2:
            return ""
        too_good = self.optimism
        about = f", optimistic by about {too_good:.2g}" if too_good > 0 else ""
        return f"best of {len(origin.rivals[0])} observed{about}"

    def model(self) -> nn.Module:
        """The trained module of the epoch that speaks for the trial, in evaluation mode.

        Its input normalizer is inside, and where it learned standardized targets so are their units: it takes raw
        inputs and gives outputs in the targets' units. Every call makes a new one. Its weights are float32, and it
        computes in it, whatever precision it was trained in, unless it is called under torch.autocast.

        Raises:
            StudyError: the trial diverged or failed.
            CheckpointError: the state is not kept (see `keep` of tn.Folder), or is damaged.
        """
        origin = self._from
        if self.status in WORTHLESS:
            raise StudyError(f"trial {self.number} has no model: it is {self.status} ({self.reason}).")
        if not origin.trainer.has_model:
            return origin.trainer.module(origin.job, TrainState(1, {}))
        try:
            state = origin.states.get(self.number, origin.epoch)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} A study keeps the states of its best trials only: tn.Folder(path, keep=...) sets how many."
            ) from None
        return origin.trainer.module(origin.job, state)

    def test(self, data: Any) -> Scores:
        """Metrics of this trial's model on other data, each with its 95 % interval, in the runtime's precision.

        Args:
            data: as a Trainer's `valid`, not normalized: the model does that itself.
        """
        origin = self._from
        measured = origin.trainer.single.test(origin.job, self.model(), data)
        return Scores({name: estimate(value) for name, value in measured.items()})

    def save(self, path: str | Path) -> None:
        """Write weights, configuration, normalizer, the targets' scale, versions and the precision to a file that
        `tn.load` reads.

        It is a torch file of tensors and plain values, so `torch.load(path)["weights"]` works without tuneflow.

        Raises:
            StoreError: the file cannot be written; what was there before stays.
        """
        model = self.model()
        if self._from.trainer.single.save(model, Path(path)):
            return
        module, back = _unwrapped(model, RescaledModule)
        inner, front = _unwrapped(module, NormalizedModule)
        weights = {name: tensor.detach().cpu() for name, tensor in tensors_of(inner).items()}
        content: dict[str, Any] = {
            "format": FORMAT,
            "tuneflow": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "precision": self._from.job.runtime.precision,
            "channels_last": self._from.job.runtime.channels_last,
            "number": self.number,
            "config": self.config,
            "metrics": dict(self.metrics),
            "labels": _labels("model", self.config.get("model", {}), self._from.job.config.get("model", {})),
            "weights": weights,
            "normalizer": front,
            "scale": back,
        }
        content["sha256"] = _digest(content)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(Path(path), buffer.getbuffer())


def load(path: str | Path, builder: Callable[..., nn.Module] | Model, space: SearchSpace | None = None) -> nn.Module:
    """The module that `Result.save` wrote, in evaluation mode on the CPU, as `Result.model` gives it.

    Args:
        builder: what made the module; it is called with the saved configuration's section `model`.
        space: the study's space, needed only where that section holds labels that stand for objects.

    Raises:
        CheckpointError: the file is damaged, or was written by a newer tuneflow.
        ValueError: the weights do not fit what the builder makes, or the space is needed.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        newer = content["format"] > FORMAT
        damaged = not newer and _digest(content) != content["sha256"]
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a file that tuneflow saved, or damaged ({reason}).") from None
    if newer:
        raise CheckpointError(
            f"{path}: written by tuneflow {content['tuneflow']}, newer than this {__version__}; upgrade tuneflow."
        )
    if damaged:
        raise CheckpointError(f"{path}: its SHA-256 differs from the one it was written with; the file is damaged.")
    if content["labels"] and space is None:
        raise ValueError(
            f"{path}: {listed(content['labels'])} stands for an object that only the study's space knows; pass space=."
        )
    config = content["config"] if space is None else space.resolve(space.cast(content["config"]))
    model = builder if isinstance(builder, Model) else Model(builder)
    try:
        module = model.build(config)
    except TypeError as error:
        made = config.get("model", {})
        raise ValueError(
            f"{path}: holds a module that was made with {made}, which the builder does not take: {error}."
        ) from None
    _fill(module, content["weights"], str(path))
    front, back = content["normalizer"], content.get("scale")
    module = module if front is None else NormalizedModule(module, Normalizer(front["mean"], front["std"]))
    return (module if back is None else RescaledModule(module, back["mean"], back["std"])).eval()


def _unwrapped(
    module: nn.Module, kind: type[NormalizedModule] | type[RescaledModule]
) -> tuple[nn.Module, dict[str, Tensor] | None]:
    """The module inside and the mean and std around it, where `module` is of this kind."""
    if not isinstance(module, kind):
        return module, None
    return module.module, {"mean": module.mean.cpu(), "std": module.std.cpu()}


def _fill(module: nn.Module, weights: Mapping[str, Tensor], path: str) -> None:
    have = tensors_of(module)
    wrong = [
        name
        for name in have.keys() | weights.keys()
        if name not in have or name not in weights or have[name].shape != weights[name].shape
    ]
    if wrong:
        name = min(wrong)
        shapes = [str(tuple(side[name].shape)) if name in side else "nothing" for side in (weights, have)]
        raise ValueError(
            f'{path}: "{name}" is {shapes[0]} in the file and {shapes[1]} in the module that the builder makes.'
        )
    with torch.no_grad():
        for name, tensor in have.items():
            tensor.copy_(weights[name])


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a saved file says, but for this itself."""
    tensors = ("weights", "normalizer", "scale")
    plain = {name: value for name, value in content.items() if name not in (*tensors, "sha256")}
    sha = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    scale = {f"scale.{name}": tensor for name, tensor in (content.get("scale") or {}).items()}
    for name, tensor in [*content["weights"].items(), *(content["normalizer"] or {}).items(), *scale.items()]:
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(np.ascontiguousarray(tensor.detach().reshape(-1).view(torch.uint8).numpy()).data)
    return sha.hexdigest()
