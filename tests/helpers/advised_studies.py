"""Studies without training, healthy or with one planted fault, for the rules of advice: reports from closed forms."""

import numpy as np

import tuneflow as tn
from tests.helpers.searching import history_of
from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Report, with_reports
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

EPOCHS, ERROR = 20, 0.03
FAULTS = ("failures", "edge", "overfitting", "falling", "noise", "no effect", "flat", "luck")


def space():
    return tn.SearchSpace(
        optimizer={"lr": tn.Float(1e-4, 1e-1, log=True), "momentum": tn.Float(0.0, 0.95)},
        model={"width": tn.Int(8, 64, log=True), "act": tn.Choice(["relu", "tanh", "gelu"])},
    )


class AdvisedStudy:
    """The closed form of a study: a bowl over the unit cube, and curves that fall to it.

    The best rate is inside of the middle of its range; momentum, width and activation count for nearly as much. A
    curve's time constant is a sixth to a quarter of the epochs.

    Args:
        seed: draws everything.
        fault: one of FAULTS; None for a healthy study.
    """

    def __init__(self, seed, fault=None):
        self.rng, self.seed, self.fault, self.space = np.random.default_rng(seed), seed, fault, space()
        self.center = self.rng.uniform(0.2, 0.8, 4)
        self.outside = self.rng.random() < 0.5  # above or below
        if fault == "edge":
            self.center[0] = self.rng.uniform(1.1, 1.5) if self.outside else self.rng.uniform(-0.5, -0.1)
        self.tau = EPOCHS * {"falling": 0.7, "flat": 0.05}.get(fault, self.rng.uniform(1 / 6, 1 / 4))
        self.weights = np.array([3.0, 2.0, 2.0, 0.0 if fault == "no effect" else 2.0]) * {
            "noise": 0.005,
            "luck": 0.02,
        }.get(fault, 1.0)

    def record(self, trials=40, searcher=None):
        history = history_of(self.space)
        history.epochs, searcher = EPOCHS, searcher or tn.Random()
        for number in range(trials):
            config = proposed(searcher, self.space, history, stream(self.seed, "search", number))
            history.record(self.trial(number, config, history.objective))
        facts = {"trainer": {"epochs": EPOCHS, "schedule": "Fixed()"}, "steps": None, "searcher": repr(searcher)}
        return StudyRecord("in memory", facts, self.space, history)

    def trial(self, number, config, objective):
        unit = self.space.to_unit(config)
        if unit[0] > {"failures": 0.45, "edge": 1.0}.get(self.fault, 0.97):
            return tn.Trial(number, config, "DIVERGED", "loss not finite at epoch 3", seconds=3.0, epochs=2)
        level = 0.3 + float(self.weights @ np.square(unit - self.center))
        luck = ERROR * self.rng.standard_normal()  # of the validation rows, the same in all epochs
        reports = (self.report(epoch, level, luck) for epoch in range(1, EPOCHS + 1))
        return with_reports(tn.Trial(number, config, "DONE"), reports, objective)

    def report(self, epoch, level, luck):
        fall = 2.0 * np.exp(-epoch / self.tau)
        rise = 0.05 * max(0, epoch - 6) if self.fault == "overfitting" else 0.0
        loss = level + fall + rise + luck + 0.2 * ERROR * self.rng.standard_normal()
        train_loss = 0.8 * level + fall - 0.005 * epoch
        return Report(epoch, {"loss": loss, "train_loss": train_loss}, {"loss": ERROR}, 1.0)
