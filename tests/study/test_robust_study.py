"""tn.harden.Robust in studies: objective, limit and curve; in folds, replicas, lanes, workers, forks and resumed."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, net
from tests.helpers.trainer_runs import facts, run, through_file
from tests.helpers.worker_training import ONE
from tuneflow.compress.winner import record_of
from tuneflow.errors import FingerprintError
from tuneflow.harden import Robust, attack_all

QUICK = Robust(eps=0.1, rows=30, steps=3)
SPACE = {"model": {"width": tn.Int(6, 12)}, "optimizer": {"lr": tn.Float(0.02, 0.3, log=True)}}
FEW = TEST[:20]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(attack_all, "QUERIES", 10)
    monkeypatch.setattr(attack_all, "STEPS", 3)


def trainer(data=(TRAIN[:160], VALID[:40]), robust=QUICK, **settings):
    metrics = {"accuracy": tn.metrics.accuracy, "robust": robust} | settings.pop("metrics", {})
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return tn.Trainer(*data, metrics=metrics, **settings)


def study(training=None, trials=2, **settings):
    settings = {"model": tn.Model(net), "space": SPACE, "runtime": ONE, "maximize": "robust"} | settings
    space = tn.SearchSpace(**settings.pop("space"))
    ours = tn.Study(trainer=training or trainer(), space=space, searcher=tn.Random(), progress=False, **settings)
    ours.run(trials=trials)
    return ours


def values(ours):
    return [[report.metrics["robust"] for report in trial.reports] for trial in ours.trials]


@pytest.fixture(scope="module")
def plain():
    return study(trials=3)


def test_it_is_an_objective(plain):
    assert plain.best.metrics["robust"] == max(map(max, values(plain))) > 0
    assert 0 < plain.best.errors["robust"] < 0.1


def test_winner_is_tested_by_all_attacks_on_all_rows(plain):
    score = plain.test(FEW)["robust"]
    table = plain.best.attack(FEW)
    assert score.value == table.robust.value
    assert score.examples == len(FEW)
    assert (table.threat.eps, table.threat.box) == (0.1, (0, 16))


def test_saved_model_keeps_the_box_of_its_training_rows(plain, tmp_path):
    path = tmp_path / "model.pt"
    plain.best.save(path)
    assert record_of(tn.load(path, net)).box == record_of(plain.best.model()).box == (0, 16)


def test_value_is_that_of_the_handed_over_module(plain):
    assert QUICK.of_module(plain.best.model(), VALID[:40]).value == plain.best.metrics["robust"]


def test_training_resumes_exactly():
    job = tn.types.Job(tn.Model(net), {"optimizer": {"lr": 0.1}}, ONE)
    _, reports = run(trainer(), job)
    half, first = run(trainer(), job, 1)
    _, later = run(trainer(), job, 2, through_file(half))
    assert facts([*first, *later]) == facts(reports)


def test_lanes_have_the_same_values(plain):
    lanes = study(trials=3, runtime=tn.Runtime("cpu", threads=1, lanes=3))
    assert values(lanes) == values(plain)


def test_study_that_goes_on_refuses_another_attack(tmp_path):
    study(trials=1, folder=tmp_path / "study").close()
    with pytest.raises(FingerprintError, match=r"metrics.robust was .*eps=0.1.* now .*eps=0.2"):
        study(trainer(robust=Robust(0.2, rows=30, steps=3)), trials=1, folder=tmp_path / "study")


def test_it_is_a_limit(plain):
    bound = sorted(trial.metrics["robust"] for trial in plain.trials)[1]
    limited = study(trials=3, maximize="accuracy", limits={"robust": tn.within(0.0, of=bound)})
    assert [limited.history.within(t) for t in limited.trials] == [t.metrics["robust"] >= bound for t in limited.trials]
    assert sum(map(limited.history.within, limited.trials)) in (1, 2)


def test_replicas_and_folds_report_the_mean():
    training = trainer((TRAIN[:160],), folds=2)
    ours = study(training, trials=1, replicas=2)
    parts = [training.in_fold(fold).valid for _ in range(2) for fold in range(2)]
    each = [QUICK.of_module(module, part).value for module, part in zip(ours.best.models(), parts, strict=True)]
    assert ours.best.metrics["robust"] == pytest.approx(sum(each) / 4)
    assert ours.test(FEW)["robust"].examples == len(FEW)


def test_learning_curve_is_of_robust_accuracy(plain):
    curve = plain.best.learning_curve(rows=[40, 160], seeds=2)
    assert "robust" in repr(curve).splitlines()[0]
    assert curve.scores[0] <= curve.scores[-1]


def test_confirmed_front_has_it(plain):
    front = study(trials=2, maximize=["accuracy", "robust"])
    assert all("robust" in result.metrics for result in front.front)
    assert "robust" in repr(front.confirm(front=True, seeds=1))


def test_forks_are_attacked_in_the_form_that_is_scored(plain):
    steps = {"arithmetic": tn.compress.Arithmetic("int8"), "rounding": tn.harden.Rounding(bits=3)}
    latency = {"latency": tn.measure.Latency(relative=True, seconds=1e-3)}
    fork = study(
        trainer(epochs=1, metrics=latency, augment=tn.harden.Fast(0.1)),
        trials=1,
        model=tn.Model(plain.best, steps=steps),
        space={"optimizer": {"lr": tn.Constant(0.02)}},
        maximize=["accuracy", "robust"],
        minimize="latency",
    )
    table = fork.front[0].attack(FEW)
    assert {each.form for each in table.attacks} == {"float", "straight-through", ""}
    assert QUICK.of_module(fork.front[0].model(), VALID[:40]).value == fork.front[0].metrics["robust"]
    assert fork.front[0].test_winner(FEW)["robust"].value == plain.best.attack(FEW).robust.value


def test_front_over_training_and_cleaning_is_attacked():
    ways = {
        "none": None,
        "fast": tn.call(tn.harden.Fast, eps=0.1),
        "pgd": tn.call(tn.harden.PGD, eps=0.1, steps=tn.Int(3, 10)),
    }
    hard = study(
        trainer(epochs=1),
        model=tn.Model(net, steps={"sanitize": tn.harden.Rounding}),
        space={"augment": tn.Choice(ways), "sanitize": {"bits": tn.Int(2, 8)}, **SPACE},
        maximize=["accuracy", "robust"],
    )
    assert len({str(trial.config["augment"]) for trial in hard.trials}) == 2
    table = max(hard.front, key=lambda result: result.metrics["robust"]).attack(FEW, eps=0.1)
    assert table.robust.value <= table.clean.value
    assert {each.form for each in table.attacks} == {"own", "straight-through", ""}


def one_logit():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


def with_log_softmax():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LogSoftmax(1))


def changed(change=lambda inputs, targets: (inputs, targets)):
    return [tn.Data(*change(part.inputs, part.targets)) for part in (TRAIN[:160], VALID[:40])]


KINDS = {
    "one logit": (one_logit, changed(lambda x, y: (x, (y % 2).float()[:, None])), nn.BCEWithLogitsLoss()),
    "log-probabilities": (with_log_softmax, changed(), nn.NLLLoss()),
    "smoothed labels": (net, changed(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "bytes": (net, changed(lambda x, y: (x.byte(), y)), nn.CrossEntropyLoss()),
    "loader": (net, [TensorDataset(TRAIN.inputs[:160], TRAIN.targets[:160]),
                     DataLoader(TensorDataset(VALID.inputs[:40], VALID.targets[:40]), 9)], nn.CrossEntropyLoss()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data_and_losses(kind):
    builder, data, loss = KINDS[kind]
    training = trainer(data, Robust(eps=0.01, rows=30, steps=2), loss=loss, epochs=1)
    ours = study(training, trials=1, model=tn.Model(builder), space={"optimizer": {"lr": tn.Constant(0.1)}})
    assert 0 < ours.best.metrics["robust"] <= 1


def test_regression_is_refused_before_trial_0_by_the_name_of_the_metric():
    data = changed(lambda x, _: (x, x.mean((1, 2, 3))[:, None]))
    training = tn.Trainer(*data, loss=nn.MSELoss(), optimizer=torch.optim.SGD, metrics={"safe": QUICK})
    with pytest.raises(ValueError, match=r'configuration .*metric "safe": attacks need class numbers'):
        study(training, model=tn.Model(one_logit), space={"optimizer": {"lr": tn.Constant(0.1)}}, maximize="safe")
