"""The examples run as they are, with small budgets, and say the truth about what they trained."""

import os
import re
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tuneflow as tn

ARTICLE = Path(__file__).parent.parent / "examples" / "article_cnn.py"
TINY = ["--images", "96", "--epochs", "1", "--trials", "2"]
INSTALLED = Path(tn.data.FASHION_FOLDER).is_dir()


def run(where, *flags):
    """The article's example as a process of its own in `where`; its standard output."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(ARTICLE), *TINY, *flags],
        cwd=where,
        env={**os.environ, "HOME": str(where)},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def assert_complete(text):
    """The output has the budget, the tutorial's lines before and after tuning, and the comparison."""
    assert "Budget: 96 images to train on, 48 to choose by, 96 to test on; 1 epochs" in text
    assert len(re.findall(r"^\[epoch 1\] loss: \d+\.\d{3}$", text, re.M)) == 1
    assert len(re.findall(r"^Accuracy of the network on the 96 test images: \d+ %$", text, re.M)) == 2
    assert len(re.findall(r"^Accuracy for class .* is \d+ %$", text, re.M)) == 20
    assert re.search(r"^  fixed  \d+\.\d % \[\d+\.\d, \d+\.\d\]$", text, re.M)
    assert re.search(r"^  tuned  \d+\.\d % \[\d+\.\d, \d+\.\d\]  \(the best of 2 by validation accuracy\)$", text, re.M)


def tuned(text):
    return re.search(r"^  tuned  (.*\])", text, re.M)[1]


def trained(folder):
    """How many epochs the study in `folder` has trained."""
    with sqlite3.connect(folder / "study.sqlite") as db:
        (count,) = db.execute("SELECT sum(json_array_length(reports)) FROM trial").fetchone()
    db.close()
    return count


@pytest.mark.skipif(not INSTALLED, reason=f"Fashion-MNIST is not in {tn.data.FASHION_FOLDER}")
def test_article_runs_on_fashion_mnist_and_leaves_no_file(tmp_path):
    text = run(tmp_path)
    assert "Images: Fashion-MNIST" in text
    assert "class ankle boot" in text
    assert_complete(text)
    assert list(tmp_path.iterdir()) == []


def test_article_falls_back_on_the_digits_and_keeps_its_study(tmp_path):
    flags = ["--data", "nowhere", "--folder", "kept"]
    text = run(tmp_path, *flags)
    assert "nowhere does not hold" in text
    assert "Images: handwritten digits" in text
    assert_complete(text)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    before = trained(tmp_path / "kept")
    assert tuned(run(tmp_path, *flags)) == tuned(text)
    assert trained(tmp_path / "kept") == before > 0

    example = runpy.run_path(str(ARTICLE))
    _, _, test = tn.data.digits()
    net = tn.load(tmp_path / "kept" / "best.pt", example["convnet"])
    hits = example["right"](net, example["resized"](test[:96]), tn.Runtime("cpu"))
    assert example["interval"](hits) == tuned(text)


def test_article_network_is_the_one_described():
    net = runpy.run_path(str(ARTICLE))["convnet"]()
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.padding) for m in convolutions] == [
        (3, 64, (3, 3), (1, 1)),
        (64, 64, (3, 3), (1, 1)),
        (64, 128, (3, 3), (1, 1)),
    ]
    linears = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(128 * 4 * 4, 512), (512, 10)]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_article_help_states_every_flag(tmp_path):
    text = run(tmp_path, "--help")
    assert all(flag in text for flag in ("--images", "--epochs", "--trials", "--full", "--folder", "--data"))
