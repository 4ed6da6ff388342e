"""Result of a leaderboard as CSV records, as a table for a terminal, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pcbench.gate.summary import amount
from pcbench.leaderboard.outcome import Board, Entrant, Row, Solved, interval
from pcbench.leaderboard.quality import first_index_within
from pcbench.output.characters import printable
from pcbench.report.files import inline

_STYLES = {"measured": "green", "not-applicable": "dim", "error": "bold red", "timeout": "bold red"}
_MARKS = {"measured": "✅", "withheld": "🚫", "not-applicable": "➖", "error": "💥", "timeout": "⏱️", "not-run": "❔"}

EXPLAINED = (
    "sample-steps/s: samples times steps of `infer` in a second, from the difference of a long call and one with a "
    "single step, so without what a call costs besides; the median of the rounds and, in brackets, the order "
    "statistics that contain it with 93 % (the extremes of five rounds or fewer). call: what one call costs besides "
    "its steps. first call: with compilation. to a gap: seconds and steps of the shortest call, of 1, 2, 4, ... steps, "
    "from which on pcbench's own theory certifies that the energy is within that fraction of the loss of its minimum; "
    "over: not by the longest call, because a longer one would take more than was allowed. "
    "equilibrium: seconds of the implementation's own solver and the gap that is certified for what it returns."
)


def headers(board: Board) -> tuple[str, ...]:
    """The headers of the columns."""
    gaps = (f"to {t:g}" for t in tolerances(board))
    return ("problem", "dtype", "implementation", "verdict", "sample-steps/s", "call", "first call", *gaps,
            "equilibrium", "why")  # fmt: skip


def tolerances(board: Board) -> tuple[float, ...]:
    """The tolerances of the run."""
    return tuple(board.settings["tolerances"])


def cells(board: Board, row: Row) -> tuple[str, ...]:
    """One row under `headers`; whatever is not measured, or may not be shown, is empty."""
    named = (row.case, row.dtype, row.implementation, row.outcome)
    why = "; ".join([*([row.why] if row.why else []), *row.notes])
    if row.outcome != "measured":
        return (*named, *[""] * (4 + len(tolerances(board))), why)
    rate, overhead = row.sample_steps, row.overhead
    return (
        *named,
        "" if rate is None else f"{_count(rate[0])} [{_count(rate[1])}, {_count(rate[2])}]",
        "" if overhead is None else amount(overhead, "s"),
        "" if row.first_call is None else amount(row.first_call, "s"),
        *(_arrival_text(row, tolerance) for tolerance in tolerances(board)),
        "" if row.equilibrium is None else _solver_text(row.equilibrium, min(tolerances(board))),
        why,
    )  # fmt: skip


def arrival(row: Row, tolerance: float) -> tuple[float, int] | None:
    """The median seconds and the steps of the first call from which on the gap is certified, None if there is none."""
    steps = [point.steps for point in row.curve]
    found = first_index_within(steps, [point.gap for point in row.curve], tolerance)
    if found is None or not row.curve[found].seconds:
        return None
    return interval(row.curve[found].seconds)[0], steps[found]


def records(board: Board) -> list[dict[str, Any]]:
    """One flat record for every row, with seconds as numbers: the CSV."""
    made = []
    for row in board.rows:
        record: dict[str, Any] = {
            "problem": row.case, "dtype": row.dtype, "implementation": row.implementation, "outcome": row.outcome,
            "why": row.why, "rounds": len(row.short),
        }  # fmt: skip
        if row.outcome == "measured" and (rate := row.sample_steps) is not None:
            record |= dict(zip(("sample_steps", "sample_steps_low", "sample_steps_high"), rate, strict=True))
            record |= {"overhead_seconds": row.overhead, "first_call_seconds": row.first_call}
            for tolerance in tolerances(board):
                reached = arrival(row, tolerance) or (None, None)
                record |= {f"seconds_to_{tolerance:g}": reached[0], f"steps_to_{tolerance:g}": reached[1]}
            record["last_residual"] = row.curve[-1].residual if row.curve else None
            if (solved := row.equilibrium) is not None and solved.seconds:
                record |= {"equilibrium_seconds": interval(solved.seconds)[0], "equilibrium_gap": solved.gap}
        made.append(record)
    return made


def rows_table(board: Board) -> Table:
    """The rows for a terminal, one section a problem; why rows are missing is told by `reasons`."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in headers(board)[:-1]:
        left = name in ("problem", "dtype", "implementation", "verdict")
        shown.add_column(name, justify="left" if left else "right")
    before: tuple[str, str] | None = None
    for row in board.rows:
        texts = list(cells(board, row)[:-1])
        here = (row.case, row.dtype)
        if here == before:
            texts[:2] = ["", ""]
        before = here
        marked = Text(texts[3], style=_STYLES.get(row.outcome, "yellow"))
        shown.add_row(*(Text(printable(t)) for t in texts[:3]), marked, *(Text(printable(t)) for t in texts[4:]))
    return shown


def reasons(board: Board) -> list[tuple[str, str]]:
    """Why rows are not measured, or what to know of them, each once, with the rows that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        if why := cells(board, row)[-1]:
            found.setdefault((row.implementation, why), []).append(f"{row.case} {row.dtype}")
    return [(f"{name} ({', '.join(places)})", printable(why)) for (name, why), places in found.items()]


def header(board: Board) -> list[tuple[str, str]]:
    """Who took part, how and where, as names and values."""
    plan, lasting = board.settings, board.machine.get("lasting", {})
    lines = [(e.name, _entrant_text(e)) for e in board.entrants]
    for s in board.standings:
        lines.append(
            (f"{s.implementation}, {s.dtype}", f"{'conforms' if s.conforms else 'withheld'}: {s.why} ({s.source})")
        )
    lines += [
        ("machine", ", ".join(f"{k} {v}" for k, v in lasting.items() if v and k not in ("process", "flags", "gpus"))),
        ("GPUs", "; ".join(", ".join(gpu.values()) for gpu in lasting.get("gpus", ()))),
        ("flags", ", ".join(f"{k}={v}" for k, v in lasting.get("flags", {}).items())),
        ("load", f"{board.machine.get('load_before')} before, {board.machine.get('load_after')} after"),
        ("run", f"seed {board.seed}, {plan['rounds']} rounds in random order, {plan['threads']} threads a process, "
                f"step size {plan['fraction']:g} of the stable one"),
        ("time", f"{board.seconds:.0f} s from {board.started}, pcbench {board.pcbench}"),
        ("command", board.command),
    ]  # fmt: skip
    return [(name, value) for name, value in lines if value]


def markdown(board: Board, figure: str = "") -> str:
    """The whole report; `figure` is the name of the picture beside it."""
    names = headers(board)
    right = {"sample-steps/s", "call", "first call"}
    lines = [f"# Leaderboard: {inline(board.conclusion)}", ""]
    lines += ["| " + " | ".join(names) + " |"]
    lines += ["| " + " | ".join("---:" if n in right or n.startswith("to ") else "---" for n in names) + " |"]
    for row in board.rows:
        texts = [inline(t) for t in cells(board, row)]
        texts[3] = f"{_MARKS[row.outcome]} {row.outcome}"
        lines.append("| " + " | ".join(texts) + " |")
    lines += ["", EXPLAINED, ""]
    if figure:
        lines += [f"![Certificate of equilibrium against steps and against seconds]({figure})", ""]
    lines += ["## Problems", "", "| name | dtype | problem | step size | loss | residual at the start |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: |"]
    for c in board.cases:
        numbers = f"{c.step_size:.4g} | {c.loss:.4g} | {c.start_residual:.2g}"
        lines.append(f"| {inline(c.name)} | {c.dtype} | `{c.problem}` | {numbers} |")
    lines += ["", "## Where and how", ""]
    lines += [f"- {inline(name)}: {inline(value)}" for name, value in header(board)]
    return "\n".join([*lines, ""])


def _entrant_text(entrant: Entrant) -> str:
    if entrant.trouble:
        return f"could not be started: {entrant.trouble}"
    info = entrant.info
    versions: Mapping[str, str] = {**entrant.manifest.get("versions", {}), **info.get("versions", {})}
    parts = [entrant.title, f"Python {info['python']}" if info.get("python") else ""]
    parts += [
        f"{k} {v}" for k, v in versions.items() if v and k not in ("python", "commit", entrant.manifest.get("library"))
    ]
    parts += [f"device {info['device']}" if info.get("device") else ""]
    parts += [f"products {info['matmul_precision']}" if info.get("matmul_precision") not in (None, "None") else ""]
    return ", ".join(filter(None, parts))


def _arrival_text(row: Row, tolerance: float) -> str:
    reached = arrival(row, tolerance)
    if reached is not None:
        return f"{amount(reached[0], 's')} ({reached[1]})"
    timed = [point for point in row.curve if point.seconds]
    return f"over {amount(interval(timed[-1].seconds)[0], 's')} ({timed[-1].steps})" if timed else "not reached"


def _solver_text(solved: Solved, tolerance: float) -> str:
    """Seconds of the solver, shown only beside a certificate."""
    if not solved.seconds:
        return ""
    if solved.gap is None:
        return f"uncertified ({solved.residual:.0e})"
    if solved.gap > tolerance:
        return f"not there ({solved.gap:.0e})"
    return f"{amount(interval(solved.seconds)[0], 's')} ({solved.gap:.0e})"


def _count(value: float) -> str:
    """A number with three digits and a prefix, `1.23M`."""
    if not math.isfinite(value):
        return "∞"
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{name}"
    return f"{value:.3g}"


def implementation_names(rows: Sequence[Row]) -> list[str]:
    """The implementations of some rows in order of appearance."""
    return list(dict.fromkeys(row.implementation for row in rows))
