"""Trainers, a loop and values for the tests of workers, which import them by name; and how to collect events."""

import os
import signal
import threading
import time
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tests.helpers.narrowing import Keep
from tests.helpers.scaled import scaled
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.function_trainer import Function
from tuneflow.train.protocol import TrainerProtocol

ONE = tn.Runtime("cpu", threads=1)
EPOCHS = 4


class LastingProcesses(ProcessExecutor):
    """Goes on after `close`, so that several tests and studies share processes that take seconds to start."""

    def close(self):
        for child in self._workers:
            child.stop()

    def end(self):
        super().close()


def net(width=8):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 3)
    )


def data(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return tn.Data(torch.rand(rows, 12, generator=generator), torch.randint(3, (rows,), generator=generator))


def trainer(train=None, **settings):
    settings = {
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD,
        "epochs": EPOCHS,
        "batch_size": 16,
    } | settings
    return tn.Trainer(data(96, 0) if train is None else train, data(48, 1), **settings)


@tn.loop(epochs=EPOCHS)
def fit(config, run):
    """Draws, keeps momentum, and does at an epoch what its configuration says."""
    weight = run.place(torch.zeros(3)).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=config.get("lr", 0.1), momentum=0.9)
    if config.get("epoch") == 0:
        misfortune(**config)
    for epoch in run.epochs(weight=weight, optimizer=optimizer):
        optimizer.zero_grad()
        loss = (weight - torch.randn(3)).square().sum()
        loss.backward()
        optimizer.step()
        if epoch == config.get("epoch"):
            misfortune(**config)
        yield {"loss": loss}


@tn.loop(epochs=3)
def checked(config, run):
    """Draws, keeps momentum, and reports whether a worker has trained it."""
    weight = torch.randn(3).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=config["lr"], momentum=0.9)
    for _ in run.epochs(weight=weight, optimizer=optimizer):
        optimizer.zero_grad()
        loss = (weight - torch.randn(3)).square().sum()
        loss.backward()
        optimizer.step()
        yield {"loss": loss, "in a worker": parent_process() is not None}


def misfortune(kind, marker=None, processes=None, **_):
    """Kill, end or hang this process, or raise: once where there is a marker, every time where there is none.

    The number of the process that it meets is left as the name of a file in the folder `processes`.
    """
    if marker and Path(marker).exists():
        return
    if marker:
        Path(marker).touch()
    if processes:
        (Path(processes) / str(os.getpid())).touch()
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(3)
    if kind == "hang":
        time.sleep(10**6)
    raise FloatingPointError("made up")


def bowl(x, y):
    return {"value": (x - 1) ** 2 + y**2 + 0.01 * np.random.rand(), "noise": torch.rand(()).item()}  # noqa: NPY002


TRAINED = {
    "sgd": {"trainer": trainer(), "model": tn.Model(net)},
    "adam, lecun": {"trainer": trainer(optimizer=torch.optim.Adam), "model": tn.Model(net, init="lecun")},
    "replicas": {"trainer": trainer(), "model": tn.Model(net), "replicas": 2, "paired": False},
    "loader": {
        "trainer": trainer(DataLoader(TensorDataset(torch.rand(48, 12), torch.arange(48) % 3), 16, num_workers=1)),
        "model": tn.Model(net),
    },
    "forks": {
        "trainer": trainer(),
        "model": tn.Model(scaled(net()), steps={"keep": partial(Keep, first="1", second="4", norm="2")}),
        "space": tn.SearchSpace(keep={"share": tn.Float(0.3, 0.9)}, optimizer={"lr": tn.Float(1e-3, 0.3, log=True)}),
    },
}

SPACE = tn.SearchSpace(model={"width": tn.Int(4, 12)}, optimizer={"lr": tn.Float(1e-3, 0.3, log=True)})


def study(runtime, space=SPACE, **settings):
    return tn.Study(space=space, minimize="loss", runtime=runtime, seed=5, progress=False, **settings)


def table(made):
    """Everything that a study recorded of its trials but seconds."""
    return [(t.config, t.status, [(r.epoch, r.metrics, r.errors) for r in t.reports]) for t in made.trials]


def finish(executor):
    """All events until the executor has nothing left."""
    events = []
    while executor.busy:
        events += executor.wait()
    return events


def train(executor, number, **config):
    """Submit a trial of `fit`."""
    executor.submit(Slice(number, 0, EPOCHS), fit, tn.types.Job(None, config, ONE), None)


def of_trial(events, number):
    """(metrics of every epoch, the last event) of a trial."""
    *reported, last = [event for event in events if event.trial == number]
    return [e.report.metrics for e in reported], last


def inline_metrics(**config):
    executor = InlineExecutor(ONE)
    train(executor, 0, **config)
    return of_trial(finish(executor), 0)[0]


class KeepsALock(TrainerProtocol):
    """A state that cannot be sent back."""

    epochs = 2

    def init(self, job):
        return tn.types.TrainState(0, {})

    def advance(self, job, state, until):
        for epoch in range(state.epoch + 1, until + 1):
            yield tn.types.TrainState(epoch, {"lock": threading.Lock()}), tn.types.Report(epoch, {"loss": 1.0})


class Unloadable:
    """Pickles well, and cannot be unpickled in a worker."""

    def __init__(self):
        self.process = os.getpid()

    def __setstate__(self, state):
        if state["process"] != os.getpid():
            raise ImportError("no such thing here")
        self.__dict__ = state


UNLOADABLE = {name: Unloadable() for name in "abc"}


class SlowToLoad(Function):
    """A function that takes so many seconds to load in a worker, as imports do."""

    def __init__(self, seconds):
        super().__init__(bowl)
        self.seconds = seconds

    def __setstate__(self, state):
        time.sleep(state["seconds"])
        self.__dict__ = state


class Locked(tn.Trainer):
    """Holds a lock, which cannot be sent."""

    def __init__(self):
        super().__init__(data(8, 0), data(8, 1), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD)
        self.source = {"cache": (threading.Lock(), 1)}


TENSORS = {
    "float": torch.rand(3, 4),
    "number": torch.tensor(2.5, dtype=torch.float64),
    "bfloat16": torch.rand(5).bfloat16(),
    "bool": torch.tensor([True, False]),
    "complex": torch.rand(3, dtype=torch.complex64),
    "conjugate": torch.rand(3, dtype=torch.complex64).conj(),
    "empty": torch.zeros(0, 3),
    "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.rand(3, 4).T,
    "expanded": torch.rand(3, 1).expand(3, 4),
    "strided": torch.rand(10)[::3],
    "nan": torch.tensor([float("nan"), float("inf")]),
    "gradient": torch.rand(3, requires_grad=True),
    "parameter": nn.Parameter(torch.rand(3)),
    "large": torch.rand(200, 300),
    "large part": torch.rand(1000, 300)[100:300],
}
