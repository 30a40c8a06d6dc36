"""Ten jobs as a newcomer brings them: none is longer than a page, and each does far better than what it is compared to.

The data of each is made here, or the bundled digits; every claim is about data that no trial has seen.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import tuneflow as tn
from tests.helpers.tables import Table

DIGITS = tn.data.digits()
RUNTIME = tn.Runtime("cpu", threads=1)
RATE = tn.Float(1e-3, 1e-1, log=True)


def test_tabular_regression_from_a_data_frame():
    rng = np.random.default_rng(0)
    size, rooms, age = rng.uniform(20, 200, 400), rng.integers(1, 7, 400), rng.uniform(0, 100, 400)
    price = 3000 * size + 20_000 * rooms - 500 * age + rng.normal(0, 10_000, 400)
    house = {"size": size, "rooms": rooms, "age": age, "price": price}
    train, valid, test = (
        tn.Data(Table(**{name: column[rows] for name, column in house.items()}), targets="price")
        for rows in (slice(250), slice(250, 325), slice(325, 400))
    )

    def net(width=16):
        return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

    study = tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            train, valid, loss=nn.MSELoss(), optimizer=torch.optim.Adam, epochs=15, metrics={"r2": tn.metrics.r2}
        ),
        space=tn.SearchSpace(model={"width": tn.Int(8, 32)}, optimizer={"lr": RATE}),
        searcher=tn.Auto(), maximize="r2", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=3)
    assert study.test(test)["r2"].value > 0.9  # a constant has 0
    flat = study.best.model()(torch.tensor([[100.0, 3.0, 50.0]]))
    assert abs(flat.item() - 335_000) < 40_000  # in dollars


def test_imbalance_with_the_area_under_the_curve():
    inputs = torch.randn(1500, 8, generator=torch.Generator().manual_seed(1))
    targets = (inputs[:, 0] + 0.5 * inputs[:, 1] > 2.3).float()  # two in a hundred
    data = tn.Data(inputs, targets)
    study = tn.Study(
        model=tn.Model(lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))),
        trainer=tn.Trainer(
            data[:800], data[800:1100], loss=tn.nn.BalancedCrossEntropy, optimizer=torch.optim.Adam, epochs=6,
            metrics={"auc": tn.metrics.auc},
        ),
        space=tn.SearchSpace(loss={"power": tn.Float(0.0, 1.0)}, optimizer={"lr": RATE}),
        maximize="auc", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=4)
    assert targets.mean() < 0.03
    assert study.test(data[1100:])["auc"].low > 0.9  # guessing has 0.5


class Words(nn.Module):
    """Reads padded words with an LSTM, up to each text's length."""

    def __init__(self, width=16):
        super().__init__()
        self.words = nn.Embedding(12, 8, padding_idx=0)
        self.inner, self.head = nn.LSTM(8, width, batch_first=True), nn.Linear(width, 2)

    def forward(self, words, lengths):
        states, _ = self.inner(self.words(words))
        return self.head(states[torch.arange(len(words)), lengths - 1])


def test_padded_text_with_an_lstm():
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 12, rng.integers(3, 9)) for _ in range(480)]
    rows = [(torch.tensor(text), int(text[0] > 5)) for text in texts]  # the first word decides

    def padded(batch):
        words, classes = zip(*batch, strict=True)
        lengths = torch.tensor([len(text) for text in words])
        return (pad_sequence(words, batch_first=True), lengths), torch.tensor(classes)

    train, valid, test = (DataLoader(part, 32, collate_fn=padded) for part in (rows[:320], rows[320:400], rows[400:]))
    study = tn.Study(
        model=tn.Model(Words),
        trainer=tn.Trainer(
            train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam, epochs=10,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(model={"width": tn.Int(8, 24)}, optimizer={"lr": tn.Float(5e-3, 5e-2, log=True)}),
        maximize="accuracy", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=2)
    assert study.test(test)["accuracy"].value > 0.85  # guessing has about half


class Residual(nn.Module):
    """A small ResNet with BatchNorm; the head is the only part that is new when it is fine-tuned."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(
            *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
            nn.BatchNorm2d(8),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, images):
        features = self.stem(images)
        return self.head((features + self.block(features)).relu().flatten(1))


def residual(pretrained):
    net = Residual()
    net.load_state_dict({name: value for name, value in pretrained.items() if "head" not in name}, strict=False)
    return net


def test_resnet_is_fine_tuned_by_groups_with_warm_up_and_an_average():
    train, valid, test = DIGITS
    pretrained = Residual().state_dict()  # of what a download would give
    groups = tn.optim.Groups(torch.optim.SGD, no_decay=True, head="head")
    study = tn.Study(
        model=tn.Model(partial(residual, pretrained), normalize=False),
        trainer=tn.Trainer(
            tn.Data(train.inputs[:480] / 16, train.targets[:480]), tn.Data(valid.inputs / 16, valid.targets),
            loss=nn.CrossEntropyLoss(label_smoothing=0.1), optimizer=tn.optim.Averaged(groups, decay=0.95), epochs=4,
            schedule=tn.rates.Warmup(0.2, tn.rates.Cosine()), clip=1.0, metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(
            optimizer={"lr": tn.Float(0.02, 0.1), "momentum": 0.9, "weight_decay": 1e-4, "head": {"lr": 0.1}}
        ),
        maximize="accuracy", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=2)
    assert study.test(tn.Data(test.inputs / 16, test.targets))["accuracy"].value > 0.85  # guessing has 0.1


def test_k_fold_cross_validation():
    train, _, test = DIGITS

    def net(width=16):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    study = tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            train[:400], folds=4, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam, epochs=4,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(model={"width": tn.Int(16, 32)}, optimizer={"lr": tn.Float(5e-3, 5e-2, log=True)}),
        maximize="accuracy", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=2)
    assert study.best.errors["accuracy"] > 0
    score, right = study.best.metrics["accuracy"], tn.metrics.accuracy(study.best.model()(test.inputs), test.targets)
    assert abs(right.mean().item() - score) < 0.1
    assert len(study.best.models()) == 4
    assert score > 0.75


class Both(nn.Module):
    """One body and two heads: the digit, and whether it is even."""

    def __init__(self, width=32):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.digit, self.even = nn.Linear(width, 10), nn.Linear(width, 1)

    def forward(self, images):
        features = self.body(images)
        return {"digit": self.digit(features), "even": self.even(features).flatten()}


@dataclass
class Weighted:
    """The losses of both tasks, of which one number says how much the second counts."""

    share: float = 0.5

    def __call__(self, outputs, targets):
        even = F.binary_cross_entropy_with_logits(outputs["even"], targets["even"])
        return (1 - self.share) * F.cross_entropy(outputs["digit"], targets["digit"]) + self.share * even


def test_several_tasks_at_once():
    train, valid, test = (
        tn.Data(data.inputs[:500], {"digit": data.targets[:500], "even": (data.targets[:500] % 2 == 0).float()})
        for data in DIGITS
    )
    metrics = {
        "digit": lambda outputs, targets: tn.metrics.accuracy(outputs["digit"], targets["digit"]),
        "even": lambda outputs, targets: tn.metrics.accuracy(outputs["even"], targets["even"]),
    }
    study = tn.Study(
        model=tn.Model(Both),
        trainer=tn.Trainer(train, valid, loss=Weighted, optimizer=torch.optim.Adam, epochs=5, metrics=metrics),
        space=tn.SearchSpace(loss={"share": tn.Float(0.1, 0.9)}, optimizer={"lr": tn.Float(5e-3, 5e-2, log=True)}),
        maximize=["digit", "even"], runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=3)
    assert study.front
    scores = study.front[0].test(test)
    assert scores["digit"].value > 0.7  # guessing has 0.1
    assert scores["even"].value > 0.8  # and a half


def test_autoencoder():
    train, valid, test = (tn.Data(data.inputs[:400] / 16, data.inputs[:400] / 16) for data in DIGITS)

    def squeezed(code=8):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, code), nn.Linear(code, 64), nn.Unflatten(1, (1, 8, 8)),
        )  # fmt: skip

    study = tn.Study(
        model=tn.Model(squeezed),
        trainer=tn.Trainer(train, valid, loss=nn.MSELoss(), optimizer=torch.optim.Adam, epochs=12),
        space=tn.SearchSpace(model={"code": tn.Int(2, 16)}, optimizer={"lr": tn.Float(5e-3, 5e-2, log=True)}),
        minimize="loss", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=3)
    around_the_mean = (test.inputs - train.inputs.mean(0)).square().mean().item()
    assert study.test(test)["loss"].value < 0.6 * around_the_mean


@tn.loop(epochs=20)
def against(config, run):
    """A generator of numbers against a discriminator; the metric is how far their mean and spread are off."""
    real = torch.randn(256, 1) * 0.5 + 2
    maker = run.place(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)))
    judge = run.place(nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)))
    making, judging = (
        torch.optim.Adam(net.parameters(), betas=(0.5, 0.9), **config["optimizer"]) for net in (maker, judge)
    )
    for _ in run.epochs(maker=maker, judge=judge, making=making, judging=judging, result=maker):
        for _ in range(10):
            made = maker(torch.randn(64, 2))
            rows = real[torch.randint(256, (64,))]
            loss = F.softplus(-judge(rows)).mean() + F.softplus(judge(made.detach())).mean()
            judging.zero_grad()
            loss.backward()
            judging.step()
            making.zero_grad()
            F.softplus(-judge(maker(torch.randn(64, 2)))).mean().backward()
            making.step()
        with torch.no_grad():
            made = maker(torch.randn(512, 2))
        yield {"loss": loss, "off": (made.mean() - 2).abs() + (made.std() - 0.5).abs()}


def test_generative_adversarial_net_in_a_loop():
    study = tn.Study(
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 2e-2, log=True)}),
        trainer=against, minimize="off", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=3)
    assert study.best.metrics["off"] < 0.6  # it starts above 2


def stump(inputs, residuals):
    """The split (column, threshold, left, right) that leaves the least squared residuals."""
    splits = [
        (c, t, inputs[:, c] <= t)
        for c in range(inputs.shape[1])
        for t in np.quantile(inputs[:, c], (0.2, 0.4, 0.6, 0.8))
    ]
    fits = [(c, t, residuals[left].mean(), residuals[~left].mean()) for c, t, left in splits]
    return min(fits, key=lambda fit: np.square(residuals - predicted(inputs, fit)).sum())


def predicted(inputs, fit):
    column, threshold, left, right = fit
    return np.where(inputs[:, column] <= threshold, left, right)


def boosted(inputs, targets, rounds, rate):
    """The sum of so many stumps, each fitted to what those before it leave."""
    total, fits = np.zeros(len(targets)), []
    for _ in range(rounds):
        fits.append(stump(inputs, targets - total))
        total += rate * predicted(inputs, fits[-1])
    return fits


def test_gradient_boosting_by_minimize():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (300, 3))
    targets = np.sign(inputs[:, 0]) + inputs[:, 1] ** 2 + rng.normal(0, 0.1, 300)

    def error(rounds, rate, rows=slice(150, 225)):
        fits = boosted(inputs[:150], targets[:150], rounds, rate)
        return np.square(targets[rows] - rate * sum(predicted(inputs[rows], fit) for fit in fits)).mean()

    space = tn.SearchSpace(rounds=tn.Int(5, 40, log=True), rate=tn.Float(0.05, 1.0, log=True))
    best = tn.minimize(error, space, trials=8, searcher=tn.TPE(start=4), progress=False)
    assert error(**best.config, rows=slice(225, 300)) < 0.2 * targets[225:].var()


class Tagger(nn.Module):
    """A tag for each token, from the tokens to both sides."""

    def __init__(self, width=16):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.inner, self.head = nn.GRU(8, width, batch_first=True, bidirectional=True), nn.Linear(2 * width, 3)

    def forward(self, tokens):
        return self.head(self.inner(self.words(tokens))[0]).transpose(1, 2)


def test_token_tagging():
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(1, 20, (360, 8)))
    tokens[:, 6:] = tokens[:, 6:] * torch.from_numpy(rng.integers(0, 2, (360, 1)))  # padded
    before = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], 1)
    tags = torch.where(tokens == 0, -100, (tokens > 10).long() + (before > 10).long())  # of two tokens
    data = tn.Data(tokens, tags)

    def right(outputs, targets):
        counted = targets != -100
        return (outputs.argmax(1) == targets)[counted].float().mean()

    study = tn.Study(
        model=tn.Model(Tagger),
        trainer=tn.Trainer(
            data[:240], data[240:300], loss=nn.CrossEntropyLoss(ignore_index=-100), optimizer=torch.optim.AdamW,
            epochs=6, metrics={"right": right},
        ),
        space=tn.SearchSpace(model={"width": tn.Int(8, 24)}, optimizer={"lr": tn.Float(1e-2, 5e-2, log=True)}),
        maximize="right", runtime=RUNTIME, progress=False,
    )  # fmt: skip
    study.run(trials=2)
    assert study.test(data[300:])["right"].value > 0.85  # the most frequent tag has about half
