"""`python -m tuneflow demo --techniques`: one winner, a row for each technique, a second run that trains nothing."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import tuneflow as tn
from tuneflow.__main__ import main
from tuneflow.demo_techniques import TECHNIQUES, demo_techniques

pytestmark = pytest.mark.slow


def printed(folder):
    """The output of a tiny demo in a folder."""
    text, few = io.StringIO(), [part[:160] for part in tn.data.digits()]
    with contextlib.redirect_stdout(text), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tn.data, "digits", lambda: few)
        demo_techniques(folder, epochs=1, more=1, seconds=0.02)
    return text.getvalue()


def figures(text):
    """Technique to its cells."""
    lines = text.splitlines()
    return {row[0]: row[1:] for row in (re.split(r"\s{2,}", line) for line in lines[2 : lines.index("")])}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(the folder, the output)"""
    folder = tmp_path_factory.mktemp("techniques")
    return folder, printed(folder)


def test_the_table_has_a_row_of_figures_for_each_technique(ran):
    rows = figures(ran[1])
    assert list(rows) == list(TECHNIQUES)
    for accuracy, robust, parameters, macs, milliseconds, times in rows.values():
        assert re.fullmatch(r"0\.\d{4} \[0\.\d{4}, [01]\.\d{4}\]", accuracy)
        assert 0 <= float(robust) <= 1
        assert all(int(count.replace(",", "")) > 0 for count in (parameters, macs))
        assert re.fullmatch(r"\d+\.\d\d \+- \d+\.\d\d", milliseconds)
        assert float(times) > 0


def test_the_figures_are_those_of_the_techniques(ran):
    sizes = {name: [int(cell.replace(",", "")) for cell in row[2:4]] for name, row in figures(ran[1]).items()}
    for name in ("channels_last", "bf16"):
        assert sizes[name] == sizes["none"]
    assert 0.15 < sizes["narrowed"][1] / sizes["none"][1] <= 0.25
    assert sizes["narrowed, int8"][1] == sizes["narrowed"][1]  # without the zeros of int8
    assert sizes["low rank"][0] <= sizes["none"][0] / 2


def test_a_second_run_trains_and_measures_nothing_and_prints_the_same(ran, monkeypatch):
    def fail(*arguments, **named):
        raise AssertionError("trained or measured again")

    monkeypatch.setattr(tn.Trainer, "advance", fail)
    monkeypatch.setattr(tn.measure.Latency, "of_module", fail)
    assert printed(ran[0]) == ran[1]


def test_the_notes_claim_nothing_beyond_the_table(ran):
    assert "One network, one seed, one machine." in ran[1]
    assert "trained from scratch" in ran[1]


def test_the_flag_of_the_command_line_chooses_this_demo(monkeypatch):
    called = []
    monkeypatch.setattr("tuneflow.demo_techniques.demo_techniques", lambda folder, seed: called.append((folder, seed)))
    assert main(["demo", "--techniques", "--folder", "out"]) == 0
    assert called == [(Path("out"), 0)]
