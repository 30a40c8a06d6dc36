"""The next study, made from one and the advice on it: a changed space, other epochs or replicas, and a warm start."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.finding import Finding
from tuneflow.errors import StudyError, plural
from tuneflow.history.trial import has_score
from tuneflow.search.searcher import Searcher
from tuneflow.search.warm import Warm
from tuneflow.space.parameters import Parameter
from tuneflow.space.replaced import with_parameters
from tuneflow.store.folder import Folder

NUMBERED = re.compile(r"(.+)-([2-9])")  # a folder that was a neighbor itself


def next_settings(study: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of the next Study, but for its folder, and lines on what was changed and what was not.

    Args:
        study: a Study.

    Raises:
        StudyError: its advice has nothing that can be changed in a setting.
    """
    advice = advice_of(study.record())
    changes = [finding for finding in advice if finding.change.automatic]
    left = [f"left to you  {finding}" for finding in advice if not finding.change.automatic]
    if not changes:
        left = left or ["there is no advice: every setting stays"]
        raise StudyError("\n".join(["adjusted: the advice on this study changes no setting.", *left]))
    settings = _same(study) | _changed(study, changes)
    return settings, [*(f"adjusted  {finding}" for finding in changes), _start(study, settings), *left]


def neighbor(folder: Folder) -> Folder:
    """Return the folder beside another with the next number: "runs/digits-2" for "runs/digits"; memory for none."""
    if folder.path is None:
        return folder
    path = Path(folder.path)
    numbered = NUMBERED.fullmatch(path.name)
    name = f"{numbered[1]}-{int(numbered[2]) + 1}" if numbered else f"{path.name}-2"
    return replace(folder, path=path.with_name(name))


def _same(study: Any) -> dict[str, Any]:
    """Return the settings of the new study that are those of the earlier one."""
    objective, history = study.objective, study.history
    goals = {way: [m for m, up in objective.goals if up is (way == "maximize")] for way in ("maximize", "minimize")}
    return {
        "space": study.space,
        "model": study.model,
        "trainer": None if study.trainer is None else study.trainer.single,
        "searcher": _searcher(study),
        "scheduler": study.scheduler,
        **{way: names for way, names in goals.items() if names},
        "at": objective.at,
        "limits": {limit.metric: (limit.least, limit.most) for limit in objective.limits} or None,
        "runtime": study.runtime,
        "seed": study.seed,
        "paired": study.paired,
        "epochs": None if study.trainer is not None or history.open_end else history.epochs,
        "lag": study.lag,
        "replicas": study.replicas,
        "callbacks": study.callbacks,
        "progress": study.progress,
    }


def _searcher(study: Any) -> Searcher:
    """Return the searcher behind a warm start by the study's trials; itself where none has a score."""
    then: Searcher = study.searcher.then if isinstance(study.searcher, Warm) else study.searcher
    return Warm(study, then=then) if any(map(has_score, study.history.observed)) else then


def _changed(study: Any, changes: list[Finding]) -> dict[str, Any]:
    """Return the settings that the findings change."""
    parameters: dict[str, Parameter] = {}
    settings: dict[str, Any] = {}
    for change in (finding.change for finding in changes):
        parameters |= change.parameters
        if change.epochs is not None and study.trainer is None:
            settings["epochs"] = change.epochs
        elif change.epochs is not None:
            settings["trainer"] = study.trainer.single.with_epochs(change.epochs)
        if change.replicas is not None:
            settings["replicas"] = change.replicas
    return settings | ({"space": with_parameters(study.space, parameters)} if parameters else {})


def _start(study: Any, settings: dict[str, Any]) -> str:
    """Return a line on the searcher: what it takes over from the earlier trials."""
    trials = plural(study.history.ended, "trial")
    if not isinstance(settings["searcher"], Warm):
        return f"adjusted  starts anew, as none of the {trials} has a score"
    return f"adjusted  starts from the best of {trials}, of which only the ranks count: {settings['searcher']!r}"
