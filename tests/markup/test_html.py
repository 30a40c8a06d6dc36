import pytest

from tuneflow.markup.html import element, joined


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "<script>", element("b", '"&"')) == "<p>&lt;script&gt;<b>&quot;&amp;&quot;</b></p>"


def test_names_of_attributes_are_written_with_hyphens():
    assert element("i", class_="a b", aria_label='x "y"', data_n=3) == (
        '<i class="a b" aria-label="x &quot;y&quot;" data-n="3"></i>'
    )


@pytest.mark.parametrize("value", [None, False])
def test_attributes_without_a_value_are_left_out(value):
    assert element("input", disabled=value, checked=True) == "<input checked>"


def test_joined_leaves_out_none():
    assert joined("a", None, 0, element("br")) == "a0<br>"
