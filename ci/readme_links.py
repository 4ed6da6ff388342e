"""Check the links of Markdown files to files, headings, images and code, and the length of README.md.

`readme.py` uses it.  Links are read as GitHub reads them: relative to the file, `#` and the slug of a heading.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

README_BYTES = 10_000
"""README.md is read in one go, and what a reader needs once a year is in docs/."""

_FILES = ("*.md", "docs/*.md", "*/README.md", "ci/**/*.md")
_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[ \t]*$", re.S | re.M)
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?P<text>.+?)(?<!`)\1(?!`)", re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_LINK = re.compile(r"\]\(\s*<?(?P<target>[^\s)>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML = re.compile(r"<\w+\b[^>]*?\b(?:href|src)=\"(?P<target>[^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.*?)(?: +#+)?$", re.M)
_ANCHOR = re.compile(r"<\w+\b[^>]*?\b(?:id|name)=\"(?P<id>[^\"]+)\"")
_NAMED = re.compile(r"(?:\.?ci|asv_bench|docs|pcbench|properties|tests)(?:/[\w.-]+)*/[\w.-]*|pcbench(?:\.\w+)+")


def problems(root: Path) -> list[str]:
    """Everything in the Markdown files below `root` that points nowhere, one sentence each."""
    files = sorted({path for pattern in _FILES for path in root.glob(pattern)})
    found = [problem for path in files for problem in broken_links(root, path)]
    kept = [path for path in files if path.parent == root / "docs" or path.name in ("README.md", "CONTRIBUTING.md")]
    found += [problem for path in kept for problem in missing_code(root, path)]
    return found + too_long(root / "README.md")


def too_long(readme: Path) -> list[str]:
    """That README.md has more bytes than it may have."""
    size = len(readme.read_bytes())
    return [f"README.md has {size} bytes, needed {README_BYTES} at most"] if size > README_BYTES else []


def broken_links(root: Path, path: Path) -> list[str]:
    """The links and images of one file whose file or heading is not there."""
    found = []
    for target in links(path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = (path.parent / unquote(name)).resolve() if name else path
        if not there.is_relative_to(root.resolve()) or not there.exists():
            why = "no such file"
        elif there.is_dir():
            why = "a folder, which the site has no page for"
        elif anchor and there.suffix == ".md" and unquote(anchor) not in anchors(there):
            why = f"{there.name} has no heading with the slug {anchor}"
        else:
            continue
        found.append(f"{path.relative_to(root)}: link to {target}: {why}")
    return found


def links(text: str) -> Iterator[str]:
    """Where a text links to, within the repository: not what is in code, in comments, or on another site."""
    plain = _COMMENT.sub("", _CODE.sub("code", _FENCE.sub("", text)))
    for pattern in (_LINK, _HTML):
        for match in pattern.finditer(plain):
            if not re.match(r"[a-z][a-z0-9+.-]*:", match["target"]):
                yield match["target"]


@cache
def anchors(path: Path) -> frozenset[str]:
    """The slugs of the headings of a file, as GitHub makes them, and its explicit anchors."""
    text = _COMMENT.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))
    found: dict[str, int] = {}
    for match in _HEADING.finditer(text):
        name = slug(match["text"])
        found[name] = count = found.get(name, -1) + 1
        if count:
            found[f"{name}-{count}"] = 0
    return frozenset(found) | {match["id"] for match in _ANCHOR.finditer(text)}


def slug(heading: str) -> str:
    """The anchor of a heading on GitHub: lower case, no punctuation but hyphens and underscores, hyphens for spaces."""
    shown = re.sub(r"!?\[(.*?)\]\(.*?\)", r"\1", re.sub(r"<[^>]+>", "", heading)).replace("`", "")
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


def missing_code(root: Path, path: Path) -> list[str]:
    """The files, folders, modules and names in code quotes that are not there."""
    if not (root / "pcbench" / "protocol").is_dir():
        return []  # docs name the modules where they will be
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    named = {m["text"] for m in _CODE.finditer(text) if _NAMED.fullmatch(m["text"])}
    bad = [name for name in sorted(named) if not ((root / name).exists() if "/" in name else _importable(name))]
    return [f"{path.relative_to(root)}: names `{name}`, which is not there" for name in bad]


def _importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False
