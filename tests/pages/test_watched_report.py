"""`report --watch` follows a study that runs, and ends by itself or by Ctrl-C."""

import os
import signal
import time

import pytest

import tuneflow as tn
from tests.helpers.forked import start
from tests.helpers.records import mixed_record, record_of_trials
from tuneflow.pages.watched_report import IDLE, SECONDS, watch

FEW, MORE = mixed_record(4), mixed_record(8)


class Readings:
    """Readings of a study, one after the other; counts the pauses in between."""

    def __init__(self, *readings):
        self.readings, self.pauses = list(readings), []

    def read(self):
        return self.readings.pop(0)

    def wait(self, seconds):
        self.pauses.append(seconds)


def refreshing(path):
    return "data-refresh=" in path.read_text()


def test_the_page_follows_until_nothing_runs_for_a_while(tmp_path):
    path = tmp_path / "page.html"
    pages = []
    readings = Readings((FEW, True), (MORE, False), (MORE, True), *[(MORE, False)] * IDLE)
    watch(readings.read, path, wait=lambda seconds: (readings.wait(seconds), pages.append(path.read_text())))
    assert readings.readings == []
    assert min(readings.pauses) >= SECONDS
    assert all("data-refresh=" in page for page in pages)
    assert not refreshing(path)
    assert path.read_text().count("<tr id=") == 8


def test_the_end_of_a_study_is_seen_soon_though_its_page_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", iter(range(0, 100, 2)).__next__)
    readings = Readings((FEW, True), *[(MORE, False)] * IDLE)
    watch(readings.read, tmp_path / "page.html", wait=readings.wait)
    assert readings.pauses == [40.0, *[SECONDS] * (IDLE - 1)]


def test_a_study_without_trials_is_waited_for(tmp_path):
    empty = record_of_trials([])
    readings = Readings(*[(empty, False)] * (IDLE + 2), *[(FEW, False)] * IDLE)
    watch(readings.read, tmp_path / "page.html", wait=readings.wait)
    assert readings.readings == []


def test_an_interrupt_leaves_a_page_that_does_not_read_itself_anew(tmp_path):
    def interrupted(seconds):
        raise KeyboardInterrupt

    watch(Readings((FEW, True), (MORE, True)).read, tmp_path / "page.html", wait=interrupted)
    assert not refreshing(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


@pytest.fixture
def running(tmp_path):
    """A folder of which this process has a trial under way."""
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path / "study") as study:
        study.tell(study.ask(), 0.5)
        study.ask()
        yield tmp_path


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_watches_a_running_study_and_ends_cleanly_by_an_interrupt(running):
    page, out, error = (running / name for name in ("page.html", "out", "err"))
    process = start("tuneflow", "report", "study", "--watch", "--out", page.name, cwd=running, output=(out, error))
    wait_for(lambda: error.exists() and "watching" in error.read_text())
    assert refreshing(page)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 0
    assert (out.read_text(), error.read_text().count("\n")) == ("page.html\n", 1)
    assert not refreshing(page)


def test_a_folder_is_busy_while_a_process_has_a_trial_under_way(running):
    assert tn.open(running / "study").busy


def test_a_folder_whose_process_has_left_is_not_busy(tmp_path):
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path / "study") as study:
        study.ask()
    assert not tn.open(tmp_path / "study").busy
