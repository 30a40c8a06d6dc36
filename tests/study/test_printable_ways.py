"""What a stranger's study holds is shown as text and obeyed by no terminal, on every way out."""

import logging

import pytest

import tuneflow as tn
from tuneflow.__main__ import main
from tuneflow.errors import StudyError, warn

ESCAPE, TURNED, HIDDEN = "\x1b[2J\x1b]0;pwn\x07", "\u202e", "\u200b"
STRANGE = f"a{ESCAPE}{TURNED}b{HIDDEN}\n99  DONE  0.0000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a study whose names, labels, reasons and path hold control characters."""
    folder = tmp_path_factory.mktemp("strange") / f"x{ESCAPE}{TURNED}"
    space = tn.SearchSpace(c=tn.Choice([STRANGE, "plain"]), x=tn.Float(0.0, 1.0))
    with tn.Study(space=space, minimize=STRANGE, folder=folder, progress=False) as study:
        for number in range(6):
            trial = study.ask()
            study.tell(trial, {STRANGE: float(number), f"other{STRANGE}": 1.0})
        study.tell(study.ask(), None, reason=STRANGE)
        study.ask()
    return folder


def unprintable(text):
    return {each for each in text if not each.isprintable()} - {"\n"}


WAYS = {
    "study": repr,
    "best": lambda opened: repr(opened.best),
    "best in a page": lambda opened: opened.best._repr_html_(),
    "trial": lambda opened: repr(opened.trials[0]) + repr(opened.trials[6]),
    "trial in a page": lambda opened: opened.trials[6]._repr_html_(),
    "failed": lambda opened: repr(opened.result(6)),
    "table": lambda opened: repr(opened.table()),
    "curves": lambda opened: repr(opened.curves()),
    "listing": lambda opened: opened.listing(),
    "advice": lambda opened: repr(opened.advice()),
    "importance": lambda opened: repr(opened.importance()),
    "space": lambda opened: repr(opened.space),
    "lines": lambda opened: "\n".join(opened.lines()),
    "study in a page": lambda opened: opened._repr_html_(),
    "history in a page": lambda opened: opened.history._repr_html_(),
    "front": lambda opened: repr(opened.front),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_opened_study_is_shown_in_printable_characters(folder, way):
    assert unprintable(WAYS[way](tn.open(folder))) == set()


@pytest.mark.parametrize("verb", ["show", "best", "list", "check", "show --json", "export --jsonl"])
def test_a_command_prints_printable_characters_only(folder, capsys, verb):
    name, *options = verb.split()
    main([name, str(folder.parent if name == "list" else folder), *options])
    printed = "".join(capsys.readouterr())
    assert printed
    assert unprintable(printed) == set()
    assert not any(line.startswith("99  DONE") for line in printed.splitlines())


def raised(text):
    return str(StudyError(text))


def warned(text):
    with pytest.warns(UserWarning, match="pwn") as caught:
        warn(text)
    return str(caught[0].message)


def logged(text):
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    log = logging.getLogger("tuneflow")
    log.addHandler(handler)
    log.warning("trial %s", text)
    log.removeHandler(handler)
    return records[0]


@pytest.mark.parametrize("way", [raised, warned, logged], ids=["raised", "warned", "logged"])
def test_a_message_that_quotes_others_is_printable(way):
    assert unprintable(way(STRANGE)) == set()
    assert r"\x1b[2J" in way(STRANGE)


def test_progress_lines_are_printable(capsys):
    def fails(x):
        raise ValueError(STRANGE)

    with pytest.raises(StudyError) as error:
        tn.minimize(fails, tn.SearchSpace(x=tn.Float(0.0, 1.0)), trials=5, progress=True)
    assert unprintable(str(error.value)) == set()
    printed = capsys.readouterr().err
    assert "FAILED" in printed
    assert unprintable(printed) == set()
    assert not any(line.startswith("99  DONE") for line in printed.splitlines())


def test_an_error_of_a_loop_is_printable_before_the_first_trial():
    @tn.loop(epochs=1)
    def fails(config, run):
        for _ in run.epochs():
            raise ValueError(STRANGE)
            yield {}

    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0.0, 1.0)), trainer=fails, progress=False)
    with pytest.raises(ValueError, match="pwn") as error:
        study.run(trials=1)
    assert unprintable(str(error.value)) == set()


def test_a_page_shows_control_characters_and_does_not_hold_them(folder, tmp_path):
    page = tn.open(folder).report(tmp_path / "report.html").read_text()
    assert ESCAPE[:4] not in page
    assert {TURNED, HIDDEN, "\x1b"}.isdisjoint(page)
    assert r"\u202e" in page
