"""A Ray cluster of this machine alone listens on loopback only, and its token is for this user only."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from tuneflow.execute.ray.alone import protect_token

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow]
SCRIPT = Path(__file__).parents[1] / "helpers" / "scripts" / "ray_alone.py"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as /proc has them


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system does not show who listens where")
def test_a_cluster_of_this_machine_listens_on_loopback_only(home):
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=240, check=True)
    addresses = set(done.stdout.split())
    assert addresses
    assert addresses <= LOOPBACK
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600


def test_a_token_that_others_may_read_is_kept_from_them(home):
    (home / ".ray").mkdir()
    token = home / ".ray" / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    protect_token()
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == ("secret", 0o600)


def test_a_token_that_the_user_brings_is_the_only_one(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    protect_token()
    assert not (home / ".ray").exists()
