"""Ways of training and of cleaning inputs, side by side on the digits. Run: python tests/benchmarks/harden_methods.py

`methods`: a net trained plainly and against attacks, and how it withstands changes of two sizes; how well first-order
margins tell which rows fall, and the product of its layers' spectral norms. `cleaning`: plain training on inputs that
are rounded or filtered, and the metric of an epoch beside all attacks on the same validation rows. One seed each.
"""

import argparse
import time
from functools import partial

import torch
from harden import RUNTIME, area, metrics, trained
from harden_tasks import digits
from torch import nn

import tuneflow as tn

EPS, SIZES, EPOCHS = 0.1, (0.05, 0.1), 30
METHODS = {
    "plain": {},
    "Fast": {"augment": tn.harden.Fast(EPS)},
    "PGD, 7 steps": {"augment": tn.harden.PGD(EPS, steps=7)},
    "TRADES, beta 2, 4 steps": {"loss": partial(tn.harden.TRADES, EPS, beta=2.0, steps=4)},
    "TRADES, beta 6, 7 steps": {"loss": partial(tn.harden.TRADES, EPS)},
}
CLEANERS = {
    "none": {},
    **{f"{bits} bits": {"clean": partial(tn.harden.Rounding, bits=bits)} for bits in (6, 4, 3, 2, 1)},
    "median filter": {"clean": tn.harden.MedianFilter},
}


def convnet(width=16):
    """Two convolutions, each halved by pooling: (n, 1, 8, 8) to logits (n, 10)."""
    layers = []
    for before, after in [(1, width), (width, 2 * width)]:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 10))


def one(task, maximize, steps=None, **method):
    """Train once at a peak rate of 0.05; return the result and the CPU seconds."""
    trainer = task.trainer(EPOCHS, metrics(EPS), **method)
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.2)})
    config = {"optimizer": {"lr": 0.05}}
    return trained(tn.Model(convnet, steps=steps or {}), task, trainer, config, space, maximize=maximize)


def methods():
    task = digits()
    test = task.parts[2]
    for name, method in METHODS.items():
        result, seconds = one(task, "robust" if method else "accuracy", **method)
        module = result.model()
        bound = tn.harden.spectral_norms(module, test).bound
        print(f"{name}: {seconds:.1f} CPU s, spectral norms {bound:.0f}", flush=True)
        for eps in SIZES:
            table, values = result.attack(test, eps=eps), tn.harden.margins(module, test, eps=eps)
            line = (
                f"eps {eps:<5g}",
                f"clean {shown(table.clean)}  robust {shown(table.robust)}  below {shown(values.below)}",
                f"area {area(values.values, table.survived):.3f}  {table.seconds:.0f} s",
            )
            print("  ".join(["", *line, *table.remarks]), flush=True)


def cleaning():
    task = digits()
    valid = task.parts[1]
    for name, steps in CLEANERS.items():
        module, metric = one(task, "accuracy", steps)[0].model(), tn.harden.Robust(eps=EPS)
        started = time.process_time()
        quick = metric.of_module(module, valid).value
        seconds = time.process_time() - started
        table = tn.harden.attack(module, valid, eps=EPS, rows=metric.rows)
        line = (
            f"{name}: clean {table.clean.value:.3f}  quick {quick:.3f} in {seconds:.2f} CPU s",
            f"all {shown(table.robust)} in {table.seconds:.0f} s",
            *(f"{each.label} {each.robust.value:.3f}" for each in table.attacks),
        )
        print("  ".join([*line, *table.remarks]), flush=True)


def shown(share):
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


PARTS = {"methods": methods, "cleaning": cleaning}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; both without any")
    torch.set_num_threads(RUNTIME.threads)
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()
