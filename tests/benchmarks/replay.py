"""Replay: forgeries that are found, honest studies that pass, and what rounding comes to in training.

Run: python tests/benchmarks/replay.py [forged | rate | honest | threads | machines | drift]
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.forged import forge_note, forge_report, forge_state, scaled, swapped
from tests.helpers.replayed_kinds import HONEST, RATES, TRAIN, VALID, Attention, studied
from tuneflow.study.replay.retraining import with_noise

TRIALS, EPOCHS = 4, 3


def net(width=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def study_in(folder):
    """A study on 200 digits."""
    return tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            TRAIN,
            VALID,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=EPOCHS,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(**RATES),
        maximize="accuracy",
        runtime=tn.Runtime("cpu", threads=1),
        folder=tn.Folder(folder, keep="all"),
        progress=False,
    )


def honest_folder(place):
    with study_in(place / "honest") as study:
        study.run(trials=TRIALS)
    return place / "honest"


def forge(folder, kind, rng):
    """Forge one trial of a folder; return its number."""
    trial, epoch = int(rng.integers(TRIALS)), int(rng.integers(1, EPOCHS + 1))
    if kind == "report":
        metric = ("accuracy", "loss", "train_loss")[rng.integers(3)]
        forge_report(folder, trial, epoch, metric, float(10 ** rng.uniform(-3, -1)))
    elif kind == "weights of another training":
        swapped(folder, (trial + 1) % TRIALS, trial)
    else:
        forge_state(folder, trial, scaled(1 + float(10 ** rng.uniform(-5, -1))))
    return trial


def forged(place, count=100):
    """Replay everything of studies with one forgery each; two out of four have a report forged."""
    honest, rng, found = honest_folder(place), np.random.default_rng(0), 0
    kinds = ("report", "changed weights", "report", "weights of another training")
    for number in range(count):
        folder = shutil.copytree(honest, place / "forged")
        trial = forge(folder, kinds[number % 4], rng)
        with study_in(folder) as study:
            differs = study.replay().differs
        found += bool(differs) and all(one.slice.startswith(f"trial {trial},") for one in differs)
        shutil.rmtree(folder)
    print(f"forged: {found} of {count} found, each in the trial that was forged")


def rate(place, count=100):
    """Replay a share of a study of twelve trials with one forged report, under a fresh seed each time."""
    with study_in(place / "rate") as study:
        study.run(trials=12)
    forge_report(place / "rate", 5, 2, "accuracy", 0.01)
    for share in (0.05, 0.25):
        with study_in(place / "rate") as study:
            found = sum(not study.replay(share).ok for _ in range(count))
        print(f"rate: share {share:.0%}, at least one of 12 slices: found in {found} of {count}")


def honest(place):
    """Replay honest studies of many kinds."""
    for name, make in HONEST.items():
        replayed = make().replay()
        print(f"honest: {name:<24} {repr(replayed).splitlines()[0]}", flush=True)
        for line in repr(replayed).splitlines()[1:]:
            print(f"    {line}")


def threads(place):
    """Replay what two threads have trained with one."""
    study = HONEST["threads"](place)
    forge_note(place, "facts", lambda facts: facts["runtime"].update(threads=1))
    print(f"threads: {study.replay()!r}")


def conv():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def normalized():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))


class Elsewhere(tn.Trainer):
    """Trains as on another machine: from a start with other noise than that of the replay, once `away`."""

    away = False

    def init(self, job):
        state = super().init(job)
        return with_noise(self, job, state, 99) if Elsewhere.away else state


def machines(_):
    """Replay honest studies as if on another machine."""
    for builder in (conv, normalized, Attention):
        for optimizer, lr in ((torch.optim.SGD, 0.1), (torch.optim.Adam, 0.001), (torch.optim.Adam, 0.01)):
            for seed in range(2):
                one = replayed_elsewhere(builder, optimizer, lr, seed)
                print(f"machines: {builder.__name__:<10} {optimizer.__name__:<4} {lr:<5} {one.verdict} {one.size:.0e}")


def replayed_elsewhere(builder, optimizer, lr, seed):
    Elsewhere.away = False
    metrics = {"accuracy": tn.metrics.accuracy}
    trainer = Elsewhere(TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=8, metrics=metrics)
    space = {"optimizer": {"lr": tn.Float(lr, 1.01 * lr)}}
    study = studied(1, space, trainer=trainer, model=tn.Model(builder), seed=seed)
    Elsewhere.away = True
    (finding,) = study.replay().findings
    return finding


def drift(_):
    """Train 12 epochs plainly, from a start with noise of the size of rounding, and with two threads."""
    for builder in (net, conv, normalized, Attention):
        for optimizer, lr in ((torch.optim.SGD, 0.05), (torch.optim.SGD, 0.5), (torch.optim.Adam, 0.01)):
            plain, noisy, threads = (curve(builder, optimizer, lr, how) for how in ("plain", "noise", "threads"))
            words = [f"{name} {worst(plain, other):.0e}" for name, other in (("noise", noisy), ("threads", threads))]
            print(f"drift: {builder.__name__:<10} {optimizer.__name__:<4} {lr:<4} {'  '.join(words)}", flush=True)


def curve(builder, optimizer, lr, how):
    trainer = tn.Trainer(TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=12)
    runtime = tn.Runtime("cpu", threads=2 if how == "threads" else 1)
    job = tn.types.Job(tn.Model(builder), {"optimizer": {"lr": lr}}, runtime)
    start = with_noise(trainer, job, None, 0) if how == "noise" else trainer.init(job)
    return [report.metrics["loss"] for _, report in trainer.advance(job, start, 12)]


def worst(one, other):
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


PARTS = {"forged": forged, "rate": rate, "honest": honest, "threads": threads, "machines": machines, "drift": drift}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as place:
            PARTS[name](Path(place))
