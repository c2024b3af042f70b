# Sphinx: `nox -s docs`. The pages are Markdown, so that they read well where they stand, too.

from importlib.metadata import version as version_of

project = "sse_trio"
author = "the sse_trio authors"
release = version_of("sse-trio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
suppress_warnings = ["misc.highlighting_failure"]  # Pygments has no haproxy

html_theme = "furo"
html_title = f"sse_trio {release}"
