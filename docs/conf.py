"""Sphinx builds the documentation with these settings: python -m sphinx -W -b html docs docs/_build"""

from tuneflow.version import __version__

project = "tuneflow"
author = "The tuneflow authors"
project_copyright = "2026, The tuneflow authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "literal"  # a single backtick in a docstring

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # attributes as a list: autodoc describes the same names once more
python_maximum_signature_line_length = 90

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = f"tuneflow {__version__}"
html_show_sphinx = False
