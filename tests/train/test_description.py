"""The facts of a trainer: everything that scores depend on, and the same for the same trainer made again."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.messages import refused
from tuneflow.train.description import description_of

ROWS, CLASSES = torch.linspace(-1, 1, 128).reshape(32, 4), torch.arange(32) % 2


def trainer(kind=tn.Trainer, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 1} | settings
    return kind((ROWS, CLASSES), (ROWS, CLASSES), **settings)


def study(folder, **settings):
    return tn.Study(
        model=tn.Model(partial(nn.Linear, 4, 2)),
        trainer=trainer(**settings),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        runtime=tn.Runtime("cpu", threads=1),
        folder=folder,
        progress=False,
    )


class Shifted:
    """An augmentation with a setting."""

    def __init__(self, by):
        self.by, self._calls = by, 0

    def __call__(self, rows):
        self._calls += 1
        return rows + self.by


class Weighted(nn.Module):
    """A loss with a setting, a tensor and a module of its own."""

    def __init__(self, share=0.5, weights=(1.0, 2.0)):
        super().__init__()
        self.share = share
        self.register_buffer("weights", torch.tensor(weights).repeat(8))
        self.inner = nn.CrossEntropyLoss(label_smoothing=share)

    def forward(self, outputs, targets):
        return self.inner(outputs, targets)


class Other(tn.Trainer):
    """A trainer of another name."""


PAIRS = {
    "label smoothing": [{"loss": nn.CrossEntropyLoss(label_smoothing=share)} for share in (0.1, 0.2)],
    "class weights": [{"loss": nn.CrossEntropyLoss(torch.tensor(w))} for w in ([1.0, 2.0], [1.0, 3.0])],
    "many weights": [{"loss": Weighted(weights=w)} for w in ((1.0, 2.0), (1.0, 3.0))],
    "a setting of a loss": [{"loss": Weighted(share)} for share in (0.1, 0.2)],
    "a function with settings": [{"loss": partial(F.cross_entropy, label_smoothing=share)} for share in (0.1, 0.2)],
    "functions": [{"loss": loss} for loss in (F.cross_entropy, F.nll_loss)],
    "a setting of the optimizer": [{"optimizer": partial(torch.optim.SGD, momentum=m)} for m in (0.1, 0.2)],
    "optimizers": [{"optimizer": optimizer} for optimizer in (torch.optim.SGD, torch.optim.Adam)],
    "augmentation or none": [{}, {"augment": Shifted(1)}],
    "a setting of the augmentation": [{"augment": Shifted(by)} for by in (1, 2)],
    "micro-batches": [{"micro_batch": rows} for rows in (8, 16)],
    "metrics": [{"metrics": {"score": metric}} for metric in (tn.metrics.accuracy, tn.metrics.mae)],
    "a setting of a metric": [{"metrics": {"score": tn.metrics.top_k(k)}} for k in (1, 2)],
    "patience": [{"patience": epochs} for epochs in (1, 2)],
    "schedules": [{"schedule": tn.rates.Cosine(final)} for final in (0.0, 0.1)],
    "clipping": [{"clip": norm} for norm in (1.0, 2.0)],
    "classes of trainers": [{}, {"kind": Other}],
}


@pytest.mark.parametrize("pair", PAIRS)
def test_trainers_that_train_otherwise_differ_in_their_facts(pair):
    one, other = (trainer(**settings) for settings in PAIRS[pair])
    assert one.describe() != other.describe()
    assert one.describe() == trainer(**PAIRS[pair][0]).describe()
    assert repr(one) != repr(other)
    assert "0x" not in repr(one)


def test_what_an_object_keeps_for_itself_is_no_fact():
    used = Shifted(1)
    used(ROWS)
    assert description_of(used) == description_of(Shifted(1)) == "Shifted(by=1)"


PARTS = {
    "None": None,
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "cross_entropy(label_smoothing=0.1)": partial(F.cross_entropy, label_smoothing=0.1),
    "SimpleNamespace(a=[1, 'b'], c={d=[0.0]})": SimpleNamespace(a=[1, "b"], c={"d": np.zeros(1)}),
}


@pytest.mark.parametrize("words", PARTS)
def test_description_is_short_and_has_no_address(words):
    assert description_of(PARTS[words]) == words


def test_long_description_is_told_apart_by_its_digest():
    one, other = (description_of(Shifted(list(range(last)))) for last in (200, 201))
    assert one != other
    assert max(len(one), len(other)) < 40


def test_part_within_itself_has_a_description():
    part = Shifted(1)
    part.by = part
    assert description_of(part).startswith("Shifted(by=Shifted(")


def test_another_augmentation_is_refused_and_another_metric_warned_of(tmp_path):
    with study(tmp_path, metrics={"score": tn.metrics.accuracy}) as made:
        made.run(trials=1)
    scored = {"metrics": {"score": tn.metrics.accuracy}}
    kinds = tn.errors.FingerprintError
    refused(kinds, lambda: study(tmp_path, **scored, augment=Shifted(1)), "augment was None, now 'Shifted(by=1)'")
    refused(kinds, lambda: study(tmp_path, metrics={"score": tn.metrics.mae}), "score was 'accuracy', now 'mae'")
    with pytest.warns(UserWarning, match="metrics.more was None, now 'mae'"):
        study(tmp_path, metrics={"score": tn.metrics.accuracy, "more": tn.metrics.mae})
    study(tmp_path, **scored)
