# %% [markdown]
"""# Harder to attack: how easily a network is fooled, training that withstands it, and a front of three goals.

A small convolutional network reads handwritten digits. Changes of a tenth of the range of a pixel, hardly to be seen,
make it wrong on half of them. A first study tunes whether and how it is trained against such changes. A second one
forks the most robust winner, makes it smaller and faster, and weighs accuracy, robust accuracy and latency.

    python examples/09_harder_to_attack.py              # about a minute
    python examples/09_harder_to_attack.py --trials 20  # a denser front
"""

# %%
import argparse
import sys
import warnings

import torch
from torch import nn

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--trials", "20"]

# %% [markdown]
# ## The network and its data
#
# `Robust` attacks some of the validation rows after each epoch. `eps` is a share of the range of the pixels, 0 to 16.


# %%
def convnet(width: int = 16) -> nn.Module:
    """Two 3x3 convolutions, each halved by pooling, and a linear layer: (n, 1, 8, 8) to logits (n, 10)."""
    layers: list[nn.Module] = []
    for before, after in [(1, width), (width, 2 * width)]:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 10))


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network against attacks, then make it faster.")
    parser.add_argument("--rows", type=int, default=1077, help="to train on, of 1,077; default %(default)s")
    parser.add_argument("--epochs", type=int, default=15, help="of each training; default %(default)s")
    parser.add_argument("--more", type=int, default=3, help="epochs of each fork; default %(default)s")
    parser.add_argument("--trials", type=int, default=6, help="of each study; default %(default)s")
    parser.add_argument("--tested", type=int, default=360, help="rows to attack at the end; default %(default)s")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each latency; default %(default)s")
    return parser.parse_args(flags)


def trainer_of(epochs: int, augment: object = None, **measures: object) -> tn.Trainer:
    """A trainer that reports robust accuracy every third epoch and at the end, and what else is measured."""
    return tn.Trainer(
        train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=epochs, augment=augment,
        metrics={"accuracy": tn.metrics.accuracy, "robust": tn.harden.Robust(eps=EPS, every=3, rows=120), **measures},
    )  # fmt: skip


EPS = 0.1  # of the range of a pixel

if __name__ == "__main__":
    options = arguments(FLAGS)
    train, valid, test = tn.data.digits()
    train, test = train[: options.rows], test[: options.tested]
    runtime = tn.Runtime("cpu", threads=1)
    warnings.filterwarnings("ignore", "Robust: ")  # remarks, which the tables below print

# %% [markdown]
# ## A plain training, attacked
#
# Each line is an attack, and the share of images that are right and stay so; `worst` counts an image only if it
# withstands all of them.

# %%
if __name__ == "__main__":
    plain = tn.Study(
        model=tn.Model(convnet),
        trainer=trainer_of(options.epochs),
        space=tn.SearchSpace(optimizer={"lr": 0.03, "momentum": 0.9}),
        maximize="accuracy",
        runtime=runtime,
    )
    plain.run(trials=1)
    print(plain.best.attack(test))

# %% [markdown]
# ## Training against attacks, as a choice of the space
#
# `Fast` attacks each batch in one step, `PGD` in several, and None is a plain training.

# %%
if __name__ == "__main__":
    hard = tn.Study(
        model=tn.Model(convnet),
        trainer=trainer_of(options.epochs),
        space=tn.SearchSpace(
            augment=tn.Choice(
                {
                    "none": None,
                    "fast": tn.call(tn.harden.Fast, eps=EPS),
                    "pgd": tn.call(tn.harden.PGD, eps=EPS, steps=tn.Int(3, 7)),
                }
            ),
            model={"width": tn.Int(12, 32, log=True)},
            optimizer={"lr": tn.Float(0.01, 0.1, log=True), "momentum": 0.9},
        ),
        searcher=tn.Sobol(),
        maximize=["accuracy", "robust"],
        runtime=runtime,
    )
    hard.run(trials=options.trials)
    for trial in hard.trials:
        scores = "  ".join(f"{name} {trial.metrics[name]:.3f}" for name in ("accuracy", "robust"))
        print(f"{scores}  {trial.config['augment']}")
    print(hard.front)
    robust = max(hard.front, key=lambda result: result.metrics["robust"])
    print(robust.attack(test))

# %% [markdown]
# ## Which rows are weak, and which layers lengthen a change
#
# A row's margin is, to first order, the smallest change that costs its class; it is below 0 where the class is wrong.
# The gains show where a change grows most. They do not tell a weak network from a strong one.

# %%
if __name__ == "__main__":
    print(tn.harden.margins(robust.model(), test, eps=EPS))
    print(tn.harden.spectral_norms(robust.model(), test))

# %% [markdown]
# ## Forks of the robust winner: accuracy, robust accuracy and latency
#
# Each fork is narrowed, may compute in int8, and is trained on against one-step attacks. Latency is a share of the
# winner's.

# %%
if __name__ == "__main__":
    small = tn.Study(
        model=tn.Model(robust, steps={"narrow": tn.compress.Narrow, "arithmetic": tn.compress.Arithmetic}),
        trainer=trainer_of(
            options.more,
            augment=tn.harden.Fast(eps=EPS),
            latency=tn.measure.Latency(batch=64, relative=True, seconds=options.seconds),
        ),
        space=tn.SearchSpace(
            narrow={"macs": tn.Float(1, 4, log=True)},
            arithmetic={"precision": tn.Choice(["fp32", "int8"])},
            optimizer={"lr": tn.Float(0.01, 0.1, log=True), "momentum": 0.9},
        ),
        searcher=tn.Sobol(),
        maximize=["accuracy", "robust"],
        minimize="latency",
        runtime=runtime,
    )
    small.run(trials=options.trials)
    print(small.front)

# %% [markdown]
# ## The front on images that no trial has seen
#
# Here robust accuracy is judged by all attacks, and on other rows, so it may come out lower or higher than above. Each
# fork was trained for some epochs more than its winner, which alone can make it more accurate and more robust; narrow
# layers and int8 do not.

# %%
if __name__ == "__main__":
    print(small.test(test))
