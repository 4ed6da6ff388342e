r"""Figure of the leaderboard: certified distance to equilibrium against steps and seconds, one column a problem.

One colour and one marker is one implementation; filled markers and solid lines are float64, open markers and dashed
lines float32.  A point without a certificate is a small dot at its residual, joined by a dotted line.  Implementations
that take the same steps lie on one another in the upper row, where an implementation that is wrong leaves the others;
the lower row tells them apart by speed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pcbench.errors import UsageError
from pcbench.leaderboard.outcome import Board, Point, Row, interval
from pcbench.leaderboard.summary import implementation_names, tolerances
from pcbench.output import drawing

_SIZES = (6.5, 5.0, 3.8, 3.0)  # of markers: the first is seen behind the others


def draw(board: Board, place: Path, name: str = "bench") -> list[Path]:
    """Draw the measured rows as SVG and PNG in `place`.

    **Raises:** `UsageError` if nothing was measured.
    """
    rows = [row for row in board.rows if row.outcome == "measured" and row.curve]
    if not rows:
        raise UsageError("there is no curve to draw: no row was measured")
    problems = list(dict.fromkeys(row.case for row in rows))
    names = implementation_names(rows)
    figure, axes = drawing.panels(2, len(problems), width=2.2 + 3.4 * len(problems), height=6.8, sharey="row")
    heights = [h for row in rows for h in map(_height, row.curve) if 0 < h < math.inf]
    lowest = min([max(min(heights), 1e-12), min(tolerances(board))]) / 3
    for axis in axes.flat:
        drawing.log_axes(axis)
        # What is lower than 1e-12, and what diverges, must not squeeze the others.
        axis.set_ylim(lowest, min(10.0, 3 * max([*heights, max(tolerances(board))])))
    for column, problem in enumerate(problems):
        chosen = [row for row in rows if row.case == problem]
        for line, (axis, x) in enumerate(zip(axes[:, column], ("steps", "seconds of the call, median"), strict=True)):
            label = r"$F - F^*$ at most, over the loss" if column == 0 else ""
            drawing.describe(axis, title=problem if line == 0 else "", x=x, y=label)
            for tolerance in tolerances(board):
                axis.axhline(tolerance, color=drawing.INK, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
            for row in chosen:
                _curve(axis, row, names.index(row.implementation), against_seconds=line == 1)
    _legend(axes[0, -1], rows, names)
    return drawing.save_both(figure, place / name, note=_note(board))


def _curve(axis: Axes, row: Row, place: int, *, against_seconds: bool) -> None:
    color, marker = _style(place)
    single = row.dtype == "float32"

    def at(point: Point) -> float:
        return interval(point.seconds)[0] if against_seconds else float(point.steps)

    points = [p for p in row.curve if (p.seconds or not against_seconds) and 0 < p.residual < float("inf")]
    axis.plot(
        [at(p) for p in points], [_height(p) for p in points], ":", color=color, linewidth=1.0, marker=".",
        markersize=2.5,
    )  # fmt: skip
    for certified, run in itertools.groupby(points, lambda p: p.gap is not None):
        if certified:
            own = list(run)
            axis.plot(
                [at(p) for p in own], [_height(p) for p in own], color=color, marker=marker,
                linestyle=(0, (4, 2)) if single else "-", linewidth=1.2,
                markersize=_SIZES[min(place, len(_SIZES) - 1)], markeredgewidth=0.9,
                markerfacecolor="white" if single else color,
            )  # fmt: skip


def _height(point: Point) -> float:
    return point.residual if point.gap is None else point.gap


def _legend(axis: Axes, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Implementations by colour and marker, dtypes by line; apart from the curves, which are many."""
    handles = []
    for place, name in enumerate(names):
        color, marker = _style(place)
        handles.append(Line2D([], [], color=color, marker=marker, linewidth=1.2, markersize=5, label=name))
    dtypes = {row.dtype for row in rows}
    if len(dtypes) > 1:
        handles.append(Line2D([], [], color=drawing.INK, linewidth=1.2, label="float64"))
        handles.append(
            Line2D([], [], color=drawing.INK, linewidth=1.2, linestyle=(0, (4, 2)), label="float32, open markers")
        )
    if any(p.gap is None for row in rows for p in row.curve):
        look = {"color": drawing.INK, "linewidth": 1.0, "linestyle": ":", "marker": ".", "markersize": 2.5}
        handles.append(Line2D([], [], **look, label="residual, no certificate"))
    axis.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=8, frameon=False, labelcolor=drawing.INK
    )


def _style(place: int) -> tuple[str, str]:
    return drawing.PALETTE[place % 7], drawing.MARKERS[place % len(drawing.MARKERS)]


def _note(board: Board) -> str:
    left_out = sorted({f"{s.implementation} in {s.dtype}" for s in board.standings if not s.conforms})
    text = (
        f"From the feedforward pass, step size {board.settings['fraction']:g} of the stable one; the certificate is "
        f"computed by pcbench. {board.settings['rounds']} interleaved rounds, {board.settings['threads']} threads, "
        f"{board.machine.get('lasting', {}).get('cpu', '')}, {board.started[:10]}."
    )
    return text + (f" Withheld, as not conforming: {', '.join(left_out)}." if left_out else "")
