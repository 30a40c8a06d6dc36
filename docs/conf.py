"""Sphinx builds the documentation with these settings: python -m sphinx -W -b html docs docs/_build"""

import inspect
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

from tuneflow.version import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import reference_pages  # noqa: E402

reference_pages.write(HERE / "reference")

project = "tuneflow"
author = "The tuneflow authors"
project_copyright = "2026, The tuneflow authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
default_role = "literal"  # a single backtick in a docstring
myst_heading_anchors = 2  # links may lead to the sections of a page

# Links to other projects need the network; without it the build is the same but for them.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
}
if "DOCS_ONLINE" not in os.environ:
    intersphinx_mapping = {}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # attributes as a list: autodoc describes the same names once more
python_maximum_signature_line_length = 90

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = f"tuneflow {__version__}"
html_show_sphinx = False

PUBLIC = set(reference_pages.names())
INTERNAL = {
    f"{value.__module__}.{value.__qualname__}": f"tuneflow.{name}"
    for name in sorted(PUBLIC, key=len, reverse=True)
    if inspect.isclass(value := reference_pages.public(name)) or inspect.isroutine(value)
}
NAME = re.compile(r"(?:(?:tn|tuneflow)\.)?([A-Za-z_][\w.]*)(?:\(.*\))?", re.DOTALL)


def target_of(text: str) -> str | None:
    """The documented name that a literal such as `tn.Study`, `Study.run` or `tn.data.digits()` means."""
    found = NAME.fullmatch(text)
    if found is None or (text == found[1] and not text[0].isupper()):
        return None  # a bare lower-case word is more often an argument
    name, _, member = found[1].rpartition(".")
    if found[1] in PUBLIC:
        return f"tuneflow.{found[1]}"
    if name in PUBLIC and inspect.isclass(cls := reference_pages.public(name)):
        return f"tuneflow.{found[1]}" if member in reference_pages.members_of(cls) else None
    return None


class LinkNames(SphinxTransform):
    """Make a link of each literal, in pages and docstrings, that is the name of something documented."""

    default_priority = 700

    def apply(self, **_: object) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            target = target_of(literal.astext())
            if target is None or isinstance(literal.parent, nodes.reference | pending_xref | nodes.title):
                continue
            link = pending_xref(
                "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False
            )
            link["refdoc"] = self.env.docname
            literal.replace_self(link)


def link_internal_names(app, env, node, content):
    """Resolve a type such as tuneflow.history.history.History to the name that it is documented by."""
    name = INTERNAL.get(node.get("reftarget", ""))
    if name is None or node.get("refdomain") != "py":
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)


def setup(app) -> None:
    """Register the two ways in which names become links."""
    app.add_transform(LinkNames)
    app.connect("missing-reference", link_internal_names)
