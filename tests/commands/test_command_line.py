"""The command line: what is printed for people and for machines, and how it ends."""

import json
import os
import sys

import pytest

import tuneflow as tn
from tuneflow.__main__ import main, parser

EVIL = "\x1b[2Jred\n99  DONE"
VERBS = ["show", "best", "check", "export"]
PATHS = [["show", "a://b"], ["report", "{}", "--out", "a://b"], ["demo", "--folder", ""]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a study of two objectives under a limit, with odd names and numbers, and one of one objective."""
    root = tmp_path_factory.mktemp("runs")
    space = tn.SearchSpace(kind=tn.Choice([EVIL, "plain"]), x=tn.Float(0, 1))
    with tn.Study(space=space, minimize=["a", "b"], limits={"b": 0.5}, folder=root / "front") as study:
        for a, b in [(0.0, 1.0), (0.1, 0.4), (0.2, 0.2), (0.3, 0.3), (0.4, float("nan"))]:
            study.tell(study.ask(), {"a": a, "b": b, "extra": float("inf")})
        study.tell(study.ask(), None, reason=EVIL)
    space = tn.SearchSpace(optimizer=tn.Choice({"sgd": tn.call(dict, lr=tn.Float(0, 1)), "none": tn.call(dict)}))
    with tn.Study(space=space, maximize="accuracy", folder=root / "one") as study:
        for number in range(4):
            study.tell(study.ask(), (number / 4, 0.01))
    return root


def printed(capsys, *arguments, status=0):
    assert main([str(each) for each in arguments]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def parsed(text):
    def refuse(word):
        raise ValueError(f"not JSON: {word}")

    return json.loads(text, parse_constant=refuse)


def test_list_has_a_line_for_each_study_below_a_folder(runs, capsys):
    lines = printed(capsys, "list", runs).splitlines()
    assert [line.split()[0] for line in lines] == ["study", str(runs / "front"), str(runs / "one")]
    assert "front of 2 trials" in lines[1]
    assert lines[2].endswith("accuracy 0.7500 +- 0.0100 (trial 3)")


def test_list_names_the_studies_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.sqlite").write_text("not a database, whatever its name")
    assert "not a tuneflow store" in printed(capsys, "list", tmp_path)
    (study,) = parsed(printed(capsys, "list", tmp_path, "--json"))["studies"]
    assert "not a tuneflow store" in study["problem"]


def test_show_marks_the_front_and_what_is_beyond_the_limits(runs, capsys):
    head, *rows = [line.split("  ") for line in printed(capsys, "show", runs / "front").splitlines()[1:]]
    assert "limits" in "  ".join(head)
    marks = {int(row[0]): ("yes" in map(str.strip, row), "beyond" in map(str.strip, row)) for row in rows}
    assert marks == {1: (True, False), 2: (True, False), 3: (False, False), 0: (False, True)}


@pytest.mark.parametrize("verb", ["list", *VERBS])
def test_control_characters_in_stored_text_are_shown_escaped(verb, runs, capsys):
    out = printed(capsys, verb, runs if verb == "list" else runs / "front")
    assert "\x1b" not in out
    assert not any(line.startswith("99  DONE") for line in out.splitlines())


@pytest.mark.parametrize("verb", ["show", "best"])
def test_json_is_valid_with_numbers_that_are_not_finite_and_marks_every_trial(verb, runs, capsys):
    facts = parsed(printed(capsys, verb, runs / "front", "--json"))
    assert facts["goals"] == {"a": "minimize", "b": "minimize"}
    assert facts["limits"] == {"b": [None, 0.5]}
    assert facts["statuses"] == {"DONE": 4, "DIVERGED": 1, "FAILED": 1}
    trials = {trial["number"]: trial for trial in facts["trials"]}
    assert [number for number, trial in trials.items() if trial["best"]] == [1, 2]
    assert trials[1]["metrics"]["extra"] == "Infinity"
    if verb == "show":
        assert trials[4]["metrics"]["b"] == "NaN"
        assert [trials[n]["within_limits"] for n in (0, 1, 5)] == [False, True, None]


def test_export_writes_valid_json_lines(runs, capsys):
    study, *trials = map(parsed, printed(capsys, "export", runs / "front").splitlines())
    assert study["study"]["epochs"] is None
    assert trials[4]["metrics"]["b"] == trials[4]["reports"][0]["metrics"]["b"] == "NaN"
    assert trials[5]["reason"] == EVIL


def test_export_writes_the_tables_as_csv(runs, capsys):
    archive = tn.open(runs / "one")
    assert printed(capsys, "export", runs / "one", "--csv") == archive.table().to_csv()
    assert printed(capsys, "export", runs / "one", "--curves") == archive.curves().to_csv()


def test_best_prints_the_score_and_every_setting(runs, capsys):
    head, *settings = printed(capsys, "best", runs / "one").splitlines()
    assert head == "trial 3: accuracy 0.7500 +- 0.0100 (standard error, epoch 1 of 1)"
    (trial,) = parsed(printed(capsys, "best", runs / "one", "--json"))["trials"]
    (name, inner), *_ = trial["config"]["optimizer"].items()
    assert settings == [f"  optimizer.{name}.lr  {inner['lr']}" if inner else f"  optimizer.{name}  "]


def test_check_finds_nothing_wrong_with_a_study(runs, capsys):
    assert printed(capsys, "check", runs / "front") == f"{runs / 'front'}: 6 trials, 0 states: nothing is wrong\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "{}/nothing"], "there is no such folder"),
        (["show", "{}"], "there is one in"),
        (["show", "{}/one/study.sqlite"], "give its folder"),
        (["check", "{}/nothing"], "there is no such folder"),
        (["export", "{}/one/study.sqlite"], "as it is a file"),
        (["list", "{}/nothing"], "there is no such folder"),
        (["best", "{}/empty"], "no trial has a score yet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said_in_one_line(arguments, words, runs, capsys):
    tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), folder=runs / "empty").close()
    try:
        error = printed(capsys, *(word.format(runs) for word in arguments), status=1)
    finally:
        (runs / "empty" / "study.sqlite").unlink()
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["show", "{}", "--trials", "x"], ["show", "{}", "--trials", "0"],
                                       *PATHS, ["best", "{}", "--jsn"], ["shw", "{}"], []],
                         ids=lambda words: " ".join(words))  # fmt: skip
def test_wrong_arguments_end_with_2(arguments, runs, capsys):
    with pytest.raises(SystemExit) as left:
        main([word.format(runs) for word in arguments])
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["demo", "list", "report", *VERBS])
def test_the_help_of_each_verb_has_an_example_that_parses(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    example = capsys.readouterr().out.split("example:\n")[1].split(" > ")[0].split()
    assert example[:4] == ["python", "-m", "tuneflow", verb]
    parser().parse_args(example[3:])


def test_an_interrupt_ends_without_a_traceback(runs, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tuneflow.commands.show_trials.Archive", interrupt)
    assert "interrupted" in printed(capsys, "show", runs / "one", status=130)


@pytest.mark.parametrize("kind", ["full", "closed"])
def test_output_that_cannot_be_written_ends_without_a_traceback(kind, runs, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full" if kind == "full" else writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        status = main(["show", str(runs / "one")])
        monkeypatch.undo()
    if kind == "full":
        os.close(writer)
    expected = (1, "tuneflow: the output: No space left on device.\n") if kind == "full" else (141, "")
    assert (status, capsys.readouterr().err) == expected
