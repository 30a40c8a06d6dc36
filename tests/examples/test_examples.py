"""The examples run as they are, with small budgets, and say the truth about what they trained."""

import re
import runpy
import sqlite3
import xml.etree.ElementTree as xml
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import tuneflow as tn
from tests.helpers.forked import output_of

EXAMPLES = Path(__file__).parents[2] / "examples"
ARTICLE = EXAMPLES / "01_article_cnn.py"
TINY = ["--images", "96", "--epochs", "1", "--trials", "2"]
INSTALLED = Path(tn.data.FASHION_FOLDER).is_dir()


def run(where, *flags):
    """The article's example in `where`; its standard output."""
    return run_example(ARTICLE, where, *TINY, *flags)


def run_example(script, where, *flags):
    """A script as a process of its own in `where`; its standard output."""
    return output_of(script, *flags, cwd=where, HOME=str(where))


def assert_complete(text):
    """The output has the budget, the tutorial's lines before and after tuning, and the comparison."""
    assert "Budget: 96 images to train on, 48 to choose by, 96 to test on; epochs: 1" in text
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


def drawn(path, shape="polyline"):
    """The points of every line in an SVG file, which has to be well-formed and to stay within its frame."""
    root = xml.parse(path).getroot()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    found = root.iter(f"{{http://www.w3.org/2000/svg}}{shape}")
    lines = [[tuple(map(float, point.split(","))) for point in part.attrib["points"].split()] for part in found]
    assert all(0 <= x <= width and 0 <= y <= height for line in lines for x, y in line)
    return lines


def test_searchers_are_compared_at_equal_cost_and_the_best_never_gets_worse(tmp_path):
    flags = ["--seeds", "2", "--trials", "8", "--epochs", "2", "--rows", "128"]
    text = run_example(EXAMPLES / "02_searchers.py", tmp_path, *flags)
    names = ["grid", "random", "sobol", "lecun"]
    cell = r"(?:\S+ \[\S+, \S+\]|no trial yet) +"
    assert re.findall(rf"^(\w+) +{cell}{cell}\d\.\d{{3}} \+- \d\.\d{{3}}$", text, re.M) == names

    kept = tmp_path / "runs" / "searchers"
    *others, lecun = (len(tn.open(kept / f"{name}-0").trials) for name in names)
    assert others == [8, 8, 8]
    assert 0 < lecun < 8  # it measured with the rest
    lines = drawn(kept / "searchers.svg")
    *others, measured = (len(line) for line in lines)
    assert others == [8, 8, 8]
    assert 0 < measured <= lecun  # from where each seed has a trial
    assert all(before[1] <= after[1] for line in lines for before, after in pairwise(line))  # y grows downwards


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_learning_rates_stand_beside_the_truth(tmp_path, optimizer):
    flags = ["--optimizer", optimizer, "--epochs", "2", "--seeds", "1", "--points", "4"]
    text = run_example(EXAMPLES / "03_learning_rate.py", tmp_path, *flags)
    rows = re.findall(r"^(\w[\w :]+?)  +([\d.e-]+) +([\d.]+) +([\d.]+) +(\d+)$", text, re.M)
    ways = ["rule", "rule and race", "range: valley", "range: minimum", "range: steepest", "best of the grid"]
    assert [row[0] for row in rows] == ways
    losses, times = ([float(row[column]) for row in rows] for column in (2, 3))
    assert times == pytest.approx([loss / losses[-1] for loss in losses], abs=0.01)
    assert losses[1] < 1 < 2.303
    assert int(rows[-1][4]) == 4 * 2 * 34
    root = xml.parse(tmp_path / "runs" / "learning_rate" / "learning_rate.svg").getroot()
    (truth,) = (part.get("d") for part in root.iter() if part.get("class") == "lines best")
    assert truth.count("L") == 3  # four points


def test_initializations_are_compared_with_and_without_the_pass(tmp_path):
    text = run_example(EXAMPLES / "04_initialization.py", tmp_path, "--epochs", "2", "--seeds", "1", "--rows", "384")
    rows = re.findall(r"^(6 sigmoid|10 ReLU) layers +(no|yes) +(\w+) +([\d.]+) +[\d.e-]+ +([\d.]+)$", text, re.M)
    assert len(rows) == 2 * 2 * 5
    guess = 2.303
    for _, driven, _, initial, _ in rows:
        assert driven == "no" or float(initial) == pytest.approx(guess, abs=0.05)
    final = {(net, driven, scheme): float(loss) for net, driven, scheme, _, loss in rows}
    assert final["10 ReLU", "no", "default"] > guess - 0.05
    assert final["10 ReLU", "yes", "default"] < guess - 0.1
    lines = drawn(tmp_path / "runs" / "initialization" / "initialization.svg")
    assert [len(line) for line in lines] == [3] * 20


def test_a_study_that_was_stopped_and_killed_ends_with_the_same_digits(tmp_path):
    flags = ["--trials", "4", "--epochs", "3", "--rows", "256", "--folder", "kept"]
    text = run_example(EXAMPLES / "05_stop_and_resume.py", tmp_path, *flags)
    assert re.search(r"^  Ctrl-C: the process ended with 130; \d+ epochs are kept; trial \d PAUSED$", text, re.M)
    left = r"(trial \d RUNNING|none unfinished)"  # a kill may come between two trials
    assert re.search(rf"^  SIGKILL: the process ended with -9; \d+ epochs are kept; {left}$", text, re.M)
    rows = re.findall(r"^(\d) +[\d.]+ +(\S+) +(\S+) +yes$", text, re.M)
    assert [number for number, _, _ in rows] == list("0123")
    assert all(alone == resumed for _, alone, resumed in rows)
    assert "weights of the best model: the same" in text

    alone, resumed = (tn.open(tmp_path / "kept" / name) for name in ("alone", "interrupted"))
    assert [trial.metrics for trial in alone.trials] == [trial.metrics for trial in resumed.trials]


def test_your_own_searchers_are_checked_and_compared(tmp_path):
    flags = ["--seeds", "2", "--trials", "6", "--epochs", "1", "--rows", "256"]
    text = run_example(EXAMPLES / "06_custom_searcher.py", tmp_path, *flags)
    assert text.count(" passes check_searcher") == 3
    assert "Turns(searchers=(Climb(start=4, width=0.1), TPE(start=4, candidates=24)))" in text
    rows = re.findall(r"^(\w+) +(\S+) \[\S+, \S+\] +(\S+) \[\S+, \S+\] +\d\.\d{3}$", text, re.M)
    assert [name for name, _, _ in rows] == ["random", "climb", "turns"]
    assert all(float(last) <= float(half) for _, half, last in rows)


def test_a_softmax_too_many_is_refused_and_its_cost_measured(tmp_path):
    text = run_example(EXAMPLES / "07_softmax.py", tmp_path, "--seeds", "1", "--epochs", "2", "--rows", "480")
    assert re.findall(r"^(\w+), .*: (fits|refused)$", text, re.M) == [
        ("logits", "fits"), ("softmax", "fits"), ("softmax", "refused"),
    ]  # fmt: skip
    assert "Leave the softmax out, or keep it and take nn.NLLLoss" in " ".join(text.split())
    logits, right, wrong = (float(best) for best in re.findall(r"^\w+, .* (\d\.\d{3})$", text, re.M))
    assert abs(logits - right) < 0.1 < right - wrong


def test_a_trained_network_is_made_smaller_and_used_elsewhere(tmp_path):
    flags = ["--size", "8", "--rows", "64", "--epochs", "1", "--more", "1", "--trials", "1", "--seconds", "0.02"]
    text = run_example(EXAMPLES / "08_smaller_and_faster.py", tmp_path, *flags)
    assert "of the parameters and" in text  # the profile's sentence
    assert re.search(r"^trial \d, saved and exported: the same outputs$", text, re.M)
    assert {path.stem for path in (tmp_path / "runs" / "smaller").iterdir()} == {"small"}


def test_a_network_is_hardened_and_three_goals_are_weighed(tmp_path):
    flags = ["--rows", "64", "--epochs", "1", "--more", "1", "--trials", "1", "--tested", "6", "--seconds", "0.02"]
    text = run_example(EXAMPLES / "09_harder_to_attack.py", tmp_path, *flags)
    clean, worst = (re.findall(rf"^{word} +(\d\.\d+) ", text, re.M) for word in ("clean", "worst"))
    assert len(clean) == len(worst) == 2
    assert all(float(attacked) <= float(right) for attacked, right in zip(worst, clean, strict=True))
    assert re.search(r"^trial +accuracy +robust +latency", text, re.M)


@pytest.mark.xdist_group("matplotlib")
def test_a_study_is_looked_at_and_the_next_one_made_of_it(tmp_path):
    pytest.importorskip("matplotlib")
    flags = ["--rows", "64", "--epochs", "1", "--trials", "4"]
    text = run_example(EXAMPLES / "10_look_and_adjust.py", tmp_path, *flags)
    assert re.search(r"^importance for accuracy, 4 configurations", text, re.M)
    assert re.search(r"^(adjusted: .* no setting\.|.* widen it)", text, re.M)
    assert len(re.findall(r"^accuracy  \d\.\d+ \[", text, re.M)) == 2
    kept = {path.name for path in (tmp_path / "runs" / "adjusted").iterdir()}
    assert kept == {"history.png", "slice.png", "report.html", "compare.html"}
