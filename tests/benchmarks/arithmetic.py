"""A trained ConvNet in bf16, int8 and channels_last, by itself and narrowed. Run: python tests/benchmarks/arithmetic.py

Fashion-MNIST padded to 3x32x32, the ConvNet of examples/01_article_cnn.py, 12,000 training rows, 10,000 test images.
Every form is what `Result.model()` would hand over: it takes bytes, the input normalizer is inside. Contestants take
turns; CPU time on one thread; medians, and the median of the quotients within a round. A ratio above 1 says faster than
plain float32 in channels_last. Nothing is fine-tuned after the conversion. With `--epoch`, the share of an epoch of
training that calibration and conversion take.
"""

import argparse
import statistics

import torch
from side_by_side import ratio, times
from torch import nn
from torch.nn import functional
from trainer import convnet

import tuneflow as tn
from tuneflow.compress import Arithmetic, Narrow

BASE = "fp32, channels_last"
FORMS = {
    "fp32": {"arithmetic": {}},
    BASE: {"arithmetic": {"channels_last": True}},
    "bf16, channels_last": {"arithmetic": {"precision": "bf16", "channels_last": True}},
    "int8": {"arithmetic": {"precision": "int8"}},
    "4x fewer MACs, fp32, channels_last": {"narrow": {"macs": 4.0}, "arithmetic": {"channels_last": True}},
    "4x fewer MACs, int8": {"narrow": {"macs": 4.0}, "arithmetic": {"precision": "int8"}},
}


def images():
    """Train, valid and test of shape (n, 3, 32, 32), bytes."""

    def padded(data):
        return tn.Data(functional.pad(data.inputs, (2, 2, 2, 2)).repeat(1, 3, 1, 1), data.targets)

    train, valid, test = map(padded, tn.data.fashion_mnist())
    return train[:12_000], valid[:2_000], test


def trainer(train, valid, epochs):
    return tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        epochs=epochs,
        batch_size=64,
        schedule=tn.rates.Cosine(),
        metrics={"accuracy": tn.metrics.accuracy},
    )


def trained(ours):
    """The winner: trained in bf16, which is faster here."""
    fast = tn.Runtime("cpu", threads=1, precision="bf16", channels_last=True)
    job = tn.types.Job(tn.Model(convnet), {"optimizer": {"lr": 0.02, "momentum": 0.9}}, fast)
    states = [ours.init(job)]
    for state, report in ours.advance(job, states[0], ours.epochs):
        print(f"epoch {report.epoch}: {report.metrics['accuracy']:.4f}", flush=True)
        states.append(state)
    return ours.module(job, states[-1])


def form(ours, winner, config, runtime):
    """The winner in another form, not trained on."""
    steps = {name: {"narrow": Narrow, "arithmetic": Arithmetic}[name] for name in config}
    job = tn.types.Job(tn.Model(winner, steps=steps), {"optimizer": {"lr": 0.01}, **config}, runtime)
    return ours.module(job, ours.init(job))


def right(module, data):
    """Whether each row is classified right."""
    with torch.inference_mode():
        outputs = [module(data.inputs[start : start + 500]) for start in range(0, len(data), 500)]
    return (torch.cat(outputs).argmax(1) == data.targets).double()


def accuracies(forms, test):
    plain = right(forms["fp32"], test)
    for name, module in forms.items():
        difference = right(module, test) - plain
        error = difference.std() / len(difference) ** 0.5
        print(
            f"{name:36} accuracy {100 * (plain + difference).mean():.2f},"
            f" {100 * difference.mean():+.2f} +- {100 * error:.2f} points",
            flush=True,
        )


def latencies(forms, test, rounds):
    for size in (64, 1):
        rows = test.inputs[:size]
        with torch.inference_mode():
            taken = times(
                {n: lambda f=f, rows=rows: f(rows) for n, f in forms.items()}, rounds if size > 1 else 8 * rounds, 6
            )
        for name, seconds in taken.items():
            print(
                f"batch {size:<3} {name:36} {1e3 * statistics.median(seconds):7.3f} ms  {ratio(taken, BASE, name):.2f}",
                flush=True,
            )


def share_of_an_epoch(ours, winner, runtime):
    """Print what calibration and conversion to int8 take, against an epoch of training in float32."""
    config = {"optimizer": {"lr": 0.001}, "arithmetic": {"precision": "int8"}}
    job = tn.types.Job(tn.Model(winner, steps={"arithmetic": Arithmetic}), config, runtime)
    run = ours.configured(config).session(job)
    with runtime.active():
        taken = times(
            {"epoch": lambda: run.train_epoch(1), "convert": lambda: run.form.calibrated(run.module, rows(run))}, 2
        )
    whole, convert = (statistics.median(taken[name]) for name in ("epoch", "convert"))
    print(f"calibration and conversion: {convert:.2f} s, {100 * convert / whole:.1f} % of an epoch's training")


def rows(run):
    return [inputs for (inputs, _), _ in zip(run.train.batches(128), range(4), strict=False)]


def processor():
    words = [
        "AVX-512" if torch.cpu._is_avx512_supported() else "",  # private, and nothing public tells
        "VNNI" if torch.cpu._is_vnni_supported() else "",  # as above
        "AMX" if torch.cpu._is_amx_tile_supported() else "",  # as above
    ]
    return ", ".join(filter(None, words)) or "neither AVX-512, VNNI nor AMX"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--epoch", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"processor: {processor()}; torch {torch.__version__}")
    train, valid, test = images()
    ours, runtime = trainer(train, valid, given.epochs), tn.Runtime("cpu", threads=1)
    winner = trained(ours)
    if given.epoch:
        share_of_an_epoch(ours, winner, runtime)
        return
    forms = {name: form(ours, winner, config, runtime) for name, config in FORMS.items()}
    accuracies(forms, test)
    if "VNNI" in processor() or "AMX" in processor():
        latencies(forms, test, given.rounds)
    else:
        print("latency: skipped, as int8 gains nothing without VNNI or AMX")


if __name__ == "__main__":
    main()
