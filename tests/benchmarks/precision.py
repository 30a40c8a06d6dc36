"""Training in bf16 and channels_last against the usual loop in float32. Run: python tests/benchmarks/precision.py

The Trainer under a runtime of each kind beside a loop over slices, epoch by epoch in turn; one thread; CPU time;
medians of interleaved rounds. A ratio above 1 says that the Trainer is faster. `--scores` trains one study in float32
and the same in bf16, for several seeds, and compares what they came to: on the digits, or with `--fashion` on 4,000
images of Fashion-MNIST. `--denormals` times a product of matrices that died out, and what a runtime's block costs.
"""

import argparse
import statistics
import time

import torch
from side_by_side import ratio, times
from torch import nn
from torch.nn import functional
from trainer import convnet, evaluate, step

import tuneflow as tn

KINDS = {
    "fp32": {},
    "fp32, channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
}


def slicing(train, valid, size):
    """The default loop: float32, as torch lays it out."""
    model, loss = convnet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    while True:
        order = torch.randperm(len(train))
        for start in range(0, len(train), size):
            rows = order[start : start + size]
            step(model, loss, optimizer, train.inputs[rows], train.targets[rows])
        yield evaluate(model, loss, valid.inputs, valid.targets)


def trainer(train, valid, size):
    return tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        batch_size=size,
        metrics={"accuracy": tn.metrics.accuracy},
    )


def ours(train, valid, size, runtime):
    made = trainer(train, valid, size)
    job = tn.types.Job(tn.Model(convnet), {"optimizer": {"lr": 0.01, "momentum": 0.9}}, runtime)
    return made.advance(job, made.init(job), until=10**9)


def speed(rounds):
    train, valid = images(640, 320)
    for size in (32, 128):
        taken = {name: [] for name in ("loop", *KINDS)}
        for _ in range(3):  # made anew: where memory happens to lie is part of the noise
            epochs = {"loop": slicing(train, valid, size).__next__}
            for name, given in KINDS.items():
                epochs[name] = ours(train, valid, size, tn.Runtime("cpu", threads=1, **given)).__next__
            for name, seconds in times(epochs, rounds // 3).items():
                taken[name] += seconds
        for name in KINDS:
            print(f"ConvNet, batch {size:<4} {name:<20} / loop {ratio(taken, 'loop', name):.2f}", flush=True)


def images(rows, held, seed=0):
    """Digits drawn out to 3x32x32, standardized by hand."""
    parts = tn.data.digits()[:2]
    return [
        tn.Data(functional.interpolate(part.inputs / 8 - 1, 32).repeat(1, 3, 1, 1)[:most], part.targets[:most])
        for part, most in zip(parts, (rows, held), strict=True)
    ]


def small(width=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


def scores(seeds, train, valid, test, trials=8):
    """Best and mean accuracy of the same study in float32 and in bf16 with channels_last."""
    differences = []
    for seed in range(seeds):
        best, mean, held = {}, {}, {}
        for name in ("fp32", "bf16, channels_last"):
            runtime = tn.Runtime("cpu", threads=1, **KINDS[name])
            study = tn.Study(
                model=tn.Model(small), trainer=trainer(train, valid, 32),
                space=tn.SearchSpace(optimizer={"lr": tn.Float(3e-3, 0.3, log=True), "momentum": tn.Float(0.0, 0.9)}),
                searcher=tn.Sobol(), maximize="accuracy", runtime=runtime, seed=seed, progress=False,
            )  # fmt: skip
            study.run(trials=trials)
            best[name] = study.best.metrics["accuracy"]
            mean[name] = statistics.mean(trial.metrics["accuracy"] for trial in study.trials)
            held[name] = study.test(test)["accuracy"].value
        rows = "  ".join(f"{name}: best {best[name]:.4f} mean {mean[name]:.4f} test {held[name]:.4f}" for name in best)
        print(f"seed {seed}  {rows}", flush=True)
        differences.append([values["bf16, channels_last"] - values["fp32"] for values in (best, mean, held)])
    for what, column in zip(("best", "mean", "test"), zip(*differences, strict=True), strict=True):
        error = statistics.stdev(column) / len(column) ** 0.5
        print(f"bf16 - fp32, {what}: {statistics.mean(column):+.4f} +- {error:.4f}", flush=True)


def denormals(rounds):
    left, right = torch.randn(256, 256) * 1e-40, torch.randn(256, 256)
    with tn.Runtime("cpu", threads=1).active():
        within = statistics.median(timed(lambda: left @ right) for _ in range(rounds))
    print(f"a product that died out: outside / within a block {timed(lambda: left @ right) / within:.0f}")
    runtime = tn.Runtime("cpu", threads=1)

    def block():
        with runtime.active():
            pass

    print(f"a block costs {1e6 * min(timed(block, 10_000) for _ in range(5)):.2f} microseconds")


def timed(what, count=3):
    started = time.perf_counter()
    for _ in range(count):
        what()
    return (time.perf_counter() - started) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scores", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--fashion", action="store_true")
    parser.add_argument("--denormals", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.scores and given.fashion:
        train, valid, test = tn.data.fashion_mnist()
        scores(given.scores, train[:4000], valid[:2000], test)
    elif given.scores:
        scores(given.scores, *tn.data.digits())
    elif given.denormals:
        denormals(given.rounds)
    else:
        speed(given.rounds)


if __name__ == "__main__":
    main()
