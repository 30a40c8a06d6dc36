# %% [markdown]
"""# A network that ends in Softmax, and cross-entropy that applies one itself: refused, and trained in both right ways.

Descriptions of networks often end in a softmax, and are trained "with cross-entropy". That is right where cross-entropy
takes probabilities. In torch it takes logits: then the softmax is applied twice, and training is worse in silence.

    python examples/07_softmax.py              # three seeds: about a minute on two cores
    python examples/07_softmax.py --seeds 10   # narrower errors
"""

# %%
import argparse
import statistics
import sys
import textwrap
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--seeds", "10"]

# %% [markdown]
# ## The network as it is described, and as torch's cross-entropy takes it


# %%
def convnet() -> nn.Module:
    """Two 3x3 convolutions, each halved by pooling, and two linear layers: (n, 1, 8, 8) to logits (n, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def with_softmax() -> nn.Module:
    """The same, to the probabilities of the classes."""
    return nn.Sequential(*convnet(), nn.Softmax(dim=1))


def of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of probabilities, as a text means it."""
    return functional.nll_loss(outputs.clamp(min=1e-12).log(), targets)


READINGS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor, Tensor], Tensor]]] = {
    "logits, nn.CrossEntropyLoss": (convnet, nn.CrossEntropyLoss()),
    "softmax, NLL of its logarithm": (with_softmax, of_probabilities),
    "softmax, nn.CrossEntropyLoss": (with_softmax, nn.CrossEntropyLoss()),
}
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network that ends in Softmax, rightly and wrongly.")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions; default %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="of each training; default %(default)s")
    parser.add_argument("--rows", type=int, help="to train on; all 1,077 by default")
    return parser.parse_args(flags)


# %% [markdown]
# ## The refusal
#
# A study follows the outputs to the loss before trial 0.


# %%
def trainer_of(loss: Callable[[Tensor, Tensor], Tensor], options: argparse.Namespace) -> tn.Trainer:
    train, valid, _ = tn.data.digits()
    return tn.Trainer(
        train[: options.rows], valid, loss=loss, optimizer=torch.optim.SGD, epochs=options.epochs,
        metrics={"accuracy": tn.metrics.accuracy},
    )  # fmt: skip


if __name__ == "__main__":
    options = arguments(FLAGS)
    space = tn.SearchSpace(optimizer={"lr": tn.Float(min(RATES), max(RATES), log=True)})
    for name, (build, loss) in READINGS.items():
        try:
            tn.Study(model=tn.Model(build), trainer=trainer_of(loss, options), space=space, progress=False)
            print(f"{name}: fits")
        except ValueError as error:
            print(f"{name}: refused\n{textwrap.indent(textwrap.fill(str(error), 100), '    ')}")


# %% [markdown]
# ## What it would have cost
#
# A Trainer by itself has no dry run, so it can train the wrong reading too: every reading at every rate, under the same
# seeds, with momentum 0.9.


# %%
def accuracy(build: Callable[[], nn.Module], trainer: tn.Trainer, rate: float, seed: int) -> float:
    """Validation accuracy after the last epoch; 0.1, a guess, where training diverges."""
    config = {"optimizer": {"lr": rate, "momentum": 0.9}}
    job = tn.types.Job(tn.Model(build), config, tn.Runtime("cpu", threads=1), seed)
    try:
        *_, (_, report) = trainer.advance(job, trainer.init(job), trainer.epochs)
    except tn.errors.Diverged:
        return 0.1
    return report.metrics["accuracy"]


def compare(options: argparse.Namespace) -> None:
    """Train every reading and print the table."""
    print(f"\nValidation accuracy, mean over seeds: {options.seeds}; epochs: {options.epochs}. By learning rate:")
    print(f"{'reading':<32}{''.join(f'{rate:<8}' for rate in RATES)}best")
    for name, (build, loss) in READINGS.items():
        trainer = trainer_of(loss, options)
        means = [
            statistics.mean(accuracy(build, trainer, rate, seed) for seed in range(options.seeds)) for rate in RATES
        ]
        print(f"{name:<32}{''.join(f'{mean:<8.3f}' for mean in means)}{max(means):.3f}", flush=True)


# %%
if __name__ == "__main__":
    compare(options)
