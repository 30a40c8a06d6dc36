"""The frame of a page: one HTML file with its style and script, which asks for nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files

from tuneflow.markup.html import Markup, element, joined
from tuneflow.pages.section import PageSection
from tuneflow.version import __version__

PAGES = "tuneflow.pages"
STYLES = (("tuneflow.markup", "chart.css"), (PAGES, "report.css"), (PAGES, "linked.css"))
SCRIPTS = ((PAGES, "report.js"), (PAGES, "linking.js"), (PAGES, "sorting.js"), (PAGES, "brushing.js"))


def document(title: str, header: Markup, sections: Sequence[PageSection], refresh: float = 0.0) -> str:
    """Return a page as the text of an HTML file.

    Args:
        title: of the browser's window.
        header: the element at the top.
        sections: in their order.
        refresh: seconds after which the page reads its file anew; 0 for never.
    """
    style, script = _resources(STYLES), _resources(SCRIPTS)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("title", title),
        element("style", style),
    )
    main = element("main", *(section.markup for section in sections))
    body = element("body", header, _links(sections), main, _footer(), element("script", script))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en", data_refresh=refresh or None) + "\n"


def _resources(paths: Sequence[tuple[str, str]]) -> Markup:
    """Return files one after the other, without their indentation and remarks on lines of their own."""
    texts = (files(room).joinpath(name).read_text(encoding="utf-8") for room, name in paths)
    lines = (line.strip() for text in texts for line in text.splitlines())
    return Markup("\n".join(line for line in lines if line and not line.startswith("//")))


def _policy(script: str) -> str:
    """Return the rule by which a browser runs this script only, and asks for nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _links(sections: Sequence[PageSection]) -> Markup:
    links = (element("a", section.title, href=f"#{section.key}") for section in sections if section.title)
    return element("nav", *links, aria_label="Sections")


def _footer() -> Markup:
    now = datetime.now().astimezone()
    when = element("time", now.strftime("%Y-%m-%d %H:%M"), datetime=now.isoformat(timespec="seconds"))
    return element("footer", joined("Written ", when, f" by tuneflow {__version__}."))
