# %% [markdown]
"""# A trained network made smaller and faster: each technique is a step of a fork, tuned by two goals and measured.

The article's network is trained on handwritten digits. A second study forks it: each trial starts from the trained
weights, narrows layers, makes two thin layers of one, chooses an arithmetic, and trains on for a few epochs. Accuracy
and latency, as a share of the trained network's, are the goals; the front is tested beside the trained network, and one
member of it is saved, loaded and exported.

    python examples/08_smaller_and_faster.py              # about a minute
    python examples/08_smaller_and_faster.py --trials 40  # a denser front
"""

# %%
import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--trials", "30"]

# %% [markdown]
# ## The network and its data


# %%
def convnet(size: int = 16) -> nn.Module:
    """Three 3x3 convolutions, each halved by pooling, and two linear layers: (n, 3, size, size) to logits (n, 10)."""
    layers: list[nn.Module] = []
    for before, after in [(3, 64), (64, 64), (64, 128)]:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * size * size, 512), nn.ReLU(), nn.Linear(512, 10))


def resized(data: tn.Data, size: int) -> tn.Data:
    """8 x 8 drawn out to size x size, the one channel three times."""
    large = functional.interpolate(data.inputs, size=(size, size), mode="bilinear")
    return tn.Data(large.repeat(1, 3, 1, 1), data.targets)


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network, then make it smaller and faster by two goals.")
    parser.add_argument("--size", type=int, default=16, help="pixels of a side, a multiple of 8; default %(default)s")
    parser.add_argument("--rows", type=int, default=1077, help="to train on, of 1,077; default %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of the winner's training; default %(default)s")
    parser.add_argument("--more", type=int, default=2, help="epochs of each fork; default %(default)s")
    parser.add_argument("--trials", type=int, default=12, help="forks; default %(default)s")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each latency; default %(default)s")
    parser.add_argument("--folder", default="runs/smaller", help="for the models; default %(default)s")
    return parser.parse_args(flags)


def trainer_of(epochs: int, **measures: object) -> tn.Trainer:
    """A trainer that also reports the multiplications of the module, and what else is measured."""
    return tn.Trainer(
        train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=epochs,
        metrics={"accuracy": tn.metrics.accuracy, "macs": tn.measure.MACs(), **measures},
    )  # fmt: skip


if __name__ == "__main__":
    options = arguments(FLAGS)
    train, valid, test = (resized(part, options.size) for part in tn.data.digits())
    train = train[: options.rows]
    builder = partial(convnet, options.size)
    runtime = tn.Runtime("cpu", threads=1)

# %% [markdown]
# ## A winner
#
# One training by fixed settings, to keep this short. It may be the best of any study.

# %%
if __name__ == "__main__":
    study = tn.Study(
        model=tn.Model(builder),
        trainer=trainer_of(options.epochs),
        space=tn.SearchSpace(optimizer={"lr": 0.02, "momentum": 0.9}),
        maximize="accuracy",
        runtime=runtime,
    )
    study.run(trials=1)
    print(study.best)

# %% [markdown]
# ## Where its time and its parameters go

# %%
if __name__ == "__main__":
    print(tn.measure.profile(study.best, test))

# %% [markdown]
# ## Forks of the winner
#
# `steps` names what is done to the module when a trial begins, in that order; the settings of each are a section of the
# space. `macs=4` narrows to a quarter of the multiplications, `keep=1.0` leaves layers whole. int8 pads channels where
# that is faster, so it may count more multiplications. A latency of 0.2 is one fifth of the trained network's: both are
# measured in turns, as the speed of a machine changes from minute to minute.

# %%
if __name__ == "__main__":
    small = tn.Study(
        model=tn.Model(
            study.best,
            steps={"narrow": tn.compress.Narrow, "low_rank": tn.compress.LowRank, "arithmetic": tn.compress.Arithmetic},
        ),
        trainer=trainer_of(options.more, latency=tn.measure.Latency(batch=64, relative=True, seconds=options.seconds)),
        space=tn.SearchSpace(
            narrow={"macs": tn.Float(1, 16, log=True)},
            low_rank={"keep": tn.Float(0.2, 1.0, log=True)},
            arithmetic={"precision": tn.Choice(["fp32", "bf16", "int8"]), "channels_last": True},
            optimizer={"lr": tn.Float(1e-3, 1e-1, log=True), "momentum": 0.9},
        ),
        searcher=tn.GP(),
        maximize="accuracy",
        minimize="latency",
        runtime=runtime,
    )
    small.run(trials=options.trials)
    print(small.front)

# %% [markdown]
# ## The front on images that no trial has seen
#
# A member may be beaten by another one here: its place on the front was partly luck. The trained network comes last; a
# fork may be ahead of it, as it was trained for longer.

# %%
if __name__ == "__main__":
    print(small.test(test))
    print(f"the trained network:\n{study.test(test)}")

# %% [markdown]
# ## One of them goes elsewhere
#
# The fastest within three points of the best member. `save` keeps what was done to the network, so `tn.load` needs the
# builder of the first study only. `export` writes a program that needs neither the builder nor tuneflow; int8 is
# written as TorchScript.


# %%
def exported(result: tn.Result, folder: Path) -> Path:
    """Write the result's model as a program; return its path."""
    path = folder / ("small.pt" if result.config["arithmetic"]["precision"] == "int8" else "small.pt2")
    result.export(path)
    return path


if __name__ == "__main__":
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    good = max(result.metrics["accuracy"] for result in small.front) - 0.03
    near = [result for result in small.front if result.metrics["accuracy"] >= good]
    chosen = min(near, key=lambda result: result.metrics["latency"])
    chosen.save(folder / "small.saved")
    path = exported(chosen, folder)
    loaded = tn.load(folder / "small.saved", builder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        program = torch.jit.load(path) if path.suffix == ".pt" else torch.export.load(path).module()
    images = test.inputs[:64]
    same = [torch.equal(other(images), chosen.model()(images)) for other in (loaded, program)]
    print(f"trial {chosen.number}, saved and exported: {'the same' if all(same) else 'DIFFERENT'} outputs")
