"""Rules of advice on studies of closed forms; tests/benchmarks/advice.py has the rates over many seeds."""

import math
from dataclasses import replace

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.advised_studies import FAULTS, AdvisedStudy
from tests.helpers.searching import history_of
from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.speed_gain import SpeedGain

SEEDS = 4


@pytest.fixture(scope="module")
def healthy():
    return [advice_of(AdvisedStudy(seed).record()) for seed in range(2 * SEEDS)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    """At a rate of 0.9 two of four are missed in 1 of 19 draws of the seeds, which are fixed."""
    found = [advice_of(AdvisedStudy(seed, fault).record()) for seed in range(SEEDS)]
    assert sum(fault in [finding.rule for finding in advice] for advice in found) >= SEEDS - 1


def test_healthy_studies_raise_no_alarm(healthy):
    """At a rate of 0.05 two of eight are wrong in 1 of 17 draws; a lucky best is no fault of the study."""
    wrong = [[finding for finding in advice if finding.rule != "luck"] for advice in healthy]
    assert sum(map(bool, wrong)) <= 1


def test_a_finding_carries_its_change():
    (edge, *_) = advice_of(AdvisedStudy(0, "edge").record())
    assert edge.parameter == "optimizer.lr"
    (new,) = edge.change.parameters.values()
    assert new in (tn.Float(1e-4, 1.0, log=True), tn.Float(1e-5, 1e-1, log=True))
    assert edge.change.automatic
    assert repr(new) in str(edge)


def test_the_narrower_range_excludes_the_trials_that_diverge():
    record = AdvisedStudy(1, "failures").record()
    (failures, *_) = advice_of(record)
    (high,) = (parameter.high for parameter in failures.change.parameters.values())
    lost = [t.config["optimizer"]["lr"] > high for t in record.trials if t.status == "DIVERGED"]
    sound = [t.config["optimizer"]["lr"] > high for t in record.trials if t.status == "DONE"]
    assert np.mean(lost) == 1.0
    assert not any(sound)


def test_a_label_whose_trials_fail_is_left_out():
    space = tn.SearchSpace(x=tn.Float(0, 1), kind=tn.Choice(["a", "b", "c"], prior=[1, 1, 2]))
    history = history_of(space)
    for number in range(12):
        config = {"x": number / 12, "kind": "abc"[number % 3]}
        if config["kind"] == "b":
            history.record(tn.Trial(number, config, "FAILED", "ValueError: no", seconds=9.0))
        else:
            history.record(tn.Trial(number, config, "DONE", metrics={"loss": number % 5}, seconds=1.0))
    history.record(tn.Trial(12, config, "FAILED", "ValueError: no"))
    (finding,) = advice_of(StudyRecord("in memory", {"trainer": None}, space, history))
    assert finding.change.parameters["kind"] == tn.Choice(["a", "c"], prior=[0.25, 0.5])


def odd_histories():
    """Histories in which something is missing, infinite or single, by name."""
    space = tn.SearchSpace(x=tn.Float(0, 1))
    yield "empty", history_of(space)
    for name, status, metrics in (
        ("all failed", "FAILED", {}),
        ("all equal", "DONE", {"loss": 1.0}),
        ("all infinite", "DONE", {"loss": math.inf}),
        ("no errors", "DONE", None),
    ):
        history = history_of(space)
        for number in range(20):
            values = {"loss": number**2.0} if metrics is None else metrics
            history.record(tn.Trial(number, {"x": number / 20}, status, "no reason", metrics=values, epochs=1))
        yield name, history
    several = history_of(space, goals=("loss", "seconds"))
    for number in range(20):
        several.record(tn.Trial(number, {"x": number / 20}, "DONE", metrics={"loss": number, "seconds": -number}))
    yield "several objectives", several


@pytest.mark.parametrize("history", [pytest.param(history, id=name) for name, history in odd_histories()])
def test_odd_studies_are_taken(history):
    advice = advice_of(StudyRecord("in memory", {"trainer": None}, history.space, history))
    assert {finding.rule for finding in advice} <= {"failures"}
    assert str(advice) == repr(advice) != ""


def test_advice_is_escaped_in_notebooks():
    history = history_of(tn.SearchSpace(x=tn.Float(0, 1)))
    for number in range(10):
        history.record(tn.Trial(number, {"x": number / 10}, "FAILED", "<b>no</b>"))
    advice = advice_of(StudyRecord("in memory", {"trainer": None}, history.space, history))
    assert "&lt;b&gt;no" in advice._repr_html_()
    assert "<b>" not in advice._repr_html_()


def test_a_measured_gain_of_speed_is_named():
    gain = SpeedGain("lanes", 3.14, "Runtime(lanes=16)", "lanes: ...")
    (finding,) = advice_of(replace(AdvisedStudy(0).record(trials=2), gains=[gain]))
    assert str(finding).endswith("train 3.1x as fast, as measured in a run: set Runtime(lanes=16)")
    assert not finding.change.automatic


def test_what_there_is_too_little_for_is_named():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", epochs=3, progress=False)
    study.tell(study.ask(), 0.5)
    words = "too little to judge ranges (1 of 16 trials), effects (1 of 30 trials), epochs (3 of 4 epochs)"
    assert repr(study.advice()) == f"no advice\n{words}"
    assert words in study.advice()._repr_html_()
    assert advice_of(AdvisedStudy(0).record()).silent == ""


@pytest.mark.parametrize("epochs", [4, 7, 10, 16])
def test_a_straight_line_falls_without_slowing_down_at_any_length(epochs):
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", epochs=epochs, progress=False)
    for _ in range(4):
        trial = study.ask()
        for epoch in range(1, epochs + 1):
            study.tell(trial, 10 + trial.config["x"] - epoch / 2, done=False)
    (falling,) = study.advice()
    assert falling.numbers["last_quarter"] == pytest.approx(epochs // 4 / 2)
    assert falling.fact.endswith("without slowing down")
