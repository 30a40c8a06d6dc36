"""The code that opens the study and takes its best trial, to be copied."""

import re
from pprint import pformat

from tuneflow.analysis.record import StudyRecord
from tuneflow.markup.html import Markup, element
from tuneflow.pages.section import PageSection

BUILDER = re.compile(r"Model\(([^\W\d]\w*)[,)]")  # in the settings of a study


def code(record: StudyRecord) -> PageSection | None:
    """Return the lines that give the best configuration and its trained model; None before there is one."""
    if not (record.front if record.objective.several else record.history.leader):
        return None
    return PageSection("code", "Use it", copied(_lines(record)))


def copied(text: str) -> Markup:
    """Return lines of code with a button that copies them, which the page's script shows."""
    button = element("button", "copy", type="button", class_="copy", hidden=True)
    return element("div", element("pre", element("code", text), tabindex="0"), button, class_="code")


def _lines(record: StudyRecord) -> str:
    if record.folder is None:
        return _of_configuration(record)
    opened = f"import tuneflow as tn\n\nstudy = tn.open({str(record.folder)!r})\n"
    if record.objective.several:
        shown = "for trial in study.front:\n    print(trial.number, trial.config, dict(trial.metrics))"
        return f"{opened}{shown}{_model(record, f'result({record.front[0].number})')}"
    return f"{opened}print(study.best.config){_model(record, 'best')}"


def _model(record: StudyRecord, result: str) -> str:
    """Return the line that gives a trained model, as a remark since it needs the study's builder."""
    builder = BUILDER.match(record.facts.get("model") or "")
    return (
        f"\n# model = study.{result}.model({builder[1]})  # needs {builder[1]}, the study's builder" if builder else ""
    )


def _of_configuration(record: StudyRecord) -> str:
    """Return the best configuration itself, where there is no folder to read it from."""
    trials = record.front if record.objective.several else [record.best]
    values = {trial.number: trial.config for trial in trials if trial is not None}
    name, shown = ("configs", values) if record.objective.several else ("config", *values.values())
    literal = pformat(shown, width=80, sort_dicts=False)
    return f"# this study is in memory; folder= of tn.Study keeps one\n{name} = {literal}"
