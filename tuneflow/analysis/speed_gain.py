"""Gains of speed that a study has measured of other settings of its runtime."""

from dataclasses import asdict, dataclass

from tuneflow.store.store import Store

GAIN = "gain "  # opens the keys under which a store keeps them


@dataclass(frozen=True)
class SpeedGain:
    """The gain of training the trials of a study with another setting.

    Attributes:
        kind: "precision", "layout" or "lanes".
        gain: speed relative to that of the study's own settings.
        setting: the setting, as it is written.
        line: all of it in a line.
    """

    kind: str
    gain: float
    setting: str
    line: str

    def __str__(self) -> str:
        return self.line


def note_gain(store: Store, gain: SpeedGain | None) -> None:
    """Keep a gain with the study from the next commit on, in the place of an earlier one of its kind."""
    if gain is not None:
        store.note(f"{GAIN}{gain.kind}", asdict(gain))


def gains_of(store: Store) -> list[SpeedGain]:
    """Return the gains that a study has measured."""
    return [SpeedGain(**kept) for kept in store.recall_all(GAIN).values()]
