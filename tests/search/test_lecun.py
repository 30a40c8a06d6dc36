"""LeCun's start: first trials at a measured rate, priors around it, nothing measured twice, nothing invented."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.search.lecun import MeasuredSpace, bell
from tuneflow.search.roles import role_of

THREADS = tn.Runtime("cpu", threads=1)


def mlp(width=32):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))


def deep(width=16, dropout=0.0):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    train, valid, _ = tn.data.digits()
    return train[:320], valid[:200]


FLAT = tn.SearchSpace(
    model={"width": tn.Int(8, 64, log=True)},
    optimizer={"lr": tn.Float(1e-5, 10.0, log=True), "momentum": tn.Float(0.0, 0.99)},
)
BRANCHED = tn.SearchSpace(
    optimizer=tn.Choice(
        {
            "sgd": tn.call(torch.optim.SGD, lr=tn.Float(1e-5, 10.0, log=True), momentum=tn.Float(0.0, 0.99)),
            "adam": tn.call(
                torch.optim.AdamW, lr=tn.Float(1e-6, 1.0, log=True), weight_decay=tn.Float(1e-6, 1.0, log=True)
            ),
        }
    ),
    trainer={"batch_size": tn.Choice([16, 32, 64])},
)


def study_of(data, space=FLAT, builder=mlp, then=None, **settings):
    return tn.Study(
        model=tn.Model(builder, init="lecun"),
        trainer=tn.Trainer(*data, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=3),
        space=space,
        searcher=tn.LeCun(then=then),
        runtime=THREADS,
        progress=False,
        **settings,
    )


def proposals(study, count):
    """Configurations as a study asks for them, each told a made-up score."""
    trials = []
    for number in range(count):
        trials.append(study.ask())
        study.tell(trials[-1], {"loss": 1.0 / (number + 1)})
    return [trial.config for trial in trials]


def test_the_first_trial_has_the_probes_rate_and_usual_values(data):
    study = study_of(data)
    (first,) = proposals(study, 1)
    probe = study.history.probe(first)
    assert first["optimizer"]["lr"] == pytest.approx(probe.rate, rel=1e-6)
    assert first["optimizer"]["momentum"] == pytest.approx(0.9)
    assert first["model"]["width"] == 22  # the middle of 8 to 64 in the logarithm


def test_later_rates_lie_around_the_probes_and_move_with_momentum(data):
    """0.8 of them within three standard deviations; a false alarm at 60 of 200 is less likely than 1e-9."""
    study = study_of(data)
    probe = study.history.probe(proposals(study, 1)[0])
    configs = proposals(study, 200)
    rates = np.array([c["optimizer"]["lr"] for c in configs])
    wanted = np.array([probe.rate * (1 - c["optimizer"]["momentum"]) / 0.1 for c in configs])
    near = np.abs(np.log10(rates / wanted)) < 1.2
    assert 140 < near.sum() < 198
    momenta = np.array([c["optimizer"]["momentum"] for c in configs])
    assert (momenta > 0.7).mean() > 0.6


def test_each_branch_has_a_trial_of_its_own_with_its_own_rate(data):
    study = study_of(data, BRANCHED)
    first, second = (trial["optimizer"] for trial in proposals(study, 2))
    assert {next(iter(first)), next(iter(second))} == {"sgd", "adam"}
    rates = {name: settings["lr"] for one in (first, second) for name, settings in one.items()}
    probes = {name: study.history.probe(trial.config) for trial in study.trials for name in trial.config["optimizer"]}
    assert {name: probe.optimizer for name, probe in probes.items()} == {"sgd": "SGD", "adam": "AdamW"}
    assert rates == {name: pytest.approx(probe.rate, rel=1e-6) for name, probe in probes.items()}
    reached = [probes[next(iter(one))].reached for one in (first, second)]
    assert reached == sorted(reached)


def test_priors_of_a_branch_do_not_touch_the_other(data):
    study = study_of(data, BRANCHED)
    configs = proposals(study, 60)
    kinds = [next(iter(c["optimizer"])) for c in configs[2:]]
    assert 10 < kinds.count("sgd") < 48
    decays = [c["optimizer"]["adam"]["weight_decay"] for c in configs[2:] if "adam" in c["optimizer"]]
    assert 1e-2 < np.median(decays) <= 1.0  # 1 / (lr steps) is large for so short a run


def test_a_resumed_study_measures_nothing_again_and_proposes_the_same(data, tmp_path, monkeypatch):
    whole = proposals(study_of(data), 6)
    before = proposals(study_of(data, folder=tmp_path), 3)

    def never(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("tuneflow.probing.cache.probe", never)
    again = study_of(data, folder=tmp_path)
    assert before + proposals(again, 3) == whole


def test_then_counts_from_its_own_first_trial(data):
    space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1.0, log=True)})
    study = study_of(data, space, then=tn.Grid(4))
    configs = []
    while (trial := study.ask()) is not None:
        configs.append(trial.config["optimizer"]["lr"])
        study.tell(trial, {"loss": 1.0})
    assert configs[1:] == [0.001, 0.01, 0.1, 1.0]
    assert study.searcher.ends


def test_sobol_follows_the_prior(data):
    study = study_of(data, then=tn.Sobol())
    probe = study.history.probe(proposals(study, 1)[0])
    rates = [c["optimizer"]["lr"] / (1 - c["optimizer"]["momentum"]) for c in proposals(study, 64)]
    assert abs(np.log10(np.median(rates) * 0.1 / probe.rate)) < 0.4


def test_without_a_model_then_searches_alone():
    space = tn.SearchSpace(x=tn.Float(0, 1))
    asked = [
        tn.Study(space=space, minimize="value", searcher=searcher, progress=False).ask().config
        for searcher in (tn.LeCun(), tn.Random())
    ]
    assert asked[0] == asked[1]
    with pytest.raises(tn.errors.StudyError, match="nothing to probe"):
        tn.types.History(space, Objective((("value", False),))).probe({"x": 0.5})


def test_a_structure_that_cannot_be_trained_is_screened_and_scored_by_nobody(data):
    """It fails on rows that the dry run does not train on: those whose first pixel is not 0."""

    class Broken(nn.Module):
        def __init__(self, kind="good"):
            super().__init__()
            self.kind, self.net = kind, mlp()

        def forward(self, x):
            return self.net(x) / (0.0 if self.kind == "bad" and x[:, 0, 0, 0].any() else 1.0)

    space = tn.SearchSpace(
        model={"kind": tn.Choice({"good": "good", "bad": "bad"})}, optimizer={"lr": tn.Float(1e-3, 1.0, log=True)}
    )
    train, valid = data
    inputs = train.inputs.clone()
    inputs[64:, 0, 0, 0] = 1.0
    trainer = tn.Trainer(
        (inputs, train.targets), valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1
    )
    model = tn.Model(Broken, normalize=False)
    study = tn.Study(model=model, trainer=trainer, space=space, searcher=tn.LeCun(), runtime=THREADS, progress=False)
    study.run(trials=8)
    by_kind = {kind: {t.status for t in study.trials if t.config["model"]["kind"] == kind} for kind in ("good", "bad")}
    assert by_kind == {"good": {"DONE"}, "bad": {"SCREENED"}}
    screened = next(t for t in study.trials if t.status == "SCREENED")
    assert "loss before the first step is nan" in screened.reason
    assert screened.metrics == {}
    assert study.best.config["model"]["kind"] == "good"


def test_roles_are_known_by_section_and_name_and_can_be_given(data):
    space = tn.SearchSpace(
        model={"dropout": tn.Float(0, 0.5), "lr": tn.Float(0, 1)},
        optimizer={"lr": tn.Float(1e-5, 1, log=True), "eps": tn.Float(1e-9, 1e-3, log=True)},
        trainer={"batch_size": tn.Choice([16, 32])},
    )
    assert [role_of(axis) for axis in space.coordinates] == ["dropout", None, "lr", None, "batch_size"]
    with pytest.raises(ValueError, match=r'role of "eps" needs to be one of lr.*got \'learning\''):
        tn.LeCun(roles={"eps": "learning"})
    with pytest.raises(ValueError, match='the space has no "rate"'):
        tn.Study(space=space, minimize="x", searcher=tn.LeCun(roles={"rate": "lr"}))
    study = study_of(data, builder=deep, space=tn.SearchSpace(model={"dropout": tn.Float(0, 0.5)}))
    assert proposals(study, 1)[0]["model"]["dropout"] == pytest.approx(0.1)
    unknown = study_of(data, builder=deep, space=tn.SearchSpace(model={"dropout": tn.Float(0, 0.5)}))
    unknown.searcher = tn.LeCun(roles={"dropout": None})
    assert proposals(unknown, 1)[0]["model"]["dropout"] == pytest.approx(0.25)


def test_a_constrained_space_is_started_in_what_is_allowed(data):
    space = tn.SearchSpace(where=lambda c: c["optimizer"]["momentum"] < 0.5, **FLAT.entries)
    configs = proposals(study_of(data, space), 10)
    assert all(c["optimizer"]["momentum"] < 0.5 for c in configs)


def test_the_rates_slope_over_the_batch_size_is_measured(data):
    history, sizes = study_of(data, BRANCHED).history, set()
    probe = history.prober

    def noted(config):
        sizes.add(config["trainer"]["batch_size"])
        return probe(config)

    history.prober = noted
    assert 0.0 <= MeasuredSpace(BRANCHED, history, {}).slope <= 1.0
    assert sizes == {16, 32, 64}


@pytest.mark.parametrize("scale", ["log", "rest", ""])
def test_a_bell_has_its_mass_around_its_mean(scale):
    parameter = tn.Float(1e-4, 0.99, log=scale == "log")
    curve = bell(parameter, scale, 0.3, 0.1)
    middle = parameter.from_unit(curve.quantile(0.5))
    assert middle == pytest.approx(0.3, rel=0.25)
    inside = [parameter.from_unit(curve.quantile(share)) for share in np.linspace(0.01, 0.99, 99)]
    assert inside == sorted(inside)
    far = bell(parameter, scale, 5.0, 1e-3)
    assert math.isfinite(far.density(0.5))


def test_the_users_own_priors_hold_for_the_first_trial_but_for_the_rate(data):
    space = tn.SearchSpace(
        model={"width": tn.Int(8, 64, prior=tn.Normal(12, 2)), "dropout": tn.Float(0, 0.5, prior=tn.Normal(0.3, 0.05))},
        optimizer={"lr": tn.Float(1e-5, 10.0, log=True, prior=tn.Normal(1e-4, 0.1, uniform=0.0))},
    )
    study = study_of(data, space, deep)
    first, *later = proposals(study, 20)
    assert first["model"] == {"width": 12, "dropout": pytest.approx(0.3)}
    assert first["optimizer"]["lr"] == pytest.approx(study.history.probe(first).rate)
    assert all(1e-5 < c["optimizer"]["lr"] < 1e-3 for c in later)


def test_a_rate_beyond_the_range_or_excluded_is_warned_of(data):
    low = tn.SearchSpace(optimizer={"lr": tn.Float(1e-6, 1e-5, log=True)})
    with pytest.warns(UserWarning, match=r'measured rate .* of "optimizer.lr" lies beyond Float.*widen the range'):
        (first,) = proposals(study_of(data, low), 1)
    assert first["optimizer"]["lr"] == 1e-5
    wide = {"optimizer": {"lr": tn.Float(1e-5, 10.0, log=True)}}
    excluding = tn.SearchSpace(where=lambda c: c["optimizer"]["lr"] < 0.02, **wide)
    with pytest.warns(UserWarning, match="where= excludes the measured rate .* nearest that is allowed"):
        (first,) = proposals(study_of(data, excluding), 1)
    assert 0.01 < first["optimizer"]["lr"] < 0.02


def test_a_rate_that_is_hardly_known_does_not_ask_for_another_range(data):
    def frozen():
        module = mlp()
        module[1].requires_grad_(False)
        return module

    low = tn.SearchSpace(optimizer={"lr": tn.Float(1e-6, 1e-5, log=True)})
    with pytest.warns(UserWarning, match=r"lies beyond Float.*the range may be right, as this is known to a factor"):
        proposals(study_of(data, low, frozen), 1)


def test_a_constraint_that_became_stricter_leaves_old_trials_alone(data, tmp_path):
    limit = 100

    def narrow(config):
        return config["model"]["width"] < limit

    space = tn.SearchSpace(where=narrow, **FLAT.entries)
    before = proposals(study_of(data, space, folder=tmp_path), 4)
    limit = 10
    again = study_of(data, space, folder=tmp_path)
    assert [trial.config for trial in again.trials] == before
    assert proposals(again, 1)[0]["model"]["width"] < 10


def test_a_probes_configuration_has_known_sections_and_names(data):
    trainer = tn.Trainer(*data, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=3)
    with pytest.raises(ValueError, match=r'probe: config has a section "momentum".*Sections are model'):
        tn.probe(tn.Model(mlp), trainer, THREADS, config={"momentum": 0.9})
    with pytest.raises(TypeError, match=r'mlp takes no argument "widht"\. Did you mean "width"'):
        tn.probe(tn.Model(mlp), trainer, THREADS, config={"model": {"widht": 3}})
    with pytest.raises(
        TypeError, match=r'tn.Trainer: .* takes no argument "epoch"\. Did you mean "epochs"\? It takes train'
    ):
        tn.Trainer(*data, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epoch=3)


def test_rates_of_groups_keep_their_ratio_to_the_measured_rate(data):
    rate = tn.Float(1e-6, 10.0, log=True)
    study = tn.Study(
        model=tn.Model(mlp),
        trainer=tn.Trainer(
            *data, loss=nn.CrossEntropyLoss(), optimizer=tn.optim.Groups(torch.optim.SGD, last="*.bias"), epochs=3
        ),
        space=tn.SearchSpace(optimizer={"lr": rate, "last": {"lr": tn.Float(1e-7, 1.0, log=True)}}),
        searcher=tn.LeCun(),
        runtime=THREADS,
        progress=False,
    )
    (first,) = proposals(study, 1)
    optimizer, probe = first["optimizer"], study.history.probe(first)
    assert optimizer["lr"] == pytest.approx(probe.rate, rel=1e-6)
    assert optimizer["last"]["lr"] == pytest.approx(0.1 * probe.rate, rel=1e-6)  # as in the middle of the space
    assert probe.optimizer == "SGD"
