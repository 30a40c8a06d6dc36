"""The store's file and its file system: who may write it, how it is opened for reading."""

import getpass
import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "glusterfs", "ceph", "gpfs", "beegfs", "panfs", "ocfs2"),
    *("gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
)
MOUNTS = Path("/proc/mounts")


def file_system(path: Path) -> str:
    """Return the kind of file system that `path` lies on; empty where the system does not show it."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    mounts = [[_unescaped(word) for word in line.split()[1:3]] for line in lines]
    where = str(path.resolve().parent)
    holding = [
        (len(point), kind) for point, kind in mounts if where == point or where.startswith(point.rstrip("/") + "/")
    ]
    return max(holding)[1] if holding else ""


def _unescaped(word: str) -> str:
    r"""Return a word of /proc/mounts as it was: a space in a path is written there as `\040`."""
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), word)


def read_only_address(path: Path) -> str:
    """Return SQLite's address of a file that is only read, also where nothing may be written beside it.

    A file that is written by a log (WAL) needs two more beside it. Where they are not there yet, SQLite makes them, and
    removes them afterwards only if it could write; so then it may, and the connection is to write nothing itself.
    """
    log, may_write = path.with_name(f"{path.name}-wal").exists(), _may_write(path.parent)
    if not log and may_write and _may_write(path):
        return writing_address(path)
    return _address(path, "mode=ro" if log or may_write else "immutable=1")


def writing_address(path: Path) -> str:
    """Return SQLite's address of a file that is there and may be written."""
    return _address(path, "mode=rw")


def _address(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{mode}"


def who_may_write(path: Path) -> str:
    """Return the end of a message about `path` where this process may not write it; empty where it may.

    `; alice may not write /data, which belongs to bob (drwxr-xr-x)`
    """
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    if _may_write(path):
        return ""
    try:
        user, owner, mode = getpass.getuser(), path.owner(), stat.filemode(path.stat().st_mode)
    except (OSError, KeyError):
        return f"; you may not write {path}"
    return f"; {user} may not write {path}, which belongs to {owner} ({mode})"


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
