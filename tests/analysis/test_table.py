"""Tables of trials and epochs: their columns, what they print, and their way to pandas, polars and CSV."""

import csv
import io
import json
import math
import os

import pytest

import tuneflow as tn
from tuneflow.analysis.table import Table

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def study():
    """Trials of a conditional space with an order, forks and failures, and with names that clash."""
    space = tn.SearchSpace(
        optimizer=tn.Choice({"sgd": tn.call(dict, lr=tn.Float(0, 1)), "none": dict}),
        order=tn.Permutation(["crop", "flip"]),
        width=tn.Choice([8, 16]),
        mixed=tn.Choice([1, "auto", None, [1, 2]]),
        epochs=tn.Int(1, 3),
        loss=tn.Float(0, 1),
    )
    study = tn.Study(space=space, minimize="loss", searcher=tn.Sobol(), progress=False)
    for number in range(8):
        trial = study.ask()
        study.tell(trial, {"extra": [1.0, INF][number == 1], "loss": number / 3}, errors={"loss": 0.1}, done=False)
        study.tell(trial, {"loss": [0.5, NAN][number == 3], "extra": 2.0}, errors={"extra": 0.2})
    study.tell(study.ask(), None, reason="=1+1\n, \x1b[2J")
    study.ask()
    return study


@pytest.fixture(scope="module")
def table(study):
    return study.table()


def test_a_table_has_a_row_for_each_trial_and_its_columns_in_order(table, study):
    names = ["trial", "status", "metrics.loss", "optimizer", "optimizer.sgd.lr", "order", "width", "mixed",
             "config.epochs", "config.loss", "extra", "loss_error", "extra_error", "epochs", "seconds", "parent",
             "parent_epoch", "repeats", "reason"]  # fmt: skip
    assert list(table) == names
    assert table["trial"] == list(range(10))
    assert table["status"] == ["DONE"] * 3 + ["DIVERGED"] + ["DONE"] * 4 + ["FAILED", "RUNNING"]
    assert table["metrics.loss"][0] == 0.0
    assert table["epochs"] == [trial.epochs for trial in study.trials]
    assert table["reason"][0] is None
    assert table["reason"][8] == "=1+1\n, \x1b[2J"


def test_settings_stand_under_their_dotted_names_and_are_none_where_not_active(table, study):
    for place, trial in enumerate(study.trials):
        chosen = trial.config["optimizer"]
        label, settings = next(iter(chosen.items())) if isinstance(chosen, dict) else (chosen, {})
        assert (table["optimizer"][place], table["optimizer.sgd.lr"][place]) == (label, settings.get("lr"))
        assert json.loads(table["order"][place]) == trial.config["order"]
        assert table["config.epochs"][place] == trial.config["epochs"]


def test_a_row_has_the_metrics_of_the_epoch_that_counts_with_their_errors(table, study):
    for place, trial in enumerate(study.trials):
        assert [table["metrics.loss"][place], table["extra"][place]] == [
            trial.metrics.get(n) for n in ("loss", "extra")
        ]
        assert table["loss_error"][place] == trial.errors.get("loss")


def test_curves_have_a_row_for_each_epoch(study):
    curves = study.curves()
    assert list(curves) == ["trial", "epoch", "loss", "extra", "loss_error", "extra_error", "seconds"]
    assert list(zip(curves["trial"], curves["epoch"], strict=True)) == [(n, e) for n in range(8) for e in (1, 2)]
    assert curves["loss"][:4] == [0.0, 0.5, 1 / 3, 0.5]
    assert curves["extra_error"][:2] == [None, 0.2]


def test_names_that_clash_are_told_apart_whatever_they_are():
    space = tn.SearchSpace(a=tn.Float(0, 1), a_error=tn.Float(0, 1), metrics={"a": tn.Float(0, 1)}, trial=tn.Int(1, 9))
    study = tn.Study(space=space, minimize="a", progress=False)
    study.tell(study.ask(), (0.5, 0.1))
    columns = list(study.table())
    assert columns[2:8] == ["metrics.metrics.a", "config.a", "config.a_error", "metrics.a", "config.trial", "errors.a"]


def test_forks_name_the_state_that_they_went_on_from():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", epochs=6, progress=False,
                     scheduler=tn.Population(4, every=2))  # fmt: skip
    while any(trial.parent for trial in study.trials) is False and (trial := study.ask()) is not None:
        while trial.status == "RUNNING":
            trial = study.tell(trial, {"loss": float(trial.number)}, done=False)
    table, fork = study.table(), next(trial for trial in study.trials if trial.parent)
    assert (table["parent"][fork.number], table["parent_epoch"][fork.number]) == fork.parent
    assert table["parent"][0] is None


def test_a_study_without_trials_has_the_columns_of_its_parameters_and_goals():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize=["a", "b"], progress=False)
    assert list(study.table()) == ["trial", "status", "a", "b", "x", "epochs", "seconds", "parent", "parent_epoch",
                                   "repeats", "reason"]  # fmt: skip
    assert study.curves().rows == study.table().rows == 0
    assert repr(study.curves()).endswith("[0 rows of 5 columns]")


def test_a_folder_has_the_same_tables(tmp_path):
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path, progress=False) as study:
        study.tell(study.ask(), 0.5)
        tables = study.table(), study.curves()
    archive = tn.open(tmp_path)
    assert (archive.table(), archive.curves()) == (study.table(), study.curves()) == tables  # also once it is closed


def test_what_is_long_or_wide_is_cut_with_a_note(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    table = Table({f"column {n}": list(range(100)) for n in range(12)} | {"none": [None] * 100})
    lines = repr(table).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert max(map(len, lines[:-1])) <= 60
    assert lines[0].split()[:2] == ["column", "0"]
    assert lines[0].endswith("column 11")
    assert lines[11].split() == ["..."] * 6
    assert lines[10].split()[0] == "9"
    assert lines[12].split()[0] == "90"
    assert lines[-1].startswith("[100 rows of 13 columns; not shown: column 4, ")
    assert lines[-1].endswith("; without a value: none]")


def test_a_narrow_line_has_scores_and_settings_first_and_the_reason_in_short(table, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    few = Table({"trial": [0], "status": ["FAILED"], "loss": [0.5], "lr": [0.1], **{f"m{n}": [n] for n in range(30)},
                 "reason": ["RuntimeError: shapes (3, 4) and (5, 6)"]})  # fmt: skip
    lines = repr(few).splitlines()
    assert lines[0].split()[:5] == ["trial", "status", "loss", "lr", "m0"]
    assert lines[1].endswith("RuntimeError: sha...")
    assert max(map(len, lines[:2])) <= 80
    assert len(repr(table).splitlines()[0]) <= 80


def test_a_printed_table_rounds_and_escapes(table):
    text = repr(Table({"a": [0.123456, 0.5], "b": [123456.7, 1e-9], "c": ["\x1b\n", True], "d": [NAN, 100.0]}))
    assert text.splitlines() == [
        "     a        b  c           d",
        "0.1235  123,457  \\x1b\\n    nan",
        "0.5000    1e-09  True    100.0",
        "[2 rows of 4 columns]",
    ]
    assert "\x1b" not in repr(table)


def test_html_of_a_table_is_escaped_and_says_what_is_left_out():
    html = Table({"<b>": ["<script>"] + [None] * 99, "x": list(range(100)), "none": [None] * 100})._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "100 rows of 3 columns" in html
    assert "without a value: none" in html
    assert html.count("<tr>") == 1 + 21


def test_columns_need_the_same_length():
    with pytest.raises(ValueError, match=r"same length, got \[1, 2\]"):
        Table({"a": [1], "b": [1, 2]})


def read_back(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_csv_holds_every_value_unrounded(table):
    names, *rows = read_back(table.to_csv())
    assert names == list(table)
    for row, values in zip(rows, zip(*table.values(), strict=True), strict=True):
        for cell, value in zip(row, values, strict=True):
            if isinstance(value, float):
                assert float(cell) == value or (math.isnan(float(cell)) and math.isnan(value))
            elif not isinstance(value, str):
                assert cell == ("" if value is None else str(value))


def test_csv_quotes_what_needs_it_and_takes_the_bite_out_of_formulas():
    texts = ['a "b", c', "line\nbreak", "", " x ", "=1+1", "-cmd", "-", "@", "é"]
    text = Table({"text": texts, "flag": [True, None, False] * 3}).to_csv()
    assert text.startswith('text,flag\r\n"a ""b"", c",true\r\n"line\nbreak",\r\n"",false\r\n" x ",true\r\n')
    cells = [row[0] for row in read_back(text)[1:]]
    assert cells == [*texts[:4], "'=1+1", "'-cmd", "-", "@", "é"]


def test_csv_is_written_whole_or_not_at_all(tmp_path):
    table = Table({"a": ["é", "\udc80"]})
    assert table.to_csv(tmp_path / "a.csv") is None
    assert (tmp_path / "a.csv").read_bytes() == "a\r\né\r\n\\udc80\r\n".encode()
    with pytest.raises(tn.errors.StoreError, match="cannot be written"):
        table.to_csv(tmp_path / "nowhere" / "a.csv")


def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(tn.errors.StoreError, match="is no file"):
        Table({"a": [1]}).to_csv(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.xdist_group("pandas")
def test_pandas_has_the_same_values_in_columns_of_their_kinds(table):
    frame = table.to_pandas()
    assert list(frame.columns) == list(table)
    kinds = {"trial": "int64", "status": "string", "optimizer.sgd.lr": "float64", "width": "int64", "order": "string",
             "mixed": "object", "parent": "Int64", "config.epochs": "int64", "reason": "string"}  # fmt: skip
    assert {name: str(frame[name].dtype) for name in kinds} == kinds
    for name, values in table.items():
        missing = [value is None or value != value for value in values]
        assert frame[name].isna().tolist() == missing
        assert frame[name].dropna().tolist() == [v for v, gap in zip(values, missing, strict=True) if not gap]
    assert sorted(frame.groupby("order").size()) == sorted(
        [frame["order"].tolist().count(v) for v in set(frame["order"])]
    )


@pytest.mark.xdist_group("polars")
def test_polars_has_the_same_values_with_nulls_in_the_gaps(table):
    frame = table.to_polars()
    assert frame.columns == list(table)
    for name, values in table.items():
        texts = [v if v is None or isinstance(v, str) else str(v) for v in values] if name == "mixed" else values
        assert list(map(repr, frame[name].to_list())) == list(map(repr, texts))
    assert str(frame["parent"].dtype) == "Int64"
    assert str(frame["mixed"].dtype) == "String"


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_missing_package_is_named(package, table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=f"python -m pip install {package}"):
        getattr(table, f"to_{package}")()


def test_kinds_are_found_where_they_are_not_given():
    table = Table({"int": [1, None], "float": [1, 0.5], "bool": [True, None], "none": [None, None], "big": [2**70, 1]},
                  {"none": int})  # fmt: skip
    assert table.kinds == {"int": int, "float": float, "bool": bool, "none": int, "big": None}
