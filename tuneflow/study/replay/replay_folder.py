"""The replay of a study's folder, by the script that makes the study."""

from pathlib import Path

from tuneflow.errors import StoreError
from tuneflow.study.replay.replayed import Replayed
from tuneflow.study.replay.script_study import use_study_of


def replay_folder(folder: Path, share: float, script: str, seed: int | None = None) -> Replayed:
    """Train a share of a study's slices again, and compare; see `Study.replay`. Nothing in the folder is changed.

    Args:
        folder: the study's; it may be in use, or read-only.
        share: of the slices, up to 1.
        script: a file, or the name of a module, that makes the study on this folder.
        seed: of the choice among the slices; None for a fresh one.

    Raises:
        StoreError: there is no study in the folder.
        StudyError: as `use_study_of` and `Study.replay`.
    """
    if not (folder / "study.sqlite").is_file():
        raise StoreError(f"{folder}: holds no study (there is no study.sqlite in it).")
    outcomes: list[Replayed] = []
    use_study_of(script, folder, lambda study: outcomes.append(study.replay(share, seed)))
    return outcomes[0]
