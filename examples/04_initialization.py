# %% [markdown]
"""# Initial weights of deep networks: where the loss starts, and where training gets from there.

Two multilayer perceptrons on handwritten digits, one with sigmoids and one with rectifiers, under five ways to draw
the weights, as drawn and after the data-driven pass. Each is trained at the learning rate that a probe finds for it,
so that none suffers from another's.

    python examples/04_initialization.py             # about half a minute on two cores
    python examples/04_initialization.py --seeds 5
"""

# %%
import argparse
import math
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tuneflow as tn

# %%
FLAGS = [] if "ipykernel" in sys.modules else sys.argv[1:]  # in a notebook, put flags here: ["--seeds", "5"]

# %% [markdown]
# ## The networks and the schemes
#
# "default" is what `nn.Linear` does by itself.

# %%
SCHEMES = ("default", "xavier", "kaiming", "orthogonal", "lecun")
NETS = {"6 sigmoid layers": (nn.Sigmoid, 6), "10 ReLU layers": (nn.ReLU, 10)}
MOMENTUM = 0.9
COLORS = ("#666666", "#7a4b94", "#0b6e99", "#3d7a3d", "#c2571a")


def mlp(activation: type[nn.Module], depth: int, width: int = 48) -> nn.Module:
    """`depth` hidden layers of the same width: images (n, 1, 8, 8) to logits (n, 10)."""
    sizes = [64] + [width] * depth
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


# %% [markdown]
# ## One training, at the rate that a probe measured


# %%
@dataclass(frozen=True)
class Outcome:
    """One training: the loss before the first step, the rate, and the validation loss after each epoch."""

    first: float
    rate: float
    losses: list[float]


def outcome(model: tn.Model, trainer: tn.Trainer, seed: int) -> Outcome:
    """Probe the model, then train it at the rate that was found."""
    runtime = tn.Runtime("cpu", threads=1)
    probe = tn.probe(model, trainer, runtime, config={"optimizer": {"momentum": MOMENTUM}}, seed=seed)
    study = tn.Study(
        model=model,
        trainer=trainer,
        space=tn.SearchSpace(optimizer={"lr": probe.rate, "momentum": MOMENTUM}),
        at="last",
        runtime=runtime,
        seed=seed,
        progress=False,
    )
    study.run(trials=1)
    losses = [report.metrics["loss"] for report in study.trials[0].reports]
    return Outcome(probe.loss, probe.rate, losses + [math.nan] * (trainer.epochs - len(losses)))


# %% [markdown]
# ## All trainings, as a table


# %%
def compare(options: argparse.Namespace) -> str:
    """Train every network under every scheme and print the table; the losses as an SVG picture."""
    train, valid, _ = tn.data.digits()
    trainer = tn.Trainer(
        train[: options.rows], valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=options.epochs
    )
    print(f"Epochs of SGD: {options.epochs}. Seeds: {options.seeds}. The loss of a guess: {math.log(10):.3f}.")
    print("initial: training loss before the first step; final: validation loss after the last.\n")
    print(f"{'network':<17}{'data-driven pass':<17}{'init':<12}{'initial':>8}{'rate':>9}{'final':>8}")
    panels: dict[str, dict[str, list[float]]] = {}
    for (net, (activation, depth)), driven in product(NETS.items(), (False, True)):
        for scheme in SCHEMES:
            model = tn.Model(partial(mlp, activation, depth), init=scheme, data_driven=driven)
            found = [outcome(model, trainer, seed) for seed in range(options.seeds)]
            first, rate = np.mean([one.first for one in found]), np.exp(np.mean([math.log(one.rate) for one in found]))
            losses = np.mean([one.losses for one in found], axis=0).tolist()
            panels.setdefault(f"{net}, {'with' if driven else 'without'} the pass", {})[scheme] = [first, *losses]
            row = f"{net:<17}{'yes' if driven else 'no':<17}{scheme:<12}{first:>8.3f}{rate:>9.3g}{losses[-1]:>8.3f}"
            print(row, flush=True)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "initialization.svg"
    drawing = picture(panels)
    path.write_text(drawing)
    print(f"\nThe losses epoch by epoch: {path}")
    return drawing


# %% [markdown]
# ## The picture, and the command line


# %%
def picture(panels: dict[str, dict[str, list[float]]]) -> str:
    """A panel for each network, with and without the pass: loss over epochs, a line for each scheme. SVG text."""
    width, height, top = 300, 180, 3.0
    parts = ['<rect width="100%" height="100%" fill="white"/>']
    for number, (title, lines) in enumerate(panels.items()):
        left, above = 40 + number % 2 * (width + 50), 30 + number // 2 * (height + 60)
        parts.append(f'<text x="{left}" y="{above - 10}" font-weight="bold">{title}</text>')
        parts.append(f'<path d="M{left},{above} v{height} h{width}" fill="none" stroke="#888"/>')
        for loss in range(4):
            parts.append(f'<text x="{left - 8}" y="{above + 4 + height * (1 - loss / top)}">{loss}</text>')
        for line, color in zip(lines.values(), COLORS, strict=True):
            points = [
                f"{left + width * epoch / (len(line) - 1):.1f},{above + height * (1 - min(loss, top) / top):.1f}"
                for epoch, loss in enumerate(line)
                if math.isfinite(loss)
            ]
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        across = f"loss over epochs 0 to {len(line) - 1}"
        parts.append(f'<text x="{left + width / 2}" y="{above + height + 18}" text-anchor="middle">{across}</text>')
    for row, (scheme, color) in enumerate(zip(SCHEMES, COLORS, strict=True)):
        parts.append(f'<rect x="740" y="{40 + 20 * row}" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="758" y="{50 + 20 * row}">{scheme}</text>')
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 480" {style}>{"".join(parts)}</svg>'


def arguments(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare five ways to draw the weights of deep networks.")
    parser.add_argument("--epochs", type=int, default=10, help="of each training; default %(default)s")
    parser.add_argument("--seeds", type=int, default=2, help="of each mean; default %(default)s")
    parser.add_argument("--rows", type=int, help="to train on; all 1,077 by default")
    parser.add_argument("--folder", default="runs/initialization", help="for the picture; default %(default)s")
    return parser.parse_args(flags)


# %% [markdown]
# ## The comparison

# %%
if __name__ == "__main__":
    drawing = compare(arguments(FLAGS))

# %% [markdown]
# The picture, in a notebook:

# %%
if "ipykernel" in sys.modules:
    from IPython.display import SVG, display

    display(SVG(drawing))
