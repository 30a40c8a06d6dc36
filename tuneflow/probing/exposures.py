"""The exposures that probes have stored with a study, in words."""

from collections.abc import Iterator
from itertools import count

from tuneflow.store.store import Store


def exposures_of(store: Store) -> list[str]:
    """Return the exposures of the structures that were probed, each with the branch of the space that it is of."""
    return [f"{stored['of']}: {stored['exposure']}" for stored in _stored(store)]


def _stored(store: Store) -> Iterator[dict[str, str]]:
    for number in count():
        stored = store.recall(f"exposure:{number}")
        if stored is None:
            return
        yield stored
