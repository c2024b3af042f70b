# Sphinx: `nox -s docs`. The pages are Markdown, so that they read well where they stand, too.
#
# Rule 1: the site asks nobody for anything: no font, script, style or image comes from elsewhere (tests/test_site.py).
# Rule 2: every name in a signature or a docstring leads somewhere, or is named below as somebody else's.

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pygments.lexers.shell import BashLexer

import sse_trio

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "sse_trio"
author = "the sse_trio authors"
release = version_of("sse-trio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # Pygments has no haproxy

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

nitpicky = True
nitpick_ignore_regex = [
    # Other people's, whose documentation is on the network.
    (r"py:\w+", r"(anyio|asyncio|builtins|collections|contextlib|datetime|httpx|json|os|pathlib|ssl|typing)\..*"),
    (r"py:\w+", r"(opentelemetry|prometheus_client|pytest|starlette|trio)\..*"),
    (r"py:\w+", r"(BrokenResource|BusyResource|ClosedResource|WouldBlock|EndOf)\w*"),  # anyio's
    (r"py:class", r"ASGIApp|BackgroundTask|Event|Headers|HTTPConnection|Message|Receive|Request|Scope|Send|Self"),
    (r"py:class", r"TracebackType|Redis|PerTopic|Credentials"),
    # Private ones in signatures: what they are is what the function says that it takes or returns.
    (r"py:class", r"sse_trio\.(_wire\.json\._\w+|_groups\.kickable\.KickSender|_runs\.options\.RunsOptions)"),
    (r"py:class", r"RunResponse(Options)?|(sse_trio\.stores\._connections\.)?(Async|Sync)Connection"),
    # What a producer takes beside its channel: a TypeVarTuple. What an event carries: a TypeVar.
    (r"py:class", r"Ts|TextErrors|sse_trio\._typed\.event_types?\.T"),
]

html_theme = "furo"
html_title = f"sse_trio {release.partition('+')[0]}"  # without the commit, which is too long for a phone
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    # The pencil at the top of each page leads to its source; on GitHub it can be edited there.
    "source_repository": "https://github.com/sse-trio/sse-trio/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_exclude = ".linenos, .gp"
copybutton_selector = "div.highlight pre"
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_search_summary = False  # it is fetched, which a site that is opened from a disk may not do
pygments_style = "default"
pygments_dark_style = "monokai"

# Aliases and protocols that stand in signatures only; the pages say what they are.
WORDS = (
    "sse_trio.Authorize",
    "sse_trio.AuthorizeTopic",
    "sse_trio.Farewell",
    "sse_trio.KeyFunction",
    "sse_trio.Model",
    "sse_trio.Overflow",
    "sse_trio.Producer",
    "sse_trio.Sendable",
    "sse_trio.compat.Content",
    "sse_trio.testing.MakeStore",
    "sse_trio.testing.MakeStoreByPrefix",
)
# What is made by a function: how its class is called is nobody's business.
MADE_BY_A_FUNCTION = {"EventReceiveChannel", "EventSendChannel", "EventSource", "Hub", "Subscription", "TestStream"}


@cache
def short_names() -> dict[str, str]:
    """Return where each public name is to be found: by itself, as docstrings and signatures call it."""
    names = {name.rpartition(".")[2]: name for name in WORDS}
    modules = [info.name for info in walk_packages(sse_trio.__path__, "sse_trio.")]
    for module in (
        *sorted(modules, key=len, reverse=True),
        "sse_trio",
    ):  # where it can be had is where it is last found
        if "._" not in module:
            public = getattr(importlib.import_module(module), "__all__", ())
            names |= {name: f"{module}.{name}" for name in public}
    return names


def find_by_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.reference | None:
    """Resolve `Hub` and `Hub.publish` wherever they are written."""
    public = re.sub(r"^sse_trio\.(.*\.)?_\w+\.", "", node["reftarget"])  # without the private module
    first, dot, rest = public.partition(".")
    target = short_names().get(first)
    if node.get("refdomain") != "py" or target is None:
        return None
    domain = env.get_domain("py")
    found = domain.resolve_any_xref(env, node["refdoc"], app.builder, f"{target}{dot}{rest}", node, contnode)
    return found[0][1] if found else None


def without_constructor(
    _app: Sphinx, what: str, name: str, _obj: object, _options: object, *_signature: object
) -> tuple[str, None] | None:
    """Leave out how to call what nobody calls."""
    is_handle = name.rpartition(".")[2] in MADE_BY_A_FUNCTION or name.endswith("Statistics")
    return ("", None) if what == "class" and is_handle else None


def spare_attributes(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon for the type of an attribute: types are annotations here."""
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]  # it looks at the first line only


EXAMPLES = Path(__file__).parents[1] / "examples"


def show_examples(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put the sources of the examples below the list of them, and let links to them lead there."""
    source[0] = re.sub(r"\]\(\.\./examples/(\w+)\.py\)", lambda link: f"](#{label_of(link[1])})", source[0])
    if page == "examples":
        names = sorted(path.stem for path in EXAMPLES.glob("*.py") if not path.name.startswith("_"))
        source[0] += "".join(f"\n({label_of(name)})=\n\n## {name}.py\n{source_block(name)}" for name in names)


def label_of(example: str) -> str:
    """Return what links to an example refer to."""
    return f"example-{example.replace('_', '-')}"


def source_block(example: str) -> str:
    """Return what shows the source of an example."""
    return f"\n```{{literalinclude}} ../examples/{example}.py\n```\n"


def describe(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Give a page its first paragraph as its description, for whoever finds it by a search."""
    first = next(iter(doctree.findall(nodes.paragraph)), None) if doctree else None
    if first is not None:
        words = first.astext().replace('"', "'").split()
        context["metatags"] += f'<meta name="description" content="{" ".join(words)}" />'


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.add_lexer("console", BashLexer)  # commands without prompts: Pygments' own takes them for output
    app.connect("missing-reference", find_by_short_name)
    app.connect("autodoc-process-signature", without_constructor)
    app.connect("autodoc-process-docstring", spare_attributes, priority=400)  # napoleon: 500
    app.connect("source-read", show_examples)
    app.connect("html-page-context", describe)
