"""Errors and what their messages have to say."""

import pytest


def refused(error, make, *pieces):
    """Assert that `make` raises this error, and that its message holds all the pieces."""
    with pytest.raises(error) as caught:
        make()
    message = str(caught.value)
    missing = [piece for piece in pieces if piece not in message]
    assert not missing, f"{missing} not in: {message}"
