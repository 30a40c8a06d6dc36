"""One flipped bit in study.sqlite, at many places of many kinds of studies: it is noticed, or it changes nothing."""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import StoreError
from tuneflow.store.sqlite import SqliteStore

SPACE = tn.SearchSpace(x=tn.Float(0, 1))
FLIPS = 200  # of each kind of study


def functions(folder):
    tn.minimize(lambda x: x, SPACE, trials=30, folder=folder)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def trainings(folder):
    train, valid, _ = tn.data.digits()
    parts = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD}
    tn.Study(
        model=tn.Model(linear),
        trainer=tn.Trainer(train[:16], valid[:16], epochs=2, **parts),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(0.001, 10.0)}),
        searcher=tn.LeCun(),
        runtime=tn.Runtime("cpu", threads=1),
        folder=folder,
        progress=False,
    ).run(trials=2)


def under_way(folder):
    """Trials with reports that have not ended, and a queue."""
    study = tn.Study(space=SPACE, minimize="value", folder=folder, progress=False)
    for count in range(6):
        study.enqueue({"x": count / 6})
        study.enqueue({"x": count / 60})
        trial = study.ask()
        for epoch in range(count):
            study.tell(trial, float(epoch), done=False)


@tn.loop(epochs=3, check=False)
def constant(config, run):
    net = nn.Linear(1, 1)
    for _ in run.epochs(net=net):
        yield {"loss": config["x"]}


def forks(folder):
    tn.Study(space=SPACE, trainer=constant, scheduler=tn.Population(4), folder=folder, progress=False).run(trials=8)


KINDS = {"functions": functions, "trainings": trainings, "under way": under_way, "forks": forks}


def everything(folder):
    """All that is read of a folder: by tn.open, and by a study that goes on from its queue."""
    archive = tn.open(folder)
    with closing(SqliteStore(folder / "study.sqlite")) as store:
        queued = [store.next_queued(store.claim(10**6)) for _ in range(3)]
    return list(archive.lines()), repr(archive.probes), queued


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_noticed_or_harmless(kind, tmp_path):
    made, read = tmp_path / "made", tmp_path / "read"
    KINDS[kind](made)
    with closing(sqlite3.connect(made / "study.sqlite")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that all of it is in the one file
    content = (made / "study.sqlite").read_bytes()
    read.mkdir()
    (read / "study.sqlite").write_bytes(content)
    due, draw, noticed = everything(read), random.Random(kind), 0
    places = [place for place, byte in enumerate(content) if byte]  # most of the others are empty space
    for place in draw.sample(places, FLIPS):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        shutil.rmtree(read)
        read.mkdir()
        (read / "study.sqlite").write_bytes(flipped)
        try:
            assert everything(read) == due, f"byte {place}"
        except StoreError:
            noticed += 1
    assert noticed > FLIPS / 4
