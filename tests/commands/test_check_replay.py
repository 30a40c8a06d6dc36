"""The option --replay of the verb check: the script is run up to its study, and nothing is written."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import tuneflow as tn
from tests.helpers.forged import forge_report, forge_state, scaled
from tests.helpers.replayed_kinds import final_models
from tuneflow.__main__ import main
from tuneflow.errors import StudyError

SCRIPT = """
import tuneflow as tn

print("before")


def parabola(x):
    return (x - 1) ** 2


if __name__ == "__main__":
    best = tn.minimize(parabola, tn.SearchSpace(x=tn.Float(-5, 5)), trials=20, folder="study")
    raise ValueError("the script went on")
"""


def parabola(x):
    return (x - 1) ** 2


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check_replay")
    tn.minimize(parabola, tn.SearchSpace(x=tn.Float(-5, 5)), trials=20, folder=folder / "study")
    return folder


@pytest.fixture
def place(honest, tmp_path, monkeypatch):
    place = shutil.copytree(honest, tmp_path / "place")
    (place / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(place)
    return place


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if not path.name.endswith(("-shm", "-wal"))}  # of a reader, too


def test_replay_by_the_script_changes_nothing(place, capsys):
    before, path, arguments = contents(place), list(sys.path), list(sys.argv)
    assert main(["check", "study", "--replay", "100", "--script", "train.py", "--seed", "1"]) == 0
    assert capsys.readouterr() == ("study: replayed 20 of 20 slices (seed 1): 20 equal\n", "before\n")
    assert (contents(place), sys.path, sys.argv) == (before, path, arguments)


THREAD = SCRIPT.replace("best = tn.minimize(", "run = lambda: tn.minimize(").replace(
    "    raise", "    import threading\n    t = threading.Thread(target=run)\n    t.start()\n    t.join()\n    pass #"
)
ELSEWHERE = SCRIPT.replace('"study"', '"../study"').replace("    best", '    import os\n    os.chdir("sub")\n    best')


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a thread that is left is none
@pytest.mark.parametrize("script", [THREAD, ELSEWHERE], ids=["in a thread", "in another folder"])
def test_script_may_make_its_study(script, place, monkeypatch, capsys):
    (place / "sub").mkdir()
    (place / "train.py").write_text(script)
    before = contents(place)
    with monkeypatch.context() as patch:
        patch.chdir(place)  # and back
        assert main(["check", "study", "--replay", "10", "--script", "train.py"]) == 0
    assert "2 equal" in capsys.readouterr().out
    assert contents(place) == before


def test_child_of_a_script_makes_no_study(place, monkeypatch):
    monkeypatch.setenv("TUNEFLOW_REPLAYING_PROCESS", "1")
    with pytest.raises(StudyError, match="in the script's own process"):
        tn.minimize(parabola, tn.SearchSpace(x=tn.Float(-5, 5)), trials=30, folder=place / "study")


def test_forged_value_ends_with_1_and_is_named(place, capsys):
    forge_report(place / "study", 7, 1, "value", 0.001)
    assert main(["check", "study", "--replay", "100%", "--script", "train.py", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["slices"], facts["replayed"], facts["ok"]) == (20, 20, False)
    (finding,) = [one for one in facts["findings"] if one["verdict"] == "differs"]
    assert finding["slice"] == "trial 7, epoch 1"
    assert finding["reason"].startswith("value at epoch 1 is stored as ")


SCRIPTS = {
    "makes no study": ("x = 1", "makes no study in study"),
    "of another folder": (SCRIPT.replace('"study"', '"other"').replace("raise", "pass #"), "makes no study in study"),
    "raises": ("raise OSError('no data')", "ended before it made the study: OSError: no data"),
    "leaves": ("raise SystemExit(2)", "ended before it made the study: SystemExit: 2"),
    "other settings": (SCRIPT.replace("-5, 5", "-5, 4"), "made with other settings"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_without_the_study_is_said(name, place, capsys):
    script, words = SCRIPTS[name]
    Path("train.py").write_text(script)
    assert main(["check", "study", "--replay", "100", "--script", "train.py"]) == 1
    assert words in capsys.readouterr().err
    assert not Path("other").exists()


STUDY = """
import tuneflow as tn
from tests.helpers.replayed_kinds import final_models

if __name__ == "__main__":
    final_models("study")
"""


def test_trials_and_final_models_of_a_trainer_are_replayed_by_the_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    final_models("study")
    Path("train.py").write_text(STUDY)
    before = contents(tmp_path)
    assert main(["check", "study", "--replay", "100", "--script", "train.py", "--seed", "1"]) == 0
    assert capsys.readouterr().out == "study: replayed 3 of 3 slices (seed 1): 3 equal\n"
    assert contents(tmp_path) == before
    forge_state(Path("study"), 0, scaled(1.001), "final")
    assert main(["check", "study", "--replay", "100", "--script", "train.py"]) == 1
    assert "final model of trial 0, 3 epochs: differs" in capsys.readouterr().out


def test_replay_needs_a_script(place, capsys):
    assert main(["check", "study", "--replay", "5"]) == 1
    assert "--script train.py" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "101", "-5", "all", "nan"])
def test_percentage_is_above_0_and_up_to_100(text, capsys):
    with pytest.raises(SystemExit):
        main(["check", "study", "--replay", text])
    assert "above 0 and up to 100" in capsys.readouterr().err


def test_folder_without_a_study_is_said(tmp_path, capsys):
    assert main(["check", str(tmp_path), "--replay", "5", "--script", "train.py"]) == 1
    assert "holds no study" in capsys.readouterr().err
