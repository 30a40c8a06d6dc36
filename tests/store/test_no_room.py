"""Room that is limited otherwise than by the disk, by a quota or a file's largest size, reads as a full disk."""

import errno
import multiprocessing
import resource
import signal
import sqlite3
import tempfile

import pytest

import tuneflow as tn
from tuneflow.errors import StoreError
from tuneflow.store.sqlite_errors import is_full

FORK = multiprocessing.get_context("fork")
SPACE = tn.SearchSpace(x=tn.Float(0, 1), note=tn.Constant("n" * 500))

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def message_of(folder, trials=400):
    try:
        tn.minimize(lambda x, note: x, SPACE, trials=trials, folder=folder)
    except StoreError as error:
        return str(error)
    return ""


def limited(folder, pipe):
    """Send the message of a study whose files may not become larger than 100 KB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    pipe.send(message_of(folder))


def test_a_limit_on_the_size_of_files_is_a_full_disk_with_what_is_safe(tmp_path):
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=limited, args=(tmp_path, theirs))
    process.start()
    assert ours.poll(60)
    message = ours.recv()
    process.join()
    safe = sum(trial.status == "DONE" for trial in tn.open(tmp_path).trials)
    assert f"study.sqlite: disk full; {safe} trials safe. Make room and run again." in message
    assert safe > 0


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG, errno.ENOSPC], ids=["quota", "size", "disk"])
def test_an_io_error_of_sqlite_is_a_full_disk_where_no_more_can_be_written(number, tmp_path, monkeypatch):
    def no_room(**_):
        raise OSError(number, "no room")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    assert is_full(sqlite3.OperationalError("disk I/O error"), tmp_path / "study.sqlite")
    assert not is_full(sqlite3.OperationalError("database is locked"), tmp_path / "study.sqlite")
