"""Result of a gate as text for a terminal and as Markdown for a pull request."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from pcbench.gate.outcome import Comparison, GateReport
from pcbench.gate.pairs import slowdown_text
from pcbench.output.characters import printable
from pcbench.report.files import inline

_MARKS = {
    "regression": "❌", "error": "💥", "improvement": "🚀", "cleared": "✅", "small": "✅", "undecided": "❔",
    "noisy": "🌊", "withheld": "🚫", "not-applicable": "➖",
}  # fmt: skip
_STYLES = {
    "regression": "bold red", "error": "bold red", "improvement": "green", "cleared": "green", "small": "green",
    "not-applicable": "dim",
}  # fmt: skip
HEADERS = ("row", "verdict", "base", "head", "change", "pairs", "sees", "why")


def cells(row: Comparison) -> tuple[str, ...]:
    """One row under `HEADERS`; medians over pairs, and the smallest slowdown that this host shows of it."""
    measured = bool(row.base)
    change = f"{row.ratio - 1:+.1%}" if math.isfinite(row.ratio) else ""
    sees = "exact" if row.rule == "exact" else _effect_text(row)
    return (
        row.row, row.outcome, amount(_median(row.base), row.unit) if measured else "",
        amount(_median(row.head), row.unit) if measured else "", change, str(len(row.base)) if measured else "", sees,
        row.why,
    )  # fmt: skip


def amount(value: float, unit: str) -> str:
    """A value with its unit; seconds in the prefix that suits them."""
    if unit.split(" ")[0] != "s":
        return f"{value:.4g} {unit}"
    rest = unit[1:]
    for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {name}{rest}"
    return f"{value / 1e-9:.3g} ns{rest}"


def rows_table(report: GateReport) -> Table:
    """The rows for a terminal."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in HEADERS:
        shown.add_column(
            name, justify="right" if name in ("change", "pairs", "sees") else "left", no_wrap=name != "why"
        )
    for row in report.rows:
        texts = cells(row)
        marked = Text(texts[1], style=_STYLES.get(row.outcome, "yellow"))
        shown.add_row(texts[0], marked, *(Text(printable(t)) for t in texts[2:]))
    return shown


def header(report: GateReport) -> list[tuple[str, str]]:
    """Implementations, settings and machine of the gate, as names and values."""
    host = {k: v for k, v in report.host.items() if v not in (None, "", {})}
    versions = ", ".join(f"{k} {v}" for k, v in (host.pop("versions", None) or {}).items())
    lines = [
        ("base", report.base),
        ("head", report.head),
        ("implementation", report.implementation),
        ("conformance of base", report.conformance[0].conclusion),
        ("conformance of head", report.conformance[1].conclusion),
        ("error rates", report.error_rates),
        ("rule", _rule_text(report)),
        ("seed", f"{report.seed}, profile {report.profile}"),
        ("host", ", ".join(f"{k} {v}" for k, v in host.items()) + (f", {versions}" if versions else "")),
        ("seconds", f"{report.seconds:.0f}"),
    ]
    return lines + [("note", note) for note in report.notes]


def _rule_text(report: GateReport) -> str:
    p = report.plan
    return (
        f"signed ranks of interleaved pairs of processes, looked at after {', '.join(map(str, p.looks))} pairs; a "
        f"regression is slower by {p.ratio:.0%} or more and by more than the row's floor; what does not vary is "
        "compared exactly"
    )


def markdown(report: GateReport) -> str:
    """The whole for a pull request: conclusion and rows, then margins, then how it was found, folded away."""
    lines = [f"## pcbench gate: {inline(report.conclusion)}", ""]
    lines += [f"`{_code(report.base)}` → `{_code(report.head)}`, implementation `{_code(report.implementation)}`", ""]
    lines += ["| " + " | ".join(HEADERS) + " |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in report.rows:
        name, outcome, *rest = cells(row)
        lines.append("| " + " | ".join([f"`{name}`", f"{_MARKS[outcome]} {outcome}", *map(inline, rest)]) + " |")
    lines += ["", f"Error rates {inline(report.error_rates)}."]
    lines += ["", "“sees” is the smallest slowdown that this host finds in 95 % of cases, from pairs of equal code."]
    title = f"margins that grew {report.drift:g} times or more, and verdicts that changed"
    if report.margins:
        lines += ["", f"### Laws: {title}", "", "| law | change | |", "| --- | --- | --- |"]
        for m in report.margins:
            lines.append(f"| `{m.law}` | {inline(m.text)} | {'❌ regression' if m.regression else 'no regression'} |")
    else:
        lines += ["", f"No law has {title.replace(', and verdicts that', ' or a verdict that')}."]
    lines += ["", "<details>", "<summary>How this was found</summary>", ""]
    lines += [f"- {name}: {inline(value)}" for name, value in header(report)]
    return "\n".join([*lines, "", "</details>", ""])


def _code(text: str) -> str:
    return printable(" ".join(text.split())).replace("`", "'")


def _effect_text(row: Comparison) -> str:
    size = row.minimum_effect
    if math.isnan(size):
        return ""
    if not row.base:
        return f"{size:.0%}" if math.isfinite(size) else "nothing"
    return slowdown_text(size, _median(row.base), row.unit)


def _median(values: tuple[float, ...]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
