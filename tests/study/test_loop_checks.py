"""The check of a loop before trial 0: what it says, what it costs, and that trial 0 goes on from it to the last bit."""

import logging
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import StudyError
from tuneflow.train.loop import loop

INPUTS, TARGETS = torch.arange(24.0).reshape(12, 2) / 24, torch.arange(12) % 2
BRANCHES = tn.SearchSpace(
    kind=tn.Choice({"a": tn.call(dict, scale=tn.Float(0.5, 1.0)), "b": tn.call(dict), "c": tn.call(dict)}),
    lr=tn.Float(0.01, 0.1),
)
ONE = tn.SearchSpace(lr=tn.Float(0.01, 0.1))


class Trained:
    """A loop that notes the rate of each pass and the rows of each of its batches."""

    def __init__(self, epochs=3, fails=(), **settings):
        self.passes, self.rows = [], []
        note = self.note

        @loop(epochs=epochs, **settings)
        def fit(config, run):
            net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2))
            optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=0.9)
            for _ in run.epochs(net=net, optimizer=optimizer):
                rows = 0
                for inputs, targets in run.batches((INPUTS, TARGETS), 2):
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(net(inputs), targets)
                    loss.backward()
                    optimizer.step()
                    rows += len(inputs)
                note(config["lr"], rows)
                if config["lr"] in fails or "all" in fails:
                    raise RuntimeError("no")
                if "short" in fails and rows < 12:
                    raise RuntimeError("too few rows")
                yield {"loss": loss}

        self.loop = fit

    def note(self, rate, rows):
        self.passes.append(rate)
        self.rows.append(rows)


def study_of(trainer, space=ONE, **settings):
    settings.setdefault("runtime", tn.Runtime("cpu", threads=1))
    return tn.Study(space=space, trainer=trainer, progress=False, **settings)


def history(study):
    return [(t.config, t.status, t.reason, t.epochs, [dict(r.metrics) for r in t.reports]) for t in study.trials]


@pytest.mark.parametrize(
    ("check", "space", "line", "passes"),
    [
        (True, BRANCHES, "checking that fit resumes exactly: 3 epochs in each of 3 branches", 10),
        (True, ONE, "checking that fit resumes exactly: 3 epochs", 4),
        ("first", BRANCHES, "checking that fit resumes exactly: 3 epochs", 4),
        (False, BRANCHES, "", 3),
    ],
)
def test_a_check_says_what_it_does_and_its_epochs_count_for_trial_0(check, space, line, passes, caplog):
    trained = Trained(check=check)
    with caplog.at_level(logging.INFO, logger="tuneflow"):
        study_of(trained.loop, space).run(trials=1)
    assert [record.message for record in caplog.records if "checking" in record.message] == ([line] if line else [])
    assert len(trained.passes) == passes


def test_the_line_comes_before_the_first_pass(capsys):
    lines = []
    trained = Trained()
    trained.note = None

    @loop(epochs=1)
    def fit(config, run):
        for _ in run.epochs():
            lines.append(capsys.readouterr().err)
            yield {"loss": 1.0}

    tn.Study(space=ONE, trainer=fit, runtime=tn.Runtime("cpu", threads=1)).run(trials=1)
    assert lines[0].startswith("checking that fit resumes exactly: 2 epochs\n")


def test_the_first_branch_that_is_checked_is_trial_0s_own_configuration_and_the_others_are_short():
    trained = Trained()
    study = study_of(trained.loop, BRANCHES)
    study.run(trials=1)
    rate = study.trials[0].config["lr"]
    assert trained.passes == [rate] * 3 + [trained.passes[3]] * 6 + [rate]
    assert trained.rows == [12] * 3 + [8] * 6 + [12]


def test_a_check_that_fails_when_it_is_short_is_made_on_whole_passes():
    trained = Trained(fails=("short",))
    study_of(trained.loop, BRANCHES).run(trials=1)
    assert trained.rows == [12] * 3 + [8] + [12] * 3 + [8] + [12] * 3 + [12]


SETTINGS = {
    "one by one": {},
    "unpaired": {"paired": False, "seed": 7},
    "queued": {"enqueue": {"lr": 0.05}},
    "lag": {"lag": 2},
    "lanes": {"runtime": tn.Runtime("cpu", threads=1, lanes=4)},
    "halving": {"scheduler": tn.Halving()},
    "hyperband": {"scheduler": tn.Hyperband(), "lag": 1},
    "replicas": {"replicas": 2},
}


def run_of(trainer, space=ONE, trials=3, enqueue=None, **settings):
    study = study_of(trainer, space, **settings)
    if enqueue:
        study.enqueue(enqueue)
    study.run(trials=trials)
    return study


@pytest.mark.parametrize("name", SETTINGS)
def test_a_study_with_a_check_equals_one_without_to_the_last_bit(name):
    studies = [run_of(Trained(check=check).loop, **SETTINGS[name]) for check in (True, "first", False)]
    assert history(studies[0]) == history(studies[1]) == history(studies[2])
    states = [study.best.model().state_dict() for study in studies]
    assert all(torch.equal(states[0][key], states[2][key]) for key in states[2])


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("replicas", "halving", "hyperband")])
def test_every_epoch_of_trial_0_is_trained_twice_at_most(name):
    with_check, without = Trained(), Trained(check=False)
    for trained in (with_check, without):
        run_of(trained.loop, **SETTINGS[name])
    assert len(with_check.passes) == len(without.passes) + 1


def test_a_replicated_study_trains_trial_0_anew():
    with_check, without = Trained(), Trained(check=False)
    for trained in (with_check, without):
        run_of(trained.loop, replicas=2)
    assert len(with_check.passes) == len(without.passes) + 3


def test_an_interrupted_and_resumed_study_equals_one_without_a_check(tmp_path):
    whole = run_of(Trained(check=False).loop)
    for epochs in (1, 2, 4):
        with study_of(Trained().loop, folder=tmp_path) as study:
            study.run(trials=3, epochs=epochs)
    trained = Trained()
    with study_of(trained.loop, folder=tmp_path) as study:
        study.run(trials=3)
        assert history(study) == history(whole)
    assert len(trained.passes) == 9 - 4


def test_a_configuration_of_trial_0_that_fails_leaves_the_check_to_the_middle_of_its_branch():
    study = study_of(Trained().loop)
    study.run(trials=1)
    rate = study.trials[0].config["lr"]
    study = study_of(Trained(fails=(rate,)).loop)
    study.run(trials=2)
    assert [trial.status for trial in study.trials] == ["FAILED", "DONE"]


def test_a_loop_that_fails_for_every_configuration_is_refused_before_trial_0():
    study = study_of(Trained(fails=("all",)).loop)
    with pytest.raises(ValueError, match=r"configuration {'lr': 0\.055}: the loop fails: RuntimeError: no"):
        study.run(trials=2)
    assert len(study.trials) == 0


def test_a_first_configuration_that_diverges_leaves_the_check_to_the_middle_of_its_branch():
    @loop(epochs=3)
    def fit(config, run):
        for _ in run.epochs():
            yield {"loss": math.nan if abs(config["lr"] - 0.055) > 1e-9 else 1.0}

    with pytest.raises(ValueError, match=r'minimize="error" is not reported.* The trainer reports loss'):
        study_of(fit, minimize="error").run(trials=1)


@pytest.mark.parametrize("check", [True, "first", False])
def test_a_metric_that_is_not_reported_is_refused_at_the_first_epoch(check):
    with pytest.raises((ValueError, StudyError), match=r'"error" (is not|was never) reported'):
        study_of(Trained(check=check).loop, minimize="error").run(trials=1)


# What is carried over.


def carrying(check):
    @loop(epochs=8, check=check)
    def fit(config, run):
        best, bad = math.inf, 0
        for epoch in run.epochs():
            loss = max(0.5, 1.0 / epoch)
            if bad >= 3:
                return "no better for 3 epochs"
            bad = 0 if loss < best else bad + 1
            best = min(best, loss)
            yield {"loss": loss}

    return fit


@pytest.mark.parametrize("check", [True, "first", False])
def test_early_stopping_in_plain_variables_is_warned_of_and_trial_0_is_trained_in_one_run(check):
    study = study_of(carrying(check))
    with pytest.warns(
        UserWarning,
        match=r"loop fit: bad, best change from one epoch to the next and are not part of the state.*numbers = ",
    ):
        study.run(trials=1)
    assert (study.trials[0].epochs, study.trials[0].reason) == (5, "no better for 3 epochs")


def test_what_only_a_resumed_run_shows_is_named_in_the_warning():
    class Best:
        def __init__(self):
            self.kept = {}

        def keep(self, loss):
            self.kept.setdefault("loss", loss)

    @loop(epochs=4)
    def fit(config, run):
        best = Best()
        for epoch in run.epochs():
            best.keep(1.0 / epoch)
            yield {"loss": 1.0}

    with pytest.warns(UserWarning, match=r"loop fit: best\.kept changes"):
        study_of(fit).run(trials=1)


# Seeds.


def seeding(seed, inside, check=True):
    @loop(epochs=3, check=check)
    def fit(config, run):
        if not inside:
            seed(run)
        net = nn.Linear(4, 4)
        for _ in run.epochs(net=net):
            if inside:
                seed(run)
            yield {"loss": torch.rand(())}

    return fit


def drawing(seed):
    """A loop that seeds before it makes its weights, of draws from all generators."""

    @loop(epochs=2)
    def fit(config, run):
        seed()
        weights = torch.rand(3), np.random.rand(3), [random.random() for _ in range(3)]  # noqa: NPY002
        for _ in run.epochs(weight=torch.as_tensor(weights[KINDS[seed]])):
            yield {"loss": 1.0}

    return fit


def torchs():
    torch.manual_seed(3)


def numpys():
    np.random.seed(3)  # noqa: NPY002


def pythons():
    random.seed(3)


KINDS = {torchs: 0, numpys: 1, pythons: 2}
NAMES = ["torch", "NumPy", "Python"]


@pytest.mark.parametrize("seed", KINDS)
def test_a_loop_that_seeds_by_itself_before_it_makes_weights_is_warned_of(seed):
    with pytest.warns(UserWarning, match=f"loop fit: seeds the generator of {NAMES[KINDS[seed]]} by itself, so all"):
        study_of(drawing(seed)).run(trials=1)


@pytest.mark.parametrize("seed", KINDS)
@pytest.mark.parametrize("check", [True, False])
def test_a_loop_that_seeds_by_itself_in_each_pass_is_warned_of(seed, check):
    with pytest.warns(UserWarning, match=f"seeds the generator of {NAMES[KINDS[seed]]} by itself in each pass"):
        study_of(seeding(lambda run: seed(), inside=True, check=check)).run(trials=1)


@pytest.mark.parametrize("inside", [False, True])
def test_a_loop_that_seeds_torch_by_the_seed_of_the_epoch_is_not(inside):
    study_of(seeding(lambda run: torch.manual_seed(run.epoch_seed), inside)).run(trials=1)


def test_a_rule_of_loops_that_is_broken_is_said_without_a_second_error_around_it():
    @tn.loop(epochs=2)
    def fit(config, run):
        for _ in run.epochs():
            yield {"loss": 1.0}
            yield {"loss": 1.0}

    study = tn.Study(trainer=fit, space=tn.SearchSpace(lr=tn.Constant(0.1)), progress=False)
    with pytest.raises(ValueError, match=r"^configuration {'lr': 0\.1}: loop fit, epoch 1: yields a second time"):
        study.run(trials=1)
