"""Tables as HTML fragments, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pcbench.output.characters import printable


def html_table(
    paragraphs: Iterable[str], heads: Sequence[str], rows: Iterable[Sequence[str]], striking: Iterable[str] = ()
) -> str:
    """Paragraphs above a table, all text escaped; cells that say one of `striking` are printed in bold."""
    bold = set(striking)

    def cell(text: str) -> str:
        shown = escape(printable(text))
        return f"<td><b>{shown}</b></td>" if text in bold else f"<td>{shown}</td>"

    above = "".join(f"<p>{escape(printable(text))}</p>" for text in paragraphs)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<div>{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
