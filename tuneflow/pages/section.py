"""PageSection: a part of the page under a heading of its own."""

from dataclasses import dataclass

from tuneflow.markup.html import Markup, element


@dataclass(frozen=True)
class PageSection:
    """A part of the page.

    Attributes:
        key: its anchor, and its class in the style sheet.
        title: its heading, and its word in the line of links; empty for the parts at the top, which have neither.
        body: its content.
        note: a sentence below the heading on how to read it.
        half: True where two such sections stand side by side on a wide screen.
    """

    key: str
    title: str
    body: Markup
    note: str = ""
    half: bool = False

    @property
    def markup(self) -> Markup:
        """The section as an element."""
        kind = f"{self.key} half" if self.half else self.key
        if not self.title:
            return element("section", self.body, id=self.key, class_=kind)
        name = f"{self.key}-title"
        heading = element("h2", self.title, id=name)
        note = element("p", self.note, class_="note") if self.note else None
        return element("section", heading, note, self.body, id=self.key, class_=kind, aria_labelledby=name)


def described(rows: list[tuple[str, object]]) -> Markup:
    """Return names with what belongs to them as a list of descriptions."""
    pairs = (element("div", element("dt", name), element("dd", content)) for name, content in rows)
    return element("dl", *pairs)
