"""The report's page: complete, safe, small, and sensible for every state of a study."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

import tuneflow as tn
from tests.helpers.records import FACTS, mixed_record, record_of_trials, scored
from tuneflow.__main__ import main
from tuneflow.errors import plural
from tuneflow.history.objective import Limit
from tuneflow.history.trial import Trial
from tuneflow.pages.report import SECTIONS, page
from tuneflow.pages.write_report import write_report

NASTY = "</script><script>alert(1)</script><!--\u2028&\"'"
BOTH = (("accuracy", True), ("latency", False))
LOSS = (("loss", False),)
CONFIG = scored(0, 1).config
RECORDS = {
    "mixed": mixed_record(),
    "no trial": record_of_trials([]),
    "one trial": record_of_trials([scored(0, 0.9)]),
    "no error": record_of_trials([scored(0, 0.9, error=0), scored(1, 0.8, error=0)]),
    "claimed": record_of_trials([Trial(0, {}, "CLAIMED")]),
    "all failed": record_of_trials([Trial(n, CONFIG, "FAILED", "ValueError: no") for n in range(3)]),
    "several objectives": mixed_record(goals=BOTH),
    "several objectives without a trial": record_of_trials([], BOTH),
    "open end": record_of_trials([scored(0, 0.5, metric="loss")], LOSS, epochs=None),
    "not finite": record_of_trials([scored(0, float("nan")), scored(1, float("inf"))]),
    "beyond every limit": record_of_trials([scored(0, 0.9)], limits=(Limit("accuracy", least=0.95),)),
    "fork": record_of_trials([scored(0, 0.8, epochs=3), scored(1, 0.9, parent=(0, 3)), scored(2, 0.9, repeats=0)]),
}


class Outline(HTMLParser):
    """Tags, attributes and texts of a page in which every tag has an end, but for cells of tables, which need none."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "td"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == "td" or self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def words(self):
        return " ".join("".join(self.texts).split())


@pytest.mark.parametrize("kind", RECORDS)
def test_a_study_in_any_state_makes_a_page_that_is_well_formed(kind):
    outline = Outline(page(RECORDS[kind]))
    ids = [value for _, name, value in outline.attributes if name == "id"]
    links = [value[1:] for tag, name, value in outline.attributes if tag == "a" and name == "href"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    assert outline.tags.count("h1") == 1
    assert "nan" not in outline.words.split("Reproduce")[0]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("one trial", "Best accuracy: 0.900 ± 0.010 by trial 0. No other trial ties with it."),
        ("no error", "Best accuracy: 0.9000 by trial 0. Its standard error is not known, so neither is what ties"),
        ("no trial", "No trial has a score yet, as none was started"),
        ("all failed", "No finished trial has a score yet (3 of 3 ended; trial 2 FAILED: ValueError: no)."),
        ("beyond every limit", "No finished trial has accuracy at least 0.95; trial 0 comes closest"),
        ("several objectives without a trial", "No trial has a score yet"),
    ],
)
def test_the_first_sentence_says_how_the_study_stands(kind, sentence):
    assert sentence in Outline(page(RECORDS[kind])).words


def test_the_first_sentence_says_what_is_a_mean():
    again = [scored(0, 0.9), scored(1, 0.8, repeats=0)]
    assert "by trial 0, the mean of 2 trainings." in Outline(page(record_of_trials(again))).words


def test_the_first_sentence_names_the_cheapest_of_the_ties():
    tied = [scored(0, 0.95, seconds=8), scored(1, 0.945, seconds=2), scored(2, 0.94, seconds=4), scored(3, 0.5)]
    words = Outline(page(record_of_trials(tied))).words
    assert "2 other trials tie with it; the cheapest, trial 1, took 2.0 s in place of 8.0 s." in words


def test_advice_counts_ties_as_the_first_sentence_does():
    words = Outline(page(record_of_trials([scored(number, 0.9 + number / 1000) for number in range(12)]))).words
    assert "11 other trials tie with it" in words
    assert "Noise: 11 of 11 other configurations tie with the best one" in words


def test_a_large_count_has_a_comma():
    assert plural(5000, "row") == "5,000 rows"


def test_no_tie_is_called_cheaper_for_the_noise_of_seconds():
    words = Outline(page(record_of_trials([scored(0, 0.95, seconds=8), scored(1, 0.945, seconds=6)]))).words
    assert "1 other trial ties with it." in words
    assert "cheapest" not in words


def test_the_code_of_a_front_gives_a_model_of_it():
    record = mixed_record(goals=BOTH)
    text = Outline(page(replace(record, name="runs/front"))).words
    assert f"# model = study.result({record.front[0].number}).model(net)" in text


def test_nothing_that_a_user_named_is_markup():
    space = tn.SearchSpace(model={"<script>": tn.Choice([NASTY, "b"])})
    facts = {"status": "FAILED", "reason": NASTY, "detail": NASTY}
    config = {"model": {"<script>": NASTY}}
    trials = [Trial(0, config, **facts), scored(1, 0.9, metric=NASTY, config=config)]
    record = record_of_trials(trials, [(NASTY, True)], space, name=NASTY)
    text = page(replace(record, facts=record.facts | {"searcher": NASTY, "model": NASTY}, grown=[NASTY]))
    assert Outline(text).tags.count("script") == 1
    assert "alert(1)</script>" not in text


def test_a_page_asks_for_nothing_from_elsewhere():
    text = page(RECORDS["mixed"])
    attributes = Outline(text).attributes
    assert [value for _, name, value in attributes if name in ("src", "href") and value[0] != "#"] == []
    assert any(value.startswith("default-src 'none'") for _, name, value in attributes if name == "content")
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_of_200_trials_is_small():
    assert len(page(mixed_record(200)).encode()) < 150_000


def test_sections_keep_their_order():
    text = page(RECORDS["mixed"])
    keys = [section.key for make in SECTIONS if (section := make(RECORDS["mixed"])) is not None]
    assert keys[:2] == ["headline", "numbers"]
    places = [text.index(f'<section id="{key}"') for key in keys]
    assert places == sorted(places)


def test_a_page_reads_its_file_anew_only_where_it_is_asked_to():
    assert 'data-refresh="3"' in page(RECORDS["mixed"], refresh=3)
    assert "data-refresh=" not in page(RECORDS["mixed"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "study"
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=folder) as study:
        study.tell(study.ask(), 0.5, errors=0.01)
        study.report(folder / "live.html")
    return folder


def test_a_study_and_its_folder_write_the_same_page(folder, capsys):
    assert main(["report", str(folder), "--out", str(folder / "read.html")]) == 0
    assert capsys.readouterr().out == f"{folder / 'read.html'}\n"
    live, read = ((folder / name).read_text() for name in ("live.html", "read.html"))
    assert live.split("<footer>")[0] == read.split("<footer>")[0]


def test_the_code_of_the_page_runs_where_the_folder_is(folder, capsys):
    outline = Outline((folder / "live.html").read_text())
    code = next(text for text in outline.texts if text.startswith("import tuneflow"))
    exec(code, {})
    assert capsys.readouterr().out == f"{tn.open(folder).best.config}\n"


@pytest.mark.parametrize("path", ["", 3, "http://x/y"], ids=["empty", "number", "address"])
def test_what_is_no_path_is_refused(path):
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss")
    with pytest.raises((ValueError, TypeError), match="report: path needs to be a path"):
        study.report(path)


def test_a_page_that_cannot_be_written_is_a_message(folder, capsys):
    assert main(["report", str(folder), "--out", str(folder / "no" / "page.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_facts_that_studies_lack_are_left_out():
    record = replace(RECORDS["one trial"], facts={name: FACTS[name] for name in ("seed",)} | {"trainer": None})
    assert "Reproduce" in page(record)


def test_a_parameter_named_like_a_metric_keeps_its_section():
    space = tn.SearchSpace(narrow={"accuracy": tn.Int(1, 4)}, optimizer={"lr": tn.Float(0.1, 1.0)})
    outline = Outline(page(mixed_record(12, space=space)))
    assert outline.texts.count("narrow.accuracy") >= 3  # in both tables and the parallel coordinates


def test_a_folder_whose_name_is_no_unicode_has_a_page(tmp_path):
    path = write_report(replace(RECORDS["one trial"], name="runs/\udcff"), tmp_path / "page.html")
    assert r"runs/\udcff" in path.read_text(encoding="utf-8")
