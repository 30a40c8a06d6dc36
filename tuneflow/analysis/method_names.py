"""Names of methods: the settings by which their studies differ, without the arguments that they share."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, takewhile
from typing import Any

from tuneflow.analysis.record import StudyRecord

APART = ("seed", "weights that the builder brings")  # settings that may differ within a method
AGAIN = "grid"  # a setting that another one says
TOLD = ("searcher", "scheduler", "model")  # settings whose values need no name before them
LONGEST = 60  # letters of a name


def method_names(groups: Sequence[Sequence[StudyRecord]]) -> list[str]:
    """Return a name for each group of studies: the settings that differ, or its folders where these do not tell.

    Where the space says too much, or nothing that is short, it is left to the other settings.
    """
    flat = [dict(_flat(group[0].facts)) for group in groups]
    settings = [name for name in dict.fromkeys(chain(*flat)) if name.split(".")[0] not in (*APART, AGAIN)]
    columns = {name: _in_short([facts.get(name, "None") for facts in flat]) for name in settings}
    differing = {name: texts for name, texts in columns.items() if len(set(texts)) > 1}
    outside = {name: texts for name, texts in differing.items() if not name.startswith("space.")}
    for chosen in (differing, outside):
        words = [[_word(name, texts[place]) for name, texts in chosen.items()] for place in range(len(groups))]
        names = [", ".join(dict.fromkeys(each)) for each in words]
        if all(0 < len(name) <= LONGEST for name in names) and len(set(names)) == len(names):
            return names
    return _told_apart(_of_folders(groups))


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Yield settings by dotted names, as text."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)


def _in_short(texts: Sequence[str]) -> list[str]:
    """Return one setting's values in short: of calls, the arguments that differ among those of the same name.

    Example:
        >>> _in_short(["Random()", "TPE(start=10, share=0.2)", "TPE(start=20, share=0.2)"])
        ['Random', 'TPE(start=10)', 'TPE(start=20)']
    """
    calls = [_call(text) for text in texts]
    short = [""] * len(texts)
    for name in dict.fromkeys(name for name, _ in calls):
        places = [place for place, (other, _) in enumerate(calls) if other == name]
        keys = dict.fromkeys(chain(*(calls[place][1] for place in places)))
        columns = {key: _in_short([calls[place][1].get(key, "") for place in places]) for key in keys}
        differing = {key: values for key, values in columns.items() if len(set(values)) > 1}
        for row, place in enumerate(places):
            arguments = ", ".join(
                key.lstrip("0123456789") + values[row] for key, values in differing.items() if values[row]
            )
            short[place] = f"{name}({arguments})" if arguments else name
    return short if len(set(short)) == len(set(texts)) else list(texts)


def _call(text: str) -> tuple[str, dict[str, str]]:
    """Return the name of a call and its arguments by `name=` or by place; any other text has none."""
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text, {}
    if not isinstance(call, ast.Call):
        return text, {}
    plain = {str(place): ast.unparse(value) for place, value in enumerate(call.args)}
    return ast.unparse(call.func), plain | {f"{each.arg}=": ast.unparse(each.value) for each in call.keywords}


def _word(name: str, value: str) -> str:
    if name in TOLD:
        return value
    parts = [part.replace("_", " ") for part in name.split(".") if part != "entries"]
    return f"{' '.join(parts[-2:] if parts[0] == 'space' else parts[-1:])} {value}"


def _of_folders(groups: Sequence[Sequence[StudyRecord]]) -> list[str]:
    """Return what the names of each group's studies have in common, without the folder that all are in."""
    shared = [_beginning([record.name for record in group]) for group in groups]
    names = [
        (text.rstrip("-_./ ") if len(group) > 1 else text) or group[0].name
        for text, group in zip(shared, groups, strict=True)
    ]
    above = _beginning(names).rfind("/") + 1
    return [name[above:] for name in names]


def _beginning(texts: Sequence[str]) -> str:
    """Return the letters that all texts begin with."""
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts)))


def _told_apart(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
