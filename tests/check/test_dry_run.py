"""The dry run: the famous case, and what is right passes, with everything left as it was."""

import copy
import random
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tests.helpers.dry_run_cases import (
    BYTES,
    CLASSES,
    IMAGES,
    ONE,
    RATE,
    ROWS,
    SHARE,
    TOKENS,
    Net,
    Rows,
    changed,
    check,
    generator,
    linear,
    net,
)
from tests.helpers.global_generators import generators_untouched
from tests.helpers.hooks import hooks_of
from tuneflow.check.dry_run import check_space

# The famous case.


class Famous(nn.Module):
    """Three 3x3 convolutions, each pooled, and a view that fits padding=1."""

    def __init__(self, padding=16, rows=-1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=padding)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=padding)
        self.conv3 = nn.Conv2d(8, 128, 3, padding=padding)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(128 * 4 * 4, 16)
        self.fc2 = nn.Linear(16, 10)
        self.rows = rows

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = self.pool(functional.relu(conv(x)))
        x = x.view(self.rows if self.rows < 0 else len(x), 128 * 4 * 4)
        return self.fc2(functional.relu(self.fc1(x)))


LARGE = (torch.randn(32, 3, 32, 32, generator=generator), torch.arange(32) % 10)


def test_famous_view_is_explained_with_the_padding_that_works():
    with pytest.raises(ValueError) as caught:
        check(Famous, LARGE, space={"model": {"padding": tn.Int(16, 16)}, **RATE})
    message = str(caught.value)
    assert "'padding': 16" in message
    assert "batch 32 became 1800 in view(-1, 2048) of Famous (test_dry_run.py, line " in message
    assert "128x30x30 = 115200, not 2048" in message
    assert "padding=1 in the convolutions gives 128x4x4" in message
    check(partial(Famous, padding=1), LARGE)


def test_view_that_cannot_be_made_is_explained_alike():
    with pytest.raises(ValueError) as caught:
        check(partial(Famous, rows=1), LARGE)
    assert "batch 32 does not fit view(32, 2048)" in str(caught.value)
    assert "padding=1 in the convolutions gives 128x4x4" in str(caught.value)


def test_no_padding_is_advised_that_was_not_seen_to_work():
    def forward(self, x):
        return self.layer[1](self.layer[0](x).view(-1, 100))

    with pytest.raises(ValueError) as caught:
        check(net(forward, lambda: nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Linear(100, 10)])))
    assert "the features of a row are 4x6x6 = 144, not 100" in str(caught.value)
    assert "padding" not in str(caught.value)
    assert "flatten(1)" in str(caught.value)
    assert "in_features=144" in str(caught.value)


def test_linear_behind_too_little_padding_gets_both_ways_out():
    def builder(padding=0, features=8 * 4 * 4):
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=padding), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(features, 10)
        )

    with pytest.raises(ValueError) as caught:
        check(builder)
    assert 'layer "3: Linear" takes in_features=128, but the features are 8x2x2 = 32' in str(caught.value)
    assert "in_features=32 takes them, or padding=2 in the convolutions gives 8x4x4" in str(caught.value)
    check(partial(builder, padding=2))
    check(partial(builder, features=32))


def test_module_that_cannot_be_copied_is_explained_without_advice():
    def builder():
        module = Famous()
        module.lock = threading.Lock()
        return module

    with pytest.raises(ValueError, match=r"batch 32 became 1800 in view\(-1, 2048\).*in_features=115200"):
        check(builder, LARGE)


def test_padding_is_tried_further_than_half_the_kernel():
    def forward(self, x):
        return self.layer[1](self.layer[0](x).view(-1, 4 * 6 * 6))

    def builder(padding):
        return Net(forward, nn.ModuleList([nn.Conv2d(3, 4, 3, padding=padding), nn.Linear(4 * 6 * 6, 10)]))

    with pytest.raises(ValueError, match=r"padding=0 in the convolutions gives 4x6x6"):
        check(partial(builder, 1))
    check(partial(builder, 0))


def test_few_rows_are_trained_and_evaluated_on_one_thread():
    rows, threads = [], set()

    def forward(self, x):
        rows.append((self.training, len(x)))
        threads.add(torch.get_num_threads())
        return self.layer(x)

    for settings in ({}, {"valid": SAME, "data": SAME}, {"metrics": {"m": Locked()}}):
        rows.clear()
        space = {**RATE, "trainer": {"batch_size": tn.Choice([40])}}
        check(net(forward), **settings, space=space, normalize=False)
        looked = [row for row in rows if row[0] or row[1] == 8]  # the others try evaluation in parts
        assert set(looked) == {(True, 32), (True, 2), (True, 17), (True, 8), (False, 8)}
        tried = 3 * ("metrics" in settings)  # rows that the metric is tried out on
        assert len(looked) == 4 + 4 * 2 + 1 + 3 + tried  # four looks, four epochs of two batches, an evaluation, theirs
    assert threads == {1}


def test_nothing_is_compiled_for_a_few_steps():
    def backend(graph, inputs):
        raise AssertionError("compiled")

    check(lambda: torch.compile(linear(), backend=backend))
    with pytest.raises(ValueError, match=r'batch 32 became 6144 in flatten\(0, -1\) of layer "_orig_mod.0: Flatten"'):
        check(lambda: torch.compile(nn.Sequential(nn.Flatten(0), linear()), backend=backend))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_script_that_takes_no_hooks_passes():
    check(lambda: torch.jit.script(linear()))


# What is right passes.


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(50, 8), nn.LSTM(8, 8, dropout=0.1, num_layers=2), nn.Linear(8, 10)

    def forward(self, x):
        return self.out(self.rnn(self.embed(x).transpose(0, 1))[0][-1])


class Language(nn.Module):
    """Joins rows and time for its linear layer, and undoes that or not."""

    def __init__(self, undone):
        super().__init__()
        self.embed, self.out, self.undone = nn.Embedding(50, 8), nn.Linear(8, 50), undone

    def forward(self, x):
        outputs = self.out(self.embed(x).reshape(-1, 8))
        return outputs.view(len(x), 12, 50) if self.undone else outputs


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(50, 8), nn.Linear(8, 10)
        self.body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.out(self.body(self.embed(x)).mean(1))


class Twice(tn.Trainer):
    """Two views of each row in one batch of twice the size."""

    def loss_of(self, module, batch):
        inputs, targets = batch
        outputs = module(torch.cat([inputs, inputs + torch.rand(1)]))
        return functional.cross_entropy(outputs[: len(targets)], targets) + outputs.var()


class Called(tn.Trainer):
    def loss_of(self, module, batch):
        assert len(batch[0]["x"]) == len(batch[1])
        return super().loss_of(module, batch)


def contrastive(outputs, targets):
    same = (targets.view(-1, 1) == targets).float()
    pairs = functional.log_softmax(outputs @ outputs.T, 1)
    return -(same * pairs).sum() / same.sum()


def every_class(outputs, targets):
    if len(targets.unique()) < 10:
        raise ValueError("only defined where all classes are there")
    return 0.5


FROZEN = nn.Linear(192, 20).requires_grad_(False)
HALVES = torch.nn.functional.softmax(torch.randn(ROWS, 10, generator=generator), 1)
MASKS = torch.randint(4, (ROWS, 8, 8), generator=generator)

RIGHT = {
    "plain": lambda: check(),
    "dropout and batch norm": lambda: check(
        lambda: nn.Sequential(linear(20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 10)), batch_size=16 + 9
    ),
    "recurrent": lambda: check(Recurrent, (TOKENS, CLASSES)),
    "transformer": lambda: check(Transformer, (TOKENS, CLASSES)),
    "joined and undone": lambda: check(
        partial(Language, True),
        (TOKENS, TOKENS),
        loss=lambda o, t: functional.cross_entropy(o.flatten(0, 1), t.flatten()),
    ),
    "joined": lambda: check(
        partial(Language, False), (TOKENS, TOKENS), loss=lambda o, t: functional.cross_entropy(o, t.view(-1))
    ),
    "pixels": lambda: check(lambda: nn.Conv2d(3, 4, 1), (IMAGES, MASKS)),
    "ignored pixels": lambda: check(
        lambda: nn.Conv2d(3, 4, 1), (IMAGES, changed(5, 255, MASKS)), loss=nn.CrossEntropyLoss(ignore_index=255)
    ),
    "ignored by default": lambda: check(data=(IMAGES, changed(5, -100))),
    "shares of classes": lambda: check(data=(IMAGES, HALVES)),
    "yes and no": lambda: check(ONE, (IMAGES, SHARE[:, None]), loss=nn.BCEWithLogitsLoss()),
    "regression": lambda: check(ONE, (IMAGES, SHARE[:, None]), loss=nn.MSELoss(), metrics={"r2": tn.metrics.r2}),
    "pairs": lambda: check(loss=contrastive),
    "twice": lambda: check(kind=Twice),
    "dict": lambda: check(net(lambda s, x: s.layer(x["x"]) + x["y"]), ({"x": IMAGES, "y": SHARE[:, None]}, CLASSES)),
    "own loss_of": lambda: check(net(lambda s, x: s.layer(x["x"])), ({"x": IMAGES}, CLASSES), kind=Called),
    "loss of many rows": lambda: check(
        data=(IMAGES[:96], CLASSES[:96]),
        loss=lambda o, t: functional.cross_entropy(o, t, reduction="none").topk(16).values.mean(),
        batch_size=48,
    ),
    "metric of many rows": lambda: check(metrics={"m": every_class}, schedule=tn.rates.Plateau(metric="m"), patience=1),
    "bytes": lambda: check(data=(BYTES, CLASSES)),
    "bytes, cast": lambda: check(net(lambda s, x: s.layer(x.float() / 255)), (BYTES, CLASSES), normalize=False),
    "bytes of its own": lambda: check(net(lambda s, x: s.layer(x * ((x > 0).byte() * 2 - 1)))),
    "huge": lambda: check(data=(torch.full_like(IMAGES, 3e38), CLASSES)),
    "bytes, divided": lambda: check(net(lambda s, x: s.layer(x / 255)), (BYTES, CLASSES), normalize=False),
    "shared and frozen": lambda: check(lambda: nn.Sequential(nn.Flatten(), FROZEN, nn.Linear(20, 10))),
    "single rows": lambda: check(batch_size=1),
    "one row": lambda: check(data=(IMAGES[:1], CLASSES[:1])),
    "one epoch": lambda: check(epochs=1),
    "one cycle": lambda: check(schedule=tn.rates.OneCycle()),
    "torch's one cycle": lambda: check(
        epochs=1,
        schedule=tn.rates.Torch(
            lambda o, steps: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=steps), unit="step"
        ),
    ),
    "diverging": lambda: check(space={"optimizer": {"lr": 1e38}}),
    "dataset": lambda: check(data=Rows()),
    "random dataset": lambda: check(data=Rows(change=lambda x: x + torch.rand(1) + random.random())),
    "augmented": lambda: check(augment=lambda x: x.flip(-1) if torch.rand(1) < 0.5 else x),
    "micro-batches": lambda: check(micro_batch=5, clip=1.0),
    "tuned": lambda: check(
        loss=nn.CrossEntropyLoss,
        space={**RATE, "loss": {"label_smoothing": 0.1}, "trainer": {"batch_size": tn.Choice([16, 64])}},
    ),
    "lock": lambda: check(metrics={"m": Locked()}),
    "one tensor of parameters": lambda: check(net(lambda s, x: s.layer(x.flatten(1)), partial(nn.Linear, 192, 10))),
    "same data": lambda: check(data=SAME, valid=SAME),
}

SAME = tn.Data(IMAGES, CLASSES)


class Locked:
    """Cannot be copied."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, outputs, targets):
        with self.lock:
            return tn.metrics.accuracy(outputs, targets)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    with generators_untouched():
        RIGHT[name]()


OPTIMIZERS = [
    name
    for name in dir(torch.optim)
    if isinstance(getattr(torch.optim, name), type)
    and issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
    and name not in ("Optimizer", "LBFGS", "SparseAdam")
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_passes_but_those_refused(name):
    check(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10, bias=False)), optimizer=getattr(torch.optim, name))


def test_nothing_that_was_given_is_touched():
    class Watched(nn.Module):
        """A loss with a state."""

        def __init__(self):
            super().__init__()
            self._calls = 0

        def forward(self, outputs, targets):
            self._calls += 1
            return functional.cross_entropy(outputs, targets)

    loss, data, noise = Watched(), tn.Data(IMAGES.clone(), CLASSES.clone()), torch.rand(2)
    trainer = tn.Trainer(data, data, loss=loss, optimizer=torch.optim.SGD, metrics={"a": tn.metrics.accuracy})
    trainer.extra = [noise]
    before, digest, threads = attributes(trainer), data.digest(), torch.get_num_threads()
    runtime = tn.Runtime("cpu", threads=2)
    with generators_untouched():
        check_space(tn.SearchSpace(**RATE), tn.Model(linear), trainer, runtime)
    assert attributes(trainer) == before
    assert loss._calls == 0  # no private reach: the test's own
    assert data.digest() == digest
    assert (torch.get_num_threads(), runtime.threads) == (threads, 2)


def attributes(thing):
    """What an object holds now, with copies of the dictionaries in it."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(thing).items()}


def test_module_of_the_builder_is_not_trained():
    module = linear()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match="twice"):
        check(lambda: module)
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    assert module.training
    assert module[1].weight.grad is None
    assert hooks_of(module) == []


def test_study_is_refused_before_its_folder_is_made(tmp_path):
    trainer = tn.Trainer((IMAGES, CLASSES), (IMAGES, CLASSES), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD)
    with pytest.raises(ValueError, match='layer "1: Linear"'):
        tn.Study(
            model=tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(99, 10))),
            trainer=trainer,
            space=tn.SearchSpace(**RATE),
            folder=tmp_path / "study",
        )
    assert not (tmp_path / "study").exists()


def recall(outputs, targets):
    return float((outputs.argmax(1) == 1)[targets == 1].float().mean())


@pytest.mark.parametrize("metric", [tn.metrics.auc, recall], ids=lambda metric: metric.__name__)
def test_a_metric_that_validation_rows_leave_undefined_is_warned_of(metric):
    labels = (CLASSES > 0).long()
    images = IMAGES[labels == 0]
    with pytest.warns(UserWarning, match=f'metric "score" is nan on the {len(images)} .* all are of class 0;'):
        check(data=(IMAGES, labels), valid=(images, labels[labels == 0]), metrics={"score": metric})


def test_no_metric_is_warned_of_that_is_defined_there():
    check(data=(IMAGES, (CLASSES > 0).long()), metrics={"auc": tn.metrics.auc, "other": lambda o, t: float(len(t))})
