"""Draw the pictures of howto/plots.md: python docs/pictures/make.py, about a minute.

The studies are seeded, so that the pictures are the same again but for seconds. Colors are few, so a palette
keeps each file small.
"""

import io
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import tuneflow as tn
from tuneflow.heuristics import spectrum

HERE = Path(__file__).parent
WIDE = 7  # inches, from which on fewer pixels do
TRAIN, VALID, _ = tn.data.digits()
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def net(width=32, dropout=0.0, act=nn.ReLU):
    """Return a network of one hidden layer for pictures of 8 x 8 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), act(), nn.Dropout(dropout), nn.Linear(width, 10))


def study(epochs, metrics=None, **settings):
    """Return a study of the network on the digits."""
    metrics = {"accuracy": tn.metrics.accuracy} | (metrics or {})
    trainer = tn.Trainer(
        TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=epochs, metrics=metrics
    )
    space = tn.SearchSpace(
        model={"width": tn.Int(4, 128, log=True), "dropout": tn.Float(0.0, 0.7), "act": tn.Choice(ACTIVATIONS)},
        optimizer={"lr": tn.Float(1e-4, 3.0, log=True), "momentum": tn.Float(0.0, 0.99)},
        trainer={"batch_size": tn.Choice([16, 32, 64, 128])},
    )
    settings = {"maximize": "accuracy", "seed": 0, "progress": False} | settings
    return tn.Study(model=tn.Model(net), trainer=trainer, space=space, **settings)


def draw(name, axes):
    """Write a plot as a PNG of few colors."""
    picture = io.BytesIO()
    axes.figure.savefig(picture, format="png", dpi=120 if axes.figure.get_figwidth() < WIDE else 80)
    Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)


def main():
    """Run the studies and draw them."""
    halving = study(9, searcher=tn.LeCun(then=tn.Random()), scheduler=tn.Halving())
    halving.run(trials=32)
    for name in ("history", "curves", "parallel", "slice", "importance"):
        draw(name, getattr(tn.plot, name)(halving))
    draw("contour", tn.plot.contour(halving, "lr", "momentum"))

    two = study(9, {"parameters": tn.measure.Parameters()}, minimize="parameters", searcher=tn.GP())
    two.run(trials=32)
    draw("front", tn.plot.front(two, x="parameters", y="accuracy"))

    searchers = tn.Random(), tn.TPE(), tn.GP()
    others = [study(3, searcher=searcher) for searcher in searchers]
    for other in others:
        other.run(trials=32)
    draw("ecdf", tn.plot.ecdf(*others))

    workers = study(9, scheduler=tn.Halving(), runtime=tn.Runtime(workers=2))
    workers.run(trials=16)
    draw("timeline", tn.plot.timeline(workers))

    draw("range_test", tn.plot.range_test(halving.history.probe(halving.best.config)))
    module, batch = net(), (TRAIN.inputs[:256], TRAIN.targets[:256])
    bent = spectrum(
        lambda rows: nn.functional.cross_entropy(module(rows[0]), rows[1]), list(module.parameters()), [batch]
    )
    draw("spectrum", tn.plot.spectrum(bent))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
