"""The divisor of a loss: parts of a batch, weighted by their shares, give the loss of the whole batch."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tuneflow.train.loss_divisor import rows_of, shares

ROWS, SIZE = 20, 7  # 7 + 7 + 6
DRAWS = torch.Generator().manual_seed(0)
CLASSES = torch.randint(3, (ROWS,), generator=DRAWS)
SOME = torch.where(torch.rand(ROWS, generator=DRAWS) < 0.6, -100, CLASSES)
TOKENS = torch.where(torch.rand(ROWS, 4, generator=DRAWS) < 0.5, 0, torch.randint(3, (ROWS, 4), generator=DRAWS))
NUMBERS = torch.rand(ROWS, 3, generator=DRAWS)
MANY = torch.where(torch.rand(ROWS, 3, generator=DRAWS) < 0.5, -1, torch.randint(3, (ROWS, 3), generator=DRAWS))
WEIGHT = torch.tensor([1.0, 5.0, 0.1])
OUTPUTS = torch.randn(ROWS, 3, generator=DRAWS)
LONG = torch.randn(ROWS, 3, 4, generator=DRAWS)
SHARES = OUTPUTS.sigmoid()

LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), OUTPUTS, CLASSES),
    "CrossEntropyLoss that ignores": (nn.CrossEntropyLoss(), OUTPUTS, SOME),
    "CrossEntropyLoss that ignores 0": (nn.CrossEntropyLoss(ignore_index=0), LONG, TOKENS),
    "CrossEntropyLoss with weights": (nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1), OUTPUTS, SOME),
    "CrossEntropyLoss of shares": (nn.CrossEntropyLoss(WEIGHT), OUTPUTS, NUMBERS / NUMBERS.sum(1, keepdim=True)),
    "CrossEntropyLoss that sums": (nn.CrossEntropyLoss(WEIGHT, reduction="sum"), OUTPUTS, SOME),
    "NLLLoss with weights": (nn.NLLLoss(WEIGHT), OUTPUTS.log_softmax(1), SOME),
    "cross_entropy": (F.cross_entropy, OUTPUTS, SOME),
    "partial cross_entropy": (partial(F.cross_entropy, weight=WEIGHT, ignore_index=0), LONG, TOKENS),
    "partial cross_entropy that sums": (partial(F.cross_entropy, reduction="sum"), OUTPUTS, SOME),
    "nll_loss": (partial(F.nll_loss, weight=WEIGHT), OUTPUTS.log_softmax(1), CLASSES),
    "MSELoss": (nn.MSELoss(), OUTPUTS, NUMBERS),
    "mse_loss that sums": (partial(F.mse_loss, reduction="sum"), OUTPUTS, NUMBERS),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), OUTPUTS, NUMBERS),
    "BCELoss with weights": (nn.BCELoss(weight=WEIGHT), SHARES, NUMBERS),
    "KLDivLoss per batch": (nn.KLDivLoss(reduction="batchmean"), OUTPUTS.log_softmax(1), NUMBERS),
    "MultiMarginLoss with weights": (nn.MultiMarginLoss(weight=WEIGHT), OUTPUTS, CLASSES),
    "MultiLabelMarginLoss": (nn.MultiLabelMarginLoss(), OUTPUTS, MANY),
    "a dict of targets": (lambda o, t: F.cross_entropy(o, t["y"]), OUTPUTS, {"y": CLASSES, "more": NUMBERS}),
    "a tuple of targets": (lambda o, t: F.mse_loss(o, t[1]), OUTPUTS, (CLASSES, NUMBERS)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_add_up_to_the_whole(name):
    loss, outputs, targets = LOSSES[name]
    parts = [slice(start, start + SIZE) for start in range(0, ROWS, SIZE)]
    of_parts = [_rows(targets, part) for part in parts]
    each = [loss(outputs[part], of_part) for part, of_part in zip(parts, of_parts, strict=True)]
    whole = sum(share * value for share, value in zip(shares(loss, of_parts), each, strict=True))
    torch.testing.assert_close(whole, loss(outputs, targets), rtol=1e-6, atol=0.0)


def _rows(targets, part):
    if isinstance(targets, dict):
        return {name: values[part] for name, values in targets.items()}
    return tuple(values[part] for values in targets) if isinstance(targets, tuple) else targets[part]


def test_a_list_with_an_object_per_row_has_as_many_rows():
    images = [{"boxes": torch.zeros(n, 4)} for n in (5, 0, 2)]
    assert rows_of(images) == 3
    assert rows_of([torch.zeros(4), torch.zeros(4, 2)]) == rows_of({"y": torch.zeros(4)}) == 4


class Halved(nn.CrossEntropyLoss):
    """A loss with the settings of torch's that computes something else."""

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets, self.weight, reduction="none").mean()


class Dropped(nn.CrossEntropyLoss):
    def __call__(self, outputs, targets):
        return 2 * super().__call__(outputs[targets >= 0], targets[targets >= 0])


@pytest.mark.parametrize("loss", [partial(nn.CrossEntropyLoss(ignore_index=1)), Dropped()], ids=["partial", "call"])
def test_a_loss_of_torch_that_is_changed_is_evaluated_in_chunks(loss):
    targets = torch.where(torch.arange(90) % 3 == 0, 1 if isinstance(loss, partial) else -100, torch.arange(90) % 3)
    inputs = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    trainer = tn.Trainer((inputs, targets), (inputs, targets), loss=loss, optimizer=torch.optim.SGD, epochs=1)
    study = tn.Study(
        model=tn.Model(lambda: nn.Linear(6, 3)),
        trainer=trainer,
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
        progress=False,
    )
    study.run(trials=1)
    outputs = study.best.model()(inputs)
    assert study.best.metrics["loss"] == pytest.approx(loss(outputs, targets).item(), rel=1e-5)


def test_a_subclass_that_computes_something_else_counts_its_rows():
    assert shares(Halved(WEIGHT), [CLASSES[:15], CLASSES[15:]]) == [0.75, 0.25]
