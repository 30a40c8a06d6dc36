"""A Ray cluster of this machine alone: nobody else reaches its ports, or has the token that lets code run on it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray._private import ray_constants

SET = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # variables by which a user brings a token


def protect_token() -> None:
    """Make Ray's token of this user, unless there is one, so that nobody else can read it, as in the file Ray makes.

    Ray asks for it by itself from 2.59 on, unless RAY_AUTH_MODE says otherwise.
    """
    if any(os.environ.get(name) for name in SET):
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # Ray says what is wrong with it
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError), open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        path.chmod(0o600)


@contextmanager
def on_loopback() -> Iterator[None]:
    """A block in which a cluster that is started listens on this machine's loopback only, as Ray's do on macOS."""
    before = ray_constants.ENABLE_RAY_CLUSTER  # where it is False, the address of a node is 127.0.0.1
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
