"""Result.attack: the model of a trial under every attack, with the settings of the study's metric of robustness."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers import small_studies
from tuneflow.harden import attack_all

TEST = small_studies.TEST[:40]


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch):
    monkeypatch.setattr(attack_all, "QUERIES", 10)
    monkeypatch.setattr(attack_all, "STEPS", 2)


class Margin:
    """A metric of a module that says what may change."""

    def __init__(self, eps, norm="l2", box=None):
        self.eps, self.norm, self.box = eps, norm, box

    def of_module(self, module, data):
        return 0.5


def study_of(**settings):
    study = small_studies.make(**settings)
    study.run(trials=1)
    return study


def best(metrics=None, **settings):
    metrics = {"accuracy": tn.metrics.accuracy, **(metrics or {})}
    trainer = small_studies.trainer(epochs=1, metrics=metrics, **settings)
    return study_of(trainer=trainer).best


@pytest.fixture(scope="module")
def plain():
    return best()


def test_box_is_the_range_of_the_training_rows(plain):
    table = plain.attack(TEST[:3], eps=0.1)
    assert table.threat.box == (0, 16)
    assert table.threat.norm == "linf"
    assert len(table.survived) == 3


def test_rows_count_by_the_model(plain):
    right = plain.model()(TEST.inputs).argmax(1) == TEST.targets
    assert torch.equal(plain.attack(TEST, eps=0.1).right, right)


def test_settings_left_out_are_those_of_the_metric():
    result = best({"robust": Margin(0.2, box=(-1, 17))})
    own, said = result.attack(TEST).threat, result.attack(TEST, eps=0.1, norm="linf", box=(0, 16)).threat
    assert (own.eps, own.norm, own.box) == (0.2, "l2", (-1, 17))
    assert (said.eps, said.norm, said.box) == (0.1, "linf", (0, 16))


def test_metrics_that_differ_say_nothing():
    result = best({"near": Margin(0.1), "far": Margin(0.2)})
    assert result.attack(TEST, eps=0.1).threat.norm == "l2"
    with pytest.raises(ValueError, match=r"eps needs to be said.*got several that differ"):
        result.attack(TEST)


def test_eps_needs_to_be_said_without_a_metric(plain):
    with pytest.raises(ValueError, match=r"attack\(data, eps=0.1\).*Robust\(eps=0.1\), got none"):
        plain.attack(TEST)


def test_model_of_folds_is_attacked():
    study = study_of(
        trainer=tn.Trainer(
            small_studies.TRAIN[:40],
            folds=2,
            epochs=1,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            metrics={"accuracy": tn.metrics.accuracy},
        )
    )
    assert study.best.attack(TEST, eps=0.1).threat.box == (0, 16)


def test_function_has_no_model_to_attack():
    result = tn.minimize(lambda x: x, tn.SearchSpace(x=tn.Float(0, 1)), trials=1, progress=False)
    with pytest.raises(tn.errors.StudyError, match="is a plain function, so there is no model"):
        result.attack(TEST, eps=0.1)
