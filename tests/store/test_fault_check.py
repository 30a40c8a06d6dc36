"""The check of a file system, with requests carried out in this process: each fault that it looks for is named.

With processes of their own it runs in tests/faults.
"""

import errno
import json

import pytest

from tuneflow.__main__ import main
from tuneflow.store import fault_check, fault_process


class SameProcess:
    """Stands for another process."""

    def ask(self, function, *arguments):
        self._answers = function(*arguments)

    def answer(self):
        return next(self._answers)

    def answer_to(self, function, *arguments):
        self.ask(function, *arguments)
        return self.answer()

    def last_answers(self):
        return []

    def kill(self):
        self._answers = iter([])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fault_check, "OtherProcess", SameProcess)
    monkeypatch.setattr(fault_check, "READING", 0.0)
    monkeypatch.setattr(fault_check, "SYNCS", 2)
    monkeypatch.setitem(fault_check.CHECKS, "processes", lambda room, pair: (True, "one, that stands for two"))


def answering(*answers):
    return lambda *arguments: iter(answers)


def failing(error):
    def fail(*arguments):
        raise error
        yield

    return fail


FAULTS = {
    "names": ("new_names", answering({0, 1}), "new names", "2 made by both, 198 missing"),
    "torn": ("read_often", answering((9, 3, 2)), "a file replaced", "3 of 9 readings found a file that was not whole"),
    "stale": ("replace_often", answering(99), "a file replaced", "of 99 new contents another process saw none"),
    "no locks": ("take_lock", answering(True), "locks", "two processes had the same lock"),
    "locked": ("take_lock", answering(False), "locks", "a lock of a new file is refused"),
    "lockd": ("take_lock", failing(OSError(errno.ENOLCK, "No locks available")), "locks", "No locks available"),
    "late": ("sees", answering(False), "commits", "50 of 50 were not seen at once by another process"),
    "claims": ("claim_all", answering(set(range(40))), "new studies", "40 claimed by both"),
    "weights": ("state_sum", answering(0.0), "a state", "another process reads other weights"),
    "lost": ("read_back", answering((set(), set(), "ok")), "kill -9", "20 of 20 trials lost"),
    "damaged": ("read_back", answering((set(), set(), "row 3 missing")), "kill -9", "damaged: row 3 missing"),
    "hangs": ("read_back", failing(TimeoutError("it hangs")), "kill -9", "it hangs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_file_system_is_named_and_ends_with_1(tmp_path, monkeypatch, capsys, fault):
    function, behavior, name, words = FAULTS[fault]
    monkeypatch.setattr(fault_process, function, behavior)
    monkeypatch.setattr(fault_check, "CHECKS", {name: fault_check.CHECKS[name]})
    assert main(["check", str(tmp_path), "--faults"]) == 1
    row, last = capsys.readouterr().out.splitlines()
    assert row.startswith(f"NO  {name}")
    assert words in row
    assert last.startswith(f"safe for several processes on this machine: no ({name});")
    assert list(tmp_path.iterdir()) == []


def test_a_sound_file_system_is_named_so_for_programs_too(tmp_path, capsys):
    assert main(["check", str(tmp_path / "new"), "--faults", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["safe"] is True
    assert {check["name"]: check["sound"] for check in facts["checks"]} == dict.fromkeys(fault_check.CHECKS, True)
    assert list(tmp_path.iterdir()) == []


def test_a_network_file_system_is_named_with_what_follows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fault_check, "file_system", lambda path: "nfs4")
    monkeypatch.setattr(fault_check, "CHECKS", {"file system": fault_check.CHECKS["file system"]})
    assert main(["check", str(tmp_path), "--faults"]) == 0
    assert "nfs4, of a network, without WAL; " in capsys.readouterr().out
