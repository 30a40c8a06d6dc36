"""`python -m tuneflow demo`: an honest table, a winner that loads, a second run that trains nothing."""

import math
import re
import sqlite3

import pytest
import torch

import tuneflow as tn
from tests.helpers.forked import output_of
from tuneflow.__main__ import main
from tuneflow.demo import SPACE, convnet, demo, grid_of, neighbors, standard_error

pytestmark = pytest.mark.slow

TINY = ["demo", "--folder", "out", "--trials", "4", "--epochs", "1"]
METHODS = ["fixed", "grid", "random", "sobol", "lecun"]
SEEDS = [0, 1, 2]
FOLDERS = [f"{method}-{seed}" for method in METHODS for seed in SEEDS]


def run(where):
    """The tiny demo as a process of its own, with every place where a program may leave files inside `where`."""
    return output_of("tuneflow", *TINY, cwd=where, **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(where)))


def table(text):
    """The printed rows: method to its cells."""
    lines = text.splitlines()
    rows = [re.split(r"\s{2,}", line) for line in lines[2 : lines.index("")]]
    return {row[0]: row[1:] for row in rows}


def reports(folder, method):
    with sqlite3.connect(folder / method / "study.sqlite") as db:
        found = db.execute("SELECT number, value FROM trial, json_each(trial.reports) ORDER BY number").fetchall()
    db.close()
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(the place it ran in, its standard output)"""
    where = tmp_path_factory.mktemp("demo")
    return where, run(where)


def test_the_table_has_a_row_for_each_method_at_equal_budget(ran):
    where, text = ran
    rows = table(text)
    assert list(rows) == ["neighbors", *METHODS]
    assert rows.pop("neighbors")[3:] == ["-"] * 4
    assert [int(row[4]) for row in rows.values()] == [3, 12, 12, 12, 9]  # lecun measures before its first trial
    for method, (validation, test, _, first, _, epochs, seconds) in rows.items():
        assert re.fullmatch(r"0\.\d{4}", validation)
        assert re.fullmatch(r"0\.\d{4} \+- 0\.\d{4}", test)
        assert 0 <= float(first) <= float(validation)
        assert int(epochs) == sum(len(reports(where / "out", f"{method}-{seed}")) for seed in SEEDS)
        assert float(seconds) > 0


def test_neighbors_vote_by_the_majority_of_the_nearest_three():
    train = tn.Data(torch.tensor([0.0, 1.0, 2.0, 9.0, 10.0, 11.0]).view(6, 1, 1, 1), torch.tensor([3, 4, 4, 5, 6, 5]))
    data = tn.Data(torch.tensor([0.0, 0.0, 10.0, 10.0]).view(4, 1, 1, 1), torch.tensor([4, 3, 5, 6]))
    assert neighbors(train, data).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_neighbors_name_nearly_all_test_digits(ran):
    train, _, test = tn.data.digits()
    right = neighbors(train, test).mean().item()
    assert right > 0.98
    assert table(ran[1])["neighbors"][1].split()[0] == f"{right:.4f}"


def test_a_difference_within_two_standard_errors_is_a_tie(ran):
    rows = table(ran[1])
    best = max(float(row[1].split()[0]) for row in rows.values())
    assert [row[2] for row in rows.values()].count("best") == 1
    for _, test, against, *_ in rows.values():
        gap = best - float(test.split()[0])
        assert against in ("best", "tie") or float(against) == pytest.approx(-gap, abs=2e-4)
        assert gap == 0 if against == "best" else gap < 0.2 if against == "tie" else gap > 0


def test_paired_errors_are_those_of_images_and_seeds():
    same = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(3, -1)
    assert standard_error(same) == pytest.approx(math.sqrt(1 / 3 / 4))  # no luck of seeds: of four images alone
    assert standard_error(same - same) == 0
    seeds = torch.tensor([[1.0] * 4, [0.0] * 4])
    assert standard_error(seeds) == pytest.approx(math.sqrt(1 / 2 / 2))


def test_the_table_says_how_far_it_can_be_trusted(ran):
    _, text = ran
    assert "Optimistic" in text
    assert "360 images that no trial has seen: mean over the seeds" in text
    assert "within two of its standard errors" in text
    assert "meant for many more steps than these 34" in text


def test_the_table_tells_what_lecun_measured_and_counts_its_time(ran):
    where, text = ran
    spent = 0
    for seed in SEEDS:
        with sqlite3.connect(where / "out" / f"lecun-{seed}" / "study.sqlite") as db:
            spent += db.execute("SELECT sum(seconds) FROM trial").fetchone()[0]
        db.close()
    gradients, steps = map(int, re.search(r"first: (\d+) gradients, where a trial\s+takes (\d+)\.", text).groups())
    assert steps == 34
    assert gradients > steps
    assert float(table(text)["lecun"][6]) > spent


def test_the_saved_model_is_the_winner_and_has_the_printed_test_accuracy(ran):
    where, text = ran
    method, seed = re.search(r"Best network by validation accuracy .*: (\w+), seed (\d), trial \d+:", text).groups()
    studies = {name: tn.open(where / "out" / name) for name in FOLDERS}
    best = {name: max(t.metrics.get("accuracy", 0) for t in study.trials) for name, study in studies.items()}
    assert best[f"{method}-{seed}"] == max(best.values())

    _, _, test = tn.data.digits()
    model = tn.load(where / "out" / "best.pt", convnet)
    measured = tn.metrics.estimate(tn.metrics.measure(tn.metrics.accuracy(model(test.inputs), test.targets)))
    assert f"Test accuracy {measured} (95 % interval)." in text


def test_the_printed_way_to_load_the_model_runs_as_written(ran):
    where, text = ran
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join(lines[lines.index("import tuneflow as tn") :])
    (where / "out" / "load.py").write_text(code)
    output_of(where / "out" / "load.py", cwd=where)
    (where / "out" / "load.py").unlink()


def test_no_file_appears_outside_of_the_folder(ran):
    where, _ = ran
    written = [path for path in where.rglob("*") if path.is_file()]  # torch itself makes an empty folder in TMPDIR
    assert [path for path in written if where / "out" not in path.parents] == []
    assert {path.name for path in (where / "out").iterdir()} == {*FOLDERS, "best.pt", "report.html", "compare.html"}


def test_the_demo_writes_pages_and_says_where(ran):
    where, text = ran
    report, searched, together = re.search(
        r"To look at: (\S+), the search in (\S+); (\S+), all searches", text
    ).groups()
    assert f"<h1>{searched}</h1>" in (where / report).read_text()
    page = (where / together).read_text()
    assert all(name in page for name in METHODS[1:])


def test_a_second_run_trains_nothing_and_prints_the_same_table(ran, monkeypatch, capsys):
    where, text = ran
    before = [reports(where / "out", name) for name in FOLDERS]
    monkeypatch.chdir(where)
    monkeypatch.setattr(tn.Trainer, "advance", None)
    assert main(TINY) == 0
    assert capsys.readouterr().out == text
    assert [reports(where / "out", name) for name in FOLDERS] == before


def test_a_folder_of_another_demo_is_refused_in_one_line(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran[0])
    assert main(["demo", "--folder", "out", "--trials", "4", "--epochs", "3"]) == 1
    error = capsys.readouterr().err
    assert "trainer.epochs was 1, now 3" in error
    assert "Traceback" not in error


def test_another_seed_gives_another_search(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("tuneflow.demo.SEEDS", 2)
    few = [part[:64] for part in tn.data.digits()]  # what is proposed at random does not depend on the images
    monkeypatch.setattr(tn.data, "digits", lambda: few)
    demo(tmp_path, trials=4, epochs=1, seed=3)
    with sqlite3.connect(tmp_path / "random-3" / "study.sqlite") as mine:
        ours = mine.execute("SELECT config FROM trial").fetchall()
    with sqlite3.connect(ran[0] / "out" / "random-0" / "study.sqlite") as other:
        theirs = other.execute("SELECT config FROM trial").fetchall()
    mine.close()
    other.close()
    assert len(ours) == len(theirs) == 4
    assert not set(ours) & set(theirs)


@pytest.mark.parametrize("trials", [4, 8, 12, 16])
def test_the_grid_has_exactly_as_many_points_as_the_others_have_trials(trials):
    assert len(SPACE.grid(grid_of(trials).points)) == trials


@pytest.mark.parametrize("trials", [0, 2, 7])
def test_a_budget_that_no_grid_can_have_is_refused(trials, capsys):
    with pytest.raises(ValueError, match=f"even and at least 4, got {trials}"):
        grid_of(trials)
    with pytest.raises(SystemExit):
        main(["demo", "--trials", str(trials)])
    assert f"got {trials}" in capsys.readouterr().err


def test_importing_the_command_line_runs_nothing_and_loads_no_demo(tmp_path):
    code = """
import sys
for name in [name for name in sys.modules if name.startswith("tuneflow")]:
    del sys.modules[name]
import tuneflow.__main__
print('tuneflow.demo' in sys.modules)
"""
    (tmp_path / "imports.py").write_text(code)
    assert output_of(tmp_path / "imports.py", cwd=tmp_path) == "False\n"


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
