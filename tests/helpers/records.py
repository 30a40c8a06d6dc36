"""Records of studies that nothing was trained for: trials of seven kinds, with reports from a formula."""

import math
from dataclasses import replace

import numpy as np

import tuneflow as tn
from tuneflow.analysis.record import IN_MEMORY, StudyRecord
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, Report, Trial, with_reports

SPACE = tn.SearchSpace(
    model={"width": tn.Int(8, 64, log=True), "act": tn.Choice(["relu", "tanh"])},
    optimizer={"lr": tn.Float(1e-4, 1.0, log=True)},
    trainer={"batch_size": tn.Choice([16, 32, 64], ordered=True)},
)
ACCURACY = (("accuracy", True),)
FACTS = {"seed": 0, "tuneflow": "0.1.0", "torch": "2.13.0", "searcher": "Random()", "scheduler": "Halving(eta=3)",
         "model": "Model(net)", "runtime": {"device": "cpu", "precision": "fp32", "executor": "inline"},
         "trainer": {"loss": "CrossEntropyLoss()", "epochs": 9, "metrics": {"accuracy": "accuracy"}}}  # fmt: skip


def record_of_trials(trials, goals=ACCURACY, space=SPACE, epochs=9, limits=(), name=IN_MEMORY):
    """The record of a study that has these trials; those with reports get their metrics from them."""
    history = History(space, Objective(tuple(goals), "last" if len(goals) > 1 else "best", limits), 0, epochs)
    for trial in trials:
        scored = trial.reports and not trial.metrics and trial.status not in ("DIVERGED", "FAILED")
        history.record(with_reports(trial, trial.reports, history.objective) if scored else trial)
    return StudyRecord(name, FACTS | {"space": space.to_json(), "epochs": epochs}, space, history)


def scored(number, value, error=0.01, epochs=1, seconds=1.0, metric="accuracy", status="DONE", config=None, **facts):
    """A trial whose metric rises, or falls for a loss, to `value` at its last epoch."""
    reports = tuple(
        Report(epoch, {metric: value + (epochs - epoch) * (-0.01 if metric == "accuracy" else 0.01)},
               {metric: error} if error else {}, seconds / epochs)
        for epoch in range(1, epochs + 1)
    )  # fmt: skip
    config = config or SPACE.sample(np.random.default_rng(number))
    return Trial(number, config, status, reports=reports, **facts)


def mixed_record(count=24, seed=0, space=SPACE, goals=ACCURACY, **facts):
    """A study of which a third was stopped, with a failed, a diverged and a running trial among every ten."""
    return record_of_trials([_mixed(n, seed, space, goals) for n in range(count)], goals, space, **facts)


def _mixed(number, seed, space, goals):
    rng = np.random.default_rng((seed, number))
    config = space.sample(rng)
    if number % 10 == 7:
        return Trial(number, config, "FAILED", f"RuntimeError: out of memory at {number} MB", detail="Traceback ...")
    if number % 10 == 3:
        return Trial(number, config, "DIVERGED", f"loss not finite at epoch 1, step {number}", epochs=1)
    best = 0.04 + 0.3 * rng.random()
    until = 9 if number % 3 else 3
    trial = Trial(number, config, reports=tuple(_report(epoch, best, goals) for epoch in range(1, until + 1)))
    if number % 10 == 9:
        return trial
    ends = ("DONE", "") if until == 9 else ("STOPPED", "worse than 3 of 4 at epoch 3")
    return replace(trial, status=ends[0], reason=ends[1], detail="" if until == 9 else CUT)


def _report(epoch, best, goals):
    wrong = best + (0.9 - best) * math.exp(-epoch)
    metrics = {metric: 1 - wrong if larger else wrong for metric, larger in goals}
    return Report(epoch, metrics, {metric: math.sqrt(wrong * (1 - wrong) / 400) for metric in metrics}, 0.5)
