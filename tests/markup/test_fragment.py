import pytest

from tuneflow.markup.fragment import bar, cut, fragment, note, pairs, table


def test_a_fragment_carries_its_style_once_and_escapes_its_title():
    text = fragment("<b>", pairs([("a", 1)]))
    assert text.count("<style>") == 1
    assert "div.tuneflow" in text
    assert '<p class="title">&lt;b&gt;</p>' in text


def test_the_style_touches_nothing_outside_of_fragments_and_fixes_no_text_color():
    text = fragment("")
    rules = [rule.split("{")[0] for rule in text[text.index("*/") + 2 : text.index("</style>")].split("}")]
    selectors = [selector.strip() for rule in rules if rule.strip() for selector in rule.split(",")]
    assert all(selector.startswith("div.tuneflow") for selector in selectors)
    assert "color: inherit" in text
    assert "color: #" not in text


def test_a_table_names_its_columns_and_rows():
    text = table(["trial", "loss"], [["3", "0.5"], ["4", "<"]])
    assert text.count('scope="col"') == text.count('scope="row"') == 2
    assert '<th scope="row">4</th><td>&lt;</td>' in text


def test_an_empty_note_is_none():
    assert note("") is None
    assert note("a < b") == '<p class="note">a &lt; b</p>'


@pytest.mark.parametrize(("share", "percent"), [(0.256, 26), (-1.0, 0), (2.0, 100)], ids=["part", "less", "more"])
def test_a_bar_says_its_share_to_screen_readers(share, percent):
    assert f'aria-valuenow="{percent}"' in bar(share, "trials")
    assert f'style="width:{percent}%"' in bar(share, "trials")


def test_long_lists_are_cut_with_a_note():
    assert cut(range(3), "trials", most=3) == (range(3), None)
    shown, rest = cut(range(1000), "trials", most=2)
    assert list(shown) == [0, 1]
    assert "the first 2 of 1,000 trials" in rest
