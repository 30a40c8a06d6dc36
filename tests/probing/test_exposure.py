"""A probe measures how easily the best racer is attacked where something in the training has an eps."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.harden.exposure import Exposure

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:320], VALID[:80]


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


class Robustness:
    """A metric of the module that has an eps."""

    uses_box, eps, norm = True, 0.2, "l2"

    def of_module(self, module, data):
        return 1.0


def probed(loss=None, builder=net, **settings):
    loss = nn.CrossEntropyLoss() if loss is None else loss
    trainer = tn.Trainer(TRAIN, VALID, loss=loss, optimizer=torch.optim.SGD, epochs=2, batch_size=16, **settings)
    return tn.probe(tn.Model(builder), trainer, tn.Runtime("cpu", threads=1))


@pytest.fixture(scope="module")
def attacked():
    return probed(augment=tn.harden.FGSM(0.05))


def test_probe_of_attacked_training_has_the_share_below_eps_and_the_gains_of_the_layers(attacked):
    exposure = attacked.exposure
    assert (exposure.eps, exposure.norm) == (0.05, "linf")
    assert 0 < exposure.below < 1
    assert -0.3 < exposure.median < 0.3
    assert [name for name, _ in exposure.gains] == ["normalizer", "1", "3"]
    assert f"{100 * exposure.below:.0f} % of rows have a first-order margin below 0.05 (linf)" in str(attacked)


def test_probe_with_an_exposure_survives_json_and_older_ones_have_none(attacked):
    stored = json.loads(json.dumps(attacked.to_json()))
    assert tn.Probe.from_json(stored) == attacked
    del stored["exposure"]
    assert tn.Probe.from_json(stored) == replace(attacked, exposure=None)


WAYS = {
    "loss": ({"loss": tn.harden.TRADES(0.1, steps=1)}, (0.1, "linf")),
    "metric": ({"metrics": {"robust": Robustness()}}, (0.2, "l2")),
}


@pytest.mark.parametrize(("settings", "threat"), WAYS.values(), ids=list(WAYS))
def test_eps_comes_from_loss_or_metric_too(settings, threat):
    exposure = probed(**settings).exposure
    assert (exposure.eps, exposure.norm) == threat


def test_probe_of_a_plain_training_measures_none():
    assert probed().exposure is None


def test_probe_without_a_race_says_that_it_measures_none():
    trainer = tn.Trainer(
        TRAIN[:32], VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1, batch_size=16,
        augment=tn.harden.FGSM(0.05),
    )  # fmt: skip
    found = tn.probe(tn.Model(net), trainer, tn.Runtime("cpu", threads=1))
    assert found.exposure is None
    assert found.notes[-1].endswith("were left for it, and so no measurement of how easily it is attacked.")


def test_module_that_cannot_be_attacked_is_probed_all_the_same():
    class Paired(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, inputs):
            return self.inner(inputs)[:, :, None]

    class Unpaired(nn.CrossEntropyLoss):
        def forward(self, outputs, targets):
            return super().forward(outputs[:, :, 0], targets)

    found = probed(Unpaired(), Paired, metrics={"robust": Robustness()})
    assert found.exposure is None
    assert not found.failed
    assert [error[:28] for error in found.errors] == ["margins: ValueError: attacks"]


def test_show_says_how_easily_what_was_probed_is_attacked(tmp_path):
    trainer = tn.Trainer(
        TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1, batch_size=16,
        augment=tn.harden.FGSM(0.05),
    )  # fmt: skip
    space = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1, log=True)})
    study = tn.Study(model=tn.Model(net), trainer=trainer, space=space, searcher=tn.LeCun(), folder=tmp_path)
    study.run(trials=1)
    exposure = study.history.probe(study.trials[0].config).exposure
    assert tn.open(tmp_path).listing().splitlines()[-1] == f"probe: {exposure}"


def test_exposure_without_gains_is_said_in_words():
    assert str(Exposure(0.1, "linf", 0.25, 0.2)) == (
        "25 % of rows have a first-order margin below 0.1 (linf), half of them below 0.2"
    )
