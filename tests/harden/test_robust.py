"""Robust: known shares, repeatable, masked by nothing, and a metric of studies."""

import pytest
import torch
from torch import nn

import tuneflow as tn

ROWS = torch.eye(4).repeat(20, 1) * torch.linspace(0.2, 1.0, 80)[:, None]
CLASSES = torch.arange(4).repeat(20)
DATA = tn.Data(ROWS, CLASSES)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs):
        return inputs * self.factor


def robust(module: nn.Module, **settings) -> float:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return tn.harden.Robust(**{"eps": 0.2, "box": (0, 1), **settings}).of_module(module, DATA).value


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.3])
def test_the_share_of_rows_with_a_lead_of_two_radii_is_exact(eps):
    expected = float((ROWS.amax(1) > 2 * eps).double().mean())
    assert robust(Scaled(1.0), eps=eps) == pytest.approx(expected, abs=0.02)
    assert robust(Scaled(1e6), eps=eps) <= robust(Scaled(1.0), eps=eps) + 0.02


def test_it_does_not_depend_on_what_was_drawn_before():
    first = robust(Scaled(1.0), rows=40)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        torch.rand(7)
        again = tn.harden.Robust(eps=0.2, box=(0, 1), rows=40).of_module(Scaled(1.0), DATA).value
    assert again == first


def test_the_winner_is_judged_on_all_rows_with_remarks():
    judge = tn.harden.Robust(eps=0.2, box=(0, 1), rows=8).for_test()
    with pytest.warns(UserWarning, match="Robust: .*masked"):
        measured = judge.of_module(Scaled(1e6), DATA)
    assert measured.examples == 80
    assert measured.value == tn.harden.attack(Scaled(1.0), DATA, eps=0.2, box=(0, 1)).robust.value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0}, "Robust: eps"),
        ({"norm": "l3"}, "norm needs to be one of"),
        ({"every": 0}, "Robust: every"),
        ({"rows": 1.5}, "Robust: rows"),
        ({"steps": 0}, "Robust: steps"),
        ({"box": (1, 0)}, "low < high"),
    ],
    ids=["eps", "norm", "every", "rows", "steps", "box"],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        tn.harden.Robust(**{"eps": 0.1, **settings})


def net(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def test_a_study_over_attacks_has_a_front_whose_members_are_attacked():
    train, valid, test = (part[:40] for part in tn.data.digits())
    study = tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            train,
            valid,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=1,
            metrics={"accuracy": tn.metrics.accuracy, "robust": tn.harden.Robust(eps=0.1, rows=40)},
        ),
        space=tn.SearchSpace(
            augment=tn.Choice({"none": None, "fast": tn.call(tn.harden.Fast, eps=0.1)}),
            optimizer={"lr": tn.Float(0.05, 0.5, log=True)},
        ),
        searcher=tn.Random(),
        maximize=["accuracy", "robust"],
        progress=False,
    )
    study.run(trials=2)
    best = max(study.front, key=lambda result: result.metrics["robust"])
    table = best.attack(test[:15])
    assert table.threat.box == (0.0, 16.0)
    assert table.robust.value <= table.clean.value
    assert best.test(test[:15])["robust"].value == pytest.approx(table.robust.value, abs=0.06)
