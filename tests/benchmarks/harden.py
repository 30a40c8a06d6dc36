"""Hardened training found by studies, and what fools the measurement of it. Run: python tests/benchmarks/harden.py

Each study of some ten CPU minutes tunes {method, steps, beta, learning rate, width}, by robust accuracy on validation
rows, within a limit on how far the accuracy may fall below that of a plainly trained net. Its winner and the plain net
are then attacked on test rows in every way, and each row counts by the worst attack. Beside it, with `fork`, the same
configuration as a fork of a plainly trained net, for two thirds of the epochs.

`masked`: a plain net whose logits are multiplied by 1,000. `rounding`: inputs rounded to 2 bits. `ranks`: the area
under the curve by which first-order margins tell the rows that withstand every attack from those that do not. `cheap`:
the metric that studies tune by against all attacks, on the same rows. `front`: accuracy, robust accuracy and latency
of forks of a plain net, as three goals of one study, tested by all attacks.
"""

import argparse
import time
from functools import partial

import torch
from harden_tasks import TASKS, Task, digits
from torch import nn

import tuneflow as tn

RUNTIME = tn.Runtime("cpu", threads=1)
ALONE = {"runtime": RUNTIME, "progress": False}
SIZES = (0.05, 0.1)
SECONDS = 540  # of CPU time, after which a study begins no further trial


class One(tn.Searcher):
    """Proposes one configuration."""

    def __init__(self, config):
        self.config = config

    def suggest(self, space, history, rng):
        return self.config


class Scaled(nn.Module):
    """A net with its logits multiplied."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, inputs):
        return self.factor * self.net(inputs)


def metrics(eps, every=1000):
    """Accuracy, and robust accuracy at each `every`-th and the last epoch."""
    return {"accuracy": tn.metrics.accuracy, "robust": tn.harden.Robust(eps=eps, every=every)}


def trained(model, task, trainer, config, space, **how):
    """Train one configuration; return its result and the CPU seconds."""
    started = time.process_time()
    study = tn.Study(model=model, trainer=trainer, space=space, searcher=One(config), **ALONE, **how)
    study.run(trials=1)
    return study.best, time.process_time() - started


def plain(task: Task, eps, width):
    model = tn.Model(task.builder)
    config = {"model": {"width": width}, "optimizer": {"lr": 0.05}}
    space = tn.SearchSpace(model={"width": tn.Int(*task.widths)}, optimizer={"lr": tn.Float(0.01, 0.2)})
    return trained(model, task, task.trainer(task.plain_epochs, metrics(eps)), config, space, maximize="accuracy")


def studied(task: Task, eps, reference):
    """Tune hardened training; return the study and the CPU seconds."""
    started = time.process_time()
    study = tn.Study(
        model=tn.Model(task.builder),
        trainer=task.trainer(task.epochs, metrics(eps, task.every)),
        space=task.space(eps),
        searcher=tn.Auto(),
        scheduler=tn.Halving(3, first=task.first),
        maximize="robust",
        limits={"accuracy": tn.within(task.margins[eps], of=reference)},
        **ALONE,
    )
    while len(study.trials) < task.trials and time.process_time() - started < SECONDS:
        study.run(trials=len(study.trials) + 1)
    return study, time.process_time() - started


def show(name, table, seconds=None, other=None):
    """Print what an attack table says in one line, with intervals of 95 % in percent."""
    took = "" if seconds is None else f"{seconds:6.0f} CPU s"
    apart = "" if other is None else f"{100 * (table.robust.value - other.robust.value):+.1f} points robust"
    print(f"  {name:<26} clean {percent(table.clean)}  robust {percent(table.robust)}  {took}  {apart}", flush=True)
    for remark in table.remarks:
        print(f"    {remark}", flush=True)


def percent(estimate):
    return f"{100 * estimate.value:5.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def claims(task: Task, eps, fork):
    """Compare a plain net, the winner of a study, and its configuration as a fork."""
    test = task.parts[2]
    print(f"{task.name}, {len(task.parts[0])} training rows, eps {eps:g} of the box, {len(test)} test rows", flush=True)
    reference, seconds = plain(task, eps, task.width)
    show("plain", reference.attack(test, eps=eps), seconds)
    study, seconds = studied(task, eps, reference)
    best = study.best
    table = best.attack(test, eps=eps)
    show(f"best of {len(study.trials)} trials", table, seconds)
    print(f"    trial {best.number}, {best.epochs} epochs: {best.config}", flush=True)
    if fork:
        forked(task, eps, best, table)


def forked(task: Task, eps, best, table):
    config = {name: value for name, value in best.config.items() if name != "model"}
    full, third = task.trainer(task.epochs, metrics(eps)), 2 * task.epochs // 3
    anew, seconds = trained(tn.Model(task.builder), task, full, best.config, task.space(eps), maximize="robust")
    show("its configuration anew", anew.attack(task.parts[2], eps=eps), seconds, table)
    start, _ = plain(task, eps, best.config["model"]["width"])
    shorter = task.trainer(third, metrics(eps))
    fork, seconds = trained(tn.Model(start), task, shorter, config, task.space(eps, fork=True), maximize="robust")
    show(f"as a fork, {third} epochs", fork.attack(task.parts[2], eps=eps), seconds, table)


def masked():
    task = digits()
    test, (net, _) = task.parts[2], plain(task, 0.1, task.width)
    table = net.attack(test, eps=0.1)
    print("digits, eps 0.1, logits multiplied")
    show("by 1", table)
    scaled = Scaled(net.model(), 1000.0)
    show("by 1,000", tn.harden.attack(scaled, test, eps=0.1, box=table.threat.box), other=table)


def rounding():
    print("digits, eps 0.1, inputs rounded to 2 bits: robust under gradients through each form, black box, and all")
    task = digits()
    trainer, space = (
        task.trainer(task.plain_epochs, metrics(0.1)),
        tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.2)}),
    )
    model = tn.Model(task.builder, steps={"rounding": partial(tn.harden.Rounding, bits=2)})
    net, _ = trained(model, task, trainer, {"optimizer": {"lr": 0.05}}, space, maximize="accuracy")
    table = net.attack(task.parts[2], eps=0.1)
    for form in ("own", "straight-through", ""):
        survived = torch.stack([each.survived for each in table.attacks if each.form == form]).all(0)
        print(f"  {form or 'Square':<26} {100 * survived.double().mean():.1f}")
    show("all", table)


def cheap():
    print("robust accuracy after an epoch, on 256 rows, and by all attacks on these; digits, validation rows")
    task = digits()
    for name, net in [("plain", plain(task, 0.1, task.width)[0]), ("hardened", hardened(task, 0.1))]:
        for eps in (0.05, 0.1, 0.15):
            metric, module = tn.harden.Robust(eps=eps), net.model()
            started = time.process_time()
            value = metric.of_module(module, task.parts[1]).value
            seconds = time.process_time() - started
            worst = tn.harden.attack(module, task.parts[1], eps=eps, rows=metric.rows).robust
            print(f"  {name:<10} eps {eps:<5g} {100 * value:5.1f} in {seconds:.2f} CPU s, {percent(worst)}", flush=True)


def ranks():
    print("area under the curve of first-order margins against survival; rows that are right without an attack")
    task = digits()
    for name, net in [("plain", plain(task, 0.1, task.width)[0]), ("hardened", hardened(task, 0.1))]:
        for eps in SIZES:
            table = net.attack(task.parts[2], eps=eps)
            values = tn.harden.margins(net.model(), task.parts[2], eps=eps).values
            print(
                f"  {name:<10} eps {eps:<5g} {area(values[table.right], table.survived[table.right]):.3f}", flush=True
            )


def front():
    print("digits, eps 0.1: accuracy, robust accuracy and latency of forks of a plain net, on test rows")
    task = digits()
    start, _ = plain(task, 0.1, task.width)
    latency = tn.measure.Latency(batch=64, relative=True, seconds=0.3)
    started = time.process_time()
    study = tn.Study(
        model=tn.Model(start, steps={"narrow": tn.compress.Narrow, "arithmetic": tn.compress.Arithmetic}),
        trainer=task.trainer(10, {**metrics(0.1), "latency": latency}),
        space=tn.SearchSpace(
            narrow={"macs": tn.Float(1, 8, log=True)},
            arithmetic={"precision": tn.Choice(["fp32", "bf16", "int8"]), "channels_last": True},
            augment=tn.Choice({"none": None, "pgd": tn.call(tn.harden.PGD, eps=0.1, steps=tn.Int(2, 5))}),
            optimizer={"lr": tn.Float(0.005, 0.1, log=True)},
        ),
        searcher=tn.GP(),
        maximize=["accuracy", "robust"],
        minimize="latency",
        **ALONE,
    )
    study.run(trials=16)
    print(f"{study.test(task.parts[2])}\n{time.process_time() - started:.0f} CPU s; the plain net:")
    print(start.test(task.parts[2]), flush=True)


def hardened(task: Task, eps):
    config = {"model": {"width": task.width}, "optimizer": {"lr": 0.05}, "augment": {"pgd": {"eps": eps, "steps": 5}}}
    config["loss"] = "cross-entropy"
    trainer = task.trainer(task.plain_epochs, metrics(eps))
    return trained(tn.Model(task.builder), task, trainer, config, task.space(eps), maximize="robust")[0]


def area(values, positive):
    """Area under the receiver's curve: the share of pairs in the right order, ties half."""
    higher, lower = values[positive][:, None], values[~positive][None]
    return ((higher > lower).double() + 0.5 * (higher == lower).double()).mean().item()


PARTS = {"masked": masked, "rounding": rounding, "ranks": ranks, "cheap": cheap, "front": front}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help=f"of {', '.join((*TASKS, *PARTS))}; all without any")
    parser.add_argument("--eps", type=float, nargs="*", help="of the studies; those of the task by default")
    parser.add_argument("--no-fork", action="store_true", help="without the forks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts or [*TASKS, *PARTS]:
        if part in PARTS:
            PARTS[part]()
            continue
        task = TASKS[part]()
        for eps in options.eps or task.margins:
            claims(task, eps, not options.no_fork)


if __name__ == "__main__":
    main()
