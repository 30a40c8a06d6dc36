"""Fragments of notebooks: short, well formed, in the colors around them, and with names as text."""

from xml.etree import ElementTree

import pytest

import tuneflow as tn
from tests.helpers.small_studies import trainer
from tuneflow.analysis.confirmed import Confirmed
from tuneflow.history.trial import Trial
from tuneflow.metrics.measured import Estimate
from tuneflow.study.front import FrontScores
from tuneflow.study.result import Scores

SPACE = tn.SearchSpace(model={"<script>": tn.Choice(["<b>", "&"]), "width": tn.Int(1, 64)}, lr=tn.Float(0, 1))
SCORES = Scores({"accuracy": Estimate(0.9, 0.8, 0.95, 50)})


def tuned(goals, trials, folder=None):
    study = tn.Study(space=SPACE, minimize=goals, folder=folder, progress=False)
    for number in range(trials):
        trial = study.ask()
        if number % 10 == 9:
            study.tell(trial, None, reason="<i> " + "of a long reason " * 20)
        else:
            values = trial.config["lr"], trial.config["model"]["width"] / 10
            study.tell(trial, dict(zip(goals, values, strict=False)), errors={goals[0]: 0.01})
    return study


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Everything that a notebook shows, of studies with 100 trials, by name."""
    one, two = tuned(["loss"], 100, tmp_path_factory.mktemp("shown")), tuned(["loss", "size"], 100)
    return {
        "study": one, "several": two, "empty": tuned(["loss"], 0), "archive": tn.open(one.folder), "best": one.best,
        "trial": one.trials[3], "failed": one.trials[9], "trials": one.trials, "history": one.history, "space": SPACE,
        "front": two.front, "scores": SCORES, "front scores": FrontScores({3: SCORES, 4: SCORES}, two.objective),
        "confirmed": Confirmed(3, one.trials[3].config, {"loss": 0.5}, {"loss": 0.01}, 3),
        "trainer": trainer(), "new": Trial(0, {}), "no trials": one.history.running,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["study", "several", "empty", "archive", "best", "trial", "failed", "trials", "history", "space", "front", "scores",
     "front scores", "confirmed", "trainer", "new", "no trials"],
)  # fmt: skip
def test_a_fragment_is_short_and_well_formed(name, shown):
    text = shown[name]._repr_html_()
    assert len(text) < 10_000
    root = ElementTree.fromstring(text)
    assert root.get("class") == "tuneflow"
    assert root[0].tag == "style"
    assert "<script>" not in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "study",
            ["100 of 100 trials ended", "best loss", "± 0.010", "90 DONE, 10 FAILED", "the best 10 of 100"],
        ),
        ("several", ["on the front", "size"]),
        ("empty", ["0 of 0 trials ended"]),
        ("archive", ["Archive", "best loss"]),
        ("best", ["best of 90 observed", "model.width"]),
        ("failed", ["trial 9: FAILED", "of a long reason", "..."]),
        ("trials", ["100 trials: 90 DONE, 10 FAILED", "the first 20 of 100 trials"]),
        ("space", ["3 parameters", "Int(1, 64)"]),
        ("front", ["standard error"]),
        ("scores", ["[0.8000, 0.9500]", "over 50 examples"]),
        ("confirmed", ["3 fresh seeds"]),
        ("trainer", ["320 and", "CrossEntropyLoss", "SGD"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "words",
)
def test_a_fragment_says_what_matters(name, words, shown):
    text = "".join(ElementTree.fromstring(shown[name]._repr_html_()).itertext())
    assert [word for word in words if word not in text] == []
