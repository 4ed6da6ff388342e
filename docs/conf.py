"""The site, made by Sphinx from the Markdown files of the repository: `sphinx-build -c docs . build/site`.

The source is the whole repository, so that a link from one Markdown file to another is the same here and on GitHub.
No page has a directive of Sphinx, which GitHub would show as it stands.  Instead, before a page is read,

- the index gets its table of contents, which is what it links to, in order;
- what stands between `<!-- autodoc: NAME -->` and `<!-- end autodoc -->` is replaced by the documentation of NAME.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import pcbench

project = "pcbench"
author = "The pcbench authors"
project_copyright = "The pcbench authors"
version = release = pcbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "*/README.md",
    "ci/*.md",
    "ci/reports/*.md",
    "ci/reports/**/*.md",
]
exclude_patterns = ["**/.*", ".*", "build", "pcbench", "properties", "tests/*/**"]
suppress_warnings = ["toc.not_included"]  # reports are reached by links
nitpicky = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # docstrings are Markdown: what is in single backticks is code
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries = False  # every name has a heading

html_theme = "furo"
html_title = f"pcbench {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#:]+)\.md\)")
_AUTODOC = re.compile(r"<!-- autodoc: (?P<name>\S+) -->\n.*?<!-- end autodoc -->\n", re.S)
_ANCHOR = re.compile(r'<a id="(?P<id>[^"]+)">')


def read_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the table of contents and the documentation of names into a page."""
    text = _AUTODOC.sub(lambda m: _directive(m["name"]), source[0])
    if page == root_doc:
        pages = [f"{m['text'][:1].upper()}{m['text'][1:]} <{m['target']}>" for m in _LINK.finditer(text)]
        text += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])
    source[0] = text


def _directive(name: str) -> str:
    """The directive that documents a public name: a class with its methods, or a function."""
    module, _, last = name.rpartition(".")
    value = getattr(__import__(module, fromlist=[last]), last)
    kind = "autoclass" if isinstance(value, type) else "autofunction"
    options = "   :members:\n" if isinstance(value, type) else ""
    return f"```{{eval-rst}}\n.. {kind}:: {name}\n{options}```\n"


def read_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    r"""Turn the one thing in which docstrings differ from reStructuredText: formulas between \( and \), \[ and \]."""
    text = "\n".join(lines)
    text = re.sub(
        r"\\\[(.*?)\\\]", lambda m: ".. math::\n\n   " + m[1].strip().replace("\n", "\n   "), text, flags=re.S
    )
    text = re.sub(r"\\\((.*?)\\\)", lambda m: f":math:`{' '.join(m[1].split())}`", text, flags=re.S)
    lines[:] = text.split("\n")


def read_signature(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """A protocol is not called, so it has no signature."""
    return ("", None) if getattr(obj, "_is_protocol", False) else None


def first_page(app: Sphinx, error: Exception | None) -> None:
    """Lead from the top of the site to its index."""
    if error is None and app.builder.format == "html":
        to = f"{root_doc}.html"
        head = f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={to}"><title>pcbench</title>'
        page = f'<!doctype html>{head}<a href="{to}">pcbench</a>\n'
        Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", read_signature)
    app.connect("build-finished", first_page)
