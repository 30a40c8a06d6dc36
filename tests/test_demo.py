"""`python -m tuneflow demo`: an honest table, a winner that loads, a second run that trains nothing."""

import os
import re
import sqlite3
import subprocess
import sys

import pytest

import tuneflow as tn
from tuneflow.__main__ import main
from tuneflow.demo import SPACE, convnet, demo, grid_of

TINY = ["demo", "--folder", "out", "--trials", "4", "--epochs", "2"]
METHODS = ["fixed", "grid", "random", "sobol", "lecun"]


def run(where):
    """The tiny demo as a process of its own, with every place where a program may leave files inside `where`."""
    places = {name: str(where) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tuneflow", *TINY],
        cwd=where,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=True,
    )


def table(text):
    """The printed rows: method to its cells."""
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines() if line.split("  ")[0] in METHODS]
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
    return where, run(where).stdout


def test_the_table_has_a_row_for_each_method_at_equal_budget(ran):
    where, text = ran
    rows = table(text)
    assert list(rows) == METHODS
    assert [int(row[3]) for row in rows.values()] == [1, 4, 4, 4, 3]  # lecun measures before its first trial
    for method, (validation, test, first, _, epochs, seconds) in rows.items():
        assert re.fullmatch(r"[01]\.\d{4} \+- 0\.\d{4}", validation)
        assert re.fullmatch(r"[01]\.\d{4} \[[01]\.\d{4}, [01]\.\d{4}\]", test)
        assert 0 <= float(first) <= float(validation.split()[0])
        assert int(epochs) == len(reports(where / "out", method))
        assert float(seconds) > 0


def test_the_table_says_how_far_it_can_be_trusted(ran):
    _, text = ran
    assert "optimistic" in text
    assert "360 images that no trial has seen, with its 95 % interval" in text


def test_the_table_tells_what_lecun_measured_and_counts_its_time(ran):
    where, text = ran
    with sqlite3.connect(where / "out" / "lecun" / "study.sqlite") as db:
        spent = db.execute("SELECT sum(seconds) FROM trial").fetchone()
    db.close()
    gradients, steps = map(int, re.search(r"first: (\d+) gradients,\s+where a trial takes (\d+)\.", text).groups())
    assert steps == 2 * 34
    assert gradients > steps
    assert float(table(text)["lecun"][5]) > spent[0]


def test_the_saved_model_is_the_winner_and_has_the_printed_test_accuracy(ran):
    where, text = ran
    rows = table(text)
    winner = re.search(r"Best by validation accuracy .*: (\w+), trial \d+:", text)[1]
    assert rows[winner][0].split()[0] == max(row[0].split()[0] for row in rows.values())

    _, _, test = tn.data.digits()
    model = tn.load(where / "out" / "best.pt", convnet)
    assert (
        str(tn.metrics.estimate(tn.metrics.measure(tn.metrics.accuracy(model(test.inputs), test.targets))))
        == (rows[winner][1])
    )


def test_the_printed_way_to_load_the_model_runs_as_written(ran):
    where, text = ran
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join(lines[lines.index("import tuneflow as tn") :])
    subprocess.run([sys.executable, "-c", code], cwd=where, check=True)


def test_no_file_appears_outside_of_the_folder(ran):
    where, _ = ran
    written = [path for path in where.rglob("*") if path.is_file()]  # torch itself makes an empty folder in TMPDIR
    assert [path for path in written if where / "out" not in path.parents] == []
    assert {path.name for path in (where / "out").iterdir()} == {*METHODS, "best.pt"}


def test_a_second_run_trains_nothing_and_prints_the_same_table(ran, monkeypatch, capsys):
    where, text = ran
    before = [reports(where / "out", method) for method in METHODS]
    monkeypatch.chdir(where)
    monkeypatch.setattr(tn.Trainer, "advance", None)
    assert main(TINY) == 0
    assert capsys.readouterr().out == text
    assert [reports(where / "out", method) for method in METHODS] == before


def test_a_folder_of_another_demo_is_refused_in_one_line(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran[0])
    assert main(["demo", "--folder", "out", "--trials", "4", "--epochs", "3"]) == 1
    error = capsys.readouterr().err
    assert "trainer.epochs was 2, now 3" in error
    assert "Traceback" not in error


def test_another_seed_gives_another_search(ran, tmp_path):
    demo(tmp_path, trials=4, epochs=1, seed=1)
    with sqlite3.connect(tmp_path / "random" / "study.sqlite") as mine:
        ours = mine.execute("SELECT config FROM trial").fetchall()
    with sqlite3.connect(ran[0] / "out" / "random" / "study.sqlite") as other:
        theirs = other.execute("SELECT config FROM trial").fetchall()
    mine.close()
    other.close()
    assert len(ours) == len(theirs) == 4
    assert not set(ours) & set(theirs)


@pytest.mark.parametrize("trials", [4, 8, 12, 16])
def test_the_grid_has_exactly_as_many_points_as_the_others_have_trials(trials):
    assert len(SPACE.grid(grid_of(trials).points)) == trials


@pytest.mark.parametrize("trials", [0, 3, 6])
def test_a_budget_that_no_grid_can_have_is_refused(trials, capsys):
    with pytest.raises(ValueError, match=f"multiple of 4, got {trials}"):
        grid_of(trials)
    with pytest.raises(SystemExit):
        main(["demo", "--trials", str(trials)])
    assert f"got {trials}" in capsys.readouterr().err


def test_importing_the_command_line_runs_nothing_and_loads_no_demo():
    code = "import sys, tuneflow.__main__; print('tuneflow.demo' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == ("False", "")


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
