"""Evaluation in chunks: every loss and metric has the value of all rows, whatever is returned and however it is cut."""

import math
import weakref
from collections import OrderedDict, namedtuple
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import tuneflow as tn
from tests.helpers.digits_training import job
from tests.helpers.trainer_runs import run
from tuneflow.data.sources import as_source
from tuneflow.metrics.adapters import as_metric
from tuneflow.train import evaluation_plan
from tuneflow.train.evaluate import Evaluator
from tuneflow.train.evaluation_plan import Measures
from tuneflow.train.joined_outputs import joined
from tuneflow.train.spread import connect

ROWS, CLASSES, LONG = 50, 3, 5
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(ROWS, 6, generator=DRAW)
Y = torch.randint(CLASSES, (ROWS,), generator=DRAW)
TOKENS = torch.randint(CLASSES, (ROWS, LONG), generator=DRAW)
PADDED = torch.where(torch.arange(LONG) < torch.randint(1, LONG + 1, (ROWS, 1), generator=DRAW), TOKENS, -100)
WEIGHT = torch.tensor([1.0, 2.0, 5.0])
NUMBERS = torch.randn(ROWS, 2, generator=DRAW)


class Net(nn.Module):
    """A linear map whose outputs go into a container."""

    def __init__(self, shape=(CLASSES,), contain=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer, self.shape, self.contain = nn.Linear(6, math.prod(shape)), shape, contain
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        outputs = self.layer(x).reshape(len(x), *self.shape)
        return outputs if self.contain is None else self.contain(outputs)


def evaluated(loss, targets, module, metrics=(), size=7, loss_of=None, **settings):
    """Loss and metrics as an evaluation gives them that loads `size` rows at a time."""
    measures = Measures(loss, {name: as_metric(metric) for name, metric in dict(metrics).items()})
    with torch.no_grad():
        source = as_source((X, targets) if isinstance(targets, torch.Tensor) else targets, "test")
        return Evaluator(measures, {}, loss_of).evaluate(module, source, size, **settings)


def own_cross_entropy(ignored, outputs, targets):
    counted = targets != ignored
    each = F.cross_entropy(outputs, targets.clamp(min=0), reduction="none")
    return each[counted].mean()


class Focal(nn.Module):
    """A loss as users write it, with a reduction of its own."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, outputs, targets):
        each = F.cross_entropy(outputs, targets, reduction="none")
        each = (1 - torch.exp(-each)) ** 2 * each
        return each.mean() if self.reduction == "mean" else each


SEQUENCES = (CLASSES, LONG)
LOSSES = {
    "cross-entropy": (nn.CrossEntropyLoss(), (CLASSES,), Y),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.2), (CLASSES,), Y),
    "class weights": (nn.CrossEntropyLoss(weight=WEIGHT), (CLASSES,), Y),
    "summed": (nn.CrossEntropyLoss(reduction="sum"), (CLASSES,), Y),
    "ignored class": (nn.CrossEntropyLoss(ignore_index=1), (CLASSES,), Y),
    "padded": (nn.CrossEntropyLoss(), SEQUENCES, PADDED),
    "padded, weighted, smoothed": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), SEQUENCES, PADDED),
    "function": (F.cross_entropy, SEQUENCES, PADDED),
    "partial": (partial(F.cross_entropy, ignore_index=0, weight=WEIGHT), SEQUENCES, TOKENS),
    "summed partial": (partial(F.cross_entropy, reduction="sum"), SEQUENCES, PADDED),
    "lambda": (lambda o, t: F.cross_entropy(o, t), SEQUENCES, PADDED),
    "lambda that ignores 255": (
        lambda o, t: F.cross_entropy(o, t, ignore_index=255),
        SEQUENCES,
        torch.where(PADDED < 0, 255, PADDED),
    ),
    "lambda that ignores 0": (lambda o, t: F.cross_entropy(o, t, ignore_index=0), SEQUENCES, TOKENS),
    "lambda of sums": (lambda o, t: F.cross_entropy(o, t, reduction="sum"), SEQUENCES, PADDED),
    "own mask": (partial(own_cross_entropy, -100), SEQUENCES, PADDED),
    "own reduction": (Focal(), (CLASSES,), Y),
    "negative log-likelihood": (lambda o, t: F.nll_loss(o.log_softmax(1), t), (CLASSES,), Y),
    "squared error": (nn.MSELoss(), (2,), NUMBERS),
    "squared error, lambda": (lambda o, t: (o - t).square().mean(), (2,), NUMBERS),
    "binary, of shares": (lambda o, t: F.binary_cross_entropy(o.sigmoid(), t), (2,), (NUMBERS > 0).float()),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), (2,), NUMBERS.softmax(1)),
    "root": (lambda o, t: (o - t).square().mean().sqrt(), (2,), NUMBERS),
    "largest": (lambda o, t: (o - t).abs().max(), (2,), NUMBERS),
    "across rows": (lambda o, t: -(o @ t.T).log_softmax(1).diagonal().mean(), (2,), NUMBERS),
    "constant": (lambda o, t: o.new_tensor(0.5), (2,), NUMBERS),
}


@pytest.mark.parametrize("size", [7, 32, 1000])
@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_of_all_rows_at_once(kind, size):
    loss, shape, targets = LOSSES[kind]
    module = Net(shape)
    value = evaluated(loss, targets, module, size=size)["loss"].value
    with torch.no_grad():
        assert value == pytest.approx(float(loss(module(X), targets)), rel=1e-5)


ALL_ROWS = ("root", "largest", "across rows", "constant")


@pytest.mark.parametrize("kind", LOSSES)
def test_only_a_loss_that_needs_all_rows_has_outputs_joined(kind, monkeypatch):
    loss, shape, targets = LOSSES[kind]
    joins = []
    monkeypatch.setattr(evaluation_plan, "joined", lambda *parts: joins.append(parts) or joined(*parts))
    evaluated(loss, targets, Net(shape))
    assert bool(joins) == (kind in ALL_ROWS)


Pair = namedtuple("Pair", "logits hidden")
CONTAINERS = {
    "named tuple": (lambda o: Pair(o, o.square()), lambda o: o.logits),
    "dict": (lambda o: {"logits": o, "name": "net"}, lambda o: o["logits"]),
    "mapping": (lambda o: OrderedDict(logits=o), lambda o: o["logits"]),
    "namespace": (lambda o: SimpleNamespace(logits=o), lambda o: o.logits),
    "scalar beside": (lambda o: (o, o.square().mean()), lambda o: o[0]),
    "distribution": (lambda o: torch.distributions.Categorical(logits=o), lambda o: o.logits),
    "list of rows": (lambda o: [{"logits": row} for row in o], lambda o: torch.stack([row["logits"] for row in o])),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_outputs_of_every_kind_have_the_loss_and_the_metrics_of_all_rows(kind):
    contain, logits = CONTAINERS[kind]
    metrics = {
        "rows": lambda o, t: (logits(o).argmax(1) == t).float(),
        "mean": lambda o, t: (logits(o).argmax(1) == t).float().mean(),
    }
    measured = evaluated(lambda o, t: F.cross_entropy(logits(o), t), Y, Net(contain=contain), metrics)
    plain = evaluated(nn.CrossEntropyLoss(), Y, Net(), {"accuracy": tn.metrics.accuracy})
    assert measured["loss"].value == pytest.approx(plain["loss"].value, rel=1e-5)
    assert measured["rows"] == pytest.approx(plain["accuracy"], nan_ok=True)
    assert measured["mean"].value == pytest.approx(plain["accuracy"].value)


def test_a_scalar_that_the_module_adds_counts_by_rows():
    loss = lambda o, t: F.cross_entropy(o[0], t) + o[1]
    measured = evaluated(loss, Y, Net(contain=lambda o: (o, o.square().mean())))
    with torch.no_grad():
        outputs = Net()(X)
        assert measured["loss"].value == pytest.approx(float(F.cross_entropy(outputs, Y) + outputs.square().mean()))


def test_a_metric_that_needs_all_rows_gets_what_can_be_joined():
    contain = lambda o: {"logits": o, "extra": o.mean()}
    r2 = lambda o, t: tn.metrics.r2(o["logits"], t)
    loss = lambda o, t: F.mse_loss(o["logits"], t)
    measured = evaluated(loss, NUMBERS, Net((2,), contain), {"r2": r2})
    assert measured["r2"].value == pytest.approx(evaluated(None, NUMBERS, Net((2,)), {"r2": tn.metrics.r2})["r2"].value)
    extra = lambda o, t: o["extra"].sqrt()
    with pytest.raises(TypeError, match=r'metric "extra": needs all rows at once, but outputs\["extra"\] has no rows'):
        evaluated(loss, NUMBERS, Net((2,), contain), {"extra": extra})


class Ragged(Dataset):
    """Rows of unequal length, as text is; classes follow from tokens."""

    def __len__(self):
        return 40

    def __getitem__(self, row):
        tokens = torch.arange(row, row + 2 + row % 7) % 5
        return tokens, (tokens + row % 2) % CLASSES


def padded(batch):
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    return pad([row[0] for row in batch]), pad([row[1] for row in batch], padding_value=-100)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, CLASSES))

    def forward(self, tokens):
        return self.net(tokens).transpose(1, 2)


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=WEIGHT), lambda o, t: F.cross_entropy(o, t)],
    ids=["known", "weighted", "lambda"],
)
def test_batches_padded_one_by_one_have_the_loss_of_rows_padded_together(loss):
    loader = DataLoader(Ragged(), batch_size=8, collate_fn=padded)
    metrics = {"accuracy": tn.metrics.accuracy, "tokens": lambda o, t: (o.argmax(1) == t)[t >= 0].float().mean()}
    ragged = evaluated(loss, loader, Tagger(), metrics, size=9)
    together = evaluated(loss, loader, Tagger(), metrics, size=40)
    for name in ragged:
        assert ragged[name].value == pytest.approx(together[name].value, rel=1e-5)
    with pytest.raises(TypeError, match=r'metric "f1": needs all rows at once, but outputs has rows of unequal shape'):
        evaluated(loss, loader, Tagger(), {"f1": tn.metrics.f1}, size=9)


class Scored(Tagger):
    """Computes its own loss, a mean over the tags that count."""

    def forward(self, words, tags):
        scores = super().forward(words)
        return {"scores": scores, "loss": nn.functional.cross_entropy(scores, tags)}


def test_a_loss_inside_counts_tags_where_rows_are_sorted_by_length():
    lengths = torch.arange(60) // 10 + 3
    words = torch.arange(60 * 8).view(60, 8) % 5
    tags = torch.where(torch.arange(8) < lengths[:, None], words % CLASSES, -100)
    data, module = tn.Data({"words": words, "tags": tags}, targets="tags"), Scored().eval()
    connect(module, data.inputs, "tags")
    wanted = module(words, tags)["loss"].item()
    assert evaluated(lambda outputs, _: outputs["loss"], data, module, size=32)["loss"].value == pytest.approx(wanted)


def test_a_metric_that_cannot_have_all_rows_is_refused_before_trial_0():
    def made(metric):
        loader = DataLoader(Ragged(), batch_size=8, collate_fn=padded)
        trainer = tn.Trainer(loader, loader, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, batch_size=8,
                             metrics={"score": metric})  # fmt: skip
        space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)})
        return tn.Study(model=tn.Model(Tagger), trainer=trainer, space=space, runtime=tn.Runtime("cpu"))

    with pytest.raises(TypeError, match=r'metric "score": needs all rows at once, but outputs has rows of unequal'):
        made(tn.metrics.f1)
    made(tn.metrics.accuracy)


class Boxes(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row], {"boxes": torch.full((1 + row % 3, 4), float(row))}


@pytest.mark.parametrize("sequence", [list, tuple])
def test_targets_that_are_one_dict_per_image_stay_with_their_outputs(sequence):
    collate = lambda batch: (torch.stack([row[0] for row in batch]), sequence(row[1] for row in batch))
    distance = lambda o, t: torch.stack([(own.mean() - one["boxes"].mean()).abs() for own, one in zip(o, t)])
    metrics = {"distance": distance, "worst": lambda o, t: distance(o, t).max()}
    loader = DataLoader(Boxes(), batch_size=8, collate_fn=collate)
    measured = evaluated(lambda o, t: distance(o, t).mean(), loader, Net(), metrics)
    with torch.no_grad():
        each = (Net()(X).mean(1) - torch.arange(float(ROWS))).abs()
    assert measured["loss"].value == pytest.approx(each.mean().item())
    assert measured["distance"].value == pytest.approx(each.mean().item())
    assert measured["worst"].value == pytest.approx(each.max().item())


def test_names_beside_labels_reach_a_metric():
    class Named(Boxes):
        def __getitem__(self, row):
            return X[row], (int(Y[row]), f"row {row}")

    seen = []
    metric = lambda o, t: seen.extend(t[1]) or (o.argmax(1) == t[0]).float()
    loss = lambda o, t: F.cross_entropy(o, t[0])
    assert evaluated(loss, Named(), Net(), {"right": metric})["right"].examples == ROWS
    assert {f"row {row}" for row in range(ROWS)} <= set(seen)


# Large outputs.


def test_rows_are_as_many_as_keep_outputs_small(monkeypatch):
    monkeypatch.setattr(evaluation_plan, "OUTPUTS", 4 * CLASSES * 8)
    module = Net()
    measured = evaluated(nn.CrossEntropyLoss(), Y, module, {"accuracy": tn.metrics.accuracy}, size=20)
    assert max(module.calls) == 8
    assert measured["loss"].value == pytest.approx(evaluated(nn.CrossEntropyLoss(), Y, Net())["loss"].value)


def test_outputs_of_earlier_chunks_are_not_kept():
    alive, references = [], []

    class Counting(Net):
        def forward(self, x):
            outputs = super().forward(x)
            alive.append(sum(reference() is not None for reference in references))
            references.append(weakref.ref(outputs))
            return outputs

    evaluated(nn.CrossEntropyLoss(), Y, Counting(), {"accuracy": tn.metrics.accuracy})
    assert max(alive) == 0


# A loss of one's own.


class OwnLoss(tn.Trainer):
    def loss_of(self, module, batch):
        inputs, targets = batch
        return F.cross_entropy(module(inputs), targets) + module.layer.weight.square().sum()


def own(metrics, builder=Net, kind=OwnLoss, config=None, **settings):
    trainer = kind((X, Y), (X, Y), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, metrics=metrics, **settings)
    return trainer, job({"optimizer": {"lr": 0.0}} if config is None else config, builder=builder)


def test_an_own_loss_takes_one_pass_over_the_validation_part():
    trainer, work = own({"accuracy": tn.metrics.accuracy}, epochs=1)
    module = Net()
    with torch.no_grad():
        measured = trainer.evaluate(module, trainer.valid)
        outputs = Net()(X)
        loss = F.cross_entropy(outputs, Y) + module.layer.weight.square().sum()
    assert module.calls == [2, ROWS]  # a probe of two rows, once for each module
    assert measured["loss"].value == pytest.approx(loss.item())
    assert measured["accuracy"].value == pytest.approx((outputs.argmax(1) == Y).float().mean().item())
    assert run(trainer, work, 1)[1][0].metrics["loss"] > 0


def test_an_own_loss_that_calls_the_module_otherwise_gets_outputs_for_its_metrics():
    class Noisy(OwnLoss):
        def loss_of(self, module, batch):
            return F.cross_entropy(module(batch[0] + 1) + module(batch[0] - 1), batch[1])

    trainer, _ = own({"accuracy": tn.metrics.accuracy}, kind=Noisy)
    with torch.no_grad():
        measured = trainer.evaluate(Net(), trainer.valid)
        assert measured["accuracy"].value == pytest.approx((Net()(X).argmax(1) == Y).float().mean().item())


@pytest.mark.parametrize("number", [0.25, 1, torch.tensor(0.25), torch.tensor([0.25]).numpy()[0]], ids=repr)
def test_evaluate_may_return_plain_numbers(number):
    class Plain(tn.Trainer):
        def evaluate(self, module, data):
            return {"loss": number, "accuracy": number}

    trainer, work = own({"accuracy": tn.metrics.accuracy}, kind=Plain, epochs=1)
    _, (report,) = run(trainer, work)
    assert report.metrics["accuracy"] == float(number)
    module = trainer.module(work, trainer.init(work))
    assert trainer.test(work, module, (X, Y))["loss"].value == float(number)


def test_evaluate_that_returns_no_numbers_is_told():
    class Odd(tn.Trainer):
        def evaluate(self, module, data):
            return {"loss": "low"}

    with pytest.raises(TypeError, match="evaluate: \"loss\" needs to be one number, got 'low'"):
        run(*own({}, kind=Odd, epochs=1))


# Many rows, and batches that stay whole.


def hits(outputs, targets):
    return (targets[outputs[:, 1].topk(min(50, len(targets))).indices] == 1).float().mean()


def hardest(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none").topk(min(16, len(targets))).values.mean()


def trimmed(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none").sort().values[: len(targets) - len(targets) // 20].mean()


def clamped_and_trimmed(outputs, targets):
    each = F.cross_entropy(outputs, targets, reduction="none").clamp(max=5).sort().values
    return each[: max(1, len(targets) - len(targets) // 20)].mean()


def floored_quantile(outputs, targets):
    each = F.cross_entropy(outputs, targets, reduction="none")
    return each[each >= each.quantile(max(0.0, 1 - 20 / len(each)))].mean()


@pytest.mark.parametrize(
    "function", [hits, hardest, trimmed, clamped_and_trimmed, floored_quantile], ids=lambda function: function.__name__
)
def test_a_count_of_rows_that_few_rows_do_not_show_is_of_all_rows(function):
    inputs = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    targets = torch.randint(CLASSES, (300,), generator=torch.Generator().manual_seed(2))
    module = Net()
    measured = evaluated(function, tn.Data(inputs, targets), module, {"value": function}, size=60)
    with torch.no_grad():
        wanted = pytest.approx(float(function(module(inputs), targets)), rel=1e-5)
    assert (measured["loss"].value, measured["value"].value) == (wanted, wanted)


def per_positive(outputs, targets):
    losses = F.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")
    return losses.sum() / (targets == 1).sum().clamp(min=1)


def per_weight(outputs, targets):
    numbers, weights = targets
    return ((outputs[:, 0] - numbers).square() * weights).sum() / weights.sum().clamp(min=1e-9)


def per_number(outputs, targets):
    return (outputs[:, 0] - targets).square().nanmean()


LATE = torch.arange(ROWS) >= 30  # rows that alone have a positive, another weight, a gap
LATER = {
    "a positive": (per_positive, (X, (LATE & (Y == 1)).long())),
    "another weight": (per_weight, (X, (NUMBERS[:, 0], 1 - 0.9 * LATE))),
    "a gap": (per_number, (X, torch.where(LATE & (Y == 1), torch.nan, NUMBERS[:, 0]))),
}


@pytest.mark.parametrize("kind", LATER)
def test_what_comes_later_in_the_targets_counts_as_it_should(kind):
    loss, data = LATER[kind]
    net = Net()
    with torch.no_grad():
        whole = loss(net(X), data[1]).item()
    assert math.isclose(evaluated(loss, data, net)["loss"].value, whole, rel_tol=1e-5)


def clamping(outputs, targets):
    return (targets.clamp_(max=1) == outputs.argmax(1)).float()


def masking(outputs, targets):
    targets.numpy()[:] = 0
    return (targets == outputs.argmax(1)).float().mean()


def shifting(outputs, targets):
    outputs -= outputs.max()
    return F.cross_entropy(outputs, targets)


@pytest.mark.parametrize(("metric", "changed"), [(clamping, "targets"), (masking, "targets"), (shifting, "outputs")])
def test_a_metric_that_changes_what_it_gets_is_refused_and_changes_no_data(metric, changed):
    targets = Y.clone()
    with pytest.raises(TypeError, match=f'metric "score": needs to leave .* but {changed} were changed in place'):
        evaluated(nn.CrossEntropyLoss(), targets, Net(), {"score": metric})
    assert torch.equal(targets, Y)


def both_views(outputs):
    return torch.cat([outputs, outputs])


def test_outputs_of_two_views_of_each_row_have_means_over_rows():
    first = lambda o, t: F.cross_entropy(o[: len(t)], t)
    measured = evaluated(first, Y, Net(contain=both_views), size=20)
    with torch.no_grad():
        assert measured["loss"].value == pytest.approx(float(F.cross_entropy(Net()(X), Y)))


class Longest(Tagger):
    """Gives outputs as wide as the longest row that it gets, as pad_packed_sequence does."""

    def forward(self, tokens):
        return super().forward(tokens[:, : int((tokens > 0).sum(1).max())])


@pytest.mark.parametrize("intervals", [False, True])
def test_outputs_as_wide_as_the_longest_row_are_of_whole_batches(intervals):
    lengths = torch.arange(40) % 7 + 2
    words = torch.where(torch.arange(8) < lengths[:, None], torch.arange(320).view(40, 8) % 4 + 1, 0)
    tags = torch.where(words > 0, words % CLASSES, -100)
    loader = DataLoader(list(zip(words, tags)), batch_size=8)
    metrics = {"tokens": lambda o, t: (o.argmax(1) == t)[t >= 0].float().mean()}
    loss = nn.CrossEntropyLoss()
    measured = evaluated(loss, loader, Longest(), metrics, size=8, intervals=intervals)
    with torch.no_grad():
        outputs = Tagger()(words)
    assert measured["loss"].value == pytest.approx(float(loss(outputs, tags)), rel=1e-5)
    assert measured["tokens"].value == pytest.approx(float(metrics["tokens"](outputs, tags)), rel=1e-5)
