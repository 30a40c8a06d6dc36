"""64 trials of a small MLP on the digits, 5 epochs each: tuneflow with lanes against loops and against other tuners.

Run: python tests/benchmarks/end_to_end.py [--peers]

Everybody trains the same configurations of the same net, reports loss and accuracy on the validation part after every
epoch, and tuneflow keeps it all in a folder. Each contestant is a process of its own, and they take turns. It does the
job twice: "first" has what is imported on the way in it, such as the tracer's modules, "again" has not. The loops and
tuneflow use one thread, and their CPU time is compared. Peers (--peers) may use both cores, as tuneflow then does; the
time compared is the wall clock's. Wants ray[tune] and optuna for those.
"""

import argparse
import inspect
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn

TRIALS, EPOCHS, BATCH = 64, 5, 32


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def data():
    train, valid, _ = tn.data.digits()
    mean, std = train.inputs.mean(), train.inputs.std()
    return [(part.inputs.sub(mean).div(std), part.targets) for part in (train, valid)]


def settings(count=TRIALS):
    draw = np.random.default_rng(0)
    return [{"lr": 10 ** draw.uniform(-3, 0), "momentum": draw.uniform(0, 0.99)} for _ in range(count)]


# The loops, as one would write them.


def train_loader(config, train, valid, report):
    model, loss_of = net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), **config)
    loader = DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True)
    tests = DataLoader(TensorDataset(*valid), batch_size=len(valid[0]))
    for _ in range(EPOCHS):
        model.train()
        for inputs, targets in loader:
            loss = loss_of(model(inputs), targets)
            if not math.isfinite(loss.item()):
                return
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for inputs, targets in tests:
                outputs = model(inputs)
                report(loss_of(outputs, targets).item(), (outputs.argmax(1) == targets).float().mean().item())


def train_slices(config, train, valid, report):
    model, loss_of = net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), **config)
    (inputs, targets), rows = train, len(train[0])
    for _ in range(EPOCHS):
        model.train()
        order = torch.randperm(rows)
        for start in range(0, rows, BATCH):
            chosen = order[start : start + BATCH]
            loss = loss_of(model(inputs[chosen]), targets[chosen])
            if not math.isfinite(loss.item()):
                return
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            outputs = model(valid[0])
            report(loss_of(outputs, valid[1]).item(), (outputs.argmax(1) == valid[1]).float().mean().item())


def loop(train_one):
    train, valid = data()
    best = 0.0
    for config in settings():
        seen = []
        train_one(config, train, valid, lambda loss, accuracy, seen=seen: seen.append(accuracy))
        best = max([best, *seen])
    return best


# tuneflow.


class Given(tn.Searcher):
    """The configurations that everybody trains."""

    ends = True

    def suggest(self, space, history, rng):
        known = settings()
        return {"optimizer": known[history.number]} if history.number < len(known) else None


def ours(**where):
    train, valid = data()
    with tempfile.TemporaryDirectory() as folder:
        study = tn.Study(
            model=tn.Model(net),
            trainer=tn.Trainer(
                train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=EPOCHS, batch_size=BATCH,
                metrics={"accuracy": tn.metrics.accuracy},
            ),
            space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)}),
            searcher=Given(), maximize="accuracy", runtime=tn.Runtime("cpu", threads=1, **where), folder=folder,
            progress=False,
        )  # fmt: skip
        study.run(trials=TRIALS)
        return study.best.metrics["accuracy"]


# Peers.


def optuna_objective(trial):
    torch.set_num_threads(1)
    train, valid = data()
    rate, momentum = trial.suggest_float("lr", 1e-3, 1.0, log=True), trial.suggest_float("momentum", 0, 0.99)
    seen = [0.0]

    def report(loss, accuracy):
        seen.append(accuracy)
        trial.report(accuracy, len(seen))

    train_slices({"lr": rate, "momentum": momentum}, train, valid, report)
    return max(seen)


def optuna_threads():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(optuna_objective, n_trials=TRIALS, n_jobs=2)
    return study.best_value


def _optuna_worker(path, trials):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="digits", storage=_journal(path))
    study.optimize(optuna_objective, n_trials=trials)


def _journal(path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(path))


def optuna_processes():
    import multiprocessing

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/journal"
        optuna.create_study(study_name="digits", storage=_journal(path), direction="maximize")
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_optuna_worker, args=(path, TRIALS // 2)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return optuna.load_study(study_name="digits", storage=_journal(path)).best_value


def ray_trainable(config):
    from ray import tune

    torch.set_num_threads(1)
    train, valid = data()
    train_slices(config, train, valid, lambda loss, accuracy: tune.report({"loss": loss, "accuracy": accuracy}))


def ray_tune():
    import ray
    from ray import tune

    if not ray.is_initialized():
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(ray_trainable, {"cpu": 1}),
            param_space={"lr": tune.loguniform(1e-3, 1.0), "momentum": tune.uniform(0, 0.99)},
            tune_config=tune.TuneConfig(num_samples=TRIALS, metric="accuracy", mode="max"),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        return tuner.fit().get_best_result().metrics["accuracy"]


LOOPS = {
    "tuneflow, lanes=16": lambda: ours(lanes=16),
    "tuneflow, inline": ours,
    "DataLoader loop": lambda: loop(train_loader),
    "slicing loop": lambda: loop(train_slices),
}
PEERS = {
    "tuneflow, lanes=16": lambda: ours(lanes=16),
    "tuneflow, workers=2": lambda: ours(workers=2),
    "Optuna, 2 threads": optuna_threads,
    "Optuna, 2 processes": optuna_processes,
    "Ray Tune, 2 cores": ray_tune,
}
LINES = {"tuneflow": [ours], "Optuna": [optuna_objective, train_slices, optuna_threads],
         "Ray Tune": [ray_trainable, train_slices, ray_tune]}  # fmt: skip


def contestant(name):
    """Do the job twice in this process: seconds of CPU and of the wall clock for each, and the best accuracy."""
    logging.disable()
    torch.set_num_threads(1)
    made = []
    for _ in range(2):
        cpu, wall = time.process_time(), time.perf_counter()
        best = {**LOOPS, **PEERS}[name]()
        made.append({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "best": best})
    print(json.dumps(made))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        contestant(options.contestant)
        return
    names, clock = (PEERS, "wall") if options.peers else (LOOPS, "cpu")
    taken = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            command = [sys.executable, __file__, "--contestant", name]
            quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
            ran = subprocess.run(command, capture_output=True, text=True, env=quiet)
            if ran.returncode:
                sys.exit(ran.stderr)
            taken[name].append(json.loads(ran.stdout.strip().splitlines()[-1]))
    ours_name = "tuneflow, lanes=16"
    for name in names:
        ratios = [
            statistics.median(theirs[i][clock] / mine[i][clock] for theirs, mine in zip(taken[name], taken[ours_name]))
            for i in range(2)
        ]
        best = statistics.median(each[1]["best"] for each in taken[name])
        print(f"{name:<22} time / tuneflow's with lanes: first {ratios[0]:.2f}, again {ratios[1]:.2f}; best {best:.3f}")
    if options.peers:
        for name, functions in LINES.items():
            lines = [line for f in functions for line in inspect.getsource(f).splitlines() if line.strip()]
            print(f"{name:<22} {len(lines)} lines")


if __name__ == "__main__":
    main()
