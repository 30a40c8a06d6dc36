"""The fingerprint of a study: the settings it was made with, and the consequence of changing one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from tuneflow.errors import FingerprintError, warn
from tuneflow.study.brought_weights import weights_digest
from tuneflow.study.space_changes import list_change
from tuneflow.train.description import description_of
from tuneflow.version import __version__

# Facts of which a change is only warned about; a change of any other is refused.
SOFT = ("tuneflow", "torch", "runtime", "searcher", "scheduler")
WEIGHTS = "weights that the builder brings"
METRIC = re.compile(r"trainer\.metrics\.\S+ was (None, now .*|.*, now None)$")  # so of one more or less


def facts_of(study: Any) -> dict[str, Any]:
    """Return a study's settings as JSON."""
    return {
        "tuneflow": __version__,
        "torch": str(torch.__version__),
        "space": study.space.to_json(),
        "objective": {
            "goals": {m: "maximize" if up else "minimize" for m, up in study.objective.goals},
            "at": study.objective.at,
            **({"limits": {t.metric: [t.least, t.most] for t in limits}} if (limits := study.objective.limits) else {}),
        },
        "seed": study.seed,
        "paired": study.paired,
        "epochs": None if study.history.open_end else study.history.epochs,
        "model": repr(study.model),
        "steps": _steps(study),
        WEIGHTS: _weights(study),
        "trainer": None if study.trainer is None else study.trainer.describe(),
        "searcher": repr(study.searcher),
        "grid": repr(study.searcher) if study.searcher.ends else None,
        "scheduler": repr(study.scheduler),
        "runtime": study.runtime.describe(),
        "lag": study.lag,
    }


def _weights(study: Any) -> str | None:
    """Return the digest of weights that the builder brings; only where there is a folder to resume from."""
    return None if study.model is None or study.folder is None else weights_digest(study.model, study.space)


def _steps(study: Any) -> dict[str, str] | None:
    """Return the model's steps in words, with what is fixed of their settings; None without steps."""
    steps = {} if study.model is None else study.model.steps
    return {name: description_of(step) for name, step in steps.items()} or None


def compare(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    where: str,
    space: Sequence[str] = (),
    outside: str = "",
    lengths: Sequence[int] = (),
) -> None:
    """Raise or warn where a study's settings differ from those it was made with.

    Args:
        before: the settings that it was made with.
        now: its settings now.
        where: the study's folder, for messages.
        space: the changes of its space, if these are more than growth.
        outside: a sentence on the trials that the space no longer has.
        lengths: every full length of a study that was extended.

    Raises:
        FingerprintError: a setting differs that scores depend on; every difference is named.
    """
    changes = {key: list(_differences(key, before.get(key), value)) for key, value in now.items()}
    changes["space"] = list(space)
    if any(text.startswith("trainer.epochs ") for text in changes["trainer"]):
        del changes["epochs"]  # the same number
    hard = [text for key, texts in changes.items() if key not in SOFT for text in texts if not METRIC.match(text)]
    if hard:
        way = f'; there searcher=tn.Warm(tn.open("{where}")) starts from the results of this one'
        raise FingerprintError(
            f"{where} holds a study made with other settings: {'; '.join(hard)}.{outside}"
            f" Use the same settings, or another folder{way if space else ''}.{_longer(before, now, lengths)}"
        )
    soft = [text for texts in changes.values() for text in texts]
    if soft:
        warn(f"{where}: this study was made with other settings: {'; '.join(soft)}.")


def _longer(before: Mapping[str, Any], now: Mapping[str, Any], lengths: Sequence[int]) -> str:
    """Return the way to longer trials, as a sentence; empty where those of now are not, or are trained elsewhere."""
    was, longer = before.get("epochs"), now["epochs"]
    if now["trainer"] is None or was is None or longer <= max((was, *lengths)):
        return ""
    return f" To train its trials on, make it with epochs={was} and call study.extend(epochs={longer})."


def _differences(name: str, before: Any, now: Any) -> Iterator[str]:
    """Yield the differences, leaf by leaf: `trainer.epochs was 5, now 10`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            yield from _differences(f"{name}.{key}", before.get(key), now.get(key))
    elif before != now and isinstance(before, list) and isinstance(now, list) and len(repr((before, now))) > 400:
        yield f"{name} is another list: {list_change(before, now)}"
    elif before != now:
        yield f"{name} was {before!r}, now {now!r}"
