"""The status line on a real terminal: rewritten in place, gone at the end, and never in a file."""

import io
import os
import pty
import signal

import pytest

from tests.helpers.forked import output_of
from tests.helpers.terminal import Terminal, screen
from tuneflow.pages.terminal_line import TerminalLine, is_terminal

STUDY = """
import logging, os, sys, time
import tuneflow as tn

@tn.loop(epochs=3)
def fit(config, run):
    for epoch in run.epochs():
        yield {"loss": config["x"] / epoch}

def study(**settings):
    runtime = tn.Runtime("cpu", threads=1)
    return tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, runtime=runtime, **settings)
"""
PROGRAM = (
    STUDY
    + """
def speak(study, trial):
    if trial.epochs == 2:
        print("printed", trial.number)
        log.warning("logged %d", trial.number)

log = logging.getLogger("of the program")
log.addHandler(logging.StreamHandler())
study(callbacks=[speak]).run(trials=3)
print("after")
"""
)


def test_the_line_is_drawn_below_all_others_and_gone_at_the_end(tmp_path):
    with Terminal(PROGRAM, tmp_path) as terminal:
        output = terminal.read()
    assert "0/3  training 0: epoch 1/3 since" in output
    assert "1/3  best 0." in output
    left = screen(output)
    assert not any("training" in line for line in left)
    assert [line.split("  ")[:2] for line in left if line.startswith("trial")] == [
        [f"trial {number} of 3", "DONE"] for number in range(3)
    ]
    assert {"printed 0", "printed 2", "logged 0", "logged 2", "after"} <= set(left)


@pytest.mark.parametrize(
    ("environment", "drawn"),
    [({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, True)],
    ids=["dumb", "no color"],
)
def test_the_kind_of_the_terminal_decides_whether_the_line_is_drawn(tmp_path, environment, drawn):
    with Terminal(STUDY + "study().run(trials=1)", tmp_path, **environment) as terminal:
        output = terminal.read()
    assert ("training 0" in output, "\x1b" in output) == (drawn, drawn)
    assert "trial 0 of 1  DONE" in output


def test_a_file_gets_lines_without_control_characters(tmp_path):
    program = STUDY + "sys.stderr = sys.stdout\nstudy().run(trials=2)\nstudy(progress=False).run(trials=2)"
    (tmp_path / "program.py").write_text(program)
    lines = output_of(tmp_path / "program.py", cwd=tmp_path).splitlines()
    assert [line[:14] for line in lines if line.startswith("trial")] == ["trial 0 of 2  ", "trial 1 of 2  "]
    assert all(line.isprintable() for line in lines)


def test_an_exception_leaves_no_line_behind(tmp_path):
    program = (
        STUDY
        + """
def fail(study, trial):
    if trial.number == 1:
        raise ValueError("of a callback")

study(callbacks=[fail]).run(trials=3)
"""
    )
    with Terminal(program, tmp_path) as terminal:
        output = terminal.read()
    assert "training 1" in output
    left = screen(output)
    assert "ValueError: of a callback" in left
    assert not any("training" in line for line in left)


def test_a_line_that_was_wrapped_in_a_narrower_window_is_removed_whole(tmp_path):
    program = (
        STUDY
        + """
def wait(study, trial):
    if trial.epochs == 1:
        os.write(2, b"!")
        time.sleep(0.15)

study(callbacks=[wait]).run(trials=1)
"""
    )
    with Terminal(program, tmp_path, columns=100) as terminal:
        terminal.read("!")
        terminal.resize(20)
        output = terminal.read()
    narrow = output.index("!") + 1
    assert "\r\x1b[K\x1b[1A\x1b[K\x1b[1A\x1b[K" in output[narrow:]
    assert max(len(line) for line in output[narrow:].split("\r\x1b[K") if "/1" in line and "trial" not in line) < 20


def test_the_line_waits_until_others_have_ended_theirs(monkeypatch):
    outer, inner = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with open(inner, "w", closefd=False) as stream:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("sys.stdout", stream)
        line, own = TerminalLine(), stream.write
        for text in ("first", "second", "third"):
            line.draw(lambda width, text=text: text)
            print("50 %", end="" if text == "first" else "\n")
        line.close()
        assert stream.write == own
        written = b""
        while not written.endswith(b"[K50 %\r\n"):
            written += os.read(outer, 1000)
        assert written == b"first\r\x1b[K50 %50 %\r\nthird\r\x1b[K50 %\r\n"
    os.close(outer)
    os.close(inner)


class Interrupted(io.FileIO):
    """A file in whose writes, and so while its buffer is locked, a signal comes."""

    def write(self, data):
        signal.raise_signal(signal.SIGINT)
        return super().write(data)


def printing(line):
    print("printed")


def drawing(line):
    line.draw(lambda width: "status")


@pytest.mark.parametrize("write", [printing, drawing], ids=["print", "draw"])
def test_the_handler_of_a_signal_may_print_while_a_stream_is_written_to(monkeypatch, write):
    outer, inner = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    line = TerminalLine()
    before = signal.signal(signal.SIGINT, lambda *_: line.print("of the handler"))
    try:
        with io.TextIOWrapper(io.BufferedWriter(Interrupted(inner, "w")), line_buffering=True) as stream:
            monkeypatch.setattr("sys.stderr", stream)
            monkeypatch.setattr("sys.stdout", stream)
            write(line)
            line.print("later")
            line.close()
            output = ""
            while "later" not in output:
                output += os.read(outer, 1000).decode()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ("of the handler" in output) == (write is printing)  # nothing else enters the buffer
    os.close(outer)


def test_names_with_control_characters_are_shown_as_escapes(tmp_path):
    program = STUDY.replace('"loss"', r'"a\nb\x1b[31mred\r"') + r'study(minimize="a\nb\x1b[31mred\r").run(trials=2)'
    with Terminal(program, tmp_path) as terminal:
        output = terminal.read()
    assert r"trial 1 of 2  DONE  a\nb\x1b[31mred\r 0." in output
    assert "\x1b[31m" not in output
    assert not any("training" in line for line in screen(output))


ASKED = """
import tuneflow as tn

study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), epochs=3)
while (trial := study.ask(trials=2)) is not None:
    while trial.status == "RUNNING":
        trial = study.tell(trial, trial.config["x"], done=False)
study.close()
"""
CONFIRMED = """
import tuneflow as tn
from tests.helpers.small_studies import make

study = make(progress=True, seed=1)
study.run(trials=1)
study.confirm(top=1, seeds=1)
"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (ASKED, ["0/2  training 0: epoch 1/3 since", "0/2  training 0: epoch 2/3", "1/2  best 0."]),
        (CONFIRMED, ["0/1 trainings  0 of 3 epochs", "0/1 trainings  2 of 3 epochs", "1/1 trainings"]),
    ],
    ids=["ask and tell", "confirm"],
)
def test_what_is_no_run_has_a_line_too(tmp_path, program, words):
    with Terminal(program, tmp_path) as terminal:
        output = terminal.read()
    assert [word for word in words if word not in output] == []
    assert not any("0/" in line or "1/2" in line for line in screen(output))


def test_no_stream_is_no_terminal():
    assert not is_terminal(None)


def test_ctrl_c_leaves_the_terminal_clean(tmp_path):
    program = (
        STUDY
        + """
def wait(study, trial):
    print("interrupt now")
    time.sleep(0.1)

study(callbacks=[wait]).run(trials=3)
"""
    )
    with Terminal(program, tmp_path) as terminal:
        terminal.read("interrupt now")
        os.kill(terminal.process.pid, signal.SIGINT)
        left = screen(terminal.read())
    assert "finishing the epoch; press Ctrl-C again to leave now" in left
    assert "interrupted; run it again and it goes on from here" in left
    assert not any("training" in line for line in left)
