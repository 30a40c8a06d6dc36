"""Draw pictures of a report: python docs/pictures/report.py, five minutes on idle cores, then seconds when run again.

A study of a convolutional network on 12,000 images of Fashion-MNIST, which Debian's package dataset-fashion-mnist
installs. It is seeded and kept in a folder. The pictures are the top of its report, and its parameters, in chromium.
"""

import io
import os
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from torch import nn

import tuneflow as tn

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZE = {"width": 1080, "height": 1200}
ROWS = 10_000, 2_000, 5_000  # to train on, to choose by, to test on


def convnet(width=16, dropout=0.0):
    """Return a network of two convolutions and one hidden layer for images of 28 x 28 pixels."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(98 * width, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10)),
    )


def report(folder="runs/fashion-mnist"):
    """Run the study, or what is left of it, test its best network, and write its report."""
    train, valid, test = (part[:rows] for part, rows in zip(tn.data.fashion_mnist(), ROWS, strict=True))
    study = tn.Study(
        model=tn.Model(convnet),
        trainer=tn.Trainer(
            train,
            valid,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=9,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(
            model={"width": tn.Int(4, 16, log=True), "dropout": tn.Float(0.0, 0.6)},
            optimizer={"lr": tn.Float(1e-4, 1.0, log=True), "momentum": tn.Float(0.0, 0.99)},
            trainer={"batch_size": tn.Choice([16, 32, 64, 128], ordered=True)},
        ),
        scheduler=tn.Halving(),
        maximize="accuracy",
        runtime=tn.Runtime(threads=1),
        folder=folder,
    )
    study.run(trials=30)
    if not study.record().tested:
        print(study.test(test))
    return study.report(Path(folder) / "report.html")


def pictures(page):
    """Yield names and pictures, as PNG: the page down to its charts, and the charts of its parameters."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        sheet = browser.new_page(viewport=SIZE, color_scheme="light")
        sheet.goto(page.resolve().as_uri())
        charts, after = (sheet.locator(f"#{name}").bounding_box() for name in ("parameters", "timeline"))
        yield "report", screenshot(sheet, 0, charts["y"])
        yield "report_parameters", screenshot(sheet, charts["y"], after["y"])
        browser.close()


def screenshot(sheet, top, bottom):
    """Return the page between two heights in pixels."""
    return sheet.screenshot(full_page=True, clip={"x": 0, "y": top, "width": SIZE["width"], "height": bottom - top})


def main():
    """Write the pictures, of few colors."""
    for name, drawn in pictures(report()):
        picture = Image.open(io.BytesIO(drawn)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        picture.save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
