"""Hypothesis strategies for histories: trials of every status over any space, some with extreme scores."""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

import tuneflow as tn
from tests.helpers.space_strategies import flat_spaces, spaces
from tuneflow.history.objective import Limit, Objective
from tuneflow.history.trial import CUT, Report, Trial, with_reports, with_status
from tuneflow.seeds import digest
from tuneflow.testing.check_searcher import SPACES

HARD = (0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 1.7e308, 1e-300, 5e-324, math.inf, -math.inf, math.nan)
ERRORS = (0.0, 1e-300, 0.1, 1e200, 1e308)
KINDS = ("done", "cut", "early", "diverged", "failed", "screened", "running", "paused", "claimed", "fork", "repeat",
         "extension")  # fmt: skip

scores = st.sampled_from(HARD) | st.floats(-10, 10) | st.floats()


def _every_other(config):
    """True for about half of all configurations, without any pattern."""
    return digest(repr(config)) % 2 == 0


def _few(config):
    return digest(repr(config)) % 16 == 0


def _narrow(config):
    return bool(abs(config["x"] - config["y"]) < 0.01)


CURATED = {
    **SPACES,
    "empty": lambda: tn.SearchSpace(),
    "constants": lambda: tn.SearchSpace(x=tn.Float(1.0, 1.0), n=tn.Int(3, 3), c=tn.Constant("a"), k=5),
    "single labels": lambda: tn.SearchSpace(a=tn.Choice(["only"]), x=tn.Float(0, 1), b=tn.Choice({"one": print})),
    "big integers": lambda: tn.SearchSpace(n=tn.Int(-(2**53), 2**53), m=tn.Int(1, 2**53, log=True)),
    "wide numbers": lambda: tn.SearchSpace(x=tn.Float(-1e308, 7e307), y=tn.Float(1e-300, 1e300, log=True)),
    "roles": lambda: tn.SearchSpace(
        optimizer={"lr": tn.Float(1e-5, 10.0, log=True), "momentum": tn.Float(0.0, 0.99)},
        trainer={"batch_size": tn.Int(1, 128)},
    ),
    "few": lambda: tn.SearchSpace(a=tn.Choice(["x", "y"]), n=tn.Int(0, 2)),
    "half of few": lambda: tn.SearchSpace(where=_every_other, a=tn.Choice(["x", "y"]), n=tn.Int(0, 6)),
    "few of many": lambda: tn.SearchSpace(where=_few, a=tn.Choice(["x", "y"]), n=tn.Int(0, 400), x=tn.Float(0, 1)),
    "narrow": lambda: tn.SearchSpace(where=_narrow, x=tn.Float(0, 1), y=tn.Float(0, 1), k=tn.Choice(["a", "b"])),
}

any_space = st.sampled_from(sorted(CURATED)).map(lambda name: CURATED[name]()) | flat_spaces | spaces


@st.composite
def objectives(draw):
    names = ["loss", "size", "time"]
    goals = tuple((name, draw(st.booleans())) for name in names[: draw(st.sampled_from([1, 1, 1, 2, 3]))])
    bounds = st.none() | st.sampled_from([0.0, 1.0, -1e308, 1e308, 1e-300])
    limits = [
        Limit(name, draw(bounds), draw(bounds)) for name in draw(st.sampled_from([(), (), ("loss",), ("acc", "size")]))
    ]
    limits = tuple(limit for limit in limits if limit.bounds and limit.bounds == sorted(limit.bounds))
    sparse = draw(st.sampled_from([(), (), (("loss", 2),), (("acc", 2), ("size", 3))]))
    return Objective(goals, draw(st.sampled_from(["best", "last"])), limits, sparse)


@dataclass(frozen=True, repr=False)
class Records:
    """The trials of a study in the order in which they were recorded.

    Attributes:
        space, objective, seed: the study's.
        epochs: the full length of a trial.
        trials: a trial as it started and as it ended, under the same number.
    """

    space: tn.SearchSpace
    objective: Objective
    seed: int
    epochs: int
    trials: tuple[Trial, ...]

    def __repr__(self):
        ends = [f"{t.status} {dict(t.metrics)}" for t in self.trials][:60]
        return f"Records({str(self.space)[:300]}, {self.objective}, {self.epochs} epochs, seed {self.seed}, {ends})"

    def history(self, upto=None):
        """A new history of the first `upto` records."""
        history = tn.types.History(self.space, self.objective, self.seed, self.epochs)
        if any(trial.extends for trial in self.trials):
            history.lengths = (max(1, self.epochs // 2), self.epochs)
        for trial in self.trials[:upto]:
            history.record(trial)
        return history


@st.composite
def records(draw, among=any_space, most=24):
    """Records of up to `most` trials, whose scores are of a few values, so that many are equal."""
    space, seed = draw(among), draw(st.integers(0, 2**32))
    study = Records(space, draw(objectives()), seed, draw(st.sampled_from([1, 2, 9])), ())
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    pool = draw(st.lists(scores, min_size=1, max_size=6))
    return replace(study, trials=tuple(_recorded(study, kinds, pool, draw(st.integers(0, most)))))


def _recorded(study, kinds, pool, count):
    """Yield the records of `count` trials, which end in any order."""
    rng, trials, left = np.random.default_rng(study.seed), [], []
    for number in range(count):
        start, end = _lived(study, number, str(rng.choice(kinds)), pool, trials, rng)
        if start is None:
            continue
        trials.append(end)
        yield start
        left.append(end)
        while left and rng.random() < 0.6:
            yield left.pop(int(rng.integers(len(left))))
    yield from left


def _lived(study, number, kind, pool, trials, rng):
    """Return a trial as it starts and as it stands or ends; (None, None) for a claimed one."""
    start = _started(study, number, kind, trials, rng)
    first = start.parent[1] if start.parent else 0
    whole = (
        study.epochs if kind in ("done", "fork", "repeat", "extension") else int(rng.integers(first, study.epochs + 1))
    )
    reports = [_report(study, epoch, pool, rng) for epoch in range(first + 1, whole + 1)]
    trial = with_reports(start, reports, study.objective)
    ends = {
        "cut": ("STOPPED", "worse", CUT), "early": ("STOPPED", "told to"), "diverged": ("DIVERGED", "nan"),
        "failed": ("FAILED", "error", "traceback"), "screened": ("SCREENED", "flat"), "paused": ("PAUSED",),
        "running": ("RUNNING",), "claimed": ("CLAIMED",),
    }  # fmt: skip
    end = with_status(trial, *ends.get(kind, ("DONE",)))
    return (None, None) if kind == "claimed" else (start, end)


def _started(study, number, kind, trials, rng):
    config = _config(study.space, trials, rng)
    able = [t for t in trials if 0 < t.epochs < study.epochs and not t.extends]
    if kind == "fork" and able:
        parent = able[int(rng.integers(len(able)))]
        epoch = int(rng.integers(max(1, parent.parent[1] if parent.parent else 1), parent.epochs + 1))
        return Trial(number, config, epochs=epoch, parent=(parent.number, epoch))
    done = [t for t in trials if t.status == "DONE" and not t.extends and t.epochs == max(1, study.epochs // 2)]
    if kind == "extension" and done and study.epochs > 1:
        parent = done[int(rng.integers(len(done)))]
        return Trial(number, parent.config, epochs=parent.epochs, parent=(parent.number, parent.epochs), extends=True)
    first = [t for t in trials if t.repeats is None and t.parent is None]
    if kind == "repeat" and first:
        again = first[int(rng.integers(len(first)))]
        return Trial(number, again.config, repeats=again.number)
    return Trial(number, config)


def _config(space, trials, rng):
    """Return a configuration of the space: drawn, at a corner, or that of an earlier trial."""
    way = rng.random()
    if way < 0.2 and trials:
        return trials[int(rng.integers(len(trials)))].config
    if way < 0.4:
        corner = space.from_unit(rng.choice([0.0, 0.5, 1.0], len(space)))
        if space.allows(corner):
            return corner
    return space.sample(rng)


def _report(study, epoch, pool, rng):
    metrics = metrics_of(study, epoch, pool, rng)
    errors = {name: float(rng.choice(ERRORS)) for name in metrics if rng.random() < 0.3}
    return Report(epoch, metrics, errors, seconds=0.1)


def metrics_of(study, epoch, pool, rng):
    """Return a value of `pool` for every metric that is due at this epoch."""
    sparse = dict(study.objective.sparse)
    due = [name for name in ("loss", "size", "time", "acc") if epoch == study.epochs or not epoch % sparse.get(name, 1)]
    return {name: float(rng.choice(pool)) for name in due}
