"""The code of the README and of the documentation runs, and prints what they say it prints.

The python blocks of a page run in order and in one namespace, as a script. A text block is the output of the python
block before it. `<!-- not run: reason -->` or `<!-- not compared: reason -->` on the line above a block excepts it.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "reference"  # docs/conf.py writes these pages; the build fails on a link to none of them
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not (?P<excepted>run|compared): [^\n]+ -->\n)?```(?P<kind>python|text)\n(?P<body>.*?)^```$", re.M | re.S
)
SHORTER = {"trials=32": "trials=2", "epochs=10": "epochs=1"}
COMMANDS = [
    "python -m pip install -c constraints.txt . && python -m tuneflow demo",
    'python -m pip install -c constraints.txt -e ".[dev]" && python -m pytest -n 2 --dist loadgroup',
]


def name(page):
    """The path of a page from the root, as the id of its tests."""
    return str(page.relative_to(ROOT))


def run(page, block, namespace):
    """Return the text that the python `block` of `page` prints; its tracebacks show the lines of the page."""
    code = block["body"]
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    above = page.read_text()[: block.start("body")].count("\n")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * above + code, str(page), "exec"), namespace)
    return printed.getvalue()


@pytest.fixture
def one_thread():
    """Small networks train many times slower on several threads where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=name)
def test_code_of_a_page_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, printed = {"__name__": "__main__"}, ""
    for block in BLOCK.finditer(page.read_text()):
        if block["excepted"]:
            continue
        if block["kind"] == "python":
            printed = run(page, block, namespace)
        else:
            assert block["body"] == printed


def test_readme_sets_up_within_30_lines_and_ends_within_150():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert set(COMMANDS) <= set(lines[:30])
    assert len(lines) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_gives_tuneflow_the_name_of_another_library(page):
    assert "import tuneflow as tf" not in page.read_text()


def test_glossary_has_each_noun_once_in_order_and_in_one_sentence():
    entries = re.findall(r"^- \*\*([^*]+)\*\*: (.+(?:\n  .+)*)$", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    nouns = [noun for noun, _ in entries]
    assert nouns == sorted(set(nouns), key=str.lower)
    assert [noun for noun, sentence in entries if not sentence.endswith(".") or ". " in sentence] == []
    assert len(entries) == (ROOT / "docs" / "glossary.md").read_text().count("\n- ")


def test_faq_has_numbered_questions_each_with_a_message():
    answers = re.split(r"^### ", (ROOT / "docs" / "faq.md").read_text(), flags=re.M)[1:]
    assert [answer.partition(". ")[0] for answer in answers] == [str(number) for number in range(1, len(answers) + 1)]
    assert [answer for answer in answers if not re.search(r"^```text\n\w+: ", answer, re.M)] == []


def test_the_script_is_the_same_on_every_page_that_shows_it():
    tutorial = ROOT / "docs" / "tutorial"
    pages = [ROOT / "README.md", tutorial / "quickstart.md", tutorial / "quickstart.zh.md"]
    first, *others = ([b["body"] for b in BLOCK.finditer(page.read_text()) if b["kind"] == "python"] for page in pages)
    assert [blocks[0] for blocks in others] == [first[0]] * 2


def test_links_of_the_readme_work_wherever_it_is_shown():
    targets = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []


def test_readme_begins_with_a_small_picture_that_is_described():
    before, *_ = (ROOT / "README.md").read_text().partition("```")
    path, described = re.search(r'<img src="([^"]+)" alt="([^"]+)"', before).groups()
    assert (ROOT / path).stat().st_size < 150_000
    assert "report" in described


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_no_page_installs_the_unrelated_package_of_the_same_name(page):
    assert not re.search(
        r"pip install\b[^\n]*\btuneflow\b(?!-torch)", page.read_text().replace("python -m tuneflow", "")
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_have_words_and_lead_to_files(page):
    assert "[](" not in page.read_text()
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    files = [(page.parent / link).resolve() for link in links]
    assert [file for file in files if file.parent != GENERATED and not file.exists()] == []


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_into_a_page_lead_to_headings(page):
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", page.read_text())
    assert [link for file, link in links if link not in anchors((page.parent / file) if file else page)] == []
