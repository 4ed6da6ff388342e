r"""The figure of the compliance matrix: one square for each law and implementation, coloured by verdict.

Squares of laws that hold carry the order of magnitude of their margin and are the paler the larger it is; what is not
claimed is left empty.  Verdicts differ in their mark as well as in their colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pcbench.output.drawing import INK, PALETTE, panels, save_both
from pcbench.report.evidence import Verdict
from pcbench.report.matrix import Column, applicable

LOOKS = {
    "pass": (PALETTE[2], ""),
    "expected-failure": (PALETTE[4], "!"),
    "fail": (PALETTE[1], "✕"),
    "unexpected-pass": (PALETTE[3], "?"),
    "error": ("#333333", "e"),
    "timeout": ("#666666", "t"),
    "blocked": ("#d9d9d9", "b"),
    "inconclusive": (PALETTE[5], "i"),
    "not-run": ("#ffffff", "-"),
}
"""Colour and mark of a verdict."""

ROWS = 46
"""Laws below each other, before another panel begins beside the first."""


def draw(columns: Sequence[Column], directory: str | Path, *, note: str = "") -> list[Path]:
    """Write `matrix` as SVG and PNG into `directory`."""
    return save_both(draw_panels(columns), Path(directory, "matrix"), note=note)


def draw_panels(columns: Sequence[Column]) -> Figure:
    """Laws from top to bottom, implementations from left to right, as many panels as the laws need."""
    laws = applicable(columns)
    count = max(1, math.ceil(len(laws) / ROWS))
    height = math.ceil(len(laws) / count) if laws else 1
    width = count * (3.5 + 0.34 * len(columns))
    figure, axes = panels(1, count, width=width, height=1.9 + 0.19 * height)
    for k, panel in enumerate(axes[0]):
        _panel(panel, columns, laws[k * height : (k + 1) * height], height)
    met = {v.outcome for c in columns if c.report for v in c.report.verdicts}
    patches = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, label=f"{mark} {outcome}".strip())
        for outcome, (colour, mark) in LOOKS.items()
        if outcome in met
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(patches), fontsize=8, frameon=False)
    return figure


def _panel(panel: Axes, columns: Sequence[Column], laws: Sequence[str], height: int) -> None:
    panel.grid(False)
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.set_xlim(0, max(1, len(columns)))
    panel.set_ylim(height, 0)
    panel.set_yticks([k + 0.5 for k in range(len(laws))], laws, fontsize=6.5)
    panel.xaxis.set_ticks_position("top")
    panel.set_xticks([k + 0.5 for k in range(len(columns))], [c.name for c in columns], rotation=60, ha="left")
    panel.tick_params(length=0, labelsize=6.5)
    for row, law in enumerate(laws):
        if row and law.partition(".")[0] != laws[row - 1].partition(".")[0]:
            panel.axhline(row, color=INK, linewidth=0.5)
        for k, column in enumerate(columns):
            _square(panel, k, row, column.verdict(law))


def _square(panel: Axes, x: int, y: int, verdict: Verdict | None) -> None:
    if verdict is None or verdict.outcome == "not-applicable":
        return
    colour, mark = LOOKS[verdict.outcome]
    margin = verdict.worst.margin
    strength = 1.0
    if verdict.outcome == "pass":
        mark = _magnitude(margin)
        strength = 0.9 - 0.6 * min(1.0, max(margin, 0.0))
    panel.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, facecolor=colour, alpha=strength, linewidth=0))
    dark = verdict.outcome in ("error", "timeout")
    look = {"fontsize": 5.5, "ha": "center", "va": "center", "color": "white" if dark else INK}
    panel.text(x + 0.5, y + 0.52, mark, **look)


def _magnitude(margin: float) -> str:
    """A margin in at most four characters: .25, .03, or a power of ten."""
    if margin >= 0.01:
        return f"{margin:.2f}".removeprefix("0")
    return "0" if margin <= 0 else f"e{math.floor(math.log10(margin))}"
