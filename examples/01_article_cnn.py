# %% [markdown]
"""# A small convolutional network on images of 32 x 32: trained with fixed settings, tested, then tuned.

The images are Fashion-MNIST where it is installed, else the digits that come with tuneflow.

    python examples/01_article_cnn.py                     # a small budget: about two minutes on two cores
    python examples/01_article_cnn.py --full --trials 16  # 10 epochs on all images: hours on a CPU
    python examples/01_article_cnn.py --folder runs/cnn   # keeps the study: run again, it goes on where it was

What trains stands under `if __name__ == "__main__":`, so that other code can import the rest.
"""

# %%
import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--trials", "16"]

# %% [markdown]
# ## The network, its fixed settings, and where to search

# %%
CLOTHES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]

FIXED = {"model": {"dropout": 0.0}, "optimizer": {"lr": 0.001, "momentum": 0.9}, "trainer": {"batch_size": 32}}

SPACE = tn.SearchSpace(
    model={"dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-3, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
    trainer={"batch_size": tn.Choice([16, 32, 64, 128], ordered=True)},
)


def convnet(dropout: float = 0.0) -> nn.Module:
    """Three 3x3 convolutions, each halved by pooling, and two linear layers: (n, 3, 32, 32) to logits (n, 10)."""
    layers: list[nn.Module] = []
    for before, after in [(3, 64), (64, 64), (64, 128)]:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, 10)
    )


# %% [markdown]
# ## The data


# %%


def images(folder: str, most: int | None) -> tuple[tn.Data, tn.Data, tn.Data, list[str]]:
    """Train, valid and test of shape (n, 3, 32, 32), and the names of the classes; prints which images they are.

    Args:
        folder: where Fashion-MNIST is; the digits are taken when it is not there.
        most: how many images to train on and to test on, half of that to choose by; None for all.
    """
    try:
        parts, fitted, classes = tn.data.fashion_mnist(folder), padded, CLOTHES
        print("Images: Fashion-MNIST, 28 x 28, padded to 3 x 32 x 32.")
    except FileNotFoundError as error:
        parts, fitted, classes = tn.data.digits(), resized, [str(digit) for digit in range(10)]
        print(f"{error}\nImages: handwritten digits, 8 x 8, resized to 3 x 32 x 32.")
    train, valid, test = parts
    if most is not None:
        train, valid, test = train[:most], valid[: most // 2], test[:most]
    return fitted(train), fitted(valid), fitted(test), classes


def padded(data: tn.Data) -> tn.Data:
    """28 x 28 with a border of two zeros, the one channel three times."""
    return tn.Data(functional.pad(data.inputs, (2, 2, 2, 2)).repeat(1, 3, 1, 1), data.targets)


def resized(data: tn.Data) -> tn.Data:
    """8 x 8 drawn out to 32 x 32, the one channel three times."""
    large = functional.interpolate(data.inputs, size=(32, 32), mode="bilinear")
    return tn.Data(large.repeat(1, 3, 1, 1), data.targets)


# %% [markdown]
# ## Training and testing


# %%


def train_fixed(trainer: tn.Trainer, job: tn.types.Job) -> nn.Module:
    """Train one job from its first state to the last epoch; the trained module."""
    start = trainer.init(job)
    with job.runtime.active():
        for state, report in trainer.advance(job, start, until=trainer.epochs):
            print(f"[epoch {state.epoch}] loss: {report.metrics['train_loss']:.3f}")
    return trainer.module(job, state)


def right(net: nn.Module, data: tn.Data, runtime: tn.Runtime) -> Tensor:
    """1 where `net` names the class of an image, else 0: shape (n,)."""
    with torch.no_grad(), runtime.active():
        parts = [tn.metrics.accuracy(net(x), y) for x, y in map(runtime.place, data.batches(256))]
    return torch.cat(parts).cpu()


def print_accuracy(hits: Tensor, targets: Tensor, classes: list[str]) -> None:
    """Accuracy over all images and for each class, in the words of the tutorials."""
    print(f"Accuracy of the network on the {len(hits)} test images: {100 * hits.mean():.0f} %")
    for number, name in enumerate(classes):
        print(f"Accuracy for class {name:<10} is {100 * hits[targets == number].mean():.0f} %")


def interval(hits: Tensor) -> str:
    """Accuracy with its 95 % interval over the choice of test images."""
    found = tn.metrics.estimate(tn.metrics.measure(hits))
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


# %% [markdown]
# ## The command line, and the budget


# %%
def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small CNN with fixed settings, test it, then tune it.")
    parser.add_argument("--images", type=int, default=2000, help="to train on, at least 2; default %(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="of each training; default %(default)s")
    parser.add_argument("--trials", type=int, default=6, help="of the search; default %(default)s")
    parser.add_argument("--full", action="store_true", help="10 epochs on all images, as the article; hours on a CPU")
    parser.add_argument("--folder", help="keep the study here; without it, it is gone with the process")
    parser.add_argument("--data", default=tn.data.FASHION_FOLDER, help="Fashion-MNIST's folder; default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; more pay off on idle cores only")
    return parser.parse_args(flags)


if __name__ == "__main__":
    options = arguments(FLAGS)
    train, valid, test, classes = images(options.data, None if options.full else options.images)
    epochs = 10 if options.full else options.epochs
    print(
        f"Budget: {len(train)} images to train on, {len(valid)} to choose by, {len(test)} to test on; epochs: {epochs};"
        f" 1 fixed setting, then {options.trials} trials."
    )
    runtime = tn.Runtime(threads=options.threads)
    trainer = tn.Trainer(
        train,
        valid,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD,
        epochs=epochs,
        metrics={"accuracy": tn.metrics.accuracy},
    )

# %% [markdown]
# ## Fixed settings
#
# One training, with the numbers that an article would give you.

# %%
if __name__ == "__main__":
    print("Training with fixed settings: SGD, learning rate 0.001, momentum 0.9, batches of 32.")
    net = train_fixed(trainer, tn.types.Job(tn.Model(convnet), FIXED, runtime))
    fixed = right(net, test, runtime)
    print_accuracy(fixed, test.targets, classes)

# %% [markdown]
# ## Tuned settings
#
# The same network, trainer and budget of epochs, for each of a few configurations. A trial counts with its last epoch,
# as the fixed settings do.

# %%
if __name__ == "__main__":
    print(f"\nTuning {', '.join(SPACE.names)}.")
    study = tn.Study(
        model=tn.Model(convnet),
        trainer=trainer,
        space=SPACE,
        searcher=tn.Sobol(),
        maximize="accuracy",
        at="last",
        runtime=runtime,
        folder=options.folder,
    )
    study.run(trials=options.trials)
    print(study.best)
    tuned = right(study.best.model(), test, runtime)
    print_accuracy(tuned, test.targets, classes)

# %% [markdown]
# ## Side by side

# %%
if __name__ == "__main__":
    print(f"\nTest accuracy on {len(test)} images, with its 95 % interval over the choice of these images:")
    print(f"  fixed  {interval(fixed)}")
    print(f"  tuned  {interval(tuned)}  (the best of {len(study.trials)} by validation accuracy)")
    if not options.full:
        print("The fixed learning rate is meant for many more steps than this budget has; --full takes them.")
    if options.folder is not None:
        path = Path(options.folder) / "best.pt"
        study.best.save(path)
        print(f"The tuned network is saved: tn.load({str(path)!r}, convnet)")
