"""Compliance matrix: the verdict of every law on several implementations, as data and as Markdown.

It is made of the reports of `pcbench check`, one for each implementation; `matrix_run` makes those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcbench.report.evidence import Verdict
from pcbench.report.files import MARKS, first_line, inline
from pcbench.report.report import Report
from pcbench.report.text import number
from pcbench.worker.provenance import short_commit

SCHEMA = 1
"""The version of the layout of `matrix.json`."""

SHOWN = ("jax", "torch", "numpy")
"""Libraries whose versions stand in the table of what was judged, where an implementation has them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One implementation: its report, or why there is none."""

    name: str
    report: Report | None = None
    problem: str = ""

    def verdict(self, law: str) -> Verdict | None:
        """The verdict on one law, None if there is none."""
        return next((v for v in self.report.verdicts if v.law == law), None) if self.report else None

    @property
    def conclusion(self) -> str:
        """The conclusion of the report, or why there is none, in a sentence."""
        return self.report.conclusion if self.report else first_line(self.problem)

    @property
    def exit_code(self) -> int:
        """The exit code of the report; 3 if there is none, as nothing is known then."""
        return self.report.exit_code if self.report else 3


def laws_of(columns: Sequence[Column]) -> list[str]:
    """The ids of all laws of the reports, in their order."""
    return list(dict.fromkeys(law.id for column in columns if column.report for law in column.report.laws))


def applicable(columns: Sequence[Column]) -> list[str]:
    """The laws that at least one implementation could be judged by."""
    found = ((law, [column.verdict(law) for column in columns]) for law in laws_of(columns))
    return [law for law, verdicts in found if any(v and v.outcome != "not-applicable" for v in verdicts)]


def exit_code(columns: Sequence[Column]) -> int:
    """130 if the run was interrupted, 1 if a law is broken, 3 if something could not be decided, else 0."""
    codes = {column.exit_code for column in columns}
    return next((code for code in (130, 1, 3) if code in codes), 0)


def as_data(columns: Sequence[Column], command: str) -> dict[str, Any]:
    """Plain JSON data: the implementations, and for every law the verdict, margin and replay of each of them."""
    laws = []
    for law in laws_of(columns):
        text = next(c.report for c in columns if c.report and c.verdict(law)).law(law)
        cells = {c.name: _cell(c, v) for c in columns if (v := c.verdict(law)) is not None}
        laws.append({"law": law, "statement": text.statement, "verdicts": cells})
    return {
        "schema": SCHEMA,
        "command": command,
        "implementations": [_column_data(column) for column in columns],
        "laws": laws,
    }


def _cell(column: Column, verdict: Verdict) -> dict[str, Any]:
    assert column.report is not None  # a column with a verdict has one
    cell: dict[str, Any] = {"outcome": verdict.outcome}
    if verdict.examples or verdict.failure:
        cell["margin"] = number(verdict.worst.margin)
        cell["examples"] = verdict.examples
    if verdict.outcome != "pass" and verdict.message:
        cell["message"] = first_line(verdict.message)
    if verdict.failure:
        cell["replay"] = column.report.replay(verdict)
    return cell


def _column_data(column: Column) -> dict[str, Any]:
    if column.report is None:
        return {"name": column.name, "problem": column.problem}
    h = column.report.header
    return {
        "name": column.name,
        "library": h.manifest.get("library", ""),
        "version": h.manifest.get("version", ""),
        "commit": h.commit,
        "python": h.python,
        "versions": dict(h.versions),
        "platform": h.platform,
        "profile": h.profile,
        "seed": h.seed,
        "pcbench": h.pcbench,
        "law_set": h.law_set,
        "seconds": round(h.seconds, 1),
        "compilations": h.compilations,
        "counts": {outcome: n for outcome, n in column.report.counts().items() if n},
        "conclusion": column.report.conclusion,
        "seconds_by_group": {group: round(s, 1) for group, s in seconds_by_group(column.report)},
    }


def seconds_by_group(report: Report) -> list[tuple[str, float]]:
    """Where the time went: seconds of judging, summed over runners, by group of laws; the longest first."""
    spent: dict[str, float] = defaultdict(float)
    for verdict in report.verdicts:
        spent[verdict.law.partition(".")[0]] += verdict.seconds
    return sorted(((group, seconds) for group, seconds in spent.items() if seconds), key=lambda pair: -pair[1])


# ---- Markdown --------------------------------------------------------------------------------------------------------


def as_markdown(columns: Sequence[Column], command: str) -> str:
    """Who was judged, the matrix of verdicts and margins, and every failure with its replay."""
    laws = applicable(columns)
    rest = len(laws_of(columns)) - len(laws)
    lines = ["# Compliance matrix", "", f"Made by `{command}`.", "", *_implementation_table(columns), ""]
    lines += [
        "A number is the worst margin: error over what is allowed, so that 1 is the limit. "
        + ", ".join(f"{mark} {outcome}" for outcome, mark in MARKS.items())
        + ", ➖ anything else undecided; an empty cell: the implementation does not claim it"
        + (f". {rest} laws apply to none of them and are left out." if rest else "."),
        "",
        f"| law | {' | '.join(inline(c.name) for c in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    lines += [f"| `{law}` | {' | '.join(_text(c.verdict(law)) for c in columns)} |" for law in laws]
    for column in columns:
        lines += _failures(column)
    return "\n".join([*lines, ""])


def _implementation_table(columns: Sequence[Column]) -> list[str]:
    lines = ["| implementation | library | Python | with | conclusion | minutes | most of them on |"]
    lines.append("| --- | --- | --- | --- | --- | ---: | --- |")
    for column in columns:
        if column.report is None:
            lines.append(f"| {inline(column.name)} | | | | {inline(column.conclusion)} | | |")
            continue
        h = column.report.header
        library = f"{h.manifest.get('library', '')} {h.manifest.get('version', '')}".strip()
        library += f" at {short_commit(h.commit)}" if h.commit else ""
        versions = ", ".join(f"{name} {h.versions[name]}" for name in SHOWN if h.versions.get(name))
        total = sum(seconds for _, seconds in seconds_by_group(column.report)) or 1.0
        where = ", ".join(f"{group} {s / total:.0%}" for group, s in seconds_by_group(column.report)[:3])
        cells = (column.name, library, h.python, versions, column.conclusion, f"{h.seconds / 60:.1f}", where)
        lines.append(f"| {' | '.join(inline(cell) for cell in cells)} |")
    return lines


def _text(verdict: Verdict | None) -> str:
    if verdict is None or verdict.outcome == "not-applicable":
        return ""
    if verdict.outcome == "pass":
        return number(verdict.worst.margin)
    margin = f" {number(verdict.worst.margin)}" if verdict.examples or verdict.failure else ""
    return f"{MARKS.get(verdict.outcome, '➖')}{margin}"


def _failures(column: Column) -> list[str]:
    if column.report is None:
        return ["", f"## {inline(column.name)}", "", "Not judged:", "", *_code_block(column.problem)]
    told = [v for v in column.report.verdicts if v.outcome not in ("pass", "not-applicable", "not-run")]
    if not told:
        return []
    lines = ["", f"## {inline(column.name)}"]
    for verdict in told:
        lines += ["", f"- `{verdict.law}` {verdict.outcome}: {inline(verdict.message)}"]
        replay = column.report.replay(verdict) if verdict.failure else ""
        lines += ["", *(f"  {part}" for part in _code_block(replay))] if replay else []
    return lines


def _code_block(text: str) -> list[str]:
    return ["~~~", *text.splitlines(), "~~~"]
