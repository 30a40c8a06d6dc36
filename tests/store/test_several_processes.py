"""Several processes on one folder: every number once, no trial lost, whoever is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.forked import start
from tests.helpers.scripts.shared_study import make
from tuneflow.store.owner import lives, new_owner
from tuneflow.store.sqlite import SqliteStore

SCRIPT = Path(__file__).parents[1] / "helpers" / "scripts" / "shared_study.py"


def ended_with(process, seconds):
    """The exit code of a process that ends within so many seconds."""
    process.join(seconds)
    return process.exitcode


def table(study):
    return [(t.number, t.config, t.status, dict(t.metrics)) for t in study.trials]


def ended(folder):
    try:
        with sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True) as db:
            count = db.execute("SELECT count(*) FROM trial WHERE status = 'DONE'").fetchone()[0]
        db.close()
        return count
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("searcher", ["grid", "random", "sobol"])
def test_two_processes_give_the_table_of_one(tmp_path, searcher):
    alone = make(None, searcher)
    alone.run(trials=400)
    processes = [start(SCRIPT, tmp_path, searcher, 400) for _ in range(2)]
    assert [ended_with(process, 120) for process in processes] == [0, 0]
    together = make(tmp_path, searcher)
    assert table(together) == table(alone)
    if searcher == "grid":
        points = {(t.config["x"], t.config["y"]) for t in together.trials}
        assert len(points) == len(together.trials) == 400


def test_killed_processes_lose_nothing(tmp_path):
    """Two processes, of which one is killed again and again at random moments."""
    alone = make(None, "random")
    alone.run(trials=300)
    rng = np.random.default_rng(5)
    steady = start(SCRIPT, tmp_path, "random", 250)
    for _ in range(4):
        before, killed = ended(tmp_path), start(SCRIPT, tmp_path, "random", 300)
        deadline = time.monotonic() + 30
        while ended(tmp_path) < min(before + 20, 290) and killed.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        killed.kill()
        killed.join()
    assert ended_with(steady, 60) == 0
    study = make(tmp_path, "random")
    assert not any(t.status == "RUNNING" for t in study.trials)
    study.run(trials=300)
    assert table(study) == table(alone)


def test_a_number_that_is_given_back_leaves_no_trace_in_other_processes(tmp_path):
    with make(tmp_path, "random") as one, make(tmp_path, "random") as third:
        trial = third.ask()
        store = SqliteStore(tmp_path / "study.sqlite")
        number = store.claim(10)
        one.run(trials=1)  # has nothing to do but to see what is there
        store.release(number)
        third.tell(trial, 1.0)
        one.run(trials=1)
        assert [t.status for t in one.trials] == ["DONE"]
        store.close()


def test_an_owner_is_alive_as_long_as_its_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    *machine, _, _, count = new_owner().split("/")
    host = "/".join(machine)
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        process.kill()
        process.wait()
        pytest.skip("the system does not tell when a process started")
    started = stat.read_text().rsplit(")", 1)[1].split()[19]
    assert lives(f"{host}/{process.pid}/{started}/{count}") is True
    assert lives(f"{host}/{process.pid}/1/{count}") is False
    process.kill()
    process.wait()
    assert lives(f"{host}/{process.pid}/{started}/{count}") is False


def test_a_trial_whose_process_dies_three_times_without_an_epoch_has_failed(tmp_path):
    study = make(tmp_path, "random")
    trial = study.ask()
    for times in (1, 2, 3):
        with sqlite3.connect(tmp_path / "study.sqlite") as db:
            dead = f"{'/'.join(new_owner().split('/')[:3])}/999999999/1/0"
            db.execute("UPDATE trial SET owner = ?, status = 'RUNNING' WHERE number = 0", (dead,))
        db.close()
        study = make(tmp_path, "random")
        assert study.trials[0].status == ("PAUSED" if times < 3 else "FAILED")
    assert study.trials[0].reason == "its process died 3 times without finishing an epoch"
    assert study.trials[0].config == trial.config


def test_a_study_says_that_it_goes_on(tmp_path, capsys):
    make(tmp_path, "random").run(trials=2)
    again = make(tmp_path, "random")
    again.progress = True
    again.run(trials=3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{tmp_path}: resuming after 2 ended trials"
    assert lines[1].startswith("trial 2 of 3  DONE  value ")
    again.run(trials=3)
    assert capsys.readouterr().err == "3 of 3 trials done; nothing to do\n"


def test_ctrl_c_finishes_the_epoch_and_leaves_a_study_that_goes_on(tmp_path):
    process = start(SCRIPT, tmp_path, "random", 100_000)
    deadline = time.monotonic() + 60
    while ended(tmp_path) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert ended_with(process, 30) not in (0, None)
    study = make(tmp_path, "random")
    assert {t.status for t in study.trials} <= {"DONE", "PAUSED"}
    total = len(study.trials) + 2
    study.run(trials=total)
    assert {t.status for t in study.trials} == {"DONE"}


def test_ask_and_tell():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), maximize="accuracy", progress=False)
    study.enqueue({"x": 0.25})
    first, second = study.ask(), study.ask()
    assert first.config == {"x": 0.25}
    assert study.tell(second, {"accuracy": 0.5}, done=False).status == "RUNNING"
    assert study.tell(second, {"accuracy": 0.7}).status == "DONE"
    assert study.tell(first, None, reason="no luck").status == "FAILED"
    assert study.tell(study.ask(), float("nan")).status == "DIVERGED"
    assert study.best.number == 1
    assert study.best.metrics == {"accuracy": 0.7}
    with pytest.raises(tn.errors.StudyError, match="trial 1 is DONE"):
        study.tell(second, 0.9)
    with pytest.raises(tn.errors.StudyError, match="trial 9 does not exist"):
        study.tell(9, 0.9)
    with pytest.raises(TypeError, match="\"accuracy\" needs to be one number, got 'high'"):
        study.tell(study.ask(), {"accuracy": "high"})
    with pytest.raises(ValueError, match='"x" needs a number from 0'):
        study.enqueue({"x": 7})
    with pytest.raises(tn.errors.StudyError, match="no trainer"):
        study.run(trials=1)


def test_several_objectives_have_a_front_and_no_best():
    def two(x):
        return {"a": x, "b": (1 - x) ** 2}

    from tuneflow.train.function_trainer import Function

    space = tn.SearchSpace(x=tn.Float(0, 2))
    study = tn.Study(space=space, trainer=Function(two), searcher=tn.Grid(9), minimize=["a", "b"], progress=False)
    study.run()
    assert [t.config["x"] for t in study.front] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert study.history.costs.shape == (9, 2)
    with pytest.raises(tn.errors.StudyError, match="no single best trial for a and b; see front"):
        study.best  # noqa: B018


def test_callbacks_see_every_report_and_every_end():
    seen = []
    study = tn.Study(
        space=tn.SearchSpace(x=tn.Float(0, 1)),
        minimize="value",
        callbacks=[lambda study, trial: seen.append((trial.number, trial.status))],
        progress=False,
    )
    trial = study.ask()
    study.tell(trial, 1.0, done=False)
    study.tell(trial, 0.5)
    assert seen == [(0, "RUNNING"), (0, "RUNNING"), (0, "DONE")]


def test_an_archive_reads_a_study_without_its_code(tmp_path, capsys):
    from tuneflow.__main__ import main

    make(tmp_path, "grid").run(trials=7)
    archive = tn.open(tmp_path)
    assert len(archive.trials) == 7
    assert archive.best.number == min(archive.trials, key=lambda t: t.metrics["value"]).number
    assert main(["show", str(tmp_path), "--trials", "3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("7 DONE, the best 3 shown")
    assert len(shown) == 5
    assert main(["export", str(tmp_path), "--jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert main(["show", str(tmp_path / "nothing")]) == 1
    assert "holds no study" in capsys.readouterr().err
