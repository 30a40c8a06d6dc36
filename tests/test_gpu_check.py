"""The script that checks a GPU runs as far as a CPU goes; and on the GPU, where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu import check

SCRIPT = Path(check.__file__)
HERE = [
    "exact",
    "several",
    "lanes",
    "precision",
    "measures",
    "probe",
]  # the others start processes


def test_a_cpu_passes_in_the_reduced_form_and_is_left_as_it_was(capsys):
    assert check.main(["--device", "cpu", "--only", *HERE]) == 0
    *rows, end = capsys.readouterr().out.splitlines()[1:]
    assert end.startswith("0 checks failed")
    assert {row[:66].split()[-1] for row in rows} == {"passed", "-"}
    assert len(rows) == 17
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_check_that_fails_and_one_that_raises_give_status_1(capsys, monkeypatch):
    def failing(self):
        yield "one", False, "figure"
        raise ArithmeticError("made up")

    monkeypatch.setattr(check.Checks, "exact", failing)
    assert check.main(["--device", "cpu", "--only", "exact"]) == 1
    _, one, raised, end = capsys.readouterr().out.splitlines()
    assert one.split() == ["one", "FAILED", "figure"]
    assert raised.endswith("FAILED  ArithmeticError: made up")
    assert end.startswith("2 checks failed")


def test_without_a_gpu_the_script_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 2
    assert "no such device here; --device cpu runs a reduced form" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_gpu_passes():
    ran = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
