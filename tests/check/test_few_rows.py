"""A batch of too few rows is found before trial 0, for every value of batch_size and micro_batch in the space."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tests.helpers.dry_run_cases import CLASSES, IMAGES, check, linear, net
from tuneflow.check.few_rows import Batching


def normed():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


def images():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))


def hardest(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none").topk(16).values.mean()


class Spread(tn.Trainer):
    """Its loss has a term that a single row has no value for."""

    def loss_of(self, module, batch):
        outputs = module(batch[0])
        return functional.cross_entropy(outputs, batch[1]) + outputs.std(0).mean()


def space(**settings):
    return {"optimizer": {"lr": 0.01}, "trainer": settings}


NORM = 'layer "2: BatchNorm1d" needs more than one row, but 97 rows in batches of '
REFUSED = {
    "fixed": (lambda: check(normed, batch_size=3), [NORM + "3 leave one for the last batch; batch_size=5 or 96"]),
    "steps of an Int": (
        lambda: check(normed, space=space(batch_size=tn.Int(8, 64, step=8))),
        [NORM + "8, 16, 24, 32 or 48 leave one", "96 rows do not, and tn.Choice([40, 56, 64]) has none that does"],
    ),
    "every value of an Int": (
        lambda: check(normed, space=space(batch_size=tn.Int(7, 80))),
        [NORM + "8, 12, 16, 24, 32 or 48", 'where=lambda config: config["trainer"]["batch_size"] > 1 and 97 % config'],
    ),
    "labels": (
        lambda: check(normed, space=space(batch_size=tn.Choice({"few": 16, "more": 20}))),
        [NORM + "16 leave one", "tn.Choice([20])"],
    ),
    "part of a batch": (
        lambda: check(normed, batch_size=33, micro_batch=16),
        [NORM + "33 leave one for the last part of micro_batch=16; micro_batch=14 does not"],
    ),
    "part of the last batch": (
        lambda: check(normed, batch_size=90, space=space(micro_batch=tn.Choice([5, 6]))),
        [NORM + "90 leave one for the last part of micro_batch=6; micro_batch=5 does not"],
    ),
    "squeezed": (
        lambda: check(net(lambda s, x: s.layer(x).squeeze())),
        ["the loss, by ", "needs more than one row, but 97 rows in batches of 32 leave one"],
    ),
    "spread over the rows": (lambda: check(kind=Spread), ["a finite loss needs more than one row"]),
    "input's spread": (
        lambda: check(net(lambda s, x: s.layer(x / (x.std(0) + 0.1))), normalize=False),
        ["a finite loss needs more than one row"],
    ),
    "hardest rows": (
        lambda: check(loss=hardest, batch_size=23),
        ["needs more than 15 rows, but 97 rows in batches of 23 leave 5 for the last batch; batch_size=20 or 92 rows"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_leave_too_few_rows_are_named(name):
    do, said = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        do()
    assert [words for words in said if words not in str(caught.value)] == [], str(caught.value)


NEVER_FINITE = {
    "all targets ignored": lambda outputs, targets: functional.cross_entropy(outputs, targets * 0 - 100),
    "weight 0": lambda outputs, targets: functional.cross_entropy(outputs, targets, weight=outputs.new_zeros(10)),
    "logarithm of 0": lambda outputs, targets: (outputs * 0).log().mean(),
}


@pytest.mark.parametrize("loss", NEVER_FINITE.values(), ids=NEVER_FINITE)
def test_a_loss_that_is_finite_for_no_rows_is_not_put_down_to_their_number(loss):
    said = ""
    try:
        check(loss=loss)
    except ValueError as error:
        said = str(error)
    assert "rows in batches of" not in said


allowed = tn.SearchSpace(
    where=lambda config: 97 % config["trainer"]["batch_size"] != 1, **space(batch_size=tn.Int(8, 64, step=8))
)
RIGHT = {
    "images": lambda: check(images, batch_size=32),
    "single rows": lambda: check(linear, batch_size=1),
    "groups": lambda: check(lambda: nn.Sequential(linear(8), nn.GroupNorm(2, 8), nn.Linear(8, 10))),
    "other values": lambda: check(normed, space=space(batch_size=tn.Choice([20, 40]))),
    "a row less": lambda: check(normed, (IMAGES[:96], CLASSES[:96]), space=space(batch_size=tn.Int(8, 64, step=8))),
    "excluded": lambda: tn.Study(
        space=allowed,
        model=tn.Model(normed),
        trainer=tn.Trainer((IMAGES, CLASSES), (IMAGES, CLASSES), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD),
        progress=False,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_batches_that_can_be_trained_on_are_not_refused(name):
    RIGHT[name]()


@pytest.mark.parametrize("rows", [5, 12, 13])
@pytest.mark.parametrize("size", [1, 4, 6, 20])
@pytest.mark.parametrize("micro", [None, 1, 3, 5, 9])
def test_the_smallest_part_is_that_of_the_batches_themselves(rows, size, micro):
    batches = torch.arange(rows).split(size)
    parts = [part for batch in batches for part in (batch.split(micro) if micro else [batch])]
    assert Batching(rows, "", size, micro).smallest == min(map(len, parts))
