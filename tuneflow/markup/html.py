"""Elements of HTML and SVG as text, in which every text that is not markup already is escaped."""

from html import escape
from typing import Any

from tuneflow.errors import printable_lines


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})  # elements of HTML without an end tag


def element(tag: str, /, *content: Any, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        tag: its name.
        *content: what stands in it, one after the other: Markup as it is, anything else as escaped text, in which
            what is not printable is visible too; None is left out.
        **attributes: by name, in which an underscore stands for a hyphen and one at the end is dropped (`class_`,
            `aria_label`, `data_trial`). True is an attribute without a value; None and False leave it out.

    Example:
        >>> element("a", "1 < 2", class_="link", href="#x", hidden=True)
        '<a class="link" href="#x" hidden>1 &lt; 2</a>'
    """
    opened = "".join([tag, *(_attribute(name, value) for name, value in attributes.items())])
    if tag in VOID:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{joined(*content)}</{tag}>")


def joined(*content: Any) -> Markup:
    """Return contents one after the other, as markup; each is treated as in `element`."""
    return Markup("".join(one if isinstance(one, Markup) else _escaped(one) for one in content if one is not None))


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{_escaped(value)}"'


def _escaped(value: Any) -> str:
    return escape(printable_lines(str(value)))
