"""Print a report on a terminal: header, table, failures with the command that repeats each, conclusion."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pcbench.output.characters import printable
from pcbench.report.evidence import Verdict
from pcbench.report.report import Report

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "error": "bold red",
    "timeout": "bold red",
    "unexpected-pass": "bold red",
    "inconclusive": "yellow",
    "expected-failure": "yellow",
    "blocked": "yellow",
    "not-run": "yellow",
    "not-applicable": "dim",
}
"""How an outcome is written on a terminal."""

EXPLAINED = ("fail", "error", "timeout", "unexpected-pass", "inconclusive", "expected-failure")
"""Outcomes that a report explains one by one."""

WIDE = 110
"""Columns from which on there is room for the worst problem of every law; it always is in the JSON report."""


MANY = 12
"""Laws from which on a common reason is told of all of them together."""


def number(value: float) -> str:
    """A margin, error or allowance with two significant digits."""
    return f"{value:.2g}"


def header_lines(report: Report) -> list[tuple[str, str]]:
    """Name and value of everything in the header, in the order of reading."""
    h = report.header
    versions = ", ".join(f"{name} {version}" for name, version in h.versions.items() if version and name != "commit")
    compiled = "" if h.compilations is None else f", {h.compilations} compilations"
    lines = [
        ("pcbench", f"{h.pcbench}, law set {h.law_set}"),
        ("implementation", h.subject + ("" if h.spec == h.implementation else f", {h.spec}")),
        ("where", f"Python {h.python}, {h.platform}"),
        ("interpreter", h.interpreter + (f", environment {h.environment}" if h.environment else "")),
        ("versions", versions),
        ("devices, dtypes", f"{', '.join(h.devices)}; {', '.join(h.dtypes)}"),
        ("run", f"profile {h.profile}, seed {h.seed}, {h.workers} workers" + (", in process" if h.in_process else "")),
        ("time", f"{h.seconds:.1f} s from {h.started}{compiled}"),
        ("error budget", h.error_budget),
        ("command", h.command),
    ]
    notes = [("note", str(note)) for note in h.manifest.get("notes", ())]
    partial = [("partial", h.partial)] if h.partial else []
    return [(name, printable(value)) for name, value in [*partial, *lines, *notes] if value]


def explanation(report: Report, verdict: Verdict) -> list[tuple[str, str]]:
    """Everything a reader needs about a law that did not pass, as name and value."""
    law, shown = report.law(verdict.law), verdict.failure or verdict.worst
    lines = [("statement", law.statement)]
    if shown.problem:
        measured = f"{number(shown.error)}, allowed {number(shown.allowance)}, margin {number(shown.margin)}"
        details = ", ".join(f"{k}={_detail(v)}" for k, v in shown.details.items())
        if verdict.outcome not in ("error", "timeout"):  # those end before anything is measured
            lines += [("measured", measured), ("details", details)]
        lines.append(("problem", shown.problem))
    lines.append(("message", verdict.message.strip()))
    if verdict.why:
        lines.append(("undecided", "; ".join(f"{n} x {reason}" for reason, n in verdict.why.items())))
    if verdict.outcome in ("fail", "expected-failure"):
        lines.append(("failing usually means", law.failing_means))
    if verdict.failure is not None:
        lines.append(("replay", report.replay(verdict)))
    if verdict.stderr.strip():
        lines.append(("standard error", "\n".join(verdict.stderr.strip().splitlines()[-8:])))
    return [(name, printable(value)) for name, value in lines if value]


def _detail(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_report(report: Report, console: Console) -> None:
    """The whole report, as wide as the console."""
    _pairs(console, header_lines(report))
    console.print()
    console.print(verdicts_table(report, console.width))
    for title, laws in unjudged_lines(report):
        console.print()
        console.print(Text(title, style="dim"))
        console.print(Padding(Text(laws, style="dim"), (0, 0, 0, 2), expand=False))
    for verdict in report.verdicts:
        if verdict.outcome in EXPLAINED:
            console.print()
            console.print(Text(f"{verdict.outcome}  {verdict.law}", style=STYLES[verdict.outcome]))
            _pairs(console, explanation(report, verdict), indent="  ")
    console.print()
    console.print(Text(report.summary))
    style = "bold green" if report.exit_code == 0 else "bold yellow" if report.exit_code in (3, 130) else "bold red"
    console.print(Text(report.conclusion, style=style))


def verdicts_table(report: Report, width: int) -> Table:
    """Law, verdict, margin, examples, shapes, and, where there is room for one, the worst problem."""
    wide = width >= WIDE
    # The longest law and verdict are never squeezed by a long problem; where even they do not fit, ids are folded.
    law = max((len(v.law) for v in report.verdicts), default=3)
    outcome = max((len(v.outcome) for v in report.verdicts), default=7)
    result = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=width if wide else None, show_edge=False
    )
    result.add_column("law", overflow="fold", min_width=law if wide else None)
    result.add_column("verdict", no_wrap=True, min_width=outcome)
    result.add_column("margin", justify="right", no_wrap=True, min_width=7)
    result.add_column("ex.", justify="right", no_wrap=True, min_width=4)
    result.add_column("shapes", justify="right", no_wrap=True, min_width=6)
    if wide:
        result.add_column("worst problem", overflow="ellipsis", no_wrap=True, ratio=1)
    for v in report.verdicts:
        judged = bool(v.examples or v.failure)
        cells = [number(v.worst.margin), str(v.examples), str(v.shapes)] if judged else [""] * 3
        row = [Text(v.law), Text(v.outcome, style=STYLES[v.outcome]), *map(Text, cells)]
        result.add_row(*row, *([Text(v.worst.problem)] if wide else []))
    return result


def unjudged_lines(report: Report) -> list[tuple[str, str]]:
    """Why laws were not judged: outcome and reason, and the laws that share them."""
    shared: dict[tuple[str, str], list[str]] = {}
    for v in report.verdicts:
        if v.outcome in ("not-applicable", "blocked", "not-run"):
            shared.setdefault((v.outcome, printable(" ".join(v.message.split()))), []).append(v.law)
    return [
        (f"{outcome}: {reason}" if reason else outcome, _laws_text(laws)) for (outcome, reason), laws in shared.items()
    ]


def _laws_text(laws: list[str]) -> str:
    """The laws by name, or where they are many that begin alike, their number and how they begin."""
    first, last = min(laws), max(laws)  # in order, so what these share all share
    start = first[: next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    if len(laws) >= MANY and "." in start:
        return f"{len(laws)} laws, {start}* (`pcbench laws` lists them)"
    return ", ".join(laws)


def _pairs(console: Console, pairs: list[tuple[str, str]], indent: str = "") -> None:
    """Names in a column, values beside them; a replay line is never broken, so that it can be copied."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        if name in ("replay", "problem", "command"):
            console.print(Text(f"{indent}{name:<{width}}  {value}"), soft_wrap=True)
            continue
        grid = Table.grid(padding=0)
        grid.add_column(no_wrap=True, width=len(indent) + width + 2)
        grid.add_column(overflow="fold")
        grid.add_row(Text(f"{indent}{name}", style="dim"), Text(value))
        console.print(grid)
