"""Small learning problems for choosing a learning rate, and the truth about them: what each rate leads to.

Run: python tests/benchmarks/lecun_problems.py --out FILE [--family classic|wide] [--seeds N]

Two families, trained on one CPU thread and without downloads; Fashion-MNIST and two tables of scikit-learn's take part
where they are installed. "classic": batch 32, a constant rate, under 300 steps, SGD with momentum 0.9 and Adam.
"wide": other widths, batch sizes, architectures and schedules, 300 to 3,000 steps, SGD with momentum 0.9 and AdamW.
The score is the validation loss (and accuracy) after the last epoch. A run can be stopped and started again; it goes
on where it was. One process at a time writes a file.
"""

import argparse
import collections
import importlib.util
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn
from tuneflow.errors import Diverged

SGD, ADAM = (1e-4, 10.0), (1e-5, 1.0)  # the ranges of the grids
CLASSIC = {"SGD": SGD, "Adam": ADAM}
WIDE = {"SGD": SGD, "AdamW": ADAM}
SEEDS = {"classic": 3, "wide": 2}
FINE = 6  # grid points per decade; the coarse grid has every third of them
WARM = tn.rates.Warmup(0.1, tn.rates.Cosine())


@dataclass(frozen=True, eq=False)
class Problem:
    """What is trained, on what and for how long; only the learning rate is open.

    Attributes:
        optimizers: name in torch.optim to the range of learning rates of its grid.
        momentum: SGD's; Adam and its kin keep their defaults.
        settings: name of an optimizer to its other arguments.
        accuracy: whether there is one beside the loss.
    """

    name: str
    family: str
    builder: Callable[[], nn.Module]
    train: tn.Data
    valid: tn.Data
    epochs: int
    batch_size: int = 32
    loss: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    optimizers: dict[str, tuple[float, float]] = field(default_factory=dict)
    schedule: tn.rates.Schedule = tn.rates.Fixed()  # noqa: RUF009 (frozen)
    momentum: float = 0.9
    settings: dict[str, dict] = field(default_factory=dict)
    accuracy: bool = True

    @property
    def steps(self) -> int:
        """Optimizer steps of a full run."""
        return self.epochs * math.ceil(len(self.train) / self.batch_size)

    def trainer(self, optimizer: str) -> tn.Trainer:
        """The same trainer whenever the same one is asked for, so that data are prepared once."""
        return _trainer(self, optimizer)

    def config(self, optimizer: str, lr: float) -> dict:
        momentum = {"momentum": self.momentum} if optimizer == "SGD" else {}
        return {"optimizer": {"lr": lr, **momentum, **self.settings.get(optimizer, {})}}

    def job(self, lr: float, seed: int, optimizer: str = "SGD", init: str = "default") -> tn.types.Job:
        """One run on one CPU thread. `optimizer` has to be that of the trainer that it is given to."""
        runtime = tn.Runtime("cpu", threads=1)
        return tn.types.Job(model_of(self, init), self.config(optimizer, lr), runtime, seed=seed)

    def constant(self) -> tuple[float, float | None]:
        """Loss and error rate on `valid` of the best constant: the training part's class shares, or its mean."""
        wanted = self.valid.targets
        if not self.accuracy:
            return float(self.loss(self.train.targets.mean(0).expand_as(wanted), wanted)), None
        shares = torch.bincount(self.train.targets.flatten()).double() / self.train.targets.numel()
        return float(-shares[wanted].log().mean()), float((wanted != shares.argmax()).double().mean())


def model_of(problem, init="default"):
    """The problem's model, its parameters drawn as `init` says; "default" leaves them as torch's layers make them."""
    return tn.Model(problem.builder) if init == "default" else tn.Model(problem.builder, init=init)


def problems(family):
    """The problems of "classic" or "wide". Those whose data are not installed are left out."""
    made = (maker() for maker in {"classic": _CLASSIC, "wide": _WIDE}[family])
    return [problem for problem in made if problem is not None]


def score(problem, optimizer, lr, seed, init="default"):
    """Loss and accuracy on `valid` after the last epoch: infinite and 0 for a run that diverged; accuracy or None."""
    trainer, job = problem.trainer(optimizer), problem.job(lr, seed, optimizer, init)
    try:
        *_, (_, report) = trainer.advance(job, trainer.init(job), until=problem.epochs)
    except Diverged:
        return math.inf, 0.0 if problem.accuracy else None
    return report.metrics["loss"], report.metrics.get("accuracy")


# The truth.


class Truth:
    """Scores over a grid of learning rates: every third of `FINE` rates per decade, and all around the best one.

    Regret is 0 at the best mean over seeds of the grid and 1 at the constant predictor; 1 also beyond it, and for runs
    that diverged. `of` is "loss" or "error", which is 1 - accuracy and has a best rate of its own. Where one number
    is asked for and seeds differ, it is that of the mean.

    Args:
        entries: (problem, optimizer, init) to {"constant": {of: value}, "runs": {place: {seed: [loss, accuracy,
            seconds]}}}; the rate of a place is 10 ** (place / FINE), a loss of null is an infinite one.
    """

    def __init__(self, entries):
        self.entries = entries

    @classmethod
    def load(cls, path):
        """What `path` holds so far; empty where there is no such file."""
        if not Path(path).exists():
            return cls({})
        return cls({tuple(key.split("|")): entry for key, entry in json.loads(Path(path).read_text()).items()})

    def save(self, path):
        part = Path(f"{path}.part")
        part.write_text(json.dumps({"|".join(key): entry for key, entry in self.entries.items()}, indent=0))
        os.replace(part, path)

    def curve(self, problem, optimizer, init="default", of="loss", seed=None):
        """Rate to value, by rate; of one seed, or the mean over those that every rate has."""
        runs = self._entry(problem, optimizer, init)["runs"]
        seeds = set.intersection(*(set(run) for run in runs.values())) if seed is None else {str(seed)}
        by_place = sorted((int(place), run) for place, run in runs.items() if seeds <= set(run))
        return {10 ** (p / FINE): float(np.mean([_value(run[s], of) for s in sorted(seeds)])) for p, run in by_place}

    def constant(self, problem, optimizer, init="default", of="loss"):
        return self._entry(problem, optimizer, init)["constant"][of]

    def best(self, problem, optimizer, init="default", of="loss"):
        """The best rate of the grid, by the mean over seeds, and its value."""
        curve = self.curve(problem, optimizer, init, of)
        rate = min(curve, key=curve.get)
        return rate, curve[rate]

    def interpolated(self, problem, optimizer, init="default", of="loss"):
        """Rate and value at the lowest point of a parabola in log rate, fitted to the fine rates next to the best one.

        Less lucky than `best`, which is the lowest of several noisy means.
        """
        rate, value = self.best(problem, optimizer, init, of)
        near = {r: v for r, v in self.curve(problem, optimizer, init, of).items() if abs(math.log10(r / rate)) < 0.34}
        limit = value + 0.05 * max(0.0, self.constant(problem, optimizer, init, of) - value)
        x, y = np.array([(math.log10(r / rate), v) for r, v in near.items() if v <= limit]).T
        if len(x) < 3:
            return rate, value
        a, b, c = np.polyfit(x, y, 2)
        if a <= 0 or not x.min() <= -b / (2 * a) <= x.max():
            return rate, value
        return float(rate * 10 ** (-b / (2 * a))), float(c - b * b / (4 * a))

    def regret(self, problem, optimizer, seed, value, init="default", of="loss"):
        """Regret of a run of `seed` that ended at `value`, at most 1.

        It is compared with the run of the same seed at the best rate, so that only the rate tells them apart: over all
        seeds of the grid, the mean is that of the definition. Other seeds, and None, are compared with the best mean.
        """
        rate, best = self.best(problem, optimizer, init, of)
        mine = self.curve(problem, optimizer, init, of, seed) if seed is not None else {}
        gap = self.constant(problem, optimizer, init, of) - best
        if gap <= 0:
            return math.nan
        return min(1.0, (value - mine.get(rate, best)) / gap) if math.isfinite(value) else 1.0

    def learnable(self, problem, optimizer, init="default", of="loss"):
        """Whether any rate gets 5 % below the constant predictor; where none does, regret is noise, or NaN."""
        return self.best(problem, optimizer, init, of)[1] < 0.95 * self.constant(problem, optimizer, init, of)

    def expected(self, problem, optimizer, lr, init="default", of="loss", seed=None):
        """Regret at any rate without a run: linear in log rate between those of the grid."""
        curve = self.curve(problem, optimizer, init, of, seed)
        regrets = [self.regret(problem, optimizer, seed, value, init, of) for value in curve.values()]
        return float(np.interp(math.log10(lr), np.log10(list(curve)), regrets))

    def _entry(self, problem, optimizer, init):
        return self.entries[getattr(problem, "name", problem), optimizer, init]


def _value(run, of):
    loss, accuracy, _ = run
    return 1 - accuracy if of == "error" else math.inf if loss is None else loss


def measure(problem, optimizer, init, seeds, truth, save):
    """Fill in what `truth` lacks for one problem: the coarse grid, then two fine steps to both sides of the best."""
    loss, error = problem.constant()
    key, new = (problem.name, optimizer, init), {"constant": {"loss": loss, "error": error}, "runs": {}}
    runs = truth.entries.setdefault(key, new)["runs"]
    low, high = (round(FINE * math.log10(rate)) for rate in problem.optimizers[optimizer])
    wanted = set(range(low, high + 1, 3))
    while missing := [p for p in sorted(wanted) if any(str(s) not in runs.get(str(p), {}) for s in range(seeds))]:
        for place in missing:
            run = runs.setdefault(str(place), {})
            for seed in range(seeds):
                if str(seed) not in run:
                    run[str(seed)] = _run(problem, optimizer, 10 ** (place / FINE), seed, init)
            save()
        rate, _ = truth.best(problem, optimizer, init)
        place = round(FINE * math.log10(rate))
        wanted |= {p for p in range(place - 2, place + 3) if low <= p <= high}


def _run(problem, optimizer, lr, seed, init):
    started = time.process_time()
    loss, accuracy = score(problem, optimizer, lr, seed, init)
    return [loss if math.isfinite(loss) else None, accuracy, round(time.process_time() - started, 3)]


@cache
def _trainer(problem, optimizer):
    return tn.Trainer(
        problem.train,
        problem.valid,
        loss=problem.loss,
        optimizer=getattr(torch.optim, optimizer),
        epochs=problem.epochs,
        batch_size=problem.batch_size,
        schedule=problem.schedule,
        metrics={"accuracy": tn.metrics.accuracy} if problem.accuracy else {},
    )


# Data.


@cache
def digits():
    return tn.data.digits()[:2]


@cache
def fashion():
    """2,000 images to train on and 1,000 to validate; None where the files are not installed."""
    try:
        train, valid, _ = tn.data.fashion_mnist()
    except FileNotFoundError:
        return None
    return train[:2000], valid[:1000]


@cache
def breast_cancer():
    """569 rows of 30 features on scales from 0.003 to 900, two classes; None without scikit-learn."""
    return _table("load_breast_cancer", 400)


@cache
def diabetes():
    """442 rows of 10 features and a noisy number, standardized; None without scikit-learn."""
    return _table("load_diabetes", 310)


def _table(name, rows):
    if importlib.util.find_spec("sklearn") is None:
        return None
    datasets = importlib.import_module("sklearn.datasets")
    inputs, targets = getattr(datasets, name)(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    inputs, targets = inputs[order], targets[order]
    if targets.dtype.kind == "f":
        targets = ((targets - targets[:rows].mean()) / targets[:rows].std())[:, None]
    data = tn.Data(inputs, targets)
    return data[:rows], data[rows:]


@cache
def code(context=32, vocabulary=60):
    """Python's own modules as text: windows of characters, targets one further; the last number is any rare one."""
    names = ("argparse", "difflib", "tarfile", "inspect", "statistics", "textwrap")
    text = "".join(Path(importlib.util.find_spec(name).origin).read_text("utf-8") for name in names).lower()
    common = collections.Counter(text).most_common(vocabulary - 1)
    number = {character: i for i, (character, _) in enumerate(common)}
    numbers = torch.tensor([number.get(character, vocabulary - 1) for character in text])
    windows = numbers.unfold(0, context + 1, context)
    windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[: 3200 + 256]]
    data = tn.Data(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
    return data[:3200], data[3200:]


# Modules.


def mlp(inputs, widths, outputs, activation):
    sizes, layers = [inputs, *widths], [nn.Flatten()]
    for before, after in zip(sizes, widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def convnet(channels, outputs=10, activation=nn.ReLU, stride=1):
    """3x3 convolutions, halved once, then averaged over the image."""
    layers, before = [], 1
    for place, after in enumerate(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1, stride=stride), activation()]
        layers += [nn.MaxPool2d(2)] if place == 0 else []
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs))


def flat_convnet():
    """Two convolutions whose maps a linear layer reads in full."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), each convolution with a BatchNorm in front where asked for."""

    def __init__(self, channels, norm):
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [nn.BatchNorm2d(channels)] if norm else []
            layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)]
        self.branch = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.branch(x)


def resnet(norm, channels=12, blocks=3):
    stem = nn.Conv2d(1, channels, 3, padding=1, stride=2)
    end = [nn.BatchNorm2d(channels)] if norm else []
    body = [Residual(channels, norm) for _ in range(blocks)]
    return nn.Sequential(stem, *body, *end, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Block(nn.Module):
    """Pre-LN: causal attention, then an MLP."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        parts = self.query_key_value(self.before_attention(x)).chunk(3, -1)
        split = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(*split, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class Transformer(nn.Module):
    """Characters (n, context) to logits (n, vocabulary, context)."""

    def __init__(self, vocabulary=60, context=32, width=32, heads=2, blocks=2):
        super().__init__()
        self.characters, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, numbers):
        x = self.characters(numbers) + self.places.weight[: numbers.shape[1]]
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)


class Rows(nn.Module):
    """A GRU that reads an image row by row."""

    def __init__(self, width=32):
        super().__init__()
        self.gru, self.head = nn.GRU(8, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.gru(images.flatten(1, 2))[0][:, -1])


def some_digits(low, high):
    """Both parts of the digits from `low` to `high`, numbered from 0."""
    parts = [part[(part.targets >= low) & (part.targets <= high)] for part in digits()]
    return [tn.Data(part.inputs, part.targets - low) for part in parts]


@cache
def weights_of_0_to_4():
    train, valid = some_digits(0, 4)
    trainer = tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam, epochs=12)
    model = tn.Model(partial(convnet, (16, 32), 5))
    job = tn.types.Job(model, {"optimizer": {"lr": 0.01}}, tn.Runtime("cpu", threads=1))
    *_, (state, _) = trainer.advance(job, trainer.init(job), until=trainer.epochs)
    return {name: tensor.clone() for name, tensor in state.values["module"].items()}


def finetuned():
    """A network that tells the digits 0 to 4 apart, with a new last layer."""
    module = convnet((16, 32), 5)
    head = f"{len(module) - 1}."
    kept = {name: tensor for name, tensor in weights_of_0_to_4().items() if not name.startswith(head)}
    module.load_state_dict(kept, strict=False)
    return module


# Problems: one function each, made once.


def _maker(name, family, data, builder, epochs, **settings):
    """A function that makes the problem when first called, or gives None where its data are not there."""
    optimizers = {"classic": CLASSIC, "wide": WIDE}[family]

    @cache
    def make():
        parts = data()
        return parts and Problem(name, family, builder, *parts, epochs, optimizers=optimizers, **settings)

    return make


def _digits_mlp(widths, activation):
    return partial(mlp, 64, widths, 10, activation)


def _few_new_digits():
    train, valid = some_digits(5, 9)
    return train[:320], valid


_regression = {"loss": nn.MSELoss(), "accuracy": False}
_CLASSIC = [
    _maker("tanh", "classic", digits, _digits_mlp((64, 64), nn.Tanh), 6),
    _maker("relu", "classic", digits, _digits_mlp((64, 64), nn.ReLU), 5),
    _maker("gelu", "classic", digits, _digits_mlp((64, 64), nn.GELU), 6),
    _maker("selu", "classic", digits, _digits_mlp((64,) * 4, nn.SELU), 6),
    _maker("sigmoid-deep", "classic", digits, _digits_mlp((64,) * 4, nn.Sigmoid), 8),
    _maker("relu-10-deep", "classic", digits, _digits_mlp((64,) * 10, nn.ReLU), 8),
    _maker("cnn", "classic", digits, flat_convnet, 5),
    _maker("cnn-average", "classic", digits, partial(convnet, (16, 32)), 8),
    _maker("cancer", "classic", breast_cancer, partial(mlp, 30, (32, 32), 2, nn.ReLU), 14),
    _maker("cancer-tanh", "classic", breast_cancer, partial(mlp, 30, (32,), 2, nn.Tanh), 16),
    _maker("diabetes", "classic", diabetes, partial(mlp, 10, (32,), 1, nn.Tanh), 17, **_regression),
    _maker("fashion-mlp", "classic", fashion, partial(mlp, 784, (64, 64), 10, nn.ReLU), 4),
    _maker("fashion-cnn", "classic", fashion, partial(convnet, (8, 16, 32), stride=2), 4),
]
_WIDE = [
    _maker("width-16", "wide", digits, _digits_mlp((16, 16), nn.ReLU), 10),
    _maker("width-1024", "wide", digits, _digits_mlp((1024, 1024), nn.ReLU), 9),
    _maker("batch-4", "wide", digits, _digits_mlp((64, 64), nn.ReLU), 2, batch_size=4),
    _maker("batch-256", "wide", digits, _digits_mlp((64, 64), nn.ReLU), 60, batch_size=256),
    _maker("residual", "wide", digits, partial(resnet, False), 9),
    _maker("residual-norm", "wide", digits, partial(resnet, True), 9),
    _maker("transformer", "wide", code, Transformer, 3),
    _maker("transformer-warm", "wide", code, Transformer, 4, schedule=WARM),
    _maker("transformer-128", "wide", code, Transformer, 12, batch_size=128, schedule=WARM),
    _maker("gru", "wide", digits, Rows, 10),
    _maker("fine-tuning", "wide", _few_new_digits, finetuned, 15, batch_size=16),
    _maker("mlp-long", "wide", digits, _digits_mlp((64, 64), nn.ReLU), 89, schedule=WARM),
    _maker("cnn-long", "wide", digits, flat_convnet, 89, schedule=WARM),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="the JSON file with the truth, which is gone on with")
    parser.add_argument("--family", choices=list(SEEDS), help="one family only")
    parser.add_argument("--seeds", type=int, help="how many; 3 for classic and 2 for wide by default")
    parser.add_argument("--init", default="default")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    truth = Truth.load(asked.out)
    for family in [asked.family] if asked.family else SEEDS:
        for problem in problems(family):
            for optimizer in problem.optimizers:
                started = time.perf_counter()
                measure(
                    problem, optimizer, asked.init, asked.seeds or SEEDS[family], truth, partial(truth.save, asked.out)
                )
                _print(problem, optimizer, asked.init, truth, time.perf_counter() - started)


def _print(problem, optimizer, init, truth, seconds):
    rate, best = truth.best(problem, optimizer, init)
    smooth, low = truth.interpolated(problem, optimizer, init)
    print(
        f"{problem.family:<8}{problem.name:<18}{optimizer:<6}{problem.steps:>5} steps  best lr {rate:<9.3g} loss"
        f" {best:.4f}  (smoothed {smooth:<9.3g} {low:.4f}; constant {problem.constant()[0]:.4f})  {seconds:.0f} s"
        f"{'' if truth.learnable(problem, optimizer, init) else '  NOT LEARNED'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
