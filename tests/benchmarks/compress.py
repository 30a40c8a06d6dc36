"""Smaller nets from a trained one, against nets of their size from scratch. Run: python tests/benchmarks/compress.py

The article's ConvNet on Fashion-MNIST: 12,000 training rows, 10,000 test images, 5 epochs. What 4 times fewer
multiplications cost before any training, by score, with new weights for the layers behind and without; what 8 and 16
times fewer cost after 2 more epochs, beside the same structures drawn anew and trained for those 2 epochs, or for all
7. The last are the fair control: training the winner cost 5 epochs too. All in points of test accuracy below the winner
of the same seed. Last, channels scored per measured millisecond: points, and latency as a ratio to the net scored per
multiplication, as fast as each other at 1. With --winners FOLDER trained nets are kept and read there.
"""

import argparse
import copy
import importlib
import math
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

import tuneflow as tn
from tuneflow.compress import Narrow

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
article = importlib.import_module("01_article_cnn")
EPOCHS, MORE = 5, 2


class Bench:
    """The data, and training of a model for some epochs."""

    def __init__(self, seed):
        self.seed, self.runtime = seed, tn.Runtime(threads=1)
        train, _, test = tn.data.fashion_mnist()
        self.train, self.test = article.padded(train[:12_000]), article.padded(test)

    def job(self, model, rate):
        return tn.types.Job(model, {"optimizer": {"lr": rate, "momentum": 0.9}}, self.runtime, self.seed)

    def trained(self, model, epochs, rate=0.05):
        trainer = tn.Trainer(
            self.train,
            self.test[:64],
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=max(1, epochs),
            batch_size=64,
            schedule=tn.rates.Cosine(),
        )
        job = self.job(model, rate)
        state = trainer.init(job)
        trained = [state for state, _ in trainer.advance(job, state, epochs)] if epochs else [state]
        return trainer.module(job, trained[-1])

    def accuracy(self, net):
        return 100 * article.right(net.eval(), self.test, self.runtime).mean().item()

    def winner(self, folder):
        path = None if folder is None else Path(folder) / f"winner{self.seed}.pt"
        if path is not None and path.exists():
            return torch.load(path, weights_only=False)
        net = self.trained(tn.Model(article.convnet), EPOCHS)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(net, path)
        return net


def narrowed(winner, **settings):
    return tn.Model(winner, steps={"narrow": partial(Narrow, **settings)})


def drawn_anew(net):
    """A builder of the same structure with fresh weights."""

    def build():
        module = copy.deepcopy(net.module)
        for layer in module.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return module

    return tn.Model(build)


def macs(net, bench):
    return tn.measure.MACs().of_module(net, bench.test)


def before_training(bench, winner, best, say):
    for by in ("obd", "taylor", "magnitude"):
        for refit in (True, False):
            started = time.process_time()
            net = bench.trained(narrowed(winner, macs=4.0, by=by, refit=refit), 0)
            seconds = time.process_time() - started
            name = f"4x by {by}, {'new weights' if refit else 'weights as they were'}, before training"
            say(name, bench.accuracy(net) - best, f"{macs(winner, bench) / macs(net, bench):.2f}x, {seconds:.0f} s")


def after_training(bench, winner, best, say, scratch):
    for factor in (8.0, 16.0):
        model = narrowed(winner, macs=factor)
        say(f"{factor:g}x by obd, before training", bench.accuracy(bench.trained(model, 0)) - best)
        net = bench.trained(model, MORE, 0.02)
        ratio = f"{macs(winner, bench) / macs(net, bench):.2f}x"
        say(f"{factor:g}x by obd, after {MORE} epochs", bench.accuracy(net) - best, ratio)
        for epochs in (MORE, EPOCHS + MORE)[:scratch]:
            again = bench.accuracy(bench.trained(drawn_anew(net), epochs))
            say(f"{factor:g}x from scratch, {epochs} epochs", again - best, ratio)


def per_millisecond(bench, winner, best, say):
    for factor in (4.0, 8.0):
        nets = {per: bench.trained(narrowed(winner, macs=factor, per=per), 0) for per in ("macs", "ms")}
        for per, net in nets.items():
            say(f"{factor:g}x by obd per {per}, before training", bench.accuracy(net) - best)
        for batch in (64, 1):
            latency = tn.measure.Latency(batch, relative=True, seconds=4)
            ratio = latency.of_module(nets["ms"], bench.test, reference=nets["macs"])
            say(f"{factor:g}x, latency of per ms over per macs, batch {batch}", ratio.value, f"+- {ratio.error:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--winners", help="folder of trained nets, made here if they are not there")
    parser.add_argument("--scratch", type=int, default=2, help="1 leaves out nets from scratch at equal total epochs")
    options = parser.parse_args()
    results = {}
    for seed in range(options.seeds):
        bench = Bench(seed)
        winner = bench.winner(options.winners)
        best = bench.accuracy(winner)
        print(f"seed {seed}: winner {best:.2f}", flush=True)

        def say(name, difference, extra=""):
            results.setdefault(name, []).append(difference)
            print(f"  {name:<62} {difference:+.2f}  {extra}", flush=True)

        before_training(bench, winner, best, say)
        after_training(bench, winner, best, say, options.scratch)
        per_millisecond(bench, winner, best, say)
    print("\nmean over seeds, and its standard error")
    for name, values in results.items():
        spread = torch.tensor(values).std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
        print(f"  {name:<62} {sum(values) / len(values):+.2f} +- {spread:.2f}")


if __name__ == "__main__":
    main()
