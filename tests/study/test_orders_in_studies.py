"""Studies of orders: what is stored, gone on with and trained together."""

import json
from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID

LAYERS = {"norm": partial(nn.BatchNorm1d, 8), "relu": nn.ReLU, "a.b": nn.Tanh}


def block(order, width=8):
    layers = [make() for make in order]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *layers, nn.Linear(width, 10))


class Steps:
    def __init__(self, order):
        self.order = order

    def __call__(self, inputs):
        for step in self.order:
            inputs = step(inputs)
        return inputs


def double(inputs):
    return 2 * inputs


def shift(inputs):
    return inputs + 1


def study_of(folder=None, items=LAYERS, runtime=None, **sections):
    train = tn.Data(TRAIN.inputs[:200], TRAIN.targets[:200])
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 1}
    trainer = tn.Trainer(train, VALID, **settings, **({"augment": Steps} if "augment" in sections else {}))
    sections = {"model": {"order": tn.Permutation(items)}, **sections}
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}, **sections)
    settings = {"searcher": tn.Random(), "minimize": "loss", "progress": False}
    return tn.Study(model=tn.Model(block), trainer=trainer, space=space, folder=folder, runtime=runtime, **settings)


def test_a_study_of_orders_goes_on_in_its_folder_and_is_read_without_its_code(tmp_path):
    study_of(tmp_path).run(trials=2)
    again = study_of(tmp_path)
    again.enqueue({"model": {"order": ("a.b", "norm", "relu")}, "optimizer": {"lr": 0.05}})
    again.run(trials=3)
    assert again.trials[2].config["model"]["order"] == ["a.b", "norm", "relu"]
    archive = tn.open(tmp_path)
    assert " model.order" in archive.listing()
    assert "['a.b', 'norm', 'relu']" in archive.listing()
    lines = [json.loads(line) for line in archive.lines()]
    assert lines[3]["config"]["model"]["order"] == ["a.b", "norm", "relu"]
    assert archive.history.units.tolist() == again.history.units.tolist()


@pytest.mark.parametrize("items", [{"norm": LAYERS["norm"], "relu": nn.ReLU}, {**LAYERS, "elu": nn.ELU}])
def test_other_items_are_another_study(tmp_path, items):
    study_of(tmp_path).run(trials=1)
    with pytest.raises(tn.errors.FingerprintError, match=r"model\.order"):
        study_of(tmp_path, items)


def test_items_listed_in_another_order_are_the_same_study(tmp_path):
    study_of(tmp_path).run(trials=1)
    again = study_of(tmp_path, dict(reversed(LAYERS.items())))
    again.run(trials=2)
    assert len(again.trials) == 2


def test_orders_train_in_lanes_as_they_train_alone():
    sections = {"augment": {"order": tn.Permutation({"double": double, "shift": shift})}}
    alone, fused = study_of(**sections), study_of(runtime=tn.Runtime(lanes=4), **sections)
    alone.run(trials=6)
    fused.run(trials=6)
    assert len({str(trial.config["augment"]) for trial in alone.trials}) == 2
    for one, other in zip(alone.trials, fused.trials, strict=True):
        assert one.config == other.config
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-5)
