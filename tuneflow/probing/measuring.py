"""Measures a model and its training before any trial: curvature, noise, health, the prior loss, a race of rates."""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from tuneflow.check.dry_run import check_known_sections, check_sections
from tuneflow.data.data import Batch, sliced
from tuneflow.harden.exposure import Exposure, cost_of_exposure, exposure_of, settings_of_threat
from tuneflow.heuristics.constant_baseline import best_constant
from tuneflow.heuristics.curvature import adam_rate, adam_scale, curvature, sgd_rate
from tuneflow.heuristics.health import Health, health
from tuneflow.heuristics.noise import gradient_noise
from tuneflow.model import Model
from tuneflow.optim.build import innermost
from tuneflow.probing.probe import Probe
from tuneflow.probing.race import Race, affordable, race, range_test
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job
from tuneflow.train.session import Session
from tuneflow.train.trainer import Trainer

T = TypeVar("T")

ADAM_KIN = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop")
SGD_KIN = ("SGD", "ASGD")
SHORT, LEAST = 3_000, 420  # a run of fewer steps than SHORT may spend LEAST gradients on its probe
SCALED, CURVED, ROUNDS = 8, 3, 5  # mini-batches for Adam's scale and for the curvature, and products for each
RACERS = 4.75  # what a race takes, or fewer: four, and one that diverges late
FEW = 15  # steps: a shorter race says nothing
LEARNED = 0.98  # a racer that ends above this share of a constant's loss has learned nothing
LINE = 160  # characters of an exception's message
HORIZON = 0.3  # the best rate falls as the number of steps to this power; measured, see docs/explanation/lecun.md


def probe(
    model: Model,
    trainer: Trainer,
    runtime: Runtime | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    share: float = 0.05,
    seconds: float = math.inf,
) -> Probe:
    """Measure a model and its training before any trial: curvature, a race of learning rates, and the initial loss.

    Everything is done on new modules: model, trainer, data and the global generators are left as they were, to the bit.
    In a runtime of lower precision the race, and a range test before it, run in that precision; all else is measured
    in float32. A measurement that raises, as the curvature may for want of memory or of a second derivative, is noted
    in the probe's `errors`, and the others go on without it.

    Args:
        model: makes the module.
        trainer: data, loss, optimizer and settings; of one with folds, fold 0 is measured.
        runtime: device, precision and threads; Runtime() by default.
        config: the resolved sections, such as `{"optimizer": {"momentum": 0.9}}`; None for the defaults of model and
            trainer.
        seed: as a study's; the probe is a function of it, its seconds apart.
        share: the largest cost, as a share of the trial's steps, counted in gradients of a mini-batch; trials of less
            than 3,000 steps may spend 420.
        seconds: no racer starts later than this.

    Raises:
        ValueError, TypeError: share is not within (0, 1], or a section or name in `config` does not fit.

    Source: LeCun, Simard, Pearlmutter, NIPS 5, 1993; LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998.
    """
    if not 0 < share <= 1:
        raise ValueError(f"probe: share needs to be within (0, 1], got {share!r}.")
    check_known_sections(config or {}, "probe: config", model)
    check_sections(config or {}, model, trainer)
    started = time.perf_counter()
    job = Job(model, dict(config or {}), runtime or Runtime(), seed)
    with job.runtime.active():
        return _Measuring(trainer.in_fold(0).configured(job.config), job).probe(share, started + seconds, started)


class _Measuring:
    """One measurement, on new modules."""

    def __init__(self, trainer: Trainer, job: Job) -> None:
        self.trainer, self.session = trainer, trainer.session(replace(job, runtime=job.runtime.in_fp32()))
        self.job = replace(job, model=self.session.model.decided(self.session.recipe))
        self.session.begin()
        self.unsure = False  # the race found no optimum
        self.swept: float | None = None  # the rate of a range test, where there is no rule
        self.gradients, self.naive = 0.0, math.inf  # naive: the loss of a model that has learned nothing
        self.exposures: dict[float, Exposure | None] = {}  # of racers, by rate
        self.notes: list[str] = []
        self.errors: list[str] = []  # of measurements that raised
        self.kind = type(innermost(self.session.optimizer)).__name__
        first = self.session.groups[0]
        self.momentum = float(first["momentum"]) if "momentum" in first and self.kind in SGD_KIN else None
        self.steps = self.session.steps * trainer.epochs

    def probe(self, share: float, deadline: float, started: float) -> Probe:
        with self.job.at_work("probe", 0):
            batches = self._tried("batches", lambda: list(islice(self.session.batches(1), SCALED))) or []
            loss = self._tried("initial loss", lambda: self._loss(batches[:CURVED])) if batches else None
            finite = loss is not None and math.isfinite(loss)
            curved = self._tried("curvature", lambda: self._curvature(batches)) if finite else None
            value, exact = curved or (None, True)
            noise = self._tried("noise scale", lambda: self._noise(batches)) if value is not None else None
            prior = self._tried("loss of constants", self._prior)
            self.naive = min(math.inf if loss is None else loss, prior or math.inf)
            estimate = None if value is None else self._rate(value)
            state = self._tried("health", lambda: self._health(batches[0], estimate, prior)) if finite else None
        if estimate is None and (finite or loss is None):
            self._tried("range test", self._sweep)
        center = estimate or self._given
        racers = self._tried("race", lambda: self._race(center, share, deadline)) if finite or loss is None else None
        return Probe(
            rate=self._settled(estimate, racers),
            estimate=estimate,
            curvature=value,
            exact=exact,
            race=racers,
            optimizer=self.kind,
            momentum=self.momentum,
            batch_size=self.trainer.batch_size,
            parameters=sum(p.numel() for p in self.session.parameters),
            steps=self.steps,
            loss=math.nan if loss is None else loss,
            prior=prior,
            noise=noise,
            health=state,
            doubt=self._doubt(racers),
            gradients=self.gradients,
            seconds=time.perf_counter() - started,
            screened=_screened(loss, racers),
            exposure=self.exposures.get(racers.rates[racers.losses.index(min(racers.losses))]) if racers else None,
            notes=tuple(self.notes),
            errors=tuple(self.errors),
        )

    def _tried(self, what: str, measure: Callable[[], T]) -> T | None:
        """Return a measurement; None where it raises, whose reason is recorded."""
        try:
            return measure()
        except Exception as error:
            self.errors.append(f"{what}: {in_words(error)}")
        gc.collect()  # what a graph of second derivatives held
        return None

    @property
    def _given(self) -> float:
        """The rate where there is no rule: a range test's, or the one that the optimizer was made with."""
        rates = (float(group.get("lr", 1e-3)) for group in self.session.groups)
        return self.swept or next((rate for rate in rates if rate), 1e-3)

    def _loss_of(self, batch: Batch) -> Tensor:
        """Return the loss to minimize, of standardized targets if the session has them."""
        return self.session.loss_of(self.session.whole, batch)

    def _loss(self, batches: list[Batch]) -> float:
        with torch.no_grad():
            losses = [float(self._loss_of(batch)) * self.session.unit for batch in batches]
        self.gradients += len(batches) / 3
        return sum(losses) / len(losses)

    def _curvature(self, batches: list[Batch]) -> tuple[float | None, bool]:
        """Return the eigenvalue that the rule needs, or None, and whether it is exact."""
        if self.kind not in SGD_KIN + ADAM_KIN:
            self.notes.append(f"no rule is known for {self.kind}.")
            return None, True
        scale = None
        if self.kind in ADAM_KIN:
            scale = adam_scale(self._loss_of, self.session.parameters, batches)
            self.gradients += len(batches)
        hessian = curvature(self._loss_of, self.session.parameters, batches[:CURVED], scale, ROUNDS)
        self.gradients += hessian.gradients
        if hessian.reason:
            self.notes.append(f"the curvature gives no rate: {hessian.reason}.")
            return None, hessian.exact
        if not hessian.exact:
            self.notes.append("finite differences include kinks, so the curvature may be several times too large.")
        return hessian.value, hessian.exact

    def _rate(self, value: float) -> float:
        return adam_rate(value) if self.kind in ADAM_KIN else sgd_rate(value, self.momentum or 0.0)

    def _sweep(self) -> None:
        """Take the minimum / 10 of a range test instead of a rule."""
        sweep = range_test(self.trainer, self.job)
        if sweep is None:
            self.notes.append("a range test exploded at once; the race starts from the given rate.")
            return
        self.swept = sweep.minimum
        self.gradients += len(sweep.rates)
        self.notes.append(f"the race starts from a range test's minimum / 10, {sweep.minimum:.3g}.")

    def _health(self, batch: Batch, estimate: float | None, prior: float | None) -> Health:
        state = health(self.session.module, self._loss_of, batch, estimate or self._given, prior)
        self.gradients += 1
        return replace(state, loss=state.loss * self.session.unit)

    def _noise(self, batches: list[Batch]) -> float | None:
        rows = self.trainer.batch_size // 4
        whole = [batch for batch in batches if len(batch[1]) == self.trainer.batch_size][:CURVED]
        if rows < 1 or not whole:
            return None
        parts = [part for batch in whole for part in sliced(batch, rows) if len(part[1]) == rows]
        noise = gradient_noise(self._loss_of, self.session.parameters, parts, whole, (rows, self.trainer.batch_size))
        self.gradients += noise.gradients
        return noise.scale if math.isfinite(noise.scale) and not noise.reason else None

    def _prior(self) -> float | None:
        """Return the loss of the best constant outputs, over as many rows as an initialization uses."""
        if self.trainer.own_loss:
            return None
        loss, (inputs, targets) = self.session.settings.loss, self.session.first_rows()
        with torch.no_grad():
            outputs = self.session.whole(inputs)
            if not isinstance(outputs, Tensor) or outputs.ndim < 1:
                return None
            units = outputs.shape[1] if outputs.ndim > 1 else 1
            constant = best_constant(loss, outputs, targets, units)
            return None if isinstance(constant, str) else float(loss(constant.outputs.expand_as(outputs), targets))

    def _race(self, center: float, share: float, deadline: float) -> Race | None:
        budget = share * self.steps if self.steps >= SHORT else LEAST
        threat = settings_of_threat(self.session.settings.objects)
        exposing = 0.0 if threat is None else cost_of_exposure(len(self.trainer.valid), self.trainer.batch_size)
        left = budget - self.gradients - exposing * RACERS
        steps = min(affordable(self.trainer, len(self.session.valid), left / RACERS), self.steps)
        if steps < FEW or time.perf_counter() > deadline:
            also = "" if threat is None else ", and so no measurement of how easily it is attacked"
            self.notes.append(f"no race: {max(0, left):.0f} of {budget:.0f} gradients were left for it{also}.")
            return None
        at_end = None if threat is None else partial(self._expose, threat)
        result = race(self.trainer, self.job, center, steps, deadline=deadline, budget=left, at_end=at_end)
        self.gradients += result.gradients + exposing * len(self.exposures)
        best = min(result.losses)
        if math.isfinite(best) and result.edge:
            self.unsure = True
            self.notes.append("the best racer is at the edge of the race; the best rate may lie beyond.")
        if best > LEARNED * self.naive:
            self.unsure = True
            better = "learned anything" if self.session.model.winner is None else "come below the winner's own loss"
            self.notes.append(f"no racer has {better}; the rate is a guess.")
        return result

    def _expose(self, threat: Mapping[str, Any], rate: float, session: Session) -> None:
        """Measure how easily a racer is attacked; once that has failed, no other racer is measured."""
        if None in self.exposures.values():
            return
        with session.evaluating():
            measure = partial(exposure_of, session.complete(), self.trainer.valid, threat)
            self.exposures[rate] = self._tried("margins", measure)

    def _doubt(self, racers: Race | None) -> float:
        frozen = any(not p.requires_grad for p in self.session.module.parameters())
        rates = {float(group.get("lr") or 0.0) for group in self.session.groups}
        return 1.0 if frozen or self.unsure or len(rates) > 1 else 0.4 if racers is not None else 0.6

    def _settled(self, estimate: float | None, racers: Race | None) -> float:
        if self.errors and estimate is None and self.swept is None and racers is None:
            return math.nan
        if racers is None or not math.isfinite(min(racers.losses)):
            return estimate or self._given
        return racers.best * math.pow(racers.steps / self.steps, HORIZON)


def in_words(error: BaseException) -> str:
    """Return an exception in one line of at most some 200 characters."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line if len(line) <= LINE else line[:LINE] + '...'}".rstrip(": ")


def _screened(loss: float | None, racers: Race | None) -> str:
    """Return the reason why training is impossible: no finite loss, or divergence at every rate; empty otherwise."""
    if loss is not None and not math.isfinite(loss):
        return f"the loss before the first step is {loss}"
    if racers is not None and not math.isfinite(min(racers.losses)):
        return f"training diverged at every rate from {racers.rates[0]:.2g} to {racers.rates[-1]:.2g}"
    return ""
